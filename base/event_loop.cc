// The executor of real processes.
#include "base/event_loop.h"

#include <algorithm>
#include <utility>

namespace firedrill {

EventLoop::EventLoop() : thread_([this] { Loop(); }) {}

EventLoop::~EventLoop() { Stop(); }

void EventLoop::Post(Task task) { After(absl::ZeroDuration(), std::move(task)); }

Executor::TimerId EventLoop::After(absl::Duration delay, Task task) {
  const absl::Duration due = clock().Boot() + std::max(delay, absl::ZeroDuration());
  MutexLock lock(mutex_);
  const TimerId id = next_++;
  due_.emplace(Due{due, id}, std::move(task));
  times_.emplace(id, due);
  changed_.NotifyAll();
  return id;
}

void EventLoop::Cancel(TimerId id) {
  MutexLock lock(mutex_);
  auto found = times_.find(id);
  if (found == times_.end()) return;
  due_.erase(Due{found->second, id});
  times_.erase(found);
}

void EventLoop::Block(Task work, Task done) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    ++blocked_;
  }
  std::thread([this, work = std::move(work), done = std::move(done)]() mutable {
    work();
    // What the work captured goes before the loop can: nothing of it outlives Stop().
    work = nullptr;
    if (done) Post(std::move(done));
    MutexLock lock(mutex_);
    --blocked_;
    changed_.NotifyAll();
  }).detach();
}

void EventLoop::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  MutexLock lock(mutex_);
  while (blocked_ > 0) changed_.Wait(mutex_);
}

void EventLoop::Run(Task task) {
  Mutex mutex;
  CondVar finished;
  bool done = false;
  Post([&] {
    task();
    MutexLock lock(mutex);
    done = true;
    finished.NotifyAll();
  });
  MutexLock lock(mutex);
  while (!done) finished.Wait(mutex);
}

void EventLoop::Loop() {
  while (true) {
    Task task;
    {
      MutexLock lock(mutex_);
      while (true) {
        if (stopping_) return;
        if (due_.empty()) {
          changed_.Wait(mutex_);
          continue;
        }
        const absl::Duration wait = due_.begin()->first.first - clock().Boot();
        if (wait <= absl::ZeroDuration()) break;
        changed_.WaitFor(mutex_, wait);
      }
      task = std::move(due_.begin()->second);
      times_.erase(due_.begin()->first.second);
      due_.erase(due_.begin());
    }
    task();
  }
}

}  // namespace firedrill
