// Looks at the files of an identity before anybody relies on them.
#include "identity/identity.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr off_t kLargest = 4 << 20;

// Of the three.
absl::StatusOr<std::string> ReadOne(const std::string& path) {
  absl::StatusOr<std::string> text = ReadPem(path);
  if (!absl::IsNotFound(text.status())) return text;
  return absl::NotFoundError(
      absl::StrCat(text.status().message(),
                   "; an identity is named without .crt, and has its .key and ca.crt beside it: "
                   "`firedrill pki issue` makes all three"));
}

}  // namespace

IdentityFiles IdentityOf(const std::string& stem) {
  const size_t slash = stem.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : stem.substr(0, slash + 1);
  return {folder + "ca.crt", stem + ".crt", stem + ".key"};
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("reading ", path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode) || info.st_size > kLargest) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading ", path, ": not a file of at most 4 MiB"));
  }
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file.good() && !file.eof()) {
    return absl::PermissionDeniedError(
        absl::StrCat("reading ", path, ": ", std::strerror(errno), "; is it another user's?"));
  }
  return text.str();
}

absl::StatusOr<Identity> ReadIdentity(const IdentityFiles& files,
                                      const std::vector<std::string>& roles, absl::Time now) {
  struct stat info {};
  if (stat(files.key.c_str(), &info) == 0 && (info.st_mode & 0077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the key ", files.key, " can be read by others than its owner: chmod 600 ",
                     files.key, ", and issue a new one if they may have"));
  }
  Identity identity;
  ASSIGN_OR_RETURN(identity.authority, ReadOne(files.authority));
  ASSIGN_OR_RETURN(identity.pair.certificate, ReadOne(files.certificate));
  ASSIGN_OR_RETURN(identity.pair.key, ReadOne(files.key));
  RETURN_IF_ERROR(Annotate(CheckBelongTogether(identity.pair, identity.authority),
                           absl::StrCat(files.certificate, " with ", files.authority)));
  absl::StatusOr<Certificate> read = ReadCertificate(identity.pair.certificate);
  if (!read.ok()) return Annotate(read.status(), files.certificate);
  if (read->not_after <= now || read->not_before > now) {
    return absl::FailedPreconditionError(
        absl::StrCat(files.certificate, " is good from ", firedrill::FormatTime(read->not_before),
                     " to ", firedrill::FormatTime(read->not_after), ", not now: issue a new one"));
  }
  if (!absl::c_linear_search(roles, read->peer.role)) {
    return absl::FailedPreconditionError(absl::StrCat(files.certificate, " is that of ",
                                                      read->peer.Uri(), "; it must be one of role ",
                                                      JoinWords(roles)));
  }
  identity.holder = *std::move(read);
  return identity;
}

absl::StatusOr<Certificate> CheckIdentity(const IdentityFiles& files,
                                          const std::vector<std::string>& roles, absl::Time now) {
  ASSIGN_OR_RETURN(Identity identity, ReadIdentity(files, roles, now));
  return std::move(identity.holder);
}

std::string VersionOf(const IdentityFiles& files) {
  std::string version;
  for (const std::string& path : {files.authority, files.certificate, files.key}) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) continue;
    absl::StrAppend(&version, info.st_ino, " ", info.st_size, " ", info.st_ctim.tv_sec, ".",
                    info.st_ctim.tv_nsec, "\n");
  }
  return version;
}

absl::Time ExpiryOf(const IdentityFiles& files) {
  const absl::StatusOr<std::string> pem = ReadPem(files.certificate);
  if (!pem.ok()) return absl::UnixEpoch();
  const absl::StatusOr<Certificate> read = ReadCertificate(*pem);
  return read.ok() ? read->not_after : absl::UnixEpoch();
}

}  // namespace firedrill
