// The words that statements, commands and requests begin with, in all protocols together.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace firedrill {

// `connect`, a word of SQL, a command of Redis or of one of its modules, a method of HTTP; whatever
// its case.
bool IsVerb(absl::string_view word);
// What may have been meant by a word that is none, and how it is met all the same.
std::string VerbAdvice(const std::string& word);

}  // namespace firedrill
