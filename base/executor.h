// Where deciding and acting code runs: one thing after the other, on one thread, over a clock that
// tests can replace. Conductor, fleet, session and warden never block and never lock: they run
// here.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/time/time.h"
#include "base/clock.h"

namespace firedrill {

class Executor {
 public:
  using Task = std::function<void()>;
  using TimerId = uint64_t;

  virtual ~Executor() = default;
  virtual const Clock& clock() const = 0;
  // Runs `task` after those already posted. Any thread.
  virtual void Post(Task task) = 0;
  // Runs `task` once `delay` of boot time has passed. Any thread. Never 0.
  virtual TimerId After(absl::Duration delay, Task task) = 0;
  // The task does not run any more, unless it has begun. Any thread; unknown ids are fine.
  virtual void Cancel(TimerId id) = 0;
  // Runs `work` where blocking is allowed (another thread), then `done` here. Any thread.
  virtual void Block(Task work, Task done) = 0;
};

}  // namespace firedrill
