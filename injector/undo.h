// How a lasting change is undone: pure data, with one function a kind of resource, linked into the
// injector and the reaper alike.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace firedrill {

// "Put `before` back into `resource`, if it still is `after`." All fields are text that a person
// can read; none holds a newline.
struct Undo {
  // Which function undoes it: "file".
  std::string kind;
  // What was changed: a path, a setting's name.
  std::string resource;
  std::string before;
  std::string after;
  // A command that a person can paste to do the same.
  std::string by_hand;

  bool operator==(const Undo&) const = default;
};

enum class UndoResult {
  kRestored,    // It was ours: the old value is back.
  kUntouched,   // The old value was there already.
  kSuperseded,  // Someone else changed it: left alone.
  kFailed,      // Could not be done; needs a person.
};

// Compare and restore. Idempotent. May run in the reaper: no threads, no allocation-heavy work
// needed.
using UndoFunction = std::function<UndoResult(const Undo&, std::string* why)>;

// `static const UndoRegistration kFile("file", UndoFile);`
class UndoRegistration {
 public:
  UndoRegistration(std::string kind, UndoFunction function);
};

// kFailed with a reason for a kind that is not linked in.
UndoResult RunUndo(const Undo& undo, std::string* why);

}  // namespace firedrill
