// The door to sock_diag: ends established TCP connections of this machine's clients to a server,
// from outside, as if the network had broken them.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace firedrill {

// Which sockets are meant: those of this network namespace that are connected to one of the
// addresses.
struct SocketSelection {
  // With their ports.
  std::vector<sockaddr_storage> destinations;
  // Only those made by this user.
  std::optional<uint32_t> uid;
  // Only those made in this folder of cgroup v2, or beneath it; empty: wherever.
  std::string cgroup;
  // Only those with these inodes.
  std::optional<std::set<uint32_t>> only;
  // Inodes that are left alone.
  std::set<uint32_t> spared;
  // This share of them, drawn by `seed` in the order of their own addresses and ports: of as many
  // connections the same ones.
  double share = 1;
  uint64_t seed = 0;
};

struct DestroyedSockets {
  int matched = 0;
  int destroyed = 0;
};

// Blocks for about 0.15 ms a connection. PERMISSION_DENIED without CAP_NET_ADMIN.
absl::StatusOr<DestroyedSockets> DestroySockets(const SocketSelection& selection);
// OK where this process can do it: a connection of its own with itself is ended.
absl::Status CheckDestroySockets();
// Only counts them; needs no rights.
absl::StatusOr<int> CountSockets(const SocketSelection& selection);

// Inodes of the sockets of every firedrill process of this installation, this one included; not of
// workers whose injector is gone, which carry on what clients had open.
std::set<uint32_t> OwnSockets();

}  // namespace firedrill
