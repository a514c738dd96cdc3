// What is different between two definitions, in the words in which they are written.
#pragma once

#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace firedrill {

// "faults[leak].duration: 40s -> 30s", in the order of their paths; none where both mean the
// same. Both are of one type. Entries of a list that have names are told apart by these, whatever
// their order; all others by where they stand.
std::vector<std::string> Differences(const google::protobuf::Message& before,
                                     const google::protobuf::Message& after);

}  // namespace firedrill
