// Processes, as /proc shows them.
#include "injector/os/processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr uint64_t kEnding = 0x00000004;        // PF_EXITING
constexpr uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD
constexpr char kListening[] = "0A";
// A process writes its file a moment after it has begun; clocks are read to the tick.
constexpr absl::Duration kClockSlack = absl::Seconds(2);
constexpr absl::Duration kTickSlack = absl::Milliseconds(20);
constexpr size_t kLongestPidfile = 4096;

absl::Duration Ticks(uint64_t ticks) {
  static const double per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  return absl::Seconds(static_cast<double>(ticks) / per_second);
}

absl::StatusOr<std::string> ReadText(const std::string& path, size_t longest) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return absl::NotFoundError(absl::StrCat("reading ", path, ": ", std::strerror(errno)));
  }
  std::string text;
  char buffer[16384];
  while (text.size() < longest) {
    const ssize_t got = read(fd.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::NotFoundError(absl::StrCat("reading ", path, ": ", std::strerror(errno)));
    }
    if (got == 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

// What is between the first parenthesis and the last one may hold anything.
absl::StatusOr<Process> Parse(pid_t pid, const std::string& stat) {
  const size_t open = stat.find('('), close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) {
    return absl::NotFoundError(absl::StrCat("the process ", pid, " has ended"));
  }
  const std::vector<absl::string_view> words =
      absl::StrSplit(absl::string_view(stat).substr(close + 1), ' ', absl::SkipWhitespace());
  // proc(5), from the third field on.
  constexpr size_t kParent = 1, kFlags = 6, kUser = 11, kSystem = 12, kChildrenUser = 13,
                   kChildrenSystem = 14, kStart = 19;
  const auto number = [&words](size_t field) {
    uint64_t value = 0;
    if (field >= words.size() || !absl::SimpleAtoi(words[field], &value)) value = 0;
    return value;
  };
  Process process;
  process.pid = pid;
  process.parent = static_cast<pid_t>(number(kParent));
  process.start = number(kStart);
  process.name = stat.substr(open + 1, close - open - 1);
  process.kernel = (number(kFlags) & kKernelThread) != 0;
  process.ending = (number(kFlags) & kEnding) != 0;
  process.used =
      Ticks(number(kUser) + number(kSystem) + number(kChildrenUser) + number(kChildrenSystem));
  return process;
}

// The numbers in a folder of /proc.
std::vector<pid_t> NumbersIn(const std::string& path) {
  std::vector<pid_t> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  while (const dirent* entry = folder == nullptr ? nullptr : readdir(folder.get())) {
    pid_t number = 0;
    if (absl::SimpleAtoi(entry->d_name, &number)) numbers.push_back(number);
  }
  return numbers;
}

// "socket:[123]" of those that listen on the port.
std::set<std::string> ListeningSockets(uint16_t port) {
  std::set<std::string> sockets;
  for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    const auto text = ReadText(table, 64 << 20);
    if (!text.ok()) continue;
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, ' ', absl::SkipWhitespace());
      if (words.size() < 10 || words[3] != kListening) continue;
      const std::vector<absl::string_view> address = absl::StrSplit(words[1], ':');
      uint32_t here = 0;
      if (address.size() != 2 || !absl::SimpleHexAtoi(address[1], &here) || here != port) continue;
      sockets.insert(absl::StrCat("socket:[", words[9], "]"));
    }
  }
  return sockets;
}

bool Holds(pid_t pid, const std::set<std::string>& sockets) {
  const std::string folder = absl::StrCat("/proc/", pid, "/fd");
  for (const pid_t fd : NumbersIn(folder)) {
    char target[64];
    const ssize_t size =
        readlink(absl::StrCat(folder, "/", fd).c_str(), target, sizeof(target) - 1);
    if (size > 0 && sockets.count(std::string(target, static_cast<size_t>(size))) > 0) return true;
  }
  return false;
}

// Wall time.
absl::Time BeganAt(const Process& process) {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return absl::Now() - (absl::DurationFromTimespec(now) - Ticks(process.start));
}

}  // namespace

std::string Process::Words() const { return absl::StrCat(name, " (process ", pid, ")"); }

bool Process::IsOurs() const { return pid == getpid() || absl::StartsWith(name, "firedrill"); }

absl::StatusOr<Process> FindProcess(pid_t pid) {
  const auto stat = ReadText(absl::StrCat("/proc/", pid, "/stat"), 4096);
  if (!stat.ok()) return absl::NotFoundError(absl::StrCat("there is no process ", pid));
  return Parse(pid, *stat);
}

std::map<pid_t, Process> AllProcesses() {
  std::map<pid_t, Process> all;
  for (const pid_t pid : NumbersIn("/proc")) {
    auto process = FindProcess(pid);
    if (process.ok()) all.emplace(pid, *std::move(process));
  }
  return all;
}

