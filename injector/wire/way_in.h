// Where a worker's clients come in.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace firedrill::wire {

socklen_t LengthOf(const sockaddr_storage& address);
uint16_t PortOf(const sockaddr_storage& address);

// Those for clients that are led here: one for each family of the servers' addresses, without a
// port. A socket that is on IPv6 only, or bound to ::1, reaches nothing at 127.0.0.1.
std::vector<sockaddr_storage> LoopbacksFor(const std::vector<sockaddr_storage>& servers);

// At a free port where the address names none; then it does.
absl::StatusOr<UniqueFd> ListenAt(sockaddr_storage* address);

// How many connections wait to be taken in.
int Waiting(const UniqueFd& listener);

}  // namespace firedrill::wire
