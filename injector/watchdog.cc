// The injector's end of the pipe to its reaper.
#include "injector/watchdog.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
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
// Where the reaper finds its descriptors.
constexpr int kBeatsFd = 3;
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
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("making a pipe to the reaper: ", std::strerror(errno)));
  }
  UniqueFd write_end(ends[1]);
  const UniqueFd read_end = MovedUp(UniqueFd(ends[0]));
  const UniqueFd self = MovedUp(UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0))));
  if (!read_end.valid() || !self.valid()) {
    return absl::UnavailableError(
        absl::StrCat("making a pidfd for the reaper: ", std::strerror(errno)));
  }

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, read_end.get(), kBeatsFd);
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
  beats_ = std::move(write_end);
  ++starts_;
  return absl::OkStatus();
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
  // A full pipe means a reaper that does not read; it has beats enough.
  if (write(beats_.get(), &milliseconds, sizeof(milliseconds)) < 0 && errno == EPIPE) {
    spdlog::debug("the reaper is gone");
  }
  timer_ = executor_.After(std::min(lease / 5, kLongestPause), [this, alive = alive_] {
    if (*alive) Beat();
  });
}

void Watchdog::Goodbye() {
  said_goodbye_ = true;
  executor_.Cancel(timer_);
  const uint32_t word = kGoodbye;
  if (beats_.valid() && write(beats_.get(), &word, sizeof(word)) < 0) {
    spdlog::debug("the reaper was not told of the end: {}", std::strerror(errno));
  }
}

}  // namespace firedrill
