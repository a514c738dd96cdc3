// One living controller a store.
#include "controller/store_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace firedrill {
namespace {

constexpr absl::Duration kRetry = absl::Milliseconds(20);

// As its holder has written it: the process, and where it listens.
absl::Status HeldBy(const std::string& state_dir, int fd) {
  char text[512] = "";
  const ssize_t size = pread(fd, text, sizeof(text), 0);
  const absl::string_view written(text, size > 0 ? static_cast<size_t>(size) : 0);
  const std::vector<std::string> words =
      absl::StrSplit(absl::StripAsciiWhitespace(written), absl::MaxSplits(' ', 1));
  const bool known = words.size() == 2;
  return absl::FailedPreconditionError(absl::StrCat(
      "serving from ", state_dir, ": another controller does that already",
      known ? absl::StrCat(" (process ", words[0], ", listening on ", words[1], ")") : "",
      ", and two would take the nodes and the slots of their schedules from each other; end it "
      "first (",
      known ? absl::StrCat("kill ", words[0], ", or kill -9 where it hangs")
            : absl::StrCat("`fuser ", state_dir, "/controller.lock` says which process it is"),
      "), or give this one a stateDir of its own"));
}

}  // namespace

absl::StatusOr<StoreLock> StoreLock::Take(const std::string& state_dir, const std::string& listen,
                                          absl::Duration wait) {
  const std::string path = absl::StrCat(state_dir, "/controller.lock");
  const auto failed = [&path](const char* doing) {
    return absl::UnavailableError(absl::StrCat(doing, " ", path, ": ", std::strerror(errno),
                                               "; check the state folder's owner and free space"));
  };
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return failed("opening");
  const absl::Time until = absl::Now() + wait;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return failed("locking");
    if (absl::Now() >= until) return HeldBy(state_dir, fd.get());
    absl::SleepFor(kRetry);
  }
  const std::string holder = absl::StrCat(getpid(), " ", listen, "\n");
  // For people only: the lock holds without it.
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), holder.data(), holder.size(), 0) < 0)
    errno = 0;
  return StoreLock(std::move(fd));
}

}  // namespace firedrill
