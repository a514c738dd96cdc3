// Which processes a node's subject means right now.
#include "injector/os/cpu_subject.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

std::string Boot() { return BootId().substr(0, 8); }

absl::string_view NameOf(const Cgroup& group) {
  absl::string_view folder = group.folder();
  return folder.substr(folder.rfind('/') + 1);
}

absl::StatusOr<std::string> IdentityOf(const Cgroup& group) {
  ASSIGN_OR_RETURN(const uint64_t inode, group.Identity());
  return absl::StrCat("cgroup/", Boot(), "/", inode);
}

// Systemd puts a line in front of names that the kernel has, too.
bool IsUnit(const Cgroup& group, absl::string_view unit) {
  absl::string_view name = NameOf(group);
  return name == unit || (absl::ConsumePrefix(&name, "_") && name == unit);
}

absl::Status HeldBackAlready(const Cgroup& group) {
  return absl::FailedPreconditionError(
      absl::StrCat("it is held back by another fault already, in the control group ",
                   group.folder(), "; wait until that is over, or see firedrill leftovers"));
}

}  // namespace

absl::StatusOr<CpuSubject> CpuSubject::Find(const v1::HostSubject& subject) {
  ASSIGN_OR_RETURN(const CgroupHierarchy hierarchy, FindCpuHierarchy());
  absl::StatusOr<CpuSubject> found = absl::InvalidArgumentError(
      "it names neither a unit, nor a control group, a pidfile or a port");
  switch (subject.what_case()) {
    case v1::HostSubject::kUnit:
      found = OfUnit(hierarchy, subject.unit());
      break;
    case v1::HostSubject::kCgroup:
      found = OfGroup(hierarchy, subject.cgroup());
      break;
    case v1::HostSubject::kPidfile: {
      const auto process = ProcessOfPidfile(subject.pidfile());
      found = process.ok() ? OfTree(hierarchy, *process) : process.status();
      break;
    }
    case v1::HostSubject::kPort: {
      const auto process = ListenerOf(static_cast<uint16_t>(subject.port()));
      found = process.ok() ? OfTree(hierarchy, *process) : process.status();
      break;
    }
    case v1::HostSubject::WHAT_NOT_SET:
      break;
  }
  if (found.ok()) {
    const absl::Status checked = found->Check();
    if (!checked.ok()) found = checked;
  }
  if (found.ok()) return found;
  return Annotate(found.status(), absl::StrCat("subject ", subject.name()));
}

absl::StatusOr<CpuSubject> CpuSubject::OfGroup(const CgroupHierarchy& hierarchy,
                                               const std::string& path) {
  for (const absl::string_view part : absl::StrSplit(path.substr(1), '/')) {
    if (!part.empty() && part != "." && part != "..") continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the control group ", path, ": write its path in full, as in /shop/web"));
  }
  const Cgroup group(hierarchy.mount + path);
  if (!group.IsThere()) {
    return absl::NotFoundError(
        absl::StrCat("there is no control group ", group.folder(),
                     "; its path is that in the hierarchy of the controller cpu"));
  }
  CpuSubject subject(hierarchy, group, group);
  ASSIGN_OR_RETURN(subject.identity_, IdentityOf(group));
  subject.words_ = absl::StrCat("the control group ", path);
  return subject;
}

absl::StatusOr<CpuSubject> CpuSubject::OfUnit(const CgroupHierarchy& hierarchy,
                                              const std::string& unit) {
  ASSIGN_OR_RETURN(const CgroupHierarchy units, FindUnitHierarchy());
  ASSIGN_OR_RETURN(const std::vector<Cgroup> all, Cgroup(units.mount).All());
  std::vector<Cgroup> found;
  std::vector<std::string> folders;
  for (const Cgroup& group : all) {
    if (!IsUnit(group, unit)) continue;
    found.push_back(group);
    folders.push_back(group.folder());
  }
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat("no unit ", unit,
                                            " is running here: systemd has no "
                                            "control group of that name in ",
                                            units.mount));
  }
  if (found.size() > 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "there are several units ", unit, ": ", JoinWords(folders), "; name a control group"));
  }
  const Cgroup its = found[0];
  const Cgroup same(hierarchy.mount + its.folder().substr(units.mount.size()));
  CpuSubject subject(hierarchy, same, its);
  ASSIGN_OR_RETURN(subject.identity_, IdentityOf(its));
  subject.words_ = absl::StrCat("the unit ", unit);
  if (units.version == 2 && hierarchy.version == 2) return subject;
  // Version 1 has it beneath each controller only where systemd was told to count there.
  ASSIGN_OR_RETURN(const std::vector<Process> processes, subject.Processes());
  const bool whole =
      same.IsThere() && std::all_of(processes.begin(), processes.end(), [&](const Process& one) {
        const auto where = Cgroup::Of(one.pid, hierarchy);
        return !where.ok() || where->folder() == same.folder() ||
               absl::StartsWith(where->folder(), same.folder() + "/");
      });
  if (processes.empty()) return subject;
  if (whole) {
    ASSIGN_OR_RETURN(subject.identity_, IdentityOf(same));
    return subject;
  }
  ASSIGN_OR_RETURN(subject.group_, Cgroup::Of(processes[0].pid, hierarchy));
  subject.must_move_ = true;
  return subject;
}

