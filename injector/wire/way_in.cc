// Listens for the clients of a worker.
#include "injector/wire/way_in.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

std::string NameOf(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const bool four = address.ss_family == AF_INET;
  const void* bytes = &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (four) bytes = &reinterpret_cast<const sockaddr_in&>(address).sin_addr;
  inet_ntop(address.ss_family, bytes, text, sizeof(text));
  return absl::StrCat(four ? "" : "[", text, four ? ":" : "]:", PortOf(address));
}

}  // namespace

socklen_t LengthOf(const sockaddr_storage& address) {
  return address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

uint16_t PortOf(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

std::vector<sockaddr_storage> LoopbacksFor(const std::vector<sockaddr_storage>& servers) {
  const auto has = [&](sa_family_t family) {
    return absl::c_any_of(servers, [&](const auto& one) { return one.ss_family == family; });
  };
  std::vector<sockaddr_storage> addresses;
  if (has(AF_INET)) {
    auto& four = reinterpret_cast<sockaddr_in&>(addresses.emplace_back());
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (has(AF_INET6)) {
    auto& six = reinterpret_cast<sockaddr_in6&>(addresses.emplace_back());
    six.sin6_family = AF_INET6;
    six.sin6_addr = in6addr_loopback;
  }
  return addresses;
}

absl::StatusOr<UniqueFd> ListenAt(sockaddr_storage* address) {
  auto* const its = reinterpret_cast<sockaddr*>(address);
  UniqueFd listener(socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (!listener.valid() || bind(listener.get(), its, LengthOf(*address)) != 0 ||
      listen(listener.get(), 4096) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("listening for the clients at ", NameOf(*address), ": ", std::strerror(errno),
                     "; choose another `listen`, or end who has it"));
  }
  socklen_t length = sizeof(*address);
  getsockname(listener.get(), its, &length);
  return listener;
}

int Waiting(const UniqueFd& listener) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(listener.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return 0;
  return static_cast<int>(info.tcpi_unacked);
}

}  // namespace firedrill::wire
