// The runs that go on.
#include "controller/going_marks.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace firedrill {

GoingMarks::GoingMarks(const std::string& state_dir)
    : folder_(state_dir.empty() ? "" : absl::StrCat(state_dir, "/going")) {}

absl::Status GoingMarks::Make(const std::string& run) const {
  if (folder_.empty()) return absl::OkStatus();
  const std::string path = absl::StrCat(folder_, "/", run);
  const bool folder = mkdir(folder_.c_str(), 0700) == 0 || errno == EEXIST;
  const UniqueFd fd(folder ? open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)
                           : -1);
  if (fd.valid()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("noting in ", path, " that it goes on: ", std::strerror(errno),
                   "; check the free space of the controller's state folder, and its owner"));
}

void GoingMarks::Remove(const std::string& run) const {
  if (folder_.empty()) return;
  const std::string path = absl::StrCat(folder_, "/", run);
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return;
  spdlog::error("removing {}: {}; remove it, or a controller that is started again goes on with it",
                path, std::strerror(errno));
}

bool GoingMarks::Has(const std::string& run) const {
  return !folder_.empty() && access(absl::StrCat(folder_, "/", run).c_str(), F_OK) == 0;
}

absl::Status GoingMarks::KeepOnly(const std::set<std::string>& runs) const {
  if (folder_.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::directory_iterator marks(folder_, error);
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  for (; !error && marks != std::filesystem::directory_iterator(); marks.increment(error)) {
    if (runs.count(marks->path().filename().string()) > 0) continue;
    if (unlink(marks->path().c_str()) != 0 && errno != ENOENT) {
      return absl::UnavailableError(absl::StrCat("removing ", marks->path().string(), ": ",
                                                 std::strerror(errno), "; remove it by hand"));
    }
  }
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("reading ", folder_, ": ", error.message()));
}

}  // namespace firedrill