absl::StatusOr<CpuSubject> CpuSubject::OfTree(const CgroupHierarchy& hierarchy,
                                              const Process& process) {
  ASSIGN_OR_RETURN(const Cgroup group, Cgroup::Of(process.pid, hierarchy));
  CpuSubject subject(hierarchy, group, group);
  subject.root_ = process;
  subject.identity_ = absl::StrCat("process/", Boot(), "/", process.pid, "-", process.start);
  // Who is in there before who is meant: children that are born in between are not taken for
  // others.
  const auto members = group.MembersOfAll();
  const std::map<pid_t, Process> all = AllProcesses();
  std::set<pid_t> tree;
  for (const Process& one : TreeOf(process, all)) tree.insert(one.pid);
  subject.words_ = process.Words();
  if (tree.size() > 1) {
    absl::StrAppend(&subject.words_, " and ", tree.size() - 1,
                    tree.size() == 2 ? " child" : " children");
  }
  subject.must_move_ = !members.ok() || !group.Limit().ok() || group.folder() == hierarchy.mount ||
                       std::any_of(members->begin(), members->end(), [&](pid_t pid) {
                         return tree.count(pid) == 0 && all.count(pid) > 0;
                       });
  if (!subject.must_move_) {
    // As whoever names the group itself would.
    ASSIGN_OR_RETURN(subject.identity_, IdentityOf(group));
  }
  return subject;
}

absl::StatusOr<std::vector<Process>> CpuSubject::Processes() const {
  if (root_.pid != 0) {
    const std::map<pid_t, Process> all = AllProcesses();
    const auto root = all.find(root_.pid);
    if (root == all.end() || root->second.start != root_.start) {
      return absl::NotFoundError(absl::StrCat(root_.Words(), " has ended"));
    }
    return TreeOf(root->second, all);
  }
  ASSIGN_OR_RETURN(const std::vector<pid_t> members, members_.MembersOfAll());
  std::vector<Process> processes;
  for (const pid_t pid : members) {
    const auto process = FindProcess(pid);
    if (process.ok()) processes.push_back(*process);
  }
  return processes;
}

absl::StatusOr<std::vector<Process>> CpuSubject::Outside(const Cgroup& inner) const {
  ASSIGN_OR_RETURN(const std::vector<Process> processes, Processes());
  std::vector<Process> outside;
  for (const Process& process : processes) {
    for (const pid_t thread : ThreadsOf(process.pid)) {
      const auto where = Cgroup::Of(thread, hierarchy_);
      if (!where.ok() || where->folder() == inner.folder()) continue;
      if (where->folder() != group_.folder()) {
        return absl::FailedPreconditionError(absl::StrCat(
            process.Words(), " is in the control group ", where->folder(), ", and others of ",
            words_, " in ", group_.folder(),
            ": they cannot be moved together and back; name a control group as the subject"));
      }
      if (outside.empty() || outside.back().pid != process.pid) outside.push_back(process);
    }
  }
  return outside;
}

absl::Status CpuSubject::Check() const {
  ASSIGN_OR_RETURN(const std::vector<Process> processes, Processes());
  if (processes.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(words_, " has no process"));
  }
  for (const Process& process : processes) {
    const char* who = process.kernel     ? "belongs to the kernel"
                      : process.pid == 1 ? "is the first process of this machine"
                      : process.IsOurs() ? "is Firedrill's own, and must go on to end the fault"
                                         : nullptr;
    if (who == nullptr) continue;
    return absl::FailedPreconditionError(absl::StrCat(process.Words(), ", which is among ", words_,
                                                      ", ", who, "; choose a narrower subject"));
  }
  if (absl::StartsWith(NameOf(group_), kOurGroups)) return HeldBackAlready(group_);
  absl::Status where = CheckWhere();
  if (absl::IsPermissionDenied(where)) {
    where = absl::PermissionDeniedError(
        absl::StrCat(where.message(),
                     "; run the injector as root, and where the group is another user's with "
                     "CAP_DAC_OVERRIDE"));
  }
  return where;
}

absl::Status CpuSubject::CheckWhere() const {
  if (must_move_) {
    RETURN_IF_ERROR(group_.CanMakeInner());
    return Outside(group_).status();
  }
  if (group_.folder() == hierarchy_.mount) {
    return absl::FailedPreconditionError(
        absl::StrCat(group_.folder(), " is the whole machine; name a part of it"));
  }
  const auto limit = group_.Limit();
  if (absl::IsNotFound(limit.status())) return group_.WithoutCpu();
  RETURN_IF_ERROR(limit.status());
  if (access(group_.LimitFile().c_str(), W_OK) == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("writing ", group_.LimitFile(), ": ", std::strerror(errno)));
}

}  // namespace firedrill
