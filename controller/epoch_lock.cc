// Says that the controller of an epoch lives.
#include "controller/epoch_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace firedrill {
namespace {

// Who only looks holds a shared lock for a moment.
constexpr absl::Duration kLooksAreOverWithin = absl::Seconds(2);
constexpr absl::Duration kRetry = absl::Milliseconds(5);

std::string Folder(const std::string& state_dir) { return absl::StrCat(state_dir, "/controllers"); }

std::string PathOf(const std::string& state_dir, uint64_t epoch) {
  return absl::StrCat(Folder(state_dir), "/", epoch);
}

// Whether the path still leads to what is open: somebody may have swept it away in between.
bool StillThere(int fd, const std::string& path) {
  struct stat held {
  }, there{};
  return fstat(fd, &held) == 0 && stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

}  // namespace

absl::StatusOr<EpochLock> EpochLock::Take(const std::string& state_dir, uint64_t epoch) {
  const std::string path = PathOf(state_dir, epoch);
  const auto failed = [&path](const char* doing) {
    return absl::UnavailableError(absl::StrCat(doing, " ", path, ": ", std::strerror(errno),
                                               "; check the state folder's owner and free space"));
  };
  if (mkdir(Folder(state_dir).c_str(), 0700) != 0 && errno != EEXIST)
    return failed("making the folder of");
  const absl::Time until = absl::Now() + kLooksAreOverWithin;
  while (true) {
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return failed("opening");
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (!StillThere(fd.get(), path)) continue;
      const std::string pid = absl::StrCat(getpid(), "\n");
      // For people only: the lock holds without it.
      if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) errno = 0;
      return EpochLock(path, std::move(fd));
    }
    if (errno != EWOULDBLOCK && errno != EINTR) return failed("locking");
    if (absl::Now() > until) {
      return absl::FailedPreconditionError(absl::StrCat(
          "another controller holds ", path, "; has its history been moved away? end it first"));
    }
    absl::SleepFor(kRetry);
  }
}

EpochLock& EpochLock::operator=(EpochLock&& other) noexcept {
  if (this == &other) return *this;
  Remove();
  path_ = std::move(other.path_);
  fd_ = std::move(other.fd_);
  return *this;
}

EpochLock::~EpochLock() { Remove(); }

void EpochLock::Remove() {
  if (fd_.valid()) unlink(path_.c_str());
  fd_.Reset();
}

bool EpochLock::Held(const std::string& state_dir, uint64_t epoch) {
  const UniqueFd fd(open(PathOf(state_dir, epoch).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return errno != ENOENT;
  return flock(fd.get(), LOCK_SH | LOCK_NB) != 0;
}

std::string EpochLock::Living(const std::string& state_dir) {
  std::vector<std::string> living;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(Folder(state_dir), error)) {
    uint64_t epoch = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &epoch)) continue;
    if (!Held(state_dir, epoch)) continue;
    std::string pid;
    std::getline(std::ifstream(entry.path()), pid);
    living.push_back(absl::StrCat("epoch ", epoch, ", process ", pid.empty() ? "unknown" : pid));
  }
  return absl::StrJoin(living, ", ");
}

void EpochLock::Sweep(const std::string& state_dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(Folder(state_dir), error)) {
    uint64_t epoch = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &epoch)) continue;
    const UniqueFd fd(open(entry.path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) == 0) unlink(entry.path().c_str());
  }
}

}  // namespace firedrill
