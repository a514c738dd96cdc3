// The executor of real processes: one thread for tasks and timers, and worker threads for what
// blocks.
#pragma once

#include <map>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"

namespace firedrill {

class EventLoop final : public Executor {
 public:
  EventLoop();
  // Ends the loop after the task that runs now; tasks not begun are dropped; waits for blocking
  // work.
  ~EventLoop() override;

  const Clock& clock() const override { return RealClock(); }
  void Post(Task task) override FD_EXCLUDES(mutex_);
  TimerId After(absl::Duration delay, Task task) override FD_EXCLUDES(mutex_);
  void Cancel(TimerId id) override FD_EXCLUDES(mutex_);
  void Block(Task work, Task done) override FD_EXCLUDES(mutex_);

  // Ends the loop and waits for it, and for blocking work. Not from the loop's own thread.
  // Idempotent.
  void Stop() FD_EXCLUDES(mutex_);
  // Runs `task` on the loop and waits until it is done. Not from the loop's own thread.
  void Run(Task task);

 private:
  using Due = std::pair<absl::Duration, TimerId>;
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ FD_GUARDED_BY(mutex_) = false;
  TimerId next_ FD_GUARDED_BY(mutex_) = 1;
  std::map<Due, Task> due_ FD_GUARDED_BY(mutex_);
  std::map<TimerId, absl::Duration> times_ FD_GUARDED_BY(mutex_);
  int blocked_ FD_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace firedrill
