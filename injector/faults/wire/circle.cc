// Compares addresses, of which some stand for several.
#include "injector/faults/wire/circle.h"

#include <netinet/in.h>

#include <cstring>

#include "base/unique_fd.h"

namespace firedrill {
namespace {

const sockaddr_in& Four(const sockaddr_storage& address) {
  return reinterpret_cast<const sockaddr_in&>(address);
}
const sockaddr_in6& Six(const sockaddr_storage& address) {
  return reinterpret_cast<const sockaddr_in6&>(address);
}

bool IsAny(const sockaddr_storage& address) {
  return address.ss_family == AF_INET ? Four(address).sin_addr.s_addr == htonl(INADDR_ANY)
                                      : IN6_IS_ADDR_UNSPECIFIED(&Six(address).sin6_addr);
}

bool IsThisMachines(sockaddr_storage address) {
  // Of both kinds it is in the same place.
  reinterpret_cast<sockaddr_in&>(address).sin_port = 0;
  const UniqueFd fd(socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const bool four = address.ss_family == AF_INET;
  return fd.valid() && bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                            four ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)) == 0;
}

}  // namespace

bool LeadsTo(const sockaddr_storage& server, const sockaddr_storage& listen) {
  const bool alike = server.ss_family == listen.ss_family;
  const bool four = server.ss_family == AF_INET;
  if (Four(server).sin_port != Four(listen).sin_port) return false;
  if (IsAny(listen)) return (alike || four) && IsThisMachines(server);
  if (!alike) return false;
  // Who connects to any address comes to the loopback's.
  if (four) {
    const in_addr to = IsAny(server) ? in_addr{htonl(INADDR_LOOPBACK)} : Four(server).sin_addr;
    return to.s_addr == Four(listen).sin_addr.s_addr;
  }
  const in6_addr to = IsAny(server) ? in6addr_loopback : Six(server).sin6_addr;
  return std::memcmp(&to, &Six(listen).sin6_addr, sizeof(to)) == 0;
}

}  // namespace firedrill
