// How a lasting change is undone: pure data, with one function a kind of resource, linked into the
// injector and the reaper alike.
#pragma once

#include <functional>
#include <stop_token>
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
  // How the resource is reached, where its name does not say it: for the kind's own function.
  // References to secrets, never secrets. Empty where nothing is needed.
  std::string access = {};

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

// An optional ability of a kind whose undo needs what may not be had later, such as a connection to
// a server that is full by then. `make` opens it and keeps it in this process, for the undo
// function; idempotent, mends what has broken, blocks for seconds at most. `forget` lets go of it
// after the undo. Any thread, one after the other.
struct UndoReadiness {
  std::function<absl::Status(const Undo&, std::stop_token)> make;
  std::function<void(const Undo&)> forget;
};

// `static const UndoRegistration kFile("file", UndoFile);`
class UndoRegistration {
 public:
  UndoRegistration(std::string kind, UndoFunction function, UndoReadiness readiness = {});
};

// Whether this kind has something to make ready.
bool NeedsReadiness(const Undo& undo);
// OK at once for a kind that needs nothing.
absl::Status MakeReady(const Undo& undo, std::stop_token stop);
void ForgetReadiness(const Undo& undo);

// kFailed with a reason for a kind that is not linked in.
UndoResult RunUndo(const Undo& undo, std::string* why);

}  // namespace firedrill
