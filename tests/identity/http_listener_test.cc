// The HTTP server in a flood.
#include "identity/http_listener.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr int kPatienceMs = 20000;

UniqueFd Connect(uint16_t port, uint32_t from) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in own{}, to{};
  own.sin_family = to.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(from);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(port);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

void Say(const UniqueFd& fd, const std::string& text) {
  EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

std::string Answer(const UniqueFd& fd) {
  std::string all;
  char some[4096];
  pollfd polled{fd.get(), POLLIN, 0};
  while (poll(&polled, 1, kPatienceMs) == 1) {
    const ssize_t got = recv(fd.get(), some, sizeof(some), 0);
    if (got <= 0) break;
    all.append(some, static_cast<size_t>(got));
  }
  return all;
}

TEST(HttpListener, AFloodFromManyAddressesKeepsNobodyOut) {
  constexpr int kRoom = 16;
  auto listener = HttpListener::Start(
      {.key = "stop.listen", .host = "127.0.0.1", .connections = kRoom, .patience = absl::Hours(1)},
      [](const HttpCall& call) { return HttpReply{.status = 200, .body = call.path}; });
  ASSERT_TRUE(listener.ok()) << listener.status();
  const uint16_t port = (*listener)->port();
  std::vector<UniqueFd> silent;
  uint32_t next = INADDR_LOOPBACK + 256;
  const auto flood = [&](int count) {
    for (int i = 0; i < count; ++i) silent.push_back(Connect(port, next++));
  };
  flood(2 * kRoom);
  // Of an address before or after all of theirs, and in the middle of what it says.
  for (const uint32_t from : {uint32_t{INADDR_LOOPBACK}, uint32_t{INADDR_LOOPBACK + (1 << 20)}}) {
    const UniqueFd honest = Connect(port, from);
    flood(kRoom / 2 - 1);
    Say(honest, "GET /stop HTTP/1.1\r\n");
    flood(5 * kRoom);
    Say(honest, "Host: here\r\n\r\n");
    EXPECT_TRUE(absl::StrContains(Answer(honest), "200 OK")) << from;
  }
  // The room has an end: the first of them are gone.
  pollfd first{silent.front().get(), POLLIN, 0};
  EXPECT_EQ(poll(&first, 1, kPatienceMs), 1);
  pollfd last{silent.back().get(), POLLIN, 0};
  EXPECT_EQ(poll(&last, 1, 0), 0);
}

}  // namespace
}  // namespace firedrill
