// An injector that lives for one fault only, and dies where a test wants it to: before any of its
// system calls that touch the world.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/event_loop.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "injector/fault_life.h"
#include "injector/leftovers.h"
#include "injector/state_dir.h"
#include "injector/watchdog.h"
#include "tests/testing/fault_stage.h"

namespace firedrill {

// An injector reduced to one thing that it does, such as one fault's life: it waits for a word,
// applies, observes, reverts and ends in good order. All that touches the world happens on its main
// thread. A test that has threads can't make one: the child of a process one of whose threads is
// just allocating waits forever.
class DoomedInjector {
 public:
  enum class Then { kRevert, kHold };
  static constexpr char kName[] = "db-1";
  static constexpr char kRunOf[] = "r1a2b3";

  // What it does, on its main thread: calls `word` first and gives up where it gets none, and tells
  // whether all went well.
  using Act = std::function<void(Journal& journal, const std::function<bool()>& word,
                                 const std::function<void(bool)>& tell)>;

  DoomedInjector(const std::string& state_dir, Then then, const char* fault,
                 const std::function<void(StageNode&)>& furnish)
      : DoomedInjector(state_dir,
                       [then, fault, &furnish](Journal& journal, const std::function<bool()>& word,
                                               const std::function<void(bool)>& tell) {
                         LiveOneFault(then, fault, furnish, journal, word, tell);
                       }) {}
  DoomedInjector(const std::string& state_dir, const Act& act) {
    int ready[2], go[2];
    if (Threads() != 1 || pipe(ready) != 0 || pipe(go) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      close(ready[0]);
      close(go[1]);
      Live(state_dir, act, ready[1], go[0]);
    }
    close(ready[1]);
    close(go[0]);
    ready_ = UniqueFd(ready[0]);
    go_ = UniqueFd(go[1]);
    reaper_ = Read();
    if (reaper_ <= 0) abort();  // Signals go to this number.
  }
  ~DoomedInjector() { Kill(); }

  pid_t pid() const { return pid_; }
  pid_t reaper() const { return reaper_; }
  void Go() { EXPECT_EQ(write(go_.get(), "g", 1), 1); }
  // Waits until it is applied; false where it is not.
  bool Applied() { return Read() == 1; }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, __WALL);
    pid_ = 0;
  }
  void Ended() { pid_ = 0; }
  // Waits until it has, by itself.
  bool EndsInGoodOrder(absl::Duration limit) {
    int status = -1;
    if (!Within(limit, [&] { return waitpid(pid_, &status, WNOHANG) == pid_; })) return false;
    pid_ = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  static int Threads() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return static_cast<int>(std::distance(begin(tasks), end(tasks)));
  }
  int Read() {
    int value = 0;
    return read(ready_.get(), &value, sizeof(value)) == sizeof(value) ? value : -1;
  }

  [[noreturn]] static void Live(const std::string& state_dir, const Act& act, int ready, int go) {
    auto lock = NodeLock::Take(state_dir, kName);
    FileDisk disk(NodeFolder(state_dir, kName));
    auto journal = *Journal::Open(disk, kName);
    EventLoop loop;
    Watchdog watchdog(loop, {.program = std::string(FIREDRILL_BINARY_DIR) + "/firedrill-reaper",
                             .state_dir = state_dir,
                             .node = kName,
                             .lease = [] { return absl::Seconds(20); },
                             .lost = [](const std::string&) { _exit(77); }});
    absl::Status started;
    int reaper = 0;
    loop.Run([&] {
      started = watchdog.Start();
      reaper = watchdog.reaper();
    });
    if (!lock.ok() || !started.ok()) _exit(78);
    journal->SetGuard([&watchdog](const Undo& undo) -> absl::Status {
      RETURN_IF_ERROR(MakeReady(undo, {}));
      return watchdog.AskReady(undo);
    });
    act(
        *journal,
        [&] {
          char word = 0;
          return write(ready, &reaper, sizeof(reaper)) > 0 && read(go, &word, 1) == 1;
        },
        [&](bool well) {
          const int applied = well;
          if (write(ready, &applied, sizeof(applied)) < 0) _exit(81);
        });
    loop.Run([&] { watchdog.Goodbye(); });
    _exit(0);
  }

  static void LiveOneFault(Then then, const char* fault,
                           const std::function<void(StageNode&)>& furnish, Journal& journal,
                           const std::function<bool()>& word,
                           const std::function<void(bool)>& tell) {
    StageNode node;
    furnish(node);
    v1::PlannedFault planned;
    if (!google::protobuf::TextFormat::ParseFromString(fault, &planned)) _exit(79);
    const Clock& clock = RealClock();
    FaultLife life(kRunOf, planned, *MakeFault(planned.fault()), node, journal, clock);
    if (!word()) _exit(80);
    const bool on = life.Prepare({}).ok() && life.Apply({}, clock.Boot() + absl::Minutes(1)).ok();
    const auto turn = life.Sustain({});
    tell(on && turn.observed.has_value() && turn.observed->ok() && (*turn.observed)->reached());
    while (then == Then::kHold) pause();
    while (!life.End({}).has_value()) absl::SleepFor(absl::Milliseconds(10));
  }

  pid_t pid_ = 0;
  int reaper_ = 0;
  UniqueFd ready_, go_;
};

