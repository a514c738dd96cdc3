// The folders that outlive injectors, and the lock on each.
#include "injector/state_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr char kLockFile[] = "/lock";
constexpr absl::Duration kLockRetry = absl::Milliseconds(20);

bool IsNodeName(absl::string_view name) {
  if (name.empty() || name.size() > 63 || name[0] < 'a' || name[0] > 'z') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return absl::PermissionDeniedError(absl::StrCat("making the folder ", part, ": ",
                                                      std::strerror(errno),
                                                      "; name another with --state-dir"));
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

int ReadHolder(int fd) {
  char text[32] = {};
  int pid = 0;
  const ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
  if (size <= 0 || !absl::SimpleAtoi(absl::string_view(text, strcspn(text, "\n")), &pid)) return 0;
  return pid;
}

}  // namespace

std::string NodeFolder(const std::string& state_dir, absl::string_view node) {
  return absl::StrCat(state_dir, "/nodes/", node);
}

std::vector<std::string> NodesIn(const std::string& state_dir) {
  std::vector<std::string> nodes;
  DIR* const folder = opendir((state_dir + "/nodes").c_str());
  if (folder == nullptr) return nodes;
  while (const dirent* entry = readdir(folder)) {
    if (IsNodeName(entry->d_name)) nodes.push_back(entry->d_name);
  }
  closedir(folder);
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

absl::StatusOr<NodeLock> NodeLock::Take(const std::string& state_dir, const std::string& node,
                                        absl::Duration wait) {
  if (!IsNodeName(node)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the node name \"", node,
                     "\": use lower case letters, digits and dashes, at most 63, a letter first"));
  }
  std::string folder = NodeFolder(state_dir, node);
  RETURN_IF_ERROR(MakeFolders(folder));
  const std::string path = folder + kLockFile;
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) {
    return absl::PermissionDeniedError(absl::StrCat("opening ", path, ": ", std::strerror(errno),
                                                    "; another user's? name another --state-dir"));
  }
  const absl::Time until = absl::Now() + wait;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("locking ", path, ": ", std::strerror(errno)));
    }
    if (absl::Now() >= until) {
      const int pid = ReadHolder(fd.get());
      return absl::FailedPreconditionError(
          absl::StrCat("the node ", node, " has an injector already, process ", pid, " (", path,
                       "): use that one, or end it with kill ", pid, " and start again"));
    }
    absl::SleepFor(kLockRetry);
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  // Only a message needs it: on a full disk the lock itself still holds.
  if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) errno = 0;
  return NodeLock(std::move(folder), std::move(fd));
}

int LockHolder(const std::string& state_dir, const std::string& node) {
  const std::string path = NodeFolder(state_dir, node) + kLockFile;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return 0;
  // A shared lock that is free for a moment disturbs nobody but a start in that very moment, which
  // retries.
  if (flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return 0;
  return std::max(1, ReadHolder(fd.get()));
}

}  // namespace firedrill