std::vector<Process> TreeOf(const Process& process, const std::map<pid_t, Process>& all) {
  std::multimap<pid_t, const Process*> children;
  for (const auto& [pid, one] : all) children.emplace(one.parent, &one);
  std::vector<Process> tree = {process};
  // They are not all read at once, so a number may have been given anew meanwhile.
  std::set<pid_t> met = {process.pid};
  for (size_t i = 0; i < tree.size(); ++i) {
    const auto [begin, end] = children.equal_range(tree[i].pid);
    for (auto child = begin; child != end; ++child) {
      if (met.insert(child->second->pid).second) tree.push_back(*child->second);
    }
  }
  return tree;
}

std::vector<pid_t> ThreadsOf(pid_t pid) { return NumbersIn(absl::StrCat("/proc/", pid, "/task")); }

absl::StatusOr<Process> ProcessOfPidfile(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    const int error = errno;
    const std::string what = absl::StrCat("reading ", path, ": ", std::strerror(error));
    if (error != EACCES) return absl::NotFoundError(what + "; is its process running?");
    return absl::PermissionDeniedError(what +
                                       "; run the injector as root, with CAP_DAC_READ_SEARCH");
  }
  ASSIGN_OR_RETURN(const std::string text, ReadText(path, kLongestPidfile));
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  pid_t pid = 0;
  if (!absl::SimpleAtoi(lines[0], &pid) || pid <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " does not begin with the number of a process"));
  }
  const auto process = FindProcess(pid);
  if (!process.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " names the process ", pid, ", which has ended"));
  }
  if (BeganAt(*process) > absl::TimeFromTimespec(info.st_mtim) + kClockSlack) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is older than ", process->Words(),
                     ", whose number it has: it is left over from another; name the unit or the "
                     "port instead"));
  }
  struct stat its {};
  if (stat(absl::StrCat("/proc/", pid).c_str(), &its) == 0 && info.st_uid != 0 &&
      info.st_uid != its.st_uid) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " belongs to the user ", info.st_uid, ", and ", process->Words(),
                     " to another one, ", its.st_uid, ": who writes it may not speak for that"));
  }
  return *process;
}

absl::StatusOr<Process> ListenerOf(uint16_t port) {
  const std::set<std::string> sockets = ListeningSockets(port);
  if (sockets.empty()) {
    return absl::NotFoundError(
        absl::StrCat("nobody listens on the TCP port ", port, " of this machine"));
  }
  const std::map<pid_t, Process> all = AllProcesses();
  std::map<pid_t, Process> holders;
  for (const auto& [pid, process] : all) {
    if (!process.kernel && Holds(pid, sockets)) holders.emplace(pid, process);
  }
  std::vector<Process> first;
  std::vector<std::string> words;
  for (const auto& [pid, process] : holders) {
    if (holders.count(process.parent) > 0) continue;
    first.push_back(process);
    words.push_back(process.Words());
  }
  if (first.size() == 1) return first[0];
  return absl::FailedPreconditionError(
      first.empty()
          ? absl::StrCat("who listens on the TCP port ", port,
                         " cannot be seen from here; run the injector as root, with "
                         "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, in the same container")
          : absl::StrCat("on the TCP port ", port, " listen ", JoinWords(words),
                         ", and none is the other's child; name a unit, a control group or a "
                         "pidfile"));
}

absl::Duration ProcessMeter::Used(const std::vector<pid_t>& pids) {
  std::map<pid_t, Seen> now;
  absl::Duration sum;
  for (const pid_t pid : pids) {
    const auto process = FindProcess(pid);
    if (!process.ok()) continue;
    now[pid] = {process->start, process->parent, process->used};
    sum += process->used;
    const auto then = seen_.find(pid);
    const bool same = then != seen_.end() && then->second.start == process->start;
    // Who came in from elsewhere has used nothing here before; a child that was born here has.
    if (begun_ && !same && seen_.count(process->parent) == 0) before_ += process->used;
  }
  // Who has gone was waited for by one of us, and is in that one's sum now, or is lost to us.
  for (const auto& [pid, then] : seen_) {
    const auto still = now.find(pid);
    if (still != now.end() && still->second.start == then.start) continue;
    const auto heir = now.find(then.parent);
    const auto heir_then = seen_.find(then.parent);
    const bool inherited = heir != now.end() && heir_then != seen_.end() &&
                           heir->second.used - heir_then->second.used >= then.used - kTickSlack;
    if (!inherited) before_ -= then.used;
  }
  if (!begun_) before_ = sum;
  begun_ = true;
  seen_ = std::move(now);
  sum_ = std::max(sum_, sum - before_);
  return sum_;
}

}  // namespace firedrill
