// The three files by which a process proves who it is.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "identity/certificate.h"

namespace firedrill {

// Paths of PEM files. They may be replaced while the process runs: new connections use the new ones
// within seconds.
struct IdentityFiles {
  std::string authority;
  std::string certificate;
  std::string key;
};

// As `firedrill pki issue` writes them: "<stem>.crt", "<stem>.key", and "ca.crt" beside them.
IdentityFiles IdentityOf(const std::string& stem);

// A file of at most 4 MiB. The error names the path and what to do.
absl::StatusOr<std::string> ReadPem(const std::string& path);

// What the three files hold.
struct Identity {
  std::string authority;
  KeyPair pair;
  Certificate holder;
};
// Only what can prove at `now` that the process has one of `roles`: they belong together, are not
// expired, and the key is readable by its owner only.
absl::StatusOr<Identity> ReadIdentity(const IdentityFiles& files,
                                      const std::vector<std::string>& roles, absl::Time now);
// The same, for whoever only wants to know whether, and whose.
absl::StatusOr<Certificate> CheckIdentity(const IdentityFiles& files,
                                          const std::vector<std::string>& roles, absl::Time now);

// Tells files that were replaced, or written to, from those before.
std::string VersionOf(const IdentityFiles& files);

// When the certificate ends; 1970 where it cannot be read.
absl::Time ExpiryOf(const IdentityFiles& files);

}  // namespace firedrill
