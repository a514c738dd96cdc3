// Looks for the file that stops this node, on a thread of its own: whoever puts it there need not
// ask whether the injector is busy.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/executor.h"
#include "base/mutex.h"

namespace firedrill {

// The first of `paths` that is there; empty where none is. What cannot be looked at counts as
// there, as a STOP file must hold on a broken disk, too.
std::string StopFileIn(const std::vector<std::string>& paths);

class StopWatch {
 public:
  struct Options {
    std::vector<std::string> paths;
    absl::Duration look_every = absl::Milliseconds(100);
    // How long the executor may take to hear of it.
    absl::Duration patience = absl::Milliseconds(600);
    // On the executor, once for each time that the file is put there.
    std::function<void(const std::string& path)> stop;
    // On the thread: the executor does not hear. Must end the process.
    std::function<void(const std::string& why)> give_up;
  };

  StopWatch(Executor& executor, Options options);
  // What was posted and has not run yet must not run afterwards: end it before what it calls.
  ~StopWatch();

 private:
  void Watch() FD_EXCLUDES(mutex_);

  Executor& executor_;
  const Options options_;
  Mutex mutex_;
  CondVar changed_;
  bool ended_ FD_GUARDED_BY(mutex_) = false;
  // How often it was put there, and how often that was heard.
  uint64_t seen_ FD_GUARDED_BY(mutex_) = 0;
  uint64_t heard_ FD_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::thread thread_;
};

}  // namespace firedrill
