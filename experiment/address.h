// URLs and listening addresses as site files hold them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

struct Address {
  // "http", "https", "tcp"; empty for a listening address.
  std::string scheme;
  // Without the brackets of IPv6.
  std::string host;
  // 0 where none is given.
  int port = 0;
  // Begins with a slash, or is empty.
  std::string path;
};

// InvalidArgument where the text is none, carries a user or a password, or is link-local (the
// metadata services of clouds live there).
absl::StatusOr<Address> ParseUrl(absl::string_view text);

// "127.0.0.1:9099", "[::1]:9099", ":9099".
absl::StatusOr<Address> ParseListenAddress(absl::string_view text);

bool IsLoopback(const Address& address);

}  // namespace firedrill
