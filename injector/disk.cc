// Files of one folder, with every write synced.
#include "injector/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

absl::Status Failed(absl::string_view doing, const std::string& path) {
  const std::string text = absl::StrCat(doing, " ", path, ": ", std::strerror(errno));
  switch (errno) {
    case ENOENT:
      return absl::NotFoundError(text);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(
          absl::StrCat(text, "; free some space there and try again"));
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(
          absl::StrCat(text, "; make the folder writable, or use another"));
    default:
      return absl::UnavailableError(text);
  }
}

absl::Status WriteAll(int fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return Failed("writing", path);
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FileDisk::Read(const std::string& name) const {
  const std::string path = Path(name);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return Failed("reading", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Failed("reading", path);
  if (static_cast<size_t>(info.st_size) > kLargest) {
    return absl::FailedPreconditionError(absl::StrCat(
        "reading ", path, ": larger than 64 MiB, so it is not ours; look at it and move it away"));
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed("reading", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  return text;
}

absl::Status FileDisk::Append(const std::string& name, absl::string_view bytes) {
  const std::string path = Path(name);
  const bool is_new = access(path.c_str(), F_OK) != 0;
  const UniqueFd fd(
      open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return Failed("writing", path);
  RETURN_IF_ERROR(WriteAll(fd.get(), bytes, path));
  if (fdatasync(fd.get()) != 0) return Failed("syncing", path);
  return is_new ? SyncFolder() : absl::OkStatus();
}

absl::Status FileDisk::Replace(const std::string& name, absl::string_view bytes) {
  const std::string path = Path(name);
  const std::string next = absl::StrCat(path, ".new");
  {
    const UniqueFd fd(
        open(next.c_str(), O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return Failed("writing", next);
    absl::Status written = WriteAll(fd.get(), bytes, next);
    if (written.ok() && fdatasync(fd.get()) != 0) written = Failed("syncing", next);
    if (!written.ok()) {
      unlink(next.c_str());
      return written;
    }
  }
  if (rename(next.c_str(), path.c_str()) != 0) return Failed("replacing", path);
  return SyncFolder();
}

absl::Status FileDisk::Remove(const std::string& name) {
  const std::string path = Path(name);
  if (unlink(path.c_str()) != 0)
    return errno == ENOENT ? absl::OkStatus() : Failed("removing", path);
  return SyncFolder();
}

bool FileDisk::Exists(const std::string& name) const {
  return access(Path(name).c_str(), F_OK) == 0;
}

absl::Status FileDisk::SyncFolder() const {
  const UniqueFd fd(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return Failed("syncing", folder_);
  return absl::OkStatus();
}

}  // namespace firedrill
