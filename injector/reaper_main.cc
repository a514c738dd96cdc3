// firedrill-reaper: started by firedrill-injector, never by a person.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/numbers.h"
#include "injector/reaper.h"

namespace {

constexpr int kLineFd = 3;
constexpr int kPidFd = 4;

int Usage() {
  std::fprintf(stderr,
               "firedrill-reaper is started by firedrill-injector, with a line and a pidfd.\n"
               "To undo what an injector has left, run: firedrill leftovers\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  firedrill::ReaperOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    int64_t milliseconds = 0;
    if (flag == "--state-dir") options.state_dir = argv[i + 1];
    if (flag == "--node") options.node = argv[i + 1];
    if (flag == "--lease-ms" && absl::SimpleAtoi(argv[i + 1], &milliseconds)) {
      options.lease = absl::Milliseconds(milliseconds);
    }
  }
  if (options.state_dir.empty() || options.node.empty() || fcntl(kLineFd, F_GETFD) < 0 ||
      fcntl(kPidFd, F_GETFD) < 0) {
    return Usage();
  }
  // What it starts for an undo must not carry these.
  fcntl(kLineFd, F_SETFD, FD_CLOEXEC);
  fcntl(kPidFd, F_SETFD, FD_CLOEXEC);
  options.line = kLineFd;
  options.pidfd = kPidFd;
  // It ends when its injector has, and not before.
  for (const int ignored : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ}) signal(ignored, SIG_IGN);
  // We cause load and want memory: who undoes must run all the same. Not permitted to everybody.
  mlockall(MCL_CURRENT | MCL_FUTURE);
  const sched_param priority{.sched_priority = 10};
  sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority);
  return firedrill::RunReaper(options);
}
