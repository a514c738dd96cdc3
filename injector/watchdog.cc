// The injector's end of the line to its reaper.
#include "injector/watchdog.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "injector/reaper.h"

extern char** environ;

namespace firedrill {
namespace {

// A reaper that dies so often is killed by something that will go on killing it.
constexpr int kMostStarts = 5;
constexpr absl::Duration kLongestPause = absl::Milliseconds(500);
// The kill belongs to the lease: a server takes so long to see that the sessions' other end is
// gone.
constexpr absl::Duration kForTheKill = absl::Milliseconds(100);
// The reaper's answer. Longer than it tries to connect.
constexpr absl::Duration kAnswerIn = absl::Seconds(4);
// Where the reaper finds its descriptors.
constexpr int kLineFd = 3;
constexpr int kPidFd = 4;

// Out of the way of the numbers above, so that one dup2 does not overwrite the source of the next.
UniqueFd MovedUp(UniqueFd fd) { return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 10)); }

}  // namespace

Watchdog::Watchdog(Executor& executor, Options options)
    : executor_(executor), options_(std::move(options)) {}

Watchdog::~Watchdog() {
  *alive_ = false;
  executor_.Cancel(timer_);
}

absl::Status Watchdog::Start() {
  RETURN_IF_ERROR(Spawn());
  Beat();
  return absl::OkStatus();
}

absl::Status Watchdog::Spawn() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("making a line to the reaper: ", std::strerror(errno)));
  }
  UniqueFd ours(ends[1]);
  const UniqueFd theirs = MovedUp(UniqueFd(ends[0]));
  const UniqueFd self = MovedUp(UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0))));
  if (!theirs.valid() || !self.valid()) {
    return absl::UnavailableError(
        absl::StrCat("making a pidfd for the reaper: ", std::strerror(errno)));
  }

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), kLineFd);
  posix_spawn_file_actions_adddup2(&actions, self.get(), kPidFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A session of its own: Ctrl-C, a closed terminal or a killed process group do not reach it.
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  // Blocked from its first instruction on, until it ignores them itself.
  sigset_t blocked, all;
  sigemptyset(&blocked);
  for (const int ending : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&blocked, ending);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &blocked);
  posix_spawnattr_setsigdefault(&attributes, &all);
  const std::vector<std::string> arguments = {
      options_.program,
      "--state-dir",
      options_.state_dir,
      "--node",
      options_.node,
      "--lease-ms",
      absl::StrCat(absl::ToInt64Milliseconds(options_.lease()))};
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int error = posix_spawn(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    pid_ = 0;
    return absl::UnavailableError(
        absl::StrCat("starting the reaper ", options_.program, ": ", std::strerror(error),
                     "; without it nothing is broken here, install it beside firedrill-injector"));
  }
  {
    MutexLock lock(line_mutex_);
    line_ = std::move(ours);
  }
  ++starts_;
  return absl::OkStatus();
}

bool Watchdog::Write(uint32_t word) {
  MutexLock lock(line_mutex_);
  return line_.valid() &&
         send(line_.get(), &word, sizeof(word), MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(word));
}

bool Watchdog::ReaperIsDead() {
  if (pid_ == 0) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return false;
  pid_ = 0;
  return true;
}

void Watchdog::BeatNow() {
  executor_.Cancel(timer_);
  Beat();
}

void Watchdog::Beat() {
  if (said_goodbye_ || lost_) return;
  if (ReaperIsDead()) {
    absl::Status again = starts_ < kMostStarts
                             ? Spawn()
                             : absl::UnavailableError(absl::StrCat("it died ", starts_, " times"));
    if (!again.ok()) {
      const std::string why = absl::StrCat("no reaper watches this injector: ", again.message());
      spdlog::error("{}", why);
      lost_ = true;
      // Posted: who asked for this beat may be in the middle of putting a fault on.
      executor_.Post([this, why, alive = alive_] {
        if (*alive && options_.lost) options_.lost(why);
      });
      return;
    }
    spdlog::warn("the reaper had died; another one is started (process {})", pid_);
  }
  const absl::Duration lease = options_.lease();
  const uint32_t milliseconds =
      static_cast<uint32_t>(std::max<int64_t>(1, absl::ToInt64Milliseconds(lease - kForTheKill)));
  // A full line means a reaper that does not read; it has beats enough.
  if (!Write(std::min(milliseconds, kAsk - 1))) spdlog::debug("the reaper does not read beats");
  timer_ = executor_.After(std::min(lease / 5, kLongestPause), [this, alive = alive_] {
    if (*alive) Beat();
  });
}

void Watchdog::Goodbye() {
  said_goodbye_ = true;
  executor_.Cancel(timer_);
  if (!Write(kGoodbye)) spdlog::debug("the reaper was not told of the end");
}

absl::Status Watchdog::AskReady(const Undo& undo) {
  if (!NeedsReadiness(undo)) return absl::OkStatus();
  MutexLock one_at_a_time(asking_);
  const uint32_t word = kAsk | (++questions_ & (kAsk - 1));
  UniqueFd line;
  {
    MutexLock lock(line_mutex_);
    line = UniqueFd(fcntl(line_.get(), F_DUPFD_CLOEXEC, 0));
  }
  const auto unready = [](absl::string_view why) {
    return absl::UnavailableError(absl::StrCat(
        "the reaper, which would undo it if this process died, is not ready to: ", why));
  };
  if (!line.valid() || !Write(word)) return unready("it does not listen; try again");
  // "<word> <what it lacks>\n", behind late answers to questions that were given up.
  const std::string mine = absl::StrCat(word, " ");
  const absl::Duration end = RealClock().Boot() + kAnswerIn;
  std::string text;
  while (true) {
    const absl::Duration left = end - RealClock().Boot();
    if (left <= absl::ZeroDuration()) return unready("it does not answer");
    pollfd wait{line.get(), POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) continue;
    char bytes[1024];
    const ssize_t got = read(line.get(), bytes, sizeof(bytes));
    if (got == 0) return unready("it has died");
    if (got < 0 && errno != EAGAIN && errno != EINTR) return unready(std::strerror(errno));
    if (got > 0) text.append(bytes, static_cast<size_t>(got));
    for (size_t newline; (newline = text.find('\n')) != std::string::npos;) {
      absl::string_view answer = absl::string_view(text).substr(0, newline);
      if (absl::ConsumePrefix(&answer, mine)) {
        return answer.empty() ? absl::OkStatus() : unready(answer);
      }
      text.erase(0, newline + 1);
    }
  }
}

}  // namespace firedrill
