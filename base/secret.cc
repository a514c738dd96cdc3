// Where secret references become bytes.
#include "base/secret.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

// A password or a token; a longer file is something else.
constexpr size_t kLongestSecret = 64 << 10;

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  // A pipe that nobody writes to would never open.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return absl::NotFoundError(
        absl::StrCat("reading the secret in ", path, ": ", std::strerror(errno)));
  }
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading the secret in ", path, ": not a regular file"));
  }
  if ((info.st_mode & S_IROTH) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(
        "reading the secret in ", path, ": everyone may read this file; run chmod o-r ", path));
  }
  std::string text(kLongestSecret + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::UnavailableError(
          absl::StrCat("reading the secret in ", path, ": ", std::strerror(errno)));
    }
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kLongestSecret) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading the secret in ", path, ": longer than 64 KiB"));
  }
  text.resize(size);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

}  // namespace

absl::StatusOr<std::string> ResolveSecret(const v1::Secret& secret) {
  switch (secret.where_case()) {
    case v1::Secret::kFile:
      return ReadSecretFile(secret.file());
    case v1::Secret::kCredential: {
      const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
      if (folder == nullptr) {
        return absl::FailedPreconditionError(absl::StrCat(
            "reading the credential ", secret.credential(),
            ": $CREDENTIALS_DIRECTORY is not set; start this under systemd with LoadCredential="));
      }
      return ReadSecretFile(absl::StrCat(folder, "/", secret.credential()));
    }
    case v1::Secret::WHERE_NOT_SET:
      break;
  }
  return std::string();
}

}  // namespace firedrill