// What changes something outside the process. Between two of these a death makes no difference.
inline bool TouchesTheWorld(uint64_t call) {
  static const auto* const calls = new std::set<uint64_t>{
      SYS_write,  SYS_sendto, SYS_sendmsg,       SYS_pwrite64, SYS_fsync, SYS_fdatasync,
      SYS_rename, SYS_unlink, SYS_ftruncate,     SYS_connect,  SYS_close, SYS_bind,
      SYS_listen, SYS_bpf,    SYS_timer_settime, SYS_mkdir,    SYS_rmdir};
  return calls->count(call) > 0;
}

// Of the kernel's own files: to have read one makes no difference, and a look at all processes
// reads thousands.
inline bool ClosesWhatItHasRead(pid_t pid, const __ptrace_syscall_info& info) {
  if (info.entry.nr != SYS_close) return false;
  char file[64];
  const std::string link = absl::StrCat("/proc/", pid, "/fd/", info.entry.args[0]);
  const ssize_t size = readlink(link.c_str(), file, sizeof(file));
  const absl::string_view name(file, size < 0 ? 0 : static_cast<size_t>(size));
  return absl::StartsWith(name, "/proc/") || absl::StartsWith(name, "/sys/");
}

// Runs the traced process until it is about to make its `number`th such call, and stops it there.
// False where it ended before.
inline bool TraceUntilStep(pid_t pid, int number) {
  int status = 0;
  for (int step = 0;;) {
    if (ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr) != 0) return false;
    if (waitpid(pid, &status, __WALL) != pid || WIFEXITED(status) || WIFSIGNALED(status)) {
      return false;
    }
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    __ptrace_syscall_info info{};
    ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), pid, sizeof(info), &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !TouchesTheWorld(info.entry.nr)) continue;
    if (ClosesWhatItHasRead(pid, info)) continue;
    if (++step == number) return true;
  }
}

// Lets the injector run until it is about to make its `number`th such call, and stops it there.
// False where it ended before.
inline bool RunUntilStep(DoomedInjector& injector, int number) {
  const pid_t pid = injector.pid();
  int status = 0;
  if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD) != 0 ||
      ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 ||
      waitpid(pid, &status, __WALL) != pid) {
    ADD_FAILURE() << "tracing the injector: " << strerror(errno);
    return false;
  }
  injector.Go();
  if (TraceUntilStep(pid, number)) return true;
  injector.Ended();
  return false;
}

// The same of the process that the injector starts: it is stopped there, and the injector goes on
// alone. Not above 0 where it ended before.
inline pid_t RunChildUntilStep(DoomedInjector& injector, int number) {
  const pid_t pid = injector.pid();
  int status = 0;
  if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACEVFORK | PTRACE_O_TRACESYSGOOD) != 0 ||
      ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 ||
      waitpid(pid, &status, __WALL) != pid) {
    ADD_FAILURE() << "tracing the injector: " << strerror(errno);
    return -1;
  }
  injector.Go();
  while (status >> 8 != (SIGTRAP | PTRACE_EVENT_VFORK << 8)) {
    if (ptrace(PTRACE_CONT, pid, nullptr, nullptr) != 0 || waitpid(pid, &status, __WALL) != pid ||
        !WIFSTOPPED(status)) {
      ADD_FAILURE() << "the injector has started nothing";
      injector.Ended();
      return -1;
    }
  }
  unsigned long child = 0;
  ptrace(PTRACE_GETEVENTMSG, pid, nullptr, &child);
  const pid_t its = static_cast<pid_t>(child);
  if (waitpid(its, &status, __WALL) != its) return -1;
  ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  return TraceUntilStep(its, number) ? its : 0;
}

// How a reaper ended, as a child of ours; negative where it did not by itself.
inline int CodeOfReaper(pid_t reaper) {
  int status = 0;
  if (!Within(absl::Seconds(20), [&] { return waitpid(reaper, &status, WNOHANG) == reaper; })) {
    return -2;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Lasting changes only: that a fault was begun stays recorded for the next injector to look.
inline int LastingLeftovers(const std::string& state_dir) {
  int count = 0;
  for (const NodeLeftovers& left : Leftovers(state_dir)) {
    for (const v1::Leftover& entry : left.entries) count += !entry.resource().empty();
  }
  return count;
}

}  // namespace firedrill
