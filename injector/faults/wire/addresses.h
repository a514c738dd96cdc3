// The addresses of a server, and of who takes in its clients.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace firedrill {

// Of a numeric host. ::ffff:a.b.c.d is the IPv4 address that it stands for.
absl::StatusOr<sockaddr_storage> AddressOf(const std::string& host, uint32_t port);
// Those of a host that needs no resolver.
std::vector<sockaddr_storage> NumericAddresses(const std::string& host, uint32_t port);
// What `listen` says.
absl::StatusOr<sockaddr_storage> ListenAddress(const std::string& text);
// As the kernel reads it.
std::string Bytes(const sockaddr_storage& address);

// Whoever connects to `server` comes to who listens at `listen`.
bool LeadsTo(const sockaddr_storage& server, const sockaddr_storage& listen);

// Clients of an IPv6 address can be led to this machine's ::1 and to nothing else.
bool HasIpv6Loopback();
// For a machine without one: takes the IPv6 addresses of `host` away, and says which of them
// clients may reach none the less ("; clients of 2001:db8::5 are left alone: ..."), or nothing.
// FAILED_PRECONDITION where no other address is left.
absl::StatusOr<std::string> LeaveOutIpv6(const std::string& host,
                                         std::vector<sockaddr_storage>* addresses);

}  // namespace firedrill
