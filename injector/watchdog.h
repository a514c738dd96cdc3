// The injector's end of the line to its reaper: starts it, beats, and starts another when it has
// died.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "injector/undo.h"

namespace firedrill {

// On the executor only, but for AskReady(): a beat says that the executor itself still runs.
class Watchdog {
 public:
  struct Options {
    // The reaper's binary.
    std::string program;
    std::string state_dir;
    std::string node;
    // How long the reaper waits for a beat; asked before each.
    std::function<absl::Duration()> lease;
    // No reaper can be kept alive: everything must go off. Called once.
    std::function<void(const std::string& why)> lost;
  };

  Watchdog(Executor& executor, Options options);
  // The reaper takes the end of the pipe for our death.
  ~Watchdog();

  // Starts the reaper; an error where that is not possible.
  absl::Status Start();
  // A beat at once: the lease has become shorter, and the reaper must know before anything relies
  // on it.
  void BeatNow();
  // The injector ends in good order: the reaper replays what is left, if anything, and ends without
  // a word.
  void Goodbye();

  // For Journal::SetGuard(): `undo` is on disk. OK once the reaper has what it needs to undo it in
  // our place; at once where it needs nothing. An error says what it lacks. Any thread; blocks for
  // seconds at most.
  absl::Status AskReady(const Undo& undo) FD_EXCLUDES(asking_, line_mutex_);

  pid_t reaper() const { return pid_; }

 private:
  absl::Status Spawn() FD_EXCLUDES(line_mutex_);
  // False where the reaper does not take it.
  bool Write(uint32_t word) FD_EXCLUDES(line_mutex_);
  void Beat();
  bool ReaperIsDead();

  Executor& executor_;
  const Options options_;
  // One question at a time.
  Mutex asking_;
  uint32_t questions_ FD_GUARDED_BY(asking_) = 0;
  // Replaced with the reaper.
  Mutex line_mutex_;
  UniqueFd line_ FD_GUARDED_BY(line_mutex_);
  pid_t pid_ = 0;
  int starts_ = 0;
  bool said_goodbye_ = false;
  bool lost_ = false;
  Executor::TimerId timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
