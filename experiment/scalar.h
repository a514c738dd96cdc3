// From the text of one value to a field of a message.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "experiment/key_advice.h"
#include "google/protobuf/message.h"

namespace firedrill {

// Sets (or, for a list, adds) the field where the text is of its type and within its rules. Else
// the advice says what is wrong with the value of `path`.
Advice SetScalar(absl::string_view text, bool quoted,
                 const google::protobuf::FieldDescriptor* field, const std::string& path,
                 google::protobuf::Message* message);

// What a pattern asks for, in words.
std::string PatternWords(const std::string& pattern);

// True for what YAML takes for a number or a boolean when it stands without quotes.
bool IsNumberWord(absl::string_view text);
bool IsBoolWord(absl::string_view text);

}  // namespace firedrill
