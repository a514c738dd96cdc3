// How the undo of a lost index finds the index and its server again: text for the journal.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// `fields` say which index; `server` how it is reached: where the password is found, as the profile
// does, and never the password. Empty where it cannot be written.
std::string WriteIndexAccess(
    const std::vector<std::pair<absl::string_view, absl::string_view>>& fields,
    const google::protobuf::Message& server);

// Which text goes where.
using IndexAccessFields = std::vector<std::pair<absl::string_view, std::string*>>;

// An error where a field or the server is missing, or is something else. Of what is optional the
// absence is none: a journal may have been written by an older build, which did not write it.
absl::Status ReadIndexAccessInto(const std::string& text, const IndexAccessFields& fields,
                                 const IndexAccessFields& optional,
                                 google::protobuf::Message* server);

}  // namespace firedrill
