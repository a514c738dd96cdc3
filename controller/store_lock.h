// The token for "this process is the controller of this state folder": one living controller a
// store, whatever port it listens on. Private controllers have epochs and runs of their own in
// there, no schedules, and take none.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace firedrill {

class StoreLock {
 public:
  // To be taken before the store is touched: an epoch is one already. Waits at most `wait` for one
  // that is just ending; then FAILED_PRECONDITION says who has it, and what to do. Released by the
  // destructor, and by the kernel when the process ends in any way.
  static absl::StatusOr<StoreLock> Take(const std::string& state_dir, const std::string& listen,
                                        absl::Duration wait = absl::Seconds(2));

 private:
  explicit StoreLock(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace firedrill
