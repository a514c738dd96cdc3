// Blocking reads and writes on one socket.
#include "tests/injector/wire/talk.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/match.h"

namespace firedrill::wire {

Talk::Talk(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience = {10, 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd_.Reset();
}

void Talk::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

std::string Talk::Until(absl::string_view end) {
  std::string got;
  char bytes[65536];
  while (end.empty() || !absl::EndsWith(got, end)) {
    const ssize_t n = recv(fd_.get(), bytes, sizeof bytes, 0);
    if (n <= 0) return got + (n == 0 ? "<closed>" : errno == ECONNRESET ? "<reset>" : "<silence>");
    got.append(bytes, static_cast<size_t>(n));
  }
  return got;
}

std::string Talk::Rest() { return Until(""); }

}  // namespace firedrill::wire
