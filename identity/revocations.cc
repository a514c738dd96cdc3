// Keeps the list of revoked certificates in memory.
#include "identity/revocations.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "identity/certificate.h"
#include "identity/identity.h"

namespace firedrill {

absl::Status Revocations::Refresh() {
  if (path_.empty()) return absl::OkStatus();
  struct stat info {};
  if (stat(path_.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("reading the list of revoked certificates ", path_,
                                            ": ", std::strerror(errno)));
  }
  const std::string version = absl::StrCat(info.st_ino, " ", info.st_size, " ", info.st_ctim.tv_sec,
                                           ".", info.st_ctim.tv_nsec);
  {
    MutexLock lock(mutex_);
    if (version == seen_) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string authority, ReadPem(authority_path_));
  ASSIGN_OR_RETURN(const std::string pem, ReadPem(path_));
  const absl::StatusOr<std::vector<Revoked>> read = ReadRevocations(pem, authority);
  if (!read.ok()) return Annotate(read.status(), path_);
  absl::flat_hash_set<std::string> serials;
  for (const Revoked& each : *read) serials.insert(each.serial);
  MutexLock lock(mutex_);
  serials_ = std::move(serials);
  seen_ = version;
  return absl::OkStatus();
}

bool Revocations::Has(const std::string& serial) const {
  MutexLock lock(mutex_);
  return serials_.contains(serial);
}

}  // namespace firedrill
