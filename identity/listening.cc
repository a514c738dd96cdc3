// Why nothing can listen somewhere.
#include "identity/listening.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill {

std::string ListenWords(absl::string_view key, const std::string& host, int port) {
  const bool six = absl::StrContains(host, ':');
  return absl::StrCat(key, ": ", six ? "[" : "", host, six ? "]" : "", ":", port);
}

absl::Status ListenFailed(absl::string_view where, int port, int error,
                          absl::string_view if_taken) {
  switch (error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(absl::StrCat(
          where, " is taken: somebody listens there already. Is another run or controller under ",
          "way? `ss -ltnp 'sport = :", port, "'` says who; end it, or ", if_taken));
    case EADDRNOTAVAIL:
      return absl::UnavailableError(absl::StrCat(
          where,
          ": this machine has no such address; `ip -brief address` shows those that it has, "
          "and without an address all of them are listened on"));
    case EACCES:
      return absl::PermissionDeniedError(absl::StrCat(
          where,
          ": only root, or CAP_NET_BIND_SERVICE, may listen there; choose a port from 1024 "
          "on"));
    default:
      return absl::UnavailableError(absl::StrCat(where, ": ", std::strerror(error)));
  }
}

}  // namespace firedrill
