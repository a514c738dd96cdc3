// Whether traffic that is taken in at an address would be led back to it.
#pragma once

#include <sys/socket.h>

namespace firedrill {

// Whoever connects to `server` comes to who listens at `listen`. Addresses of IPv4 and IPv6.
bool LeadsTo(const sockaddr_storage& server, const sockaddr_storage& listen);

}  // namespace firedrill
