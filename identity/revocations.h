// The list of revoked certificates, read anew whenever its file changes.
#pragma once

#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace firedrill {

// Any thread.
class Revocations {
 public:
  // An empty `path`: nothing is revoked. `authority_path` is read with it.
  Revocations(std::string path, std::string authority_path)
      : path_(std::move(path)), authority_path_(std::move(authority_path)) {}

  // Reads the file if it has changed. The old list stays in force where the new one is damaged or
  // not the authority's, and where the file is gone: a certificate is not given back by accident.
  absl::Status Refresh() FD_EXCLUDES(mutex_);
  bool Has(const std::string& serial) const FD_EXCLUDES(mutex_);

 private:
  const std::string path_, authority_path_;
  mutable Mutex mutex_;
  absl::flat_hash_set<std::string> serials_ FD_GUARDED_BY(mutex_);
  // Of the file that was read last: inode, size and time of change.
  std::string seen_ FD_GUARDED_BY(mutex_);
};

}  // namespace firedrill
