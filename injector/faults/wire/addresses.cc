// Reads addresses and compares them: some stand for several.
#include "injector/faults/wire/addresses.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "experiment/address.h"

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

absl::StatusOr<sockaddr_storage> AddressOf(const std::string& host, uint32_t port) {
  sockaddr_storage storage{};
  auto& four = reinterpret_cast<sockaddr_in&>(storage);
  auto& six = reinterpret_cast<sockaddr_in6&>(storage);
  if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(static_cast<uint16_t>(port));
    return storage;
  }
  if (inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) {
      char mapped[INET_ADDRSTRLEN];
      return AddressOf(inet_ntop(AF_INET, &six.sin6_addr.s6_addr[12], mapped, sizeof(mapped)),
                       port);
    }
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(static_cast<uint16_t>(port));
    return storage;
  }
  return absl::InvalidArgumentError(absl::StrCat(host, " is no address; write 127.0.0.1:6432"));
}

std::vector<sockaddr_storage> NumericAddresses(const std::string& host, uint32_t port) {
  std::vector<sockaddr_storage> addresses;
  const bool local = absl::EqualsIgnoreCase(host, "localhost");
  for (const std::string& text :
       local ? std::vector<std::string>{"127.0.0.1", "::1"} : std::vector<std::string>{host}) {
    const absl::StatusOr<sockaddr_storage> address = AddressOf(text, port);
    if (address.ok()) addresses.push_back(*address);
  }
  return addresses;
}

absl::StatusOr<sockaddr_storage> ListenAddress(const std::string& text) {
  const absl::StatusOr<Address> address = ParseListenAddress(text);
  RETURN_IF_ERROR(Annotate(address.status(), absl::StrCat("listen: ", text)));
  return AddressOf(address->host.empty() ? "127.0.0.1" : address->host,
                   static_cast<uint32_t>(address->port));
}

std::string Bytes(const sockaddr_storage& address) {
  const size_t length = address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return std::string(reinterpret_cast<const char*>(&address), length);
}

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

bool HasIpv6Loopback() { return IsThisMachines(*AddressOf("::1", 0)); }

absl::StatusOr<std::string> LeaveOutIpv6(const std::string& host,
                                         std::vector<sockaddr_storage>* addresses) {
  std::vector<std::string> left_alone;
  std::erase_if(*addresses, [&](const sockaddr_storage& address) {
    if (address.ss_family != AF_INET6) return false;
    char text[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &Six(address).sin6_addr, text, sizeof(text));
    // Without it nobody comes to it either.
    if (!IN6_IS_ADDR_LOOPBACK(&Six(address).sin6_addr)) left_alone.push_back(text);
    return true;
  });
  if (addresses->empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        host,
        " has IPv6 addresses only, whose clients would be led to ::1, which this machine "
        "does not have; name an IPv4 address of the server, or use `listen` and point the "
        "clients there"));
  }
  if (left_alone.empty()) return "";
  return absl::StrCat("; clients of ", absl::StrJoin(left_alone, ", "),
                      " are left alone: this machine has no ::1 to lead them to");
}

}  // namespace firedrill
