// Looks for the file that stops this node.
#include "injector/stop_watch.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"

namespace firedrill {

std::string StopFileIn(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    struct stat info {};
    if (stat(path.c_str(), &info) == 0 || (errno != ENOENT && errno != ENOTDIR)) return path;
  }
  return "";
}

StopWatch::StopWatch(Executor& executor, Options options)
    : executor_(executor), options_(std::move(options)), thread_([this] { Watch(); }) {}

StopWatch::~StopWatch() {
  *alive_ = false;
  {
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void StopWatch::Watch() {
  bool there = false;
  while (true) {
    {
      MutexLock lock(mutex_);
      if (!ended_) changed_.WaitFor(mutex_, options_.look_every);
      if (ended_) return;
    }
    const std::string path = StopFileIn(options_.paths);
    const bool appeared = !path.empty() && !there;
    there = !path.empty();
    if (!appeared) continue;
    uint64_t number = 0;
    {
      MutexLock lock(mutex_);
      number = ++seen_;
    }
    executor_.Post([this, alive = alive_, path, number] {
      if (!*alive) return;
      options_.stop(path);
      MutexLock lock(mutex_);
      heard_ = number;
      changed_.NotifyAll();
    });
    const absl::Duration until = RealClock().Boot() + options_.patience;
    MutexLock lock(mutex_);
    while (!ended_ && heard_ < number && RealClock().Boot() < until) {
      changed_.WaitFor(mutex_, until - RealClock().Boot());
    }
    if (ended_ || heard_ >= number) continue;
    options_.give_up(absl::StrCat("the file ", path, " stops this node, and the injector did not ",
                                  "hear of it within ",
                                  firedrill::FormatDuration(options_.patience)));
  }
}

}  // namespace firedrill
