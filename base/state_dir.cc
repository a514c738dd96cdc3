// Where Firedrill keeps what must outlive its processes.
#include "base/state_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace firedrill {

absl::StatusOr<std::string> StateDir(const std::string& wanted) {
  std::string path = wanted;
  if (path.empty() && geteuid() == 0) path = "/var/lib/firedrill";
  if (path.empty()) {
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    if (state != nullptr && state[0] == '/') {
      path = absl::StrCat(state, "/firedrill");
    } else if (home != nullptr && home[0] == '/') {
      path = absl::StrCat(home, "/.local/state/firedrill");
    } else {
      return absl::FailedPreconditionError(
          "choosing the state folder: neither $XDG_STATE_HOME nor $HOME is set; give --state-dir");
    }
  }
  std::error_code error;
  path = std::filesystem::absolute(path, error).string();
  const bool existed = std::filesystem::is_directory(path, error);
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("making the state folder ", path, ": ",
                                               error.message(),
                                               "; give another one with --state-dir"));
  }
  if (!existed) chmod(path.c_str(), 0700);
  if (access(path.c_str(), W_OK | X_OK) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("using the state folder ", path,
                     ": it is not writable; give another one with --state-dir"));
  }
  return path;
}

}  // namespace firedrill
