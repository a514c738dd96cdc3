// The emergency lever: a STOP file.
#include "controller/lever.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/unique_fd.h"

namespace firedrill {

std::optional<std::string> Lever::Pulled() const {
  if (access(path_.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
  std::ifstream file(path_);
  std::stringstream text;
  text << file.rdbuf();
  std::string line = text.str();
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line.empty() ? "no reason given" : line;
}

absl::Status Lever::Pull(const std::string& by, const std::string& reason) const {
  const UniqueFd fd(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const std::string line = absl::StrCat(by, ": ", absl::StrReplaceAll(reason, {{"\n", " "}}), "\n");
  // An empty STOP file stops as well: what matters is that it is there, also when the disk is full.
  if (!fd.valid()) {
    return absl::UnavailableError(
        absl::StrCat("pulling the lever ", path_, ": ", std::strerror(errno)));
  }
  const ssize_t written = write(fd.get(), line.data(), line.size());
  fsync(fd.get());
  if (written != static_cast<ssize_t>(line.size())) {
    return absl::DataLossError(
        absl::StrCat("the lever ", path_, " is pulled, but the reason could not be written"));
  }
  return absl::OkStatus();
}

absl::Status Lever::Release() const {
  if (unlink(path_.c_str()) != 0 && errno != ENOENT) {
    return absl::UnavailableError(
        absl::StrCat("releasing the lever ", path_, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace firedrill
