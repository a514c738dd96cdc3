// A process that this one has started, held by pidfd: never a bare pid.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace firedrill {

class Child {
 public:
  // Starts `arguments[0]` (a path) in a process group of its own, so that Ctrl-C does not reach it.
  // Its standard error goes to `log`.
  static absl::StatusOr<Child> Start(const std::vector<std::string>& arguments,
                                     const std::string& log);

  Child(Child&&) = default;
  Child& operator=(Child&&) = default;

  int pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  bool Ended() const;
  // Waits; true where it has ended. `exit_code` is -signal where a signal ended it.
  bool Wait(absl::Duration at_most);
  void Signal(int signal) const;
  // Valid after Wait() was true.
  int exit_code() const { return exit_code_; }

 private:
  Child(int pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  int pid_ = 0;
  UniqueFd pidfd_;
  bool reaped_ = false;
  int exit_code_ = 0;
};

}  // namespace firedrill
