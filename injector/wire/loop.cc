// The loop: wait, run what is ready, run what is due.
#include "injector/wire/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

// Few enough that a task does not wait long behind them.
constexpr int kBatch = 64;

// How long a sleep may end early, to be waited out awake.
constexpr Nanos kMostEarly = 400'000;
constexpr Nanos kLeastEarly = 1'000;

timespec Timespec(Nanos nanos) {
  return {static_cast<time_t>(nanos / 1000000000), static_cast<long>(nanos % 1000000000)};
}

}  // namespace

Nanos NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * Nanos{1000000000} + now.tv_nsec;
}

Loop::~Loop() { Stop(); }

absl::Status Loop::Start() {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  if (!epoll_.valid() || !wake_.valid() ||
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot set up an event loop: ", strerror(errno),
                     "; raise the limit of open files of this process"));
  }
  {
    MutexLock lock(mutex_);
    closed_ = false;
  }
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void Loop::Stop(Task last) {
  if (!thread_.joinable()) return;
  Post([this, &last] {
    if (last) last();
    stopping_ = true;
  });
  thread_.join();
  MutexLock lock(mutex_);
  closed_ = true;
  tasks_.clear();
}

void Loop::Post(Task task) {
  MutexLock lock(mutex_);
  if (closed_) return;
  tasks_.push_back(std::move(task));
  if (posted_.exchange(true, std::memory_order_release)) return;
  const uint64_t one = 1;
  // The counter cannot overflow: one write for each time that the tasks are fetched.
  (void)!write(wake_.get(), &one, sizeof one);
}

void Loop::RunTasks() {
  uint64_t ignored;
  (void)!read(wake_.get(), &ignored, sizeof ignored);
  std::vector<Task> tasks;
  {
    MutexLock lock(mutex_);
    posted_.store(false, std::memory_order_relaxed);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) task();
}

bool Loop::Watch(int fd, Watcher* watcher, int slot, uint32_t events) {
  static_assert(alignof(Watcher) >= kSlots);
  epoll_event event = {};
  event.events = events;
  event.data.u64 = reinterpret_cast<uintptr_t>(watcher) | static_cast<unsigned>(slot);
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Loop::Forget(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

int Loop::Wait(epoll_event* events, int count) {
  if (alarms_.empty()) return epoll_wait(epoll_.get(), events, count, -1);
  const Nanos when = alarms_.front()->alarm_;
  const Nanos rest = when == 0 ? 0 : when - NowNanos();
  if (rest <= 0) return epoll_wait(epoll_.get(), events, count, 0);
  // No more than a third of the time is waited out awake: where alarms lie closer together each
  // sleep is exact, and the lateness takes several at once.
  const Nanos early = rest > 3 * early_ ? early_ : 0;
  const timespec timeout = Timespec(rest - early);
  const int ready = epoll_pwait2(epoll_.get(), events, count, &timeout, nullptr);
  if (ready == 0 && early > 0) AwaitAlarm(when, early);
  return ready;
}

// Wakes up are late by much the same each time: the sleep ends that much early, and the little that
// is left is waited for awake.
void Loop::AwaitAlarm(Nanos when, Nanos early) {
  Nanos now = NowNanos();
  const Nanos late = std::min(now - (when - early), kMostEarly);
  early_ = std::max(early_ + (late - early_) / 8, kLeastEarly);
  while (now < when) now = NowNanos();
}

void Loop::Run() {
  // Timers of this thread are as exact as the hardware's.
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  // A splice to a socket that is gone would end the process.
  sigset_t broken;
  sigemptyset(&broken);
  sigaddset(&broken, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken, nullptr);
  epoll_event events[kBatch];
  while (!stopping_) {
    const int count = Wait(events, kBatch);
    for (int i = 0; i < count; ++i) {
      const uint64_t data = events[i].data.u64;
      auto* watcher = reinterpret_cast<Watcher*>(data & ~uint64_t{kSlots - 1});
      if (watcher == nullptr || posted_.load(std::memory_order_acquire)) RunTasks();
      if (watcher != nullptr && !watcher->retired_) {
        watcher->OnEvents(static_cast<int>(data & (kSlots - 1)), events[i].events);
      }
    }
    if (!alarms_.empty()) RunAlarms();
    retired_.clear();
  }
}

void Loop::RunAlarms() {
  const Nanos now = NowNanos();
  while (!alarms_.empty() && alarms_.front()->alarm_ <= now) {
    due_.push_back(alarms_.front());
    WakeAt(alarms_.front(), kNever);
  }
  // An alarm that is set anew meanwhile, even for now, comes after the next look at the sockets.
  for (Watcher* watcher : due_) {
    if (!watcher->retired_) watcher->OnAlarm();
  }
  due_.clear();
}

void Loop::Retire(std::unique_ptr<Watcher> watcher) {
  WakeAt(watcher.get(), kNever);
  watcher->retired_ = true;
  retired_.push_back(std::move(watcher));
}

void Loop::WakeAt(Watcher* watcher, Nanos when) {
  if (watcher->alarm_ == when) return;
  const bool was_set = watcher->alarm_ != kNever;
  const bool earlier = when < watcher->alarm_;
  watcher->alarm_ = when;
  if (!was_set) {
    alarms_.push_back(watcher);
    SiftUp(alarms_.size() - 1);
  } else if (when == kNever) {
    const size_t hole = watcher->place_;
    Watcher* last = alarms_.back();
    alarms_.pop_back();
    if (last == watcher) return;
    Place(last, hole);
    SiftUp(hole);
    SiftDown(last->place_);
  } else if (earlier) {
    SiftUp(watcher->place_);
  } else {
    SiftDown(watcher->place_);
  }
}

void Loop::Place(Watcher* watcher, size_t place) {
  alarms_[place] = watcher;
  watcher->place_ = static_cast<uint32_t>(place);
}

void Loop::SiftUp(size_t place) {
  Watcher* watcher = alarms_[place];
  while (place > 0) {
    const size_t above = (place - 1) / 2;
    if (alarms_[above]->alarm_ <= watcher->alarm_) break;
    Place(alarms_[above], place);
    place = above;
  }
  Place(watcher, place);
}

void Loop::SiftDown(size_t place) {
  Watcher* watcher = alarms_[place];
  while (true) {
    size_t below = 2 * place + 1;
    if (below >= alarms_.size()) break;
    if (below + 1 < alarms_.size() && alarms_[below + 1]->alarm_ < alarms_[below]->alarm_) ++below;
    if (alarms_[below]->alarm_ >= watcher->alarm_) break;
    Place(alarms_[below], place);
    place = below;
  }
  Place(watcher, place);
}

}  // namespace firedrill::wire
