// Who is at the other end of a connection, as its certificate says.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {

// Serves, and calls nothing: no role of an RPC.
inline constexpr absl::string_view kControllerRole = "controller";

// What a certificate's only URI says: "spiffe://<domain>/<role>/<name>".
struct Peer {
  std::string domain;
  // viewer, author, operator, admin, injector or controller.
  std::string role;
  // A person, a pipeline, or a node.
  std::string name;
  // Of the certificate, in hexadecimal; empty where only its URI is known.
  std::string serial;

  std::string Uri() const;
};

// All that a certificate can name, in the order of what they may do.
const std::vector<std::string>& RoleWords();

// The role as RPCs declare it; ROLE_UNSPECIFIED for one that may call nothing.
v1::Role RoleOf(const Peer& peer);

// A viewer looks, an author plans as well, an operator starts and stops as well, an admin does all
// that people do. An injector does what injectors do, and nothing else.
bool May(v1::Role role, v1::Role asked);

// INVALID_ARGUMENT where the URI is not of this form, or its words are not plain.
absl::StatusOr<Peer> ParsePeer(absl::string_view uri);

// The words that a domain or a name may be made of: lower-case letters, digits, '-', '.' and '_'.
absl::Status CheckPlainWord(absl::string_view what, absl::string_view word);

}  // namespace firedrill
