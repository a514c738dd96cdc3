// Which words of a command of Redis are keys.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace firedrill::wire {

// Calls `key` for each key until it gives true, and says whether it did. `words` is what follows
// the command's name, blank between words: of a key that has blanks itself only the first part is
// seen. A command that is not known has its key in the first place. Allocates nothing.
bool AnyRedisKey(absl::string_view command, absl::string_view words,
                 absl::FunctionRef<bool(absl::string_view)> key);

}  // namespace firedrill::wire
