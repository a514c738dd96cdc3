// Control groups that limit processor time.
#include "injector/os/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "injector/by_hand.h"
#include "injector/os/processes.h"
#include "injector/small_file.h"

namespace firedrill {
namespace {

constexpr char kQuota[] = "cpu.cfs_quota_us";
constexpr char kPeriod[] = "cpu.cfs_period_us";
constexpr char kMax[] = "cpu.max";
constexpr char kType[] = "cgroup.type";
constexpr char kPassedOn[] = "cgroup.subtree_control";
constexpr char kControllers[] = "cgroup.controllers";
// Lists longer than that are not read.
constexpr size_t kLongestList = 8 << 20;
constexpr size_t kMostGroups = 20'000;
// Processes that are born while a group is emptied are met in the next round.
constexpr int kMostRounds = 200;
constexpr absl::Duration kRoundPause = absl::Milliseconds(5);

absl::Status Failed(absl::string_view doing, const std::string& what) {
  const int code = errno;
  const std::string text = absl::StrCat(doing, " ", what, ": ", std::strerror(code));
  if (code == ENOENT || code == ENODEV || code == ESRCH) return absl::NotFoundError(text);
  if (code == EACCES || code == EPERM || code == EROFS) return absl::PermissionDeniedError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<std::string> ReadList(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return Failed("reading", path);
  std::string text;
  char buffer[16384];
  while (true) {
    const ssize_t got = read(fd.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed("reading", path);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kLongestList) {
      return absl::ResourceExhaustedError(absl::StrCat("reading ", path, ": it is too long"));
    }
  }
}

bool HasWord(absl::string_view text, absl::string_view word) {
  for (const absl::string_view one : absl::StrSplit(text, absl::ByAnyChar(" ,\n"))) {
    if (one == word) return true;
  }
  return false;
}

// "\040" for a space, as /proc/self/mountinfo writes it.
std::string Unescaped(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out +=
          static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Mount {
  CgroupHierarchy hierarchy;
  // Version 1: "rw,cpu,cpuacct".
  std::string options;
};

absl::StatusOr<std::vector<Mount>> CgroupMounts() {
  ASSIGN_OR_RETURN(const std::string text, ReadList("/proc/self/mountinfo"));
  std::vector<Mount> mounts;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<absl::string_view> left = absl::StrSplit(halves[0], ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (right[0] != "cgroup" && right[0] != "cgroup2") continue;
    Mount mount;
    mount.hierarchy.version = right[0] == "cgroup2" ? 2 : 1;
    mount.hierarchy.mount = Unescaped(left[4]);
    mount.hierarchy.root = left[3] == "/" ? "" : Unescaped(left[3]);
    mount.options = std::string(right[2]);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// As /proc/<pid>/cgroup calls the hierarchy with this controller (or name): "cpu,cpuacct".
std::string NameOf(const std::string& member) {
  const auto text = ReadList("/proc/self/cgroup");
  if (!text.ok()) return member;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() == 3 && HasWord(parts[1], member)) return std::string(parts[1]);
  }
  return member;
}

// "nr_periods 7\nnr_throttled 3\n...".
std::map<std::string, int64_t> ReadCounts(absl::string_view text) {
  std::map<std::string, int64_t> counts;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    int64_t value = 0;
    if (words.size() == 2 && absl::SimpleAtoi(words[1], &value)) {
      counts[std::string(words[0])] = value;
    }
  }
  return counts;
}

// The process of a thread; itself where that is one, 0 where it has ended.
pid_t ProcessOf(pid_t thread) {
  const auto status = ReadList(absl::StrCat("/proc/", thread, "/status"));
  if (!status.ok()) return 0;
  for (const absl::string_view line : absl::StrSplit(*status, '\n')) {
    pid_t process = 0;
    absl::string_view rest = line;
    if (absl::ConsumePrefix(&rest, "Tgid:") && absl::SimpleAtoi(rest, &process)) return process;
  }
  return 0;
}

absl::Status WriteWord(const std::string& path, const std::string& word) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return Failed("writing", path);
  if (write(fd.get(), word.data(), word.size()) == static_cast<ssize_t>(word.size())) {
    return absl::OkStatus();
  }
  return Failed(absl::StrCat("writing ", word, " into"), path);
}

}  // namespace

absl::StatusOr<CgroupHierarchy> FindCpuHierarchy() {
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, CgroupMounts());
  for (const Mount& mount : mounts) {
    if (mount.hierarchy.version != 1 || !HasWord(mount.options, "cpu")) continue;
    CgroupHierarchy hierarchy = mount.hierarchy;
    hierarchy.name = NameOf("cpu");
    return hierarchy;
  }
  bool unified = false;
  for (const Mount& mount : mounts) {
    if (mount.hierarchy.version != 2) continue;
    unified = true;
    const auto has = ReadSmallFile(absl::StrCat(mount.hierarchy.mount, "/", kControllers));
    if (has.ok() && HasWord(*has, "cpu")) return mount.hierarchy;
  }
  return absl::FailedPreconditionError(
      unified ? "control groups of version 2 are mounted here without the controller cpu, and none "
                "of version 1 with it: processor time cannot be limited; boot without "
                "cgroup_disable=cpu, or mount version 1 with -o cpu"
              : "no control groups with the controller cpu are mounted here: processor time cannot "
                "be limited; mount -t cgroup2 none /sys/fs/cgroup");
}

