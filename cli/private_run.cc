// "Nothing else running": a controller and the site's injectors for one run.
#include "cli/private_run.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "injector/leftovers.h"
#include "injector/state_dir.h"

namespace firedrill {
namespace {

constexpr char kFolderPrefix[] = "firedrill-";
constexpr absl::Duration kStartWithin = absl::Seconds(10);
// As long as an injector waits for what undoes a dead predecessor's faults.
constexpr absl::Duration kFreeWithin = absl::Seconds(3);
constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
constexpr int kMostStarts = 3;
// A whole session may be stopped, and go on, one process after the other.
constexpr absl::Duration kStoppedFor = absl::Seconds(1);
constexpr absl::Duration kAskWhetherToLeave = absl::Milliseconds(100);

// The binaries stand beside this one.
std::string Sibling(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / name).string();
}

std::string TemporaryFolder() {
  const char* tmp = std::getenv("TMPDIR");
  // A socket's path has at most 107 bytes.
  return tmp != nullptr && tmp[0] == '/' && std::strlen(tmp) < 60 ? tmp : "/tmp";
}

constexpr char kEndedByItself[] = " ended by itself and was started again, to look what is left";
constexpr char kWasStopped[] =
    " was stopped by a signal before the run began: it was ended, and another one started";

bool IsInterrupted() {
  sigset_t waiting;
  if (sigpending(&waiting) != 0) return false;
  return sigismember(&waiting, SIGINT) == 1 || sigismember(&waiting, SIGTERM) == 1 ||
         sigismember(&waiting, SIGHUP) == 1;
}

absl::Status Interrupted() { return absl::CancelledError("interrupted before anything was begun"); }

// The process that made the socket folder of this name; 0 where it is none.
int ClientOf(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '-');
  int pid = 0;
  if (name.rfind(kFolderPrefix, 0) != 0 || parts.size() != 3) return 0;
  return absl::SimpleAtoi(parts[1], &pid) && pid > 0 ? pid : 0;
}

// A signal has stopped it: it does nothing until another one lets it go on.
bool IsStopped(int pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  const size_t state = text.rfind(") ");
  return state != std::string::npos && text.compare(state + 2, 1, "T") == 0;
}

// Since when it is stopped, and whether that is long enough.
bool StaysStopped(int pid, absl::Time& since) {
  since = IsStopped(pid) ? std::min(since, absl::Now()) : absl::InfiniteFuture();
  return absl::Now() - since >= kStoppedFor;
}

bool IsGone(int pid) { return kill(pid, 0) != 0 && errno == ESRCH; }

// Its site file says where the things are that a journal still names.
bool StillNeeded(const std::string& folder) {
  std::ifstream file(absl::StrCat(folder, "/", kStateDirFile));
  std::string state_dir;
  if (!std::getline(file, state_dir)) return false;
  for (const NodeLeftovers& node : Leftovers(state_dir)) {
    if (!node.entries.empty() || !node.trouble.empty()) return true;
  }
  return false;
}

absl::Status InUse(const std::string& node, const NodeUse& use) {
  const std::string process = use.process > 0 ? absl::StrCat("process ", use.process) : "unknown";
  switch (use.by) {
    case NodeUse::By::kRun:
      return absl::FailedPreconditionError(
          absl::StrCat("node ", node, " is in use by another run (", process,
                       "): wait until it has ended, or use another --state-dir"));
    case NodeUse::By::kInjector:
      return absl::FailedPreconditionError(
          absl::StrCat("node ", node, " is in use by an injector that serves a controller (",
                       process, "): name that one with --controller, or use another --state-dir"));
    case NodeUse::By::kEnding:
    case NodeUse::By::kNobody:
      break;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("node ", node, " was in use by another process (", process, ") for ",
                   absl::FormatDuration(kFreeWithin), ", which undoes what an earlier run left: ",
                   "wait until it has ended, or use another --state-dir"));
}

}  // namespace

NodeUse UseOf(const std::string& state_dir, const std::string& node) {
  const int holder = LockHolder(state_dir, node);
  if (holder == 0) return {};
  // The lock is held, by a process that has not yet said which it is.
  if (holder == 1) return {NodeUse::By::kEnding, 0};
  std::ifstream file(absl::StrCat("/proc/", holder, "/cmdline"));
  std::stringstream text;
  text << file.rdbuf();
  const std::vector<std::string> words = absl::StrSplit(text.str(), '\0');
  if (!absl::EndsWith(words[0], "firedrill-injector")) return {NodeUse::By::kEnding, holder};
  if (std::find(words.begin(), words.end(), "--private") == words.end()) {
    return {NodeUse::By::kInjector, holder};
  }
  int client = 0;
  const auto address = std::find(words.begin(), words.end(), "--controller");
  if (address != words.end() && address + 1 != words.end()) {
    client = ClientOf(std::filesystem::path(*(address + 1)).parent_path().filename().string());
  }
  if (client == 0) return {NodeUse::By::kRun, holder};
  // One of our own is from the experiment before this one.
  if (client == getpid() || IsGone(client)) return {NodeUse::By::kEnding, holder};
  return {NodeUse::By::kRun, client};
}

