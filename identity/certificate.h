// X.509, as far as Firedrill needs it: keys, certificates and lists of the revoked, by OpenSSL.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "identity/peer.h"

namespace firedrill {

// A certificate and its private key, both PEM.
struct KeyPair {
  std::string certificate;
  std::string key;
};

struct Revoked {
  // In hexadecimal, as Peer::serial.
  std::string serial;
  absl::Time at;
};

// A self-signed authority that signs leaves only. Keys are ECDSA P-256.
absl::StatusOr<KeyPair> MakeAuthority(const std::string& domain, absl::Time now,
                                      absl::Duration lifetime);

// A new key, and its certificate, signed by the authority: for a controller with its hosts (names
// or addresses), which serves; for every other role none, and it only dials. Ends no later than the
// authority does. `peer.serial` is ignored: a new one is drawn.
absl::StatusOr<KeyPair> MakeCertificate(const KeyPair& authority, const Peer& peer,
                                        const std::vector<std::string>& hosts, absl::Time now,
                                        absl::Duration lifetime);

// The list of the revoked (a CRL, PEM), signed by the authority. It does not grow old: whoever
// reads it reads the file anew when it changes.
absl::StatusOr<std::string> MakeRevocations(const KeyPair& authority,
                                            const std::vector<Revoked>& revoked, absl::Time now);

// What a certificate says of its holder. Signatures are not looked at: TLS has done that.
struct Certificate {
  Peer peer;
  absl::Time not_before, not_after;
  std::vector<std::string> hosts;
};
absl::StatusOr<Certificate> ReadCertificate(absl::string_view pem);

// The domain of an authority.
absl::StatusOr<std::string> ReadDomain(absl::string_view authority_pem);

// The serials of a list of the revoked, whose signature must be the authority's: a list that
// somebody else has made revokes nothing.
absl::StatusOr<std::vector<Revoked>> ReadRevocations(absl::string_view pem,
                                                     absl::string_view authority_pem);

// Whether a key belongs to a certificate, and the certificate was signed by the authority.
absl::Status CheckBelongTogether(const KeyPair& pair, absl::string_view authority_pem);

}  // namespace firedrill
