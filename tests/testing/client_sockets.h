// The sockets that clients on one machine have, of both families of addresses.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace firedrill {

inline socklen_t LengthOf(const sockaddr_storage& address) {
  return address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

inline sockaddr_storage NumericAddress(const std::string& host, uint16_t port) {
  sockaddr_storage storage{};
  auto& four = reinterpret_cast<sockaddr_in&>(storage);
  auto& six = reinterpret_cast<sockaddr_in6&>(storage);
  if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
  } else if (inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
  }
  // Of both kinds it is in the same place.
  four.sin_port = htons(port);
  return storage;
}

// A listening socket; not valid where the address is not there, or taken.
inline UniqueFd ListenOn(sockaddr_storage* address) {
  UniqueFd fd(socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  auto* const its = reinterpret_cast<sockaddr*>(address);
  socklen_t length = LengthOf(*address);
  if (bind(fd.get(), its, length) != 0 || listen(fd.get(), 64) != 0) return UniqueFd();
  getsockname(fd.get(), its, &length);
  return fd;
}
inline bool HasLoopback6() {
  sockaddr_storage address = NumericAddress("::1", 0);
  return ListenOn(&address).valid();
}

struct ClientSocket {
  std::string to;
  // Bound before it connects; empty: not.
  std::string from;
  bool only_six = false;

  UniqueFd Connect(uint16_t port) const {
    const sockaddr_storage there = NumericAddress(to, port), here = NumericAddress(from, 0);
    UniqueFd fd(socket(there.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    if (only_six) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (!from.empty() &&
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&here), LengthOf(here)) != 0) {
      return UniqueFd();
    }
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&there), LengthOf(there)) != 0) {
      return UniqueFd();
    }
    return fd;
  }
};
inline std::ostream& operator<<(std::ostream& out, const ClientSocket& one) {
  return out << "to " << one.to << (one.from.empty() ? "" : " from ") << one.from
             << (one.only_six ? ", IPv6 only" : "");
}

// Those of the second half are of IPv6, by the mapped address.
inline const std::vector<ClientSocket> kSocketsToFour = {
    {.to = "127.0.0.1"},
    {.to = "127.0.0.1", .from = "127.0.0.9"},
    {.to = "::ffff:127.0.0.1"},
    {.to = "::ffff:127.0.0.1", .from = "::ffff:127.0.0.9"}};
// All but the first reach nothing at 127.0.0.1.
inline const std::vector<ClientSocket> kSocketsToSix = {
    {.to = "::1"},
    {.to = "::1", .only_six = true},
    {.to = "::1", .from = "::1"},
    {.to = "::1", .from = "::1", .only_six = true}};

}  // namespace firedrill