absl::StatusOr<std::string> MakeRunFolder() {
  std::string folder = absl::StrCat(TemporaryFolder(), "/", kFolderPrefix, getpid(), "-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("making a folder in ", TemporaryFolder(), ": ", std::strerror(errno)));
  }
  return folder;
}

void RemoveStaleFolders() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(TemporaryFolder(), error)) {
    const std::string name = entry.path().filename().string();
    const int client = ClientOf(name);
    struct stat info {};
    if (client == 0) continue;
    if (lstat(entry.path().c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    if (info.st_uid != geteuid() || !IsGone(client) || StillNeeded(entry.path().string())) continue;
    std::filesystem::remove_all(entry.path(), error);
  }
}

absl::StatusOr<PrivateRun> PrivateRun::Start(const Options& options) {
  if (options.with_injectors) RETURN_IF_ERROR(CheckFree(options));
  ASSIGN_OR_RETURN(const std::string folder, MakeRunFolder());
  const std::string socket = absl::StrCat(folder, "/c");
  const std::string log = absl::StrCat(folder, "/controller.log");
  absl::StatusOr<Child> controller =
      Child::Start({Sibling("firedrill-controller"), "--private", "--client",
                    absl::StrCat(getpid()), "--listen", absl::StrCat("unix:", socket), "--site",
                    options.site_file, "--state-dir", options.state_dir},
                   log);
  if (!controller.ok()) {
    std::filesystem::remove_all(folder);
    return controller.status();
  }
  PrivateRun self(options, folder, absl::StrCat("unix:", socket), *std::move(controller));
  const absl::Time until = absl::Now() + kStartWithin;
  while (access(socket.c_str(), F_OK) != 0) {
    if (IsInterrupted()) {
      self.KillController();
      self.Finish(absl::Seconds(1));
      return Interrupted();
    }
    if (self.controller_.Wait(absl::Milliseconds(10)) || absl::Now() > until) {
      const std::string words = self.LastWords("controller");
      self.KillController();
      self.Finish(absl::Seconds(1));
      return absl::UnavailableError(words.empty() ? "the private controller did not start" : words);
    }
  }
  if (!options.with_injectors) return self;
  for (const v1::NodeSpec& node : options.site.spec().injectors()) {
    absl::StatusOr<Child> child = self.StartInjector(node.name());
    if (!child.ok()) {
      self.KillController();
      self.Finish(absl::Seconds(5));
      return child.status();
    }
    self.injectors_.push_back({node.name(), *std::move(child)});
  }
  const absl::Status locked = self.AwaitLocks();
  if (!locked.ok()) {
    for (const Injector& injector : self.injectors_) {
      // Who still waits for the lock listens to nothing, and has begun nothing.
      const bool waits = LockHolder(options.state_dir, injector.node) != injector.child.pid();
      injector.child.Signal(waits ? SIGKILL : SIGTERM);
    }
    self.EndController();
    self.Finish(absl::Seconds(5));
    return locked;
  }
  return self;
}

absl::Status PrivateRun::CheckFree(const Options& options) {
  const absl::Time until = absl::Now() + kFreeWithin;
  while (true) {
    absl::Status ending;
    for (const v1::NodeSpec& node : options.site.spec().injectors()) {
      const NodeUse use = UseOf(options.state_dir, node.name());
      if (use.WillStay()) return InUse(node.name(), use);
      if (use.by == NodeUse::By::kEnding) ending = InUse(node.name(), use);
    }
    if (ending.ok() || absl::Now() >= until) return ending;
    if (IsInterrupted()) return Interrupted();
    absl::SleepFor(kLookAgain);
  }
}

// Two runs that start at once have both found the nodes free.
absl::Status PrivateRun::AwaitLocks() {
  absl::Time until = absl::Now() + kFreeWithin + absl::Seconds(1);
  for (Injector& injector : injectors_) {
    while (!injector.child.Wait(kLookAgain)) {
      if (LockHolder(options_.state_dir, injector.node) == injector.child.pid()) break;
      if (EndStopped(injector)) {
        if (!StartAgain(injector, kWasStopped)) {
          return absl::UnavailableError(
              absl::StrCat("starting the injector of ", injector.node, ": a signal has stopped it ",
                           injector.starts, " times; nothing was begun: see who sends SIGSTOP"));
        }
        until += kStoppedFor;
      }
      const NodeUse use = UseOf(options_.state_dir, injector.node);
      if (use.WillStay()) return InUse(injector.node, use);
      if (IsInterrupted()) return Interrupted();
      if (absl::Now() >= until) break;
    }
    if (injector.child.Wait(absl::ZeroDuration()) && injector.child.exit_code() == kExitNodeInUse) {
      return InUse(injector.node, UseOf(options_.state_dir, injector.node));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Child> PrivateRun::StartInjector(const std::string& node) const {
  return Child::Start(
      {Sibling("firedrill-injector"), "--private", "--controller", address_, "--site",
       options_.site_file, "--node", node, "--state-dir", options_.state_dir},
      absl::StrCat(folder_, "/", node, ".log"));
}

bool PrivateRun::EndStopped(Injector& injector) {
  if (!StaysStopped(injector.child.pid(), injector.stopped_since)) return false;
  injector.child.Signal(SIGKILL);
  return injector.child.Wait(absl::Seconds(1));
}

bool PrivateRun::StartAgain(Injector& injector, absl::string_view why) {
  if (injector.starts >= kMostStarts || controller_.Ended()) return false;
  absl::StatusOr<Child> child = StartInjector(injector.node);
  if (!child.ok()) return false;
  ++injector.starts;
  injector.child = *std::move(child);
  injector.stopped_since = absl::InfiniteFuture();
  lines_.push_back(absl::StrCat("the injector of ", injector.node, why));
  return true;
}

std::vector<std::string> PrivateRun::Revive(bool begun) {
  for (Injector& injector : injectors_) {
    const bool stopped = !begun && EndStopped(injector);
    if (!injector.child.Wait(absl::ZeroDuration())) continue;
    if (injector.starts >= kMostStarts || controller_.Ended()) continue;
    if (injector.child.exit_code() == kExitNodeInUse) {
      injector.starts = kMostStarts;
      lines_.push_back(
          absl::StrCat("the injector of ", injector.node, " cannot be started again: ",
                       InUse(injector.node, UseOf(options_.state_dir, injector.node)).message()));
      continue;
    }
    StartAgain(injector, stopped ? kWasStopped : kEndedByItself);
  }
  return std::exchange(lines_, {});
}

void PrivateRun::EndController() { controller_.Signal(SIGTERM); }

void PrivateRun::KillController() { controller_.Signal(SIGKILL); }

bool PrivateRun::WaitFor(Child& child, absl::Time until, const std::function<bool()>& leave) {
  absl::Time stopped_since = absl::InfiniteFuture();
  while (!child.Wait(std::clamp(until - absl::Now(), absl::ZeroDuration(), kAskWhetherToLeave))) {
    if (absl::Now() >= until || (leave && leave())) return false;
    // It cannot end any more.
    if (StaysStopped(child.pid(), stopped_since)) return false;
  }
  return true;
}

PrivateRun::End PrivateRun::Finish(absl::Duration at_most, const std::function<bool()>& leave) {
  End end;
  const absl::Time until = absl::Now() + at_most;
  const auto left = [&] {
    if (!end.left && leave && leave()) end.left = true;
    return end.left;
  };
  if (!WaitFor(controller_, until, left) && !end.left) {
    controller_.Signal(SIGKILL);
    end.killed.push_back("controller");
    controller_.Wait(absl::Seconds(2));
  }
  for (Injector& injector : injectors_) {
    const absl::Time patience = std::max(until, absl::Now() + absl::Milliseconds(200));
    if (!WaitFor(injector.child, patience, left)) {
      if (end.left) {
        end.unsure.push_back(injector.node);
        continue;
      }
      injector.child.Signal(SIGKILL);
      end.killed.push_back(injector.node);
      injector.child.Wait(absl::Seconds(2));
    }
    if (injector.child.exit_code() != 0) end.unsure.push_back(injector.node);
  }
  // The sockets are still in use; the controller removes them.
  if (end.left) return end;
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
  return end;
}

std::string PrivateRun::LastWords(const std::string& who) const {
  std::ifstream file(absl::StrCat(folder_, "/", who, ".log"));
  std::stringstream text;
  text << file.rdbuf();
  std::string words = text.str();
  constexpr size_t kMost = 4096;
  if (words.size() > kMost) words = words.substr(words.size() - kMost);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  return words;
}

}  // namespace firedrill
