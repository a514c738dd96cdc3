// The injector's end of a wire worker.
#include "injector/faults/wire/worker_line.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/wire/control.h"

extern char** environ;

namespace firedrill {
namespace {

constexpr char kProgram[] = "firedrill-wire";
// Without a beat for so long a worker heals, or is killed by the kernel.
constexpr absl::Duration kLease = absl::Seconds(3);
constexpr absl::Duration kBeatEvery = absl::Milliseconds(400);
constexpr absl::Duration kAnswerWithin = absl::Seconds(2);
// Its line is closed a little before it can be seen that it is gone, in milliseconds.
constexpr int kEndsWithin = 100;

struct Registry {
  // Held while one is started: of two faults that come at once the second finds the first one's.
  Mutex starting;
  Mutex mutex;
  std::map<std::string, std::shared_ptr<WireWorker>> workers FD_GUARDED_BY(mutex);
  // Of those that only carry on: to be waited for when they have ended.
  std::vector<pid_t> children FD_GUARDED_BY(mutex);
  std::string program FD_GUARDED_BY(mutex);
  std::string owner FD_GUARDED_BY(mutex) = "-";
};
Registry& Workers() {
  static auto* const registry = new Registry;
  return *registry;
}

std::string Program() {
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  if (!registry.program.empty()) return registry.program;
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / kProgram).string();
}

// Past the number that it will have in the child.
UniqueFd MovedUp(UniqueFd fd) {
  return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, wire::kControlFd + 1));
}

}  // namespace

void WireWorker::SetProgram(const std::string& path) {
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  registry.program = path;
}

void WireWorker::SetOwner(const std::string& node_folder) {
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  registry.owner = node_folder;
}

std::string WireWorker::Owner() {
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  return registry.owner;
}

std::shared_ptr<WireWorker> WireWorker::Find(const std::string& key) {
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  const auto found = registry.workers.find(key);
  return found != registry.workers.end() && found->second->Lives() ? found->second : nullptr;
}

absl::StatusOr<std::shared_ptr<WireWorker>> WireWorker::Acquire(const std::string& key,
                                                                const v1::WireSetup& setup,
                                                                const std::string& subject) {
  Registry& registry = Workers();
  MutexLock one_at_a_time(registry.starting);
  if (std::shared_ptr<WireWorker> known = Find(key); known != nullptr) return known;
  Tidy(setup.listen());
  std::shared_ptr<WireWorker> worker(new WireWorker);
  RETURN_IF_ERROR(worker->Start(setup, subject));
  MutexLock lock(registry.mutex);
  registry.workers[key] = worker;
  return worker;
}

void WireWorker::Tidy(const std::string& listen) {
  std::vector<std::shared_ptr<WireWorker>> ended;
  Registry& registry = Workers();
  {
    MutexLock lock(registry.mutex);
    for (auto it = registry.workers.begin(); it != registry.workers.end();) {
      // Nobody but this list has it.
      const bool over = it->second.use_count() == 1 && it->second->IsIdle(listen);
      if (over) ended.push_back(std::move(it->second));
      it = over ? registry.workers.erase(it) : std::next(it);
    }
    for (auto it = registry.children.begin(); it != registry.children.end();) {
      it = waitpid(*it, nullptr, WNOHANG) == 0 ? std::next(it) : registry.children.erase(it);
    }
  }
}

bool WireWorker::IsIdle(const std::string& listen) const {
  if (!Lives()) return true;
  if (!listen_.empty()) return listen_ == listen;
  MutexLock lock(mutex_);
  return wishes_.empty() && open_ == 0;
}

absl::Status WireWorker::Start(const v1::WireSetup& setup, const std::string& subject) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("making a line to a wire worker: ", std::strerror(errno)));
  }
  UniqueFd ours(ends[1]);
  UniqueFd theirs = MovedUp(UniqueFd(ends[0]));
  const std::string program = Program();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), wire::kControlFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A session of its own: Ctrl-C, a closed terminal or a killed process group do not reach it.
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  // Whose it is and what it carries: for `firedrill leftovers`, and for people who read `ps`.
  std::string owner = Owner(), carries = subject;
  char* const argv[] = {const_cast<char*>(program.c_str()), owner.data(), carries.data(), nullptr};
  const int error = posix_spawn(&pid_, argv[0], &actions, &attributes, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  // Or the line would stay open when a worker dies at once, and its answer be waited for.
  theirs.Reset();
  if (error != 0) {
    pid_ = 0;
    return absl::UnavailableError(absl::StrCat("starting the wire worker ", program, ": ",
                                               std::strerror(error),
                                               "; install it beside firedrill-injector"));
  }
  pidfd_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  fcntl(pidfd_.get(), F_SETFD, FD_CLOEXEC);
  listen_ = setup.listen();
  v1::WireRequest request;
  *request.mutable_setup() = setup;
  request.mutable_setup()->set_lease_nanos(absl::ToInt64Nanoseconds(kLease));
  {
    MutexLock lock(mutex_);
    line_ = std::move(ours);
    RETURN_IF_ERROR(ExchangeLocked(request).status());
  }
  beats_ = std::jthread([this](std::stop_token stop) { BeatFor(std::move(stop)); });
  return absl::OkStatus();
}

