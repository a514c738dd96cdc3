// Two sockets, two pending outputs, one poll.
#include "tests/injector/wire/pump.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/testing/child.h"

namespace firedrill::wire {
namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void Reset(UniqueFd* fd) {
  const linger now = {1, 0};
  setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd->Reset();
}

// One direction: what was read and has not been written yet.
struct Side {
  int fd;
  bool ended = false;
  bool told = false;
};

// False when the other end is gone.
bool Write(int fd, std::string* bytes) {
  if (bytes->empty()) return true;
  const ssize_t n = send(fd, bytes->data(), bytes->size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN;
  bytes->erase(0, static_cast<size_t>(n));
  return true;
}

}  // namespace

Pump::Pump(v1::Protocol protocol, uint16_t server_port, CodecFeed::Decide decide)
    : protocol_(protocol), server_port_(server_port), decide_(std::move(decide)) {
  listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_.get(), 64) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

Pump::~Pump() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
}

void Pump::Accept() {
  while (!stopping_) {
    pollfd wait = {listener_.get(), POLLIN, 0};
    poll(&wait, 1, 20);
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.get() < 0) continue;
    const bool first = threads_.empty();
    threads_.emplace_back(
        [this, first, client = std::move(fd)]() mutable { Carry(std::move(client), first); });
  }
}

void Pump::Carry(UniqueFd client, bool first) {
  UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(server_port_);
  if (connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Reset(&client);
  }
  const int one = 1;
  setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(server.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  CodecFeed feed(MakeCodec(protocol_), [this](const Request& request) -> const v1::QueryFailure* {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.push_back(SeenOf(request));
    return decide_ ? decide_(request) : nullptr;
  });
  Side sides[2] = {{client.get()}, {server.get()}};
  std::string* outs[2] = {&feed.to_client, &feed.to_server};
  std::string buffer(16 * 1024, 0);
  while (!stopping_ && feed.broken.empty() && !feed.cut) {
    if (feed.closed && feed.to_client.empty()) break;
    pollfd waits[2];
    for (int i = 0; i < 2; ++i) {
      const bool room = outs[1 - i]->size() < 1 << 20;
      const short in = static_cast<short>(!sides[i].ended && room ? POLLIN : 0);
      const short out = static_cast<short>(outs[i]->empty() ? 0 : POLLOUT);
      waits[i] = {sides[i].fd, static_cast<short>(in | out), 0};
      if (waits[i].events == 0) waits[i].fd = -1;
    }
    if (waits[0].fd < 0 && waits[1].fd < 0) break;
    poll(waits, 2, 20);
    bool gone = false;
    for (int i = 0; i < 2; ++i) {
      if ((waits[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !sides[i].ended &&
          (waits[i].events & POLLIN) != 0) {
        const ssize_t n = recv(sides[i].fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (n > 0) {
          const absl::string_view bytes(buffer.data(), static_cast<size_t>(n));
          if (first) {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (recorded_.size() < 1000) recorded_.emplace_back(i == 0, std::string(bytes));
          }
          i == 0 ? feed.Client(bytes) : feed.Server(bytes);
        } else if (n == 0) {
          sides[i].ended = true;
        } else if (errno != EAGAIN) {
          gone = true;
        }
      }
    }
    for (int i = 0; i < 2; ++i) gone = !Write(sides[i].fd, outs[i]) || gone;
    for (int i = 0; i < 2; ++i) {
      if (sides[1 - i].ended && outs[i]->empty() && !sides[i].told) {
        sides[i].told = true;
        shutdown(sides[i].fd, SHUT_WR);
      }
    }
    if (gone || (sides[0].told && sides[1].told)) break;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!feed.codec().lost().empty()) lost_.emplace_back(feed.codec().lost());
    if (!feed.broken.empty()) broken_.push_back(feed.broken);
  }
  encrypted_ += feed.codec().encrypted() ? 1 : 0;
  quiet_ += feed.codec().Quiet() ? 1 : 0;
  not_failed_ += feed.not_failed;
  if (feed.cut) {
    Write(client.get(), &feed.to_client);
    Reset(&client);
    Reset(&server);
  }
}

std::vector<SeenRequest> Pump::requests() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return requests_;
}

std::vector<std::pair<bool, std::string>> Pump::recorded() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return recorded_;
}

std::vector<std::string> Pump::lost() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return lost_;
}

std::vector<std::string> Pump::broken() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return broken_;
}

std::string RunProgram(const std::vector<std::string>& words, const std::string& input, int* code) {
  // The input is a file: a program may read it as slowly as it likes.
  const TempDir folder("fd-run");
  WriteFile(folder.path() + "/input", input);
  std::vector<std::string> arguments = {"/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/nowhere",
                                        "LC_ALL=C.UTF-8"};
  arguments.insert(arguments.end(), words.begin(), words.end());
  Child::Options options;
  options.arguments = {"/usr/bin/python3", "-c",
                       "import os, sys; os.dup2(os.open(sys.argv[1], os.O_RDONLY), 0);"
                       "os.execv(sys.argv[2], sys.argv[2:])",
                       folder.path() + "/input"};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.log = folder.path() + "/output";
  auto child = Child::Start(options);
  if (!child.ok()) return std::string(child.status().message());
  const auto ended = (*child)->Wait(absl::Seconds(120));
  if (code != nullptr) *code = ended.ok() ? *ended : -1;
  if (!ended.ok()) return "did not end within two minutes: " + ReadFile(options.log);
  return ReadFile(options.log);
}

}  // namespace firedrill::wire
