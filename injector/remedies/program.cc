// Spawns a program without a shell, and ends it in time.
#include "injector/remedies/program.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "injector/remedies/remedy.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);
// Between the request to end and the order to.
constexpr absl::Duration kGrace = absl::Seconds(1);
// The report carries the end of the output.
constexpr size_t kOutputTail = 2048;
// The program's end of the bond: out of the way of scripts, which take small numbers for
// themselves.
constexpr int kBondFd = 99;

absl::Status Errno(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// Only what programs cannot do without: nothing that somebody put into the injector's environment.
std::vector<std::string> Environment() {
  std::vector<std::string> variables = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"};
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  if (getpwuid_r(getuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) {
    variables.push_back(absl::StrCat("HOME=", found->pw_dir));
    variables.push_back(absl::StrCat("USER=", found->pw_name));
  }
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// A program that runs, in a process group of its own.
class Child {
 public:
  static absl::StatusOr<Child> Start(const v1::Program& program) {
    Child child;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Errno("making a pipe");
    child.output_.Reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);

    // Nothing is ever written to it: its end is ours. See Become().
    int bond[2];
    if (pipe2(bond, O_CLOEXEC) != 0) return Errno("making a pipe");
    child.bond_.Reset(bond[0]);
    child.bond_end_.Reset(bond[1]);

    std::vector<std::string> words = {program.path()};
    words.insert(words.end(), program.arguments().begin(), program.arguments().end());
    std::vector<std::string> variables = Environment();
    const std::vector<char*> argv = Pointers(words), environment = Pointers(variables);
    const UniqueFd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
    // Shared with the child, until it is the program.
    volatile int error = 0;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = vfork();
    if (pid == 0) {
      error = Become(argv.data(), environment.data(), nothing.get(), ends[1], bond[0]);
      _exit(127);
    }
    const int no_child = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0 || error != 0) {
      if (pid > 0) waitpid(pid, nullptr, 0);
      errno = pid < 0 ? no_child : error;
      return Errno(absl::StrCat("starting ", program.path()));
    }
    child.pid_ = pid;
    child.pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, child.pid_, 0)));
    if (!child.pidfd_.valid()) return Errno("watching the program");
    return child;
  }

  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        pidfd_(std::move(other.pidfd_)),
        bond_(std::move(other.bond_)),
        bond_end_(std::move(other.bond_end_)),
        output_(std::move(other.output_)),
        tail_(std::move(other.tail_)) {}
  ~Child() {
    if (pid_ > 0) {
      Signal(SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  // Until the program has ended (true), `length` is over, or `wake` is readable.
  bool Await(absl::Duration length, int wake) {
    const absl::Duration end = RealClock().Boot() + length;
    for (;;) {
      pollfd waits[] = {{pidfd_.get(), POLLIN, 0}, {output_.get(), POLLIN, 0}, {wake, POLLIN, 0}};
      const absl::Duration left = std::max(absl::ZeroDuration(), end - RealClock().Boot());
      const timespec wait = absl::ToTimespec(left);
      ppoll(waits, 3, &wait, nullptr);
      if (waits[1].revents != 0) ReadOutput();
      if (waits[0].revents != 0) {
        ReadOutput();
        return true;
      }
      if (waits[2].revents != 0 || left <= absl::ZeroDuration()) return false;
    }
  }

  // To the whole group. The leader is not reaped yet, so the number is still its own.
  void Signal(int signal) const { kill(-pid_, signal); }

  // The exit code; 128 + signal where a signal ended it. Only once Await() was true.
  int Reap() {
    int status = 0;
    // What it leaves running is not ours.
    fcntl(bond_.get(), F_SETFL, O_NONBLOCK);
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  const std::string& tail() const { return tail_; }

 private:
  Child() = default;

  // In the child: becomes the program, in a process group that ends when this process does. The
  // kernel sees to that: when the other end of the bond is closed, it kills the whole group. Only
  // what may be called after vfork(); an error, or it does not return.
  static int Become(char* const* argv, char* const* environment, int in, int out, int bond) {
    if (setpgid(0, 0) != 0 || fcntl(bond, F_SETOWN, -getpid()) != 0 ||
        fcntl(bond, F_SETSIG, SIGKILL) != 0 || fcntl(bond, F_SETFL, O_ASYNC | O_NONBLOCK) != 0) {
      return errno;
    }
    // A library may have opened a socket that is not close-on-exec yet: a fault must not live on in
    // here. Nor our own copy of the other end.
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || dup2(bond, kBondFd) < 0 ||
        fcntl(kBondFd, F_SETFD, 0) != 0 || close_range(3, kBondFd - 1, 0) != 0 ||
        close_range(kBondFd + 1, ~0u, 0) != 0) {
      return errno;
    }
    // We have died before there was anybody to be told.
    pollfd gone{kBondFd, POLLIN, 0};
    if (poll(&gone, 1, 0) != 0) _exit(127);
    if (chdir("/") != 0) return errno;
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &usual, nullptr);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execve(argv[0], argv, environment);
    return errno;
  }

  void ReadOutput() {
    char buffer[4096];
    ssize_t got = 0;
    while (output_.valid() && (got = read(output_.get(), buffer, sizeof buffer)) > 0) {
      tail_.append(buffer, static_cast<size_t>(got));
      if (tail_.size() > kOutputTail) tail_.erase(0, tail_.size() - kOutputTail);
    }
    // poll(2) leaves out a descriptor of -1.
    if (got == 0) output_.Reset();
  }

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd bond_;
  UniqueFd bond_end_;
  UniqueFd output_;
  std::string tail_;
};

}  // namespace