absl::StatusOr<CgroupHierarchy> FindUnitHierarchy() {
  ASSIGN_OR_RETURN(const std::vector<Mount> mounts, CgroupMounts());
  for (const Mount& mount : mounts) {
    if (mount.hierarchy.version != 1 || !HasWord(mount.options, "name=systemd")) continue;
    CgroupHierarchy hierarchy = mount.hierarchy;
    hierarchy.name = "name=systemd";
    return hierarchy;
  }
  for (const Mount& mount : mounts) {
    if (mount.hierarchy.version == 2) return mount.hierarchy;
  }
  return absl::NotFoundError("no control groups in which systemd keeps its units are mounted here");
}

double CpuLimit::cpus() const {
  if (!quota_us.has_value()) return std::numeric_limits<double>::infinity();
  return static_cast<double>(*quota_us) / static_cast<double>(period_us);
}

CpuLimit CpuLimit::To(double cpus) const {
  return {std::llround(cpus * static_cast<double>(period_us)), period_us};
}

absl::StatusOr<Cgroup> Cgroup::Of(pid_t pid, const CgroupHierarchy& hierarchy) {
  ASSIGN_OR_RETURN(const std::string text, ReadList(absl::StrCat("/proc/", pid, "/cgroup")));
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || parts[1] != absl::string_view(hierarchy.name)) continue;
    absl::string_view path = parts[2];
    if (!absl::ConsumePrefix(&path, hierarchy.root)) break;
    if (!path.empty() && path[0] != '/') break;
    // Whoever ends is in no group any more. Version 1 shows them in the root, version 2 where they
    // were, for as long as nobody has waited for them.
    if (path == "/" || hierarchy.version == 2) {
      ASSIGN_OR_RETURN(const Process process, FindProcess(pid));
      if (process.ending) return absl::NotFoundError(absl::StrCat(process.Words(), " has ended"));
    }
    return Cgroup(absl::StrCat(hierarchy.mount, path == "/" ? "" : path));
  }
  return absl::NotFoundError(absl::StrCat("the control group of the process ", pid,
                                          " is outside of what is seen at ", hierarchy.mount));
}

bool Cgroup::Has(const char* name) const { return access(File(name).c_str(), F_OK) == 0; }

bool Cgroup::IsThere() const { return Has("cgroup.procs"); }

absl::StatusOr<uint64_t> Cgroup::Identity() const {
  struct stat info {};
  if (stat(folder_.c_str(), &info) != 0) return Failed("looking at", folder_);
  return info.st_ino;
}

int Cgroup::version() const { return Has(kControllers) ? 2 : 1; }

std::string Cgroup::LimitFile() const { return File(version() == 2 ? kMax : kQuota); }

std::string Cgroup::LimitText(const CpuLimit& limit) const {
  if (version() == 1) return absl::StrCat(limit.quota_us.value_or(-1));
  const std::string quota = limit.quota_us.has_value() ? absl::StrCat(*limit.quota_us) : "max";
  return absl::StrCat(quota, " ", limit.period_us);
}

