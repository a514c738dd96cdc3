// The door to the kernel's connect(2): sends new TCP connections to one server to a listener of
// ours instead, by BPF programs at a cgroup, for as long as a lease in a map lasts.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace firedrill {

struct RedirectOptions {
  // IPv4 and IPv6 addresses with their ports. An IPv4 one is also found where an IPv6 socket
  // connects to it (::ffff:a.b.c.d), and is not given in that form.
  std::vector<sockaddr_storage> destinations;
  // One for each family of the destinations: a socket that may reach one of them cannot always
  // reach the other. A family without a listener is left alone.
  std::vector<sockaddr_storage> listeners;
  // Only processes of this user; everybody where it is not set.
  std::optional<uint32_t> uid;
  // A folder of cgroup v2, with everything beneath it; empty: the whole machine's.
  std::string cgroup;
  // By which it can be found in the kernel: letters, digits, `_` and `.`, at most 15.
  std::string name;
};

// Only sockets of our own network namespace are redirected. Established connections are never
// touched. Programs of others stay in force beside ours. It is gone with the process that holds it.
// One thread at a time, but for Exempt(), which any may call.
class ConnectRedirect {
 public:
  // OK where this process can do it; touches nothing. Says what is lacking otherwise.
  static absl::Status Check(const std::string& cgroup);
  // In place but off, until SetUntil().
  static absl::StatusOr<std::unique_ptr<ConnectRedirect>> Attach(const RedirectOptions& options);
  ~ConnectRedirect() = default;

  // Boot time at which it ends by itself, also when this process hangs. Zero: off.
  absl::Status SetUntil(absl::Duration boot);
  // This socket's next connect() goes where it is meant to go.
  absl::Status Exempt(int socket);
  // Idempotent.
  void Detach() { links_.clear(); }

 private:
  ConnectRedirect() = default;

  UniqueFd lease_;
  UniqueFd exempt_;
  std::vector<UniqueFd> links_;
};

// An independent look: how many redirects whose name begins so are in force, of whatever process.
// Needs the same rights as Check().
absl::StatusOr<int> CountRedirects(absl::string_view name_prefix);

// The folder of cgroup v2's root; NOT_FOUND where it is not mounted.
absl::StatusOr<std::string> CgroupRoot();

}  // namespace firedrill
