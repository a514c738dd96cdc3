// firedrill-wire: started by firedrill-injector, never by a person.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstdio>

#include "injector/wire/control.h"
#include "injector/wire/worker.h"

int main() {
  if (fcntl(firedrill::wire::kControlFd, F_GETFD) < 0) {
    std::fprintf(stderr,
                 "firedrill-wire is started by firedrill-injector, with a line to it.\n"
                 "To disturb traffic, run: firedrill inject delay-queries --help\n");
    return 2;
  }
  // Nothing that it starts is to carry the line; it starts nothing.
  fcntl(firedrill::wire::kControlFd, F_SETFD, FD_CLOEXEC);
  // It ends when its injector has and the last connection is closed, and not before.
  for (const int ignored : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ}) signal(ignored, SIG_IGN);
  prctl(PR_SET_NAME, "firedrill-wire");
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  firedrill::wire::Worker worker(firedrill::UniqueFd(firedrill::wire::kControlFd),
                                 firedrill::wire::Proxy::Start);
  return worker.Run();
}
