// One epoll set, looked at without waiting.
#include "tests/testing/counting_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace firedrill {

CountingServer::CountingServer()
    : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_.get(), 4096) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener_.get();
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event);
}

CountingServer::~CountingServer() {
  for (const auto& [fd, said] : said_) close(fd);
}

int CountingServer::open() {
  Serve();
  return static_cast<int>(said_.size());
}

int CountingServer::accepted() {
  Serve();
  return accepted_;
}

std::vector<std::string> CountingServer::said() {
  Serve();
  std::vector<std::string> all;
  for (const auto& [fd, said] : said_) all.push_back(said);
  return all;
}

void CountingServer::Kick(int count) {
  Serve();
  for (; count > 0 && !said_.empty(); --count) {
    close(said_.begin()->first);
    said_.erase(said_.begin());
  }
}

void CountingServer::Serve() {
  std::array<epoll_event, 256> events;
  for (bool more = true; more;) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), 0);
    more = count > 0;
    for (int i = 0; i < count; ++i) {
      const int ready = events[i].data.fd;
      if (ready == listener_.get()) {
        for (;;) {
          const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
          if (fd < 0) break;
          epoll_event event{};
          event.events = EPOLLIN;
          event.data.fd = fd;
          epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
          said_[fd];
          ++accepted_;
        }
        continue;
      }
      const auto found = said_.find(ready);
      if (found == said_.end()) continue;
      std::array<char, 4096> buffer;
      const ssize_t got = recv(ready, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got > 0) {
        found->second.append(buffer.data(), static_cast<size_t>(got));
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(ready);
        said_.erase(found);
      }
    }
  }
}

}  // namespace firedrill
