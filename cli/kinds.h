// What can be broken, done and asked: read from the protos, so that nothing is listed twice.
#pragma once

#include <string>

namespace firedrill {

// `firedrill faults`: every kind of fault with summary, how it ends, and an example.
std::string FaultsText();

}  // namespace firedrill
