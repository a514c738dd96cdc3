// Says that the controller of an epoch lives: a file that it keeps locked. The kernel lets go of
// the lock when the process ends in any way, and of nothing when it only hangs; a process number
// may be given out again.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace firedrill {

class EpochLock {
 public:
  // To be taken before anything is written under the epoch. Blocks for moments only.
  // FAILED_PRECONDITION where another process holds it.
  static absl::StatusOr<EpochLock> Take(const std::string& state_dir, uint64_t epoch);
  EpochLock(EpochLock&&) noexcept = default;
  EpochLock& operator=(EpochLock&&) noexcept;
  // Removes the file.
  ~EpochLock();

  // Whether the epoch's controller lives. Where that cannot be seen it is taken for alive.
  static bool Held(const std::string& state_dir, uint64_t epoch);
  // The controllers that live: "epoch 7, process 4711", several with commas; empty where none does.
  static std::string Living(const std::string& state_dir);
  // Removes the files of those that have ended.
  static void Sweep(const std::string& state_dir);

 private:
  EpochLock(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  void Remove();

  std::string path_;
  UniqueFd fd_;
};

}  // namespace firedrill
