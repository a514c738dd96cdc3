// One thread that waits for sockets and for times: epoll, edge triggered, with timers of
// nanoseconds.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace firedrill::wire {

// Nanoseconds of CLOCK_MONOTONIC.
using Nanos = int64_t;
inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();
Nanos NowNanos();

// Something with sockets and at most one alarm. All calls come from the loop's thread.
class Watcher {
 public:
  virtual ~Watcher() = default;
  // `slot` is the number that was given to Watch().
  virtual void OnEvents(int slot, uint32_t events) = 0;
  // The alarm has gone off, and is not set any more. Never before its time.
  virtual void OnAlarm() = 0;

 private:
  friend class Loop;
  Nanos alarm_ = kNever;
  uint32_t place_ = 0;  // In the heap of alarms; meaningless without one.
  bool retired_ = false;
};

class Loop {
 public:
  using Task = std::function<void()>;
  // A watcher has this many slots; the alignment of pointers leaves room for them.
  static constexpr int kSlots = 4;

  Loop() = default;
  // Stops.
  ~Loop();

  // RESOURCE_EXHAUSTED where there are no descriptors. To be called once.
  absl::Status Start();
  // Runs `last` on the thread as its last task, and joins it. Idempotent.
  void Stop(Task last = nullptr);
  // Runs on the thread between two watchers' turns, soon. Any thread; dropped after Stop().
  void Post(Task task) FD_EXCLUDES(mutex_);

  // The rest: only on the loop's thread.

  // Level triggered unless `events` has EPOLLET. False when the kernel refuses.
  bool Watch(int fd, Watcher* watcher, int slot, uint32_t events);
  // Not needed before close(2).
  void Forget(int fd);
  // Sets or moves the alarm; kNever takes it away, 0 means after the others' turn.
  void WakeAt(Watcher* watcher, Nanos when);
  bool has_alarm(const Watcher& watcher) const { return watcher.alarm_ != kNever; }
  // Destroys it when nobody can call it any more. Its alarm is taken away.
  void Retire(std::unique_ptr<Watcher> watcher);

 private:
  void Run();
  void RunTasks() FD_EXCLUDES(mutex_);
  void RunAlarms();
  int Wait(epoll_event* events, int count);
  void AwaitAlarm(Nanos when, Nanos early);
  void Place(Watcher* watcher, size_t place);
  void SiftUp(size_t place);
  void SiftDown(size_t place);

  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;

  Mutex mutex_;
  std::vector<Task> tasks_ FD_GUARDED_BY(mutex_);
  bool closed_ FD_GUARDED_BY(mutex_) = true;
  std::atomic<bool> posted_ = false;

  // The loop's thread only.
  bool stopping_ = false;
  Nanos early_ = 30'000;  // By which a sleep ends before its alarm: what sleeps are late by.
  std::vector<Watcher*> alarms_;  // A heap, the earliest first.
  std::vector<Watcher*> due_;
  std::vector<std::unique_ptr<Watcher>> retired_;
};

}  // namespace firedrill::wire
