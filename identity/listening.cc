// Why nothing can listen somewhere, and who has nothing to say.
#include "identity/listening.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
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

bool HasSpoken(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
    return true;
  return info.tcpi_bytes_received > 0;
}

}  // namespace firedrill
