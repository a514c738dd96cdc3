// Files that hold one small value.
#include "injector/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr size_t kLargest = 4096;

absl::Status Failed(absl::string_view doing, const std::string& path) {
  const std::string text = absl::StrCat(doing, " ", path, ": ", std::strerror(errno));
  if (errno == ENOENT) return absl::NotFoundError(text);
  if (errno == EACCES || errno == EPERM) return absl::PermissionDeniedError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path) {
  std::string text(kLargest + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed("reading", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kLargest) {
    return absl::InvalidArgumentError(absl::StrCat("reading ", path, ": longer than 4 KiB"));
  }
  text.resize(size);
  return text;
}

absl::Status WriteOnce(int fd, absl::string_view bytes, const std::string& path) {
  const ssize_t wrote = write(fd, bytes.data(), bytes.size());
  if (wrote == static_cast<ssize_t>(bytes.size())) return absl::OkStatus();
  if (wrote >= 0) errno = EIO;
  return Failed("writing", path);
}

// On a real file system the content goes over in one step, even when we are killed in between.
absl::Status ReplaceFile(const std::string& path, absl::string_view bytes,
                         const struct stat& info) {
  std::string next = absl::StrCat(path, ".firedrill-XXXXXX");
  const UniqueFd fd(mkostemp(next.data(), O_CLOEXEC));
  if (!fd.valid()) return Failed("writing", next);
  absl::Status written = WriteOnce(fd.get(), bytes, next);
  if (written.ok() && fchown(fd.get(), info.st_uid, info.st_gid) != 0 && errno != EPERM) {
    written = Failed("writing", next);
  }
  if (written.ok() && (fchmod(fd.get(), info.st_mode & 07777) != 0 || fdatasync(fd.get()) != 0 ||
                       rename(next.c_str(), path.c_str()) != 0)) {
    written = Failed("replacing", path);
  }
  if (!written.ok()) unlink(next.c_str());
  return written;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return Failed("reading", path);
  ASSIGN_OR_RETURN(std::string text, ReadAll(fd.get(), path));
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

absl::Status WriteSmallFile(const std::string& path, absl::string_view value) {
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return Failed("writing", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Failed("writing", path);
  ASSIGN_OR_RETURN(const std::string now, ReadAll(fd.get(), path));
  const std::string bytes = absl::StrCat(value, absl::EndsWith(now, "\n") ? "\n" : "");
  // The kernel's files say a size of 0 or of a page, whatever they hold.
  const bool real =
      S_ISREG(info.st_mode) && static_cast<size_t>(info.st_size) == now.size() && !now.empty();
  if (real) return ReplaceFile(path, bytes, info);
  if (lseek(fd.get(), 0, SEEK_SET) < 0) return Failed("writing", path);
  return WriteOnce(fd.get(), bytes, path);
}

}  // namespace firedrill
