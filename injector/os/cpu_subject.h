// Which processes a node's subject means right now, and by which control group they can be held
// back.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/cgroup.h"
#include "injector/os/processes.h"

namespace firedrill {

// Groups that faults make begin with it; who is in one is held back already.
constexpr char kOurGroups[] = "firedrill-";

class CpuSubject {
 public:
  // Refuses what must go on (the kernel, the first process, ourselves), and what has no group of
  // its own and could not get one. Looks; touches nothing.
  static absl::StatusOr<CpuSubject> Find(const v1::HostSubject& subject);

  // "postgres (process 1234) and 7 children".
  const std::string& words() const { return words_; }
  // "cgroup/<boot>/<inode>" or "process/<boot>/<number>-<start>".
  const std::string& identity() const { return identity_; }
  // Where they are. They are all that is in there and beneath it, unless they are to be moved.
  const Cgroup& group() const { return group_; }
  // Others are in their group, too: they need one of their own to be held back.
  bool must_move() const { return must_move_; }
  // As they are now, parents first.
  absl::StatusOr<std::vector<Process>> Processes() const;
  // Of those the ones that are still in `group`, and so are to be moved. FAILED_PRECONDITION where
  // one is in neither of the two.
  absl::StatusOr<std::vector<Process>> Outside(const Cgroup& inner) const;

 private:
  CpuSubject(CgroupHierarchy hierarchy, Cgroup group, Cgroup members)
      : hierarchy_(std::move(hierarchy)), group_(std::move(group)), members_(std::move(members)) {}

  static absl::StatusOr<CpuSubject> OfGroup(const CgroupHierarchy& hierarchy,
                                            const std::string& path);
  static absl::StatusOr<CpuSubject> OfUnit(const CgroupHierarchy& hierarchy,
                                           const std::string& unit);
  static absl::StatusOr<CpuSubject> OfTree(const CgroupHierarchy& hierarchy,
                                           const Process& process);
  absl::Status Check() const;
  absl::Status CheckWhere() const;

  CgroupHierarchy hierarchy_;
  Cgroup group_;
  // Who is meant: the tree of this process, where its number is not 0; else whoever is in
  // `members_`.
  Process root_;
  Cgroup members_;
  bool must_move_ = false;
  std::string words_, identity_;
};

}  // namespace firedrill