absl::StatusOr<CpuLimit> Cgroup::Limit() const {
  std::string quota, period;
  if (version() == 1) {
    ASSIGN_OR_RETURN(quota, ReadSmallFile(File(kQuota)));
    ASSIGN_OR_RETURN(period, ReadSmallFile(File(kPeriod)));
  } else {
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(File(kMax)));
    const std::vector<std::string> words = absl::StrSplit(text, ' ');
    quota = words[0];
    period = words.size() == 2 ? words[1] : "";
  }
  CpuLimit limit;
  int64_t value = 0;
  const bool none = quota == "max" || quota == "-1";
  if ((!none && !absl::SimpleAtoi(quota, &value)) || !absl::SimpleAtoi(period, &limit.period_us) ||
      limit.period_us <= 0) {
    return absl::InternalError(
        absl::StrCat(LimitFile(), " says \"", quota, " ", period, "\", which is not known here"));
  }
  if (!none) limit.quota_us = value;
  return limit;
}

absl::Status Cgroup::SetWeight(size_t processes) const {
  const auto times = [processes](size_t one, size_t most) {
    return absl::StrCat(std::min(std::max<size_t>(processes, 1) * one, most));
  };
  return version() == 2 ? WriteWord(File("cpu.weight"), times(100, 10'000))
                        : WriteWord(File("cpu.shares"), times(1024, 262'144));
}

absl::Status Cgroup::SetLimit(const CpuLimit& limit) const {
  return WriteSmallFile(LimitFile(), LimitText(limit));
}

absl::StatusOr<CpuCount> Cgroup::Count() const {
  ASSIGN_OR_RETURN(const std::string text, ReadList(File("cpu.stat")));
  std::map<std::string, int64_t> counts = ReadCounts(text);
  CpuCount count;
  count.periods = counts["nr_periods"];
  count.throttled = counts["nr_throttled"];
  if (counts.count("usage_usec") > 0) {
    count.used = absl::Microseconds(counts["usage_usec"]);
    count.held_back = absl::Microseconds(counts["throttled_usec"]);
    return count;
  }
  count.held_back = absl::Nanoseconds(counts["throttled_time"]);
  const auto used = ReadSmallFile(File("cpuacct.usage"));
  int64_t nanoseconds = 0;
  if (used.ok() && absl::SimpleAtoi(*used, &nanoseconds)) {
    count.used = absl::Nanoseconds(nanoseconds);
  }
  return count;
}

absl::StatusOr<std::vector<pid_t>> Cgroup::Members() const {
  absl::StatusOr<std::string> text = ReadList(File("cgroup.procs"));
  // A threaded group tells its threads only.
  const bool threads = !text.ok() && Has("cgroup.threads");
  if (threads) text = ReadList(File("cgroup.threads"));
  if (!text.ok()) return text.status();
  std::vector<pid_t> members;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(line, &pid)) continue;
    if (threads) pid = ProcessOf(pid);
    if (pid > 0) members.push_back(pid);
  }
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

absl::StatusOr<std::vector<pid_t>> Cgroup::MembersOfAll() const {
  ASSIGN_OR_RETURN(const std::vector<Cgroup> groups, All());
  std::vector<pid_t> all;
  for (const Cgroup& group : groups) {
    const auto members = group.Members();
    if (absl::IsNotFound(members.status()) && &group != &groups.front()) continue;
    RETURN_IF_ERROR(members.status());
    all.insert(all.end(), members->begin(), members->end());
  }
  return all;
}

absl::Status Cgroup::Take(pid_t pid) const {
  return WriteWord(File("cgroup.procs"), absl::StrCat(pid));
}

absl::StatusOr<std::vector<Cgroup>> Cgroup::Children() const {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(folder_.c_str()), closedir);
  if (folder == nullptr) return Failed("reading", folder_);
  std::vector<Cgroup> children;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    children.push_back(Inner(entry->d_name));
  }
  return children;
}

absl::StatusOr<std::vector<Cgroup>> Cgroup::All() const {
  std::vector<Cgroup> all = {*this};
  for (size_t i = 0; i < all.size(); ++i) {
    const auto children = all[i].Children();
    // One beneath us may be removed meanwhile.
    if (absl::IsNotFound(children.status()) && i > 0) continue;
    RETURN_IF_ERROR(children.status());
    all.insert(all.end(), children->begin(), children->end());
    if (all.size() > kMostGroups) {
      return absl::ResourceExhaustedError(
          absl::StrCat("there are more than ", kMostGroups, " control groups in ", folder_));
    }
  }
  return all;
}

absl::Status Cgroup::WithoutCpu() const {
  const std::string above = folder_.substr(0, folder_.rfind('/'));
  return absl::FailedPreconditionError(
      absl::StrCat("the control group ", folder_, " has no controller cpu, since the one above it ",
                   "does not pass it on; echo +cpu > ", above, "/", kPassedOn,
                   ", or for a unit: systemctl set-property --runtime ... CPUWeight=100"));
}

absl::Status Cgroup::CanMakeInner() const {
  if (access(folder_.c_str(), W_OK) != 0) return Failed("making a control group in", folder_);
  if (version() == 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string has, ReadSmallFile(File(kControllers)));
  if (!HasWord(has, "cpu")) return WithoutCpu();
  ASSIGN_OR_RETURN(const std::vector<Cgroup> children, Children());
  // The root has no type, and may have processes beside groups of any kind.
  if (Has(kType)) {
    for (const Cgroup& child : children) {
      const auto type = ReadSmallFile(child.File(kType));
      if (!type.ok() || *type == "threaded") continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "the control group ", folder_, " has ", child.folder(), " in it, beside which version 2 ",
          "permits none with threads; name the whole group as the subject: cgroup or unit"));
    }
  }
  if (children.empty() || PassesOnCpu()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the control group ", folder_, " does not pass on the controller cpu, and to do so would ",
      "change the shares of ", children.front().folder(), ", too; name a group in it as the ",
      "subject, or accept that: echo +cpu > ", File(kPassedOn)));
}

