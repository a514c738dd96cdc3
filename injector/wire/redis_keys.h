// Which words of a command of Redis are keys.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "injector/wire/codec.h"

namespace firedrill::wire {

// Calls `key` for each key until it gives true, and says whether it did. The first word is the
// command's name; one that is not known has its key behind it. Allocates nothing.
bool AnyRedisKey(const Words& words, absl::FunctionRef<bool(absl::string_view)> key);

}  // namespace firedrill::wire