absl::Status CheckProgram(const v1::Program& program) {
  const std::string what = absl::StrCat("program ", program.name(), " (", program.path(), ")");
  if (program.path().empty() || program.path()[0] != '/') {
    return absl::InvalidArgumentError(absl::StrCat(what, ": not an absolute path"));
  }
  struct stat info {};
  if (stat(program.path().c_str(), &info) != 0) {
    return absl::NotFoundError(
        absl::StrCat(what, ": ", std::strerror(errno), "; mend `programs` in the node's file"));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": not a regular file"));
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(what, ": everyone may change this file; run chmod o-w ", program.path()));
  }
  if (access(program.path().c_str(), X_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(what, ": may not be executed by this user (", std::strerror(errno), ")"));
  }
  return absl::OkStatus();
}

v1::RemedyReport RunProgramBlocking(const v1::Program& program, const std::stop_token& stop) {
  v1::RemedyReport report;
  report.set_state(v1::REMEDY_STATE_FAILED);
  report.set_exit_code(-1);
  const UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::stop_callback on_stop(stop, [&wake] { eventfd_write(wake.get(), 1); });
  if (stop.stop_requested()) {
    report.set_output("not started: stopped");
    return report;
  }
  auto child = Child::Start(program);
  if (!child.ok()) {
    report.set_output(std::string(child.status().message()));
    return report;
  }
  const absl::Duration timeout =
      program.has_timeout() ? FromProto(program.timeout()) : kDefaultTimeout;
  std::string why;
  if (!child->Await(timeout, wake.get())) {
    why = stop.stop_requested()
              ? "ended: the run was stopped"
              : absl::StrCat("ended: took longer than ", firedrill::FormatDuration(timeout));
    child->Signal(SIGTERM);
    if (!child->Await(kGrace, -1)) {
      child->Signal(SIGKILL);
      // Only a process that hangs in the kernel outlives this.
      child->Await(kGrace, -1);
    }
    // What is left of the group, such as a child that ignores SIGTERM.
    child->Signal(SIGKILL);
  }
  report.set_exit_code(child->Reap());
  if (why.empty() && report.exit_code() == 0) report.set_state(v1::REMEDY_STATE_DONE);
  std::string output = PrintableAscii(child->tail());
  if (!why.empty()) absl::StrAppend(&output, output.empty() ? "" : "\n", why);
  report.set_output(output);
  return report;
}

}  // namespace firedrill
