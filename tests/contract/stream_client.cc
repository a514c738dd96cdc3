// A client of a protocol that needs no library.
#include "tests/contract/stream_client.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/match.h"

namespace firedrill {

StreamClient::Judge StreamClient::Exactly(std::string answer) {
  return [answer = std::move(answer)](const std::string& heard) {
    if (heard == answer) return Heard::kWhole;
    return absl::StartsWith(answer, heard) ? Heard::kPart : Heard::kWrong;
  };
}

std::unique_ptr<TrafficClient> StreamClient::Connect(int port, Exchange small, Exchange much) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{30, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return nullptr;
  }
  return std::unique_ptr<TrafficClient>(
      new StreamClient(std::move(fd), std::move(small), std::move(much)));
}

bool StreamClient::Try(const Exchange& exchange) {
  for (size_t sent = 0; sent < exchange.say.size();) {
    const ssize_t put =
        send(fd_.get(), exchange.say.data() + sent, exchange.say.size() - sent, MSG_NOSIGNAL);
    if (put <= 0) return false;
    sent += static_cast<size_t>(put);
  }
  std::string heard;
  while (true) {
    char bytes[65536];
    const ssize_t got = recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (got <= 0) return false;
    heard.append(bytes, static_cast<size_t>(got));
    const Heard judged = exchange.judge(heard);
    if (judged != Heard::kPart) return judged == Heard::kWhole;
  }
}

}  // namespace firedrill
