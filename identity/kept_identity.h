// An identity whose files may be replaced at any moment, well or badly.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "identity/identity.h"

namespace firedrill {

// Keeps the last good of the three files, in memory: gRPC forgets what it had as soon as what is
// there does not fit together, and lets nobody in until it does again. One thread.
class KeptIdentity {
 public:
  // The error is CheckIdentity()'s.
  static absl::StatusOr<KeptIdentity> Open(const IdentityFiles& files,
                                           const std::vector<std::string>& roles);

  // Takes what has come instead, if CheckIdentity() finds no fault with it; else the error says why
  // what was there before is still used. Logs both, each reason once.
  absl::Status Look();

  // Of what is kept, for this process to read, as long as this lives: certificate and key in one
  // file, so that they change at once.
  IdentityFiles files() const;

 private:
  KeptIdentity(const IdentityFiles& files, const std::vector<std::string>& roles)
      : files_(files), roles_(roles) {}
  absl::Status Take();

  IdentityFiles files_;
  std::vector<std::string> roles_;
  UniqueFd authority_, pair_;
  absl::Time expires_;
  // VersionOf() what was read last, and what it held.
  std::string version_, text_;
  // What Look() found wrong last.
  std::string told_;
};

}  // namespace firedrill
