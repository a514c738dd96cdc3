// A proxy between a client and a server that a test plays itself, on plain blocking sockets.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "injector/wire/proxy.h"

namespace firedrill::wire {

// A listening socket on a free port of the loopback.
class Listener {
 public:
  explicit Listener(int backlog = 1024);
  const sockaddr_storage& address() const { return address_; }
  // Throws after 5 seconds.
  UniqueFd Accept();
  // Within `time`.
  bool HasCaller(absl::Duration time);
  UniqueFd Release() { return std::move(fd_); }

 private:
  UniqueFd fd_;
  sockaddr_storage address_ = {};
};

// Blocking; reads give up after 5 seconds. Throws when refused.
UniqueFd ConnectTo(const sockaddr_storage& address);
// All of it; throws when the connection breaks.
void Send(int fd, absl::string_view bytes);
// Exactly so many bytes, or fewer when the end or 5 seconds come first.
std::string Receive(int fd, size_t count);

enum class Heard { kBytes, kFin, kReset, kSilence };
// What comes next within `time`; bytes stay where they are.
Heard Listen(int fd, absl::Duration time = absl::Seconds(5));
// Like a crash: RST instead of FIN.
void ResetAndClose(UniqueFd fd);
// Waits up to 5 seconds.
bool Eventually(const std::function<bool()>& holds);

struct Stage {
  // `change` may change the options; the server is `server`.
  explicit Stage(const std::function<void(ProxyOptions&)>& change = nullptr);

  UniqueFd Connect() const { return ConnectTo(address); }
  // A client's end and the server's.
  std::pair<UniqueFd, UniqueFd> Pair();
  // Both send a byte that the other hears.
  static bool Alive(const std::pair<UniqueFd, UniqueFd>& pair);

  Listener server;
  sockaddr_storage address = {};  // Of the proxy.
  std::unique_ptr<Proxy> proxy;
};

v1::DelayShape FixedDelay(absl::Duration delay);
Disturbance DelayToClient(absl::Duration delay);
Disturbance DelayToServer(absl::Duration delay);
Disturbance Stall(double share, uint64_t seed = 1);
Disturbance Leak(double share, uint64_t seed = 1);

}  // namespace firedrill::wire
