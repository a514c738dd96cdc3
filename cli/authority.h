// A private certificate authority in a folder: its key, what it has issued, and what it has
// revoked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "identity/certificate.h"
#include "injector/disk.h"

namespace firedrill {

struct IssuedCertificate {
  Peer peer;
  std::vector<std::string> hosts;
  absl::Time until;
  // Not set while it is good.
  std::optional<absl::Time> revoked_at;
  std::string revoked_because;
};

// ca.crt goes to everybody, revoked.pem to every controller; ca.key leaves the folder never.
// Whoever holds an Authority holds its folder's lock. One thread.
class Authority {
 public:
  // Makes the folder where there is none. ALREADY_EXISTS where an authority is in it.
  static absl::StatusOr<Authority> Init(const std::string& folder, const std::string& domain,
                                        absl::Time now, absl::Duration lifetime);
  // NOT_FOUND where there is none.
  static absl::StatusOr<Authority> Open(const std::string& folder);

  // On record before it is handed out: what nobody knows of cannot be revoked.
  absl::StatusOr<KeyPair> Issue(const std::string& role, const std::string& name,
                                const std::vector<std::string>& hosts, absl::Time now,
                                absl::Duration lifetime);
  // Every certificate of `name` that has not expired or, where it is one, that of the serial.
  // Answers with those; NOT_FOUND where there is none.
  absl::StatusOr<std::vector<IssuedCertificate>> Revoke(const std::string& name_or_serial,
                                                        const std::string& reason, absl::Time now);
  // In the order in which they were issued.
  absl::StatusOr<std::vector<IssuedCertificate>> Issued() const;

  const std::string& domain() const { return domain_; }
  const std::string& certificate() const { return pair_.certificate; }
  const std::string& folder() const { return disk_.folder(); }

 private:
  Authority(const std::string& folder, UniqueFd lock) : disk_(folder), lock_(std::move(lock)) {}
  static absl::StatusOr<UniqueFd> Lock(const std::string& folder);

  FileDisk disk_;
  UniqueFd lock_;
  KeyPair pair_;
  std::string domain_;
};

// Writes "<role>-<name>.crt", ".key" and "ca.crt" into a folder that exists. Old ones are replaced.
absl::Status HandOut(const std::string& folder, const std::string& stem, const KeyPair& pair,
                     const std::string& authority);

}  // namespace firedrill
