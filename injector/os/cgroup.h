// The door to control groups that limit processor time: version 1, version 2, and machines that
// have both. Every call asks the kernel anew.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace firedrill {

// A hierarchy of control groups, where it is mounted.
struct CgroupHierarchy {
  int version = 0;
  // "/sys/fs/cgroup/cpu".
  std::string mount;
  // Which group is seen there; "" where it is the root of the hierarchy.
  std::string root;
  // Version 1: how /proc/<pid>/cgroup calls it: "cpu,cpuacct", "name=systemd". Version 2: "".
  std::string name;
};

// That by which the kernel limits processor time. FAILED_PRECONDITION says why there is none, and
// what would mend it.
absl::StatusOr<CgroupHierarchy> FindCpuHierarchy();
// That in which systemd has its units. NOT_FOUND where there is none.
absl::StatusOr<CgroupHierarchy> FindUnitHierarchy();

// How much processor time, in each period. Nothing: as much as there is.
struct CpuLimit {
  std::optional<int64_t> quota_us;
  int64_t period_us = 100'000;

  // Infinite where there is none.
  double cpus() const;
  // Of this period.
  CpuLimit To(double cpus) const;
};
// What the kernel takes at the least.
constexpr int64_t kLeastQuotaUs = 1000;

// What a group has used, and how its own limit has held it back; ever since it was made.
struct CpuCount {
  int64_t periods = 0;
  // Those in which it was held back.
  int64_t throttled = 0;
  // Summed over processors.
  absl::Duration held_back;
  // Nothing where the hierarchy does not count it (version 1 without cpuacct beside cpu).
  std::optional<absl::Duration> used;
};

// One group, by its folder.
class Cgroup {
 public:
  explicit Cgroup(std::string folder) : folder_(std::move(folder)) {}
  // That of a process. NOT_FOUND where it has ended, or its group cannot be seen from here.
  static absl::StatusOr<Cgroup> Of(pid_t pid, const CgroupHierarchy& hierarchy);

  const std::string& folder() const { return folder_; }
  bool IsThere() const;
  // Never changes, and no other group has it: the inode.
  absl::StatusOr<uint64_t> Identity() const;
  int version() const;

  // NOT_FOUND where it cannot be limited: the root, or version 2 without the controller.
  absl::StatusOr<CpuLimit> Limit() const;
  // The file that says it, and how the file shows one.
  std::string LimitFile() const;
  std::string LimitText(const CpuLimit& limit) const;
  absl::Status SetLimit(const CpuLimit& limit) const;
  // Against its neighbours it counts as much as so many processes that are in none.
  absl::Status SetWeight(size_t processes) const;
  absl::StatusOr<CpuCount> Count() const;

  // The processes that are in it, not those beneath it; each once.
  absl::StatusOr<std::vector<pid_t>> Members() const;
  // With those beneath it.
  absl::StatusOr<std::vector<pid_t>> MembersOfAll() const;
  // Moves a process with all its threads here. NOT_FOUND where it has ended.
  absl::Status Take(pid_t pid) const;
  absl::StatusOr<std::vector<Cgroup>> Children() const;
  // Itself and all beneath it, itself first; RESOURCE_EXHAUSTED for more than 20 000.
  absl::StatusOr<std::vector<Cgroup>> All() const;

  // A group of this name in it, that may be limited while this one keeps its own processes.
  // Version 2: a threaded one, for which this one passes on the controller. Errors that
  // CanMakeInner() would have given, too.
  absl::StatusOr<Cgroup> MakeInner(const std::string& name) const;
  // Why that is not possible; touches nothing.
  absl::Status CanMakeInner() const;
  // That of a group of version 2 that was not given the controller, with what gives it.
  absl::Status WithoutCpu() const;
  Cgroup Inner(const std::string& name) const { return Cgroup(folder_ + "/" + name); }
  // Whether a group that is made in it can be limited without more ado.
  bool PassesOnCpu() const;
  // The other way: lifts the limit of `inner`, takes its processes back and removes it; where
  // MakeInner() had to pass on the controller takes that back, too, unless somebody else uses it by
  // now. Idempotent, also of what MakeInner() did by half. UNAVAILABLE: not all of it could be done
  // yet, but where the limit could be lifted nobody is held back any more.
  absl::Status Unmake(const Cgroup& inner, bool take_back_controller) const;
  // What a person can paste to do the same.
  std::string UnmakeByHand(const Cgroup& inner) const;

 private:
  std::string File(const char* name) const { return folder_ + "/" + name; }
  bool Has(const char* name) const;

  std::string folder_;
};

}  // namespace firedrill