WireWorker::~WireWorker() {
  if (beats_.joinable()) {
    beats_.request_stop();
    beats_.join();
  }
  {
    // Without a line it heals, carries on what is open, and ends.
    MutexLock lock(mutex_);
    line_.Reset();
  }
  if (pid_ == 0) return;
  pollfd gone{pidfd_.get(), POLLIN, 0};
  poll(&gone, 1, 100);
  if (waitpid(pid_, nullptr, WNOHANG) != 0) return;
  Registry& registry = Workers();
  MutexLock lock(registry.mutex);
  registry.children.push_back(pid_);
}

bool WireWorker::Lives() const {
  MutexLock lock(mutex_);
  if (!dead_.empty() || !line_.valid()) return false;
  pollfd gone{pidfd_.get(), POLLIN, 0};
  return poll(&gone, 1, 0) == 0;
}

absl::StatusOr<v1::WireReply> WireWorker::Exchange(const v1::WireRequest& request) {
  MutexLock lock(mutex_);
  return ExchangeLocked(request);
}

// A line on which an answer is missing is of no use any more, and neither is who is behind it.
absl::StatusOr<v1::WireReply> WireWorker::ExchangeLocked(const v1::WireRequest& request) {
  if (!dead_.empty()) return absl::UnavailableError(dead_);
  v1::WireReply reply;
  absl::Status status = wire::SendMessage(line_.get(), request, kAnswerWithin);
  if (status.ok()) status = wire::ReceiveMessage(line_.get(), &reply, kAnswerWithin);
  if (!status.ok()) {
    dead_ = absl::StrCat("the process that carried the traffic (", pid_, ") ", HowItEnded(status));
    Kill();
    return absl::UnavailableError(dead_);
  }
  open_ = reply.status().open();
  if (reply.code() != 0) {
    return absl::Status(static_cast<absl::StatusCode>(reply.code()), reply.message());
  }
  return reply;
}

// Before it is killed by us.
std::string WireWorker::HowItEnded(const absl::Status& line) const {
  pollfd gone{pidfd_.get(), POLLIN, 0};
  siginfo_t how{};
  if (poll(&gone, 1, kEndsWithin) <= 0 ||
      waitid(P_PID, static_cast<id_t>(pid_), &how, WEXITED | WNOHANG | WNOWAIT) != 0) {
    return absl::StrCat("does not answer: ", line.message());
  }
  return how.si_code == CLD_EXITED ? absl::StrCat("ended with ", how.si_status)
                                   : absl::StrCat("was killed by signal ", how.si_status);
}

void WireWorker::Kill() {
  line_.Reset();
  if (!pidfd_.valid()) return;
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  pollfd gone{pidfd_.get(), POLLIN, 0};
  poll(&gone, 1, 1000);
}

v1::WireRequest WireWorker::AllWishes() const {
  v1::WireRequest request;
  request.mutable_wishes();
  // Not of the stamps, which name the run: another run with the same seed draws the same.
  uint64_t seed = 14695981039346656037ull;
  for (const auto& [stamp, wished] : wishes_) {
    *request.mutable_wishes()->add_wishes() = wished.wish;
    seed = (seed ^ wished.seed) * 1099511628211ull;
  }
  request.mutable_wishes()->set_seed(seed);
  return request;
}

absl::Status WireWorker::SendWishes() { return ExchangeLocked(AllWishes()).status(); }

absl::Status WireWorker::Check(const v1::WireWish& wish) {
  v1::WireRequest request;
  *request.mutable_wishes()->add_wishes() = wish;
  request.mutable_wishes()->set_only_check(true);
  return Exchange(request).status();
}

absl::Status WireWorker::Wish(const v1::WireWish& wish, uint64_t seed) {
  MutexLock lock(mutex_);
  wishes_[wish.stamp()] = {wish, seed};
  const absl::Status wished = SendWishes();
  if (!wished.ok()) wishes_.erase(wish.stamp());
  return wished;
}

void WireWorker::Drop(const std::string& stamp) {
  MutexLock lock(mutex_);
  if (wishes_.erase(stamp) == 0 || !dead_.empty()) return;
  const absl::Status dropped = SendWishes();
  if (dropped.ok() || !dead_.empty()) return;
  // It could not put the others' wishes on without this one; nothing may stay.
  dead_ = absl::StrCat("the process that carries the traffic did not heal: ", dropped.message());
  Kill();
}

absl::StatusOr<v1::WireStatus> WireWorker::Ask() {
  v1::WireRequest request;
  request.mutable_beat();
  ASSIGN_OR_RETURN(v1::WireReply reply, Exchange(request));
  return std::move(*reply.mutable_status());
}

absl::StatusOr<uint64_t> WireWorker::Reset(double share, uint64_t seed) {
  v1::WireRequest request;
  request.mutable_reset()->set_share(share);
  request.mutable_reset()->set_seed(seed);
  ASSIGN_OR_RETURN(const v1::WireReply reply, Exchange(request));
  return reply.touched();
}

absl::StatusOr<uint64_t> WireWorker::Reconnect(double share, uint64_t seed) {
  v1::WireRequest request;
  request.mutable_reconnect()->set_share(share);
  request.mutable_reconnect()->set_seed(seed);
  ASSIGN_OR_RETURN(const v1::WireReply reply, Exchange(request));
  return reply.touched();
}

void WireWorker::BeatFor(std::stop_token stop) {
  std::mutex waiting;
  std::condition_variable_any woken;
  std::unique_lock<std::mutex> lock(waiting);
  while (!woken.wait_for(lock, stop, absl::ToChronoMilliseconds(kBeatEvery),
                         [&stop] { return stop.stop_requested(); })) {
    if (!Ask().ok() && !Lives()) return;
  }
}

}  // namespace firedrill
