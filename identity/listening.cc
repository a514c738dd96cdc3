// Why nothing can listen somewhere, and who has nothing to say.
#include "identity/listening.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

Progress ProgressOf(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return Progress::kAnswered;
  // It comes after the other.
  if (size < offsetof(tcp_info, tcpi_data_segs_out) + sizeof(info.tcpi_data_segs_out))
    return Progress::kAnswered;
  if (info.tcpi_data_segs_out > 0) return Progress::kAnswered;
  return info.tcpi_bytes_received > 0 ? Progress::kSpoke : Progress::kSilent;
}

std::string OriginOf(const std::string& address) {
  in6_addr six{};
  const std::string numbers = address.substr(0, address.find('%'));
  if (inet_pton(AF_INET6, numbers.c_str(), &six) != 1) return address;
  char text[INET6_ADDRSTRLEN] = "";
  if (IN6_IS_ADDR_V4MAPPED(&six)) {
    return inet_ntop(AF_INET, &six.s6_addr[12], text, sizeof(text));
  }
  std::fill(six.s6_addr + 8, six.s6_addr + 16, 0);
  return absl::StrCat(inet_ntop(AF_INET6, &six, text, sizeof(text)), "/64");
}

size_t WhoMakesRoom(absl::Span<const absl::string_view> origins,
                    absl::FunctionRef<Progress(size_t)> progress) {
  absl::flat_hash_map<absl::string_view, size_t> of_origin;
  for (const absl::string_view origin : origins) ++of_origin[origin];
  const absl::string_view most = *std::max_element(
      origins.begin(), origins.end(),
      [&](absl::string_view a, absl::string_view b) { return of_origin[a] < of_origin[b]; });
  const bool crowds = of_origin[most] > 1 && of_origin[most] * 4 > origins.size();
  std::vector<size_t> may;
  for (size_t i = 0; i < origins.size(); ++i) {
    if (!crowds || origins[i] == most) may.push_back(i);
  }
  may.resize((may.size() + 1) / 2);
  size_t goes = may.front();
  Progress least = progress(goes);
  for (const size_t each : may) {
    if (least == Progress::kSilent) break;
    const Progress its = progress(each);
    if (its < least) {
      goes = each;
      least = its;
    }
  }
  return goes;
}

}  // namespace firedrill
