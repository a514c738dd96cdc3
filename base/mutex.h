// A mutex that clang's thread-safety analysis and ThreadSanitizer both understand: the packaged
// absl::Mutex is not instrumented, so ThreadSanitizer would report races that are none.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"

#if defined(__clang__)
#define FD_ATTRIBUTE(x) __attribute__((x))
#else
#define FD_ATTRIBUTE(x)
#endif

#define FD_GUARDED_BY(x) FD_ATTRIBUTE(guarded_by(x))
#define FD_REQUIRES(...) FD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define FD_EXCLUDES(...) FD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define FD_NO_THREAD_SAFETY_ANALYSIS FD_ATTRIBUTE(no_thread_safety_analysis)

namespace firedrill {

class FD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void Lock() FD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void Unlock() FD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class FD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) FD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() FD_ATTRIBUTE(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable for Mutex. Spurious wake-ups happen: wait in a loop.
class CondVar {
 public:
  void Wait(Mutex& mutex) FD_REQUIRES(mutex) FD_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // At most `timeout` (monotonic).
  void WaitFor(Mutex& mutex, absl::Duration timeout)
      FD_REQUIRES(mutex) FD_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait_until(lock,
                          std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout));
    lock.release();
  }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace firedrill
