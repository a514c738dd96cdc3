// Plain sockets for tests of the proxy.
#include "tests/injector/wire/proxy_stage.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <stdexcept>

#include "absl/time/clock.h"
#include "base/time_proto.h"

namespace firedrill::wire {
namespace {

[[noreturn]] void Fail(const char* what) {
  throw std::runtime_error(std::string(what) + ": " + strerror(errno));
}

void Limit(int fd) {
  const timeval limit = {5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool Ready(int fd, absl::Duration time) {
  pollfd waiting = {fd, POLLIN, 0};
  return poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(time))) > 0;
}

}  // namespace

Listener::Listener(int backlog) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in own = {};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) != 0) Fail("bind");
  if (listen(fd_.get(), backlog) != 0) Fail("listen");
  socklen_t length = sizeof address_;
  getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address_), &length);
}

bool Listener::HasCaller(absl::Duration time) { return Ready(fd_.get(), time); }

UniqueFd Listener::Accept() {
  if (!HasCaller(absl::Seconds(5))) throw std::runtime_error("nobody connects");
  UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) Fail("accept");
  Limit(fd.get());
  return fd;
}

UniqueFd ConnectTo(const sockaddr_storage& address) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) Fail("socket");
  Limit(fd.get());
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in)) != 0) {
    Fail("connect");
  }
  return fd;
}

void Send(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) Fail("send");
    bytes.remove_prefix(static_cast<size_t>(count));
  }
}

std::string Receive(int fd, size_t count) {
  std::string bytes(count, '\0');
  size_t there = 0;
  while (there < count) {
    const ssize_t more = recv(fd, &bytes[there], count - there, 0);
    if (more <= 0) break;
    there += static_cast<size_t>(more);
  }
  bytes.resize(there);
  return bytes;
}

Heard Listen(int fd, absl::Duration time) {
  if (!Ready(fd, time)) return Heard::kSilence;
  char byte;
  const ssize_t count = recv(fd, &byte, 1, MSG_PEEK);
  if (count > 0) return Heard::kBytes;
  if (count == 0) return Heard::kFin;
  return errno == ECONNRESET ? Heard::kReset : Heard::kSilence;
}

void ResetAndClose(UniqueFd fd) {
  const linger now = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time end = absl::Now() + absl::Seconds(5);
  while (!holds()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

Stage::Stage(const std::function<void(ProxyOptions&)>& change) {
  Listener own;
  address = own.address();
  ProxyOptions options;
  options.listeners.push_back(own.Release());
  options.server = server.address();
  options.protocol = v1::PROTOCOL_TCP;
  if (change) change(options);
  auto started = Proxy::Start(std::move(options));
  if (!started.ok()) throw std::runtime_error(std::string(started.status().message()));
  proxy = *std::move(started);
}

std::pair<UniqueFd, UniqueFd> Stage::Pair() {
  UniqueFd client = Connect();
  return {std::move(client), server.Accept()};
}

bool Stage::Alive(const std::pair<UniqueFd, UniqueFd>& pair) {
  Send(pair.first.get(), "a");
  Send(pair.second.get(), "b");
  return Receive(pair.second.get(), 1) == "a" && Receive(pair.first.get(), 1) == "b";
}

v1::DelayShape FixedDelay(absl::Duration delay) {
  v1::DelayShape shape;
  *shape.mutable_delay() = ToProto(delay);
  return shape;
}

Disturbance DelayToClient(absl::Duration delay) {
  Disturbance disturbance;
  disturbance.delay_to_client = FixedDelay(delay);
  return disturbance;
}

Disturbance DelayToServer(absl::Duration delay) {
  Disturbance disturbance;
  disturbance.delay_to_server = FixedDelay(delay);
  return disturbance;
}

Disturbance Stall(double share, uint64_t seed) {
  Disturbance disturbance;
  disturbance.stall = share;
  disturbance.seed = seed;
  return disturbance;
}

Disturbance Leak(double share, uint64_t seed) {
  Disturbance disturbance;
  disturbance.leak = share;
  disturbance.seed = seed;
  return disturbance;
}

}  // namespace firedrill::wire
