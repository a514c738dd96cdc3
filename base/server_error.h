// How the servers of each protocol number their errors.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill {

// What stands against an error of this protocol's servers being named so: "is no SQLSTATE of an
// error". Empty where nothing does.
std::string WhyNoError(v1::Protocol protocol, absl::string_view error);

// How one is named: "one of five digits and letters, such as 57014". Where `error` is what another
// protocol calls something that this one has too, its own name for that: "55P03, as 1205 is of
// MySQL".
std::string ErrorAdvice(v1::Protocol protocol, absl::string_view error);

}  // namespace firedrill