bool Cgroup::PassesOnCpu() const {
  if (version() == 1) return true;
  const auto passed_on = ReadSmallFile(File(kPassedOn));
  return passed_on.ok() && HasWord(*passed_on, "cpu");
}

absl::StatusOr<Cgroup> Cgroup::MakeInner(const std::string& name) const {
  RETURN_IF_ERROR(CanMakeInner());
  const Cgroup inner = Inner(name);
  if (mkdir(inner.folder().c_str(), 0755) != 0) return Failed("making", inner.folder());
  if (version() == 1) return inner;
  if (Has(kType)) RETURN_IF_ERROR(WriteWord(inner.File(kType), "threaded"));
  if (!PassesOnCpu()) RETURN_IF_ERROR(WriteWord(File(kPassedOn), "+cpu"));
  return inner;
}

absl::Status Cgroup::Unmake(const Cgroup& inner, bool take_back_controller) const {
  // Whatever becomes of the rest: nobody is held back from here on.
  const auto limit = inner.Limit();
  if (limit.ok() && limit->quota_us.has_value()) {
    RETURN_IF_ERROR(inner.SetLimit({std::nullopt, limit->period_us}));
  }
  absl::Status last;
  for (int round = 0; round < kMostRounds && inner.IsThere(); ++round) {
    if (round > 0) absl::SleepFor(kRoundPause);
    const auto members = inner.Members();
    if (!members.ok()) {
      last = members.status();
      continue;
    }
    for (const pid_t pid : *members) {
      const absl::Status taken = Take(pid);
      if (!taken.ok() && !absl::IsNotFound(taken)) last = taken;
    }
    if (rmdir(inner.folder().c_str()) == 0 || errno == ENOENT) break;
    last = Failed("removing", inner.folder());
    const auto children = inner.Children();
    if (!children.ok() || children->empty()) continue;
    return absl::UnavailableError(absl::StrCat("in ", inner.folder(), " there is ",
                                               children->front().folder(),
                                               ", which somebody else has made"));
  }
  if (inner.IsThere()) {
    return absl::UnavailableError(
        absl::StrCat("its limit is lifted, but it is still there: ", last.message()));
  }
  if (!take_back_controller || !PassesOnCpu()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<Cgroup> others, Children());
  return others.empty() ? WriteWord(File(kPassedOn), "-cpu") : absl::OkStatus();
}

std::string Cgroup::UnmakeByHand(const Cgroup& inner) const {
  const char* list = version() == 2 && Has(kType) ? "cgroup.threads" : "cgroup.procs";
  return absl::StrCat("echo ", version() == 2 ? "max" : "-1", " > ",
                      ShellQuoted(inner.File(version() == 2 ? kMax : kQuota)), "; for p in $(cat ",
                      ShellQuoted(inner.File(list)), "); do echo $p > ",
                      ShellQuoted(File("cgroup.procs")), "; done; rmdir ",
                      ShellQuoted(inner.folder()));
}

}  // namespace firedrill
