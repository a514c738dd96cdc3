// The highest epoch seen of each controller group, kept durably: after a takeover the old
// controller is not obeyed any more, also not by an injector that has restarted since.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "injector/disk.h"

namespace firedrill {

// On the executor only. Blocks on the disk when an epoch grows, which is once a takeover.
class Epochs {
 public:
  static constexpr char kFile[] = "epochs";
  // More groups than this, and the one not seen for longest is forgotten.
  static constexpr size_t kMostGroups = 256;

  static absl::StatusOr<Epochs> Open(Disk& disk);

  // OK where `epoch` is the highest seen of its group, or a higher one, and the disk has it.
  // FAILED_PRECONDITION for a lower one. The disk's error where it could not be kept: it counts
  // until this process ends, and the next call tries again.
  absl::Status Admit(const std::string& group, uint64_t epoch);
  // 0 for a group never seen.
  uint64_t Highest(const std::string& group) const;
  // The group whose epoch grew last; empty where none was ever seen.
  std::string Newest() const { return seen_.empty() ? "" : seen_.back().first; }

 private:
  explicit Epochs(Disk& disk) : disk_(&disk) {}

  Disk* disk_;
  // Oldest first.
  std::vector<std::pair<std::string, uint64_t>> seen_;
  // The disk has all of it.
  bool kept_ = true;
};

}  // namespace firedrill
