// The least that a relay in user space can be, as a measure: one thread, epoll, read, write. It
// waits for the server's connection, and writes without holding anything back.
//
//   wire_bare_loop PORT-OF-THE-SERVER       prints its own port
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr size_t kBuffer = 128 * 1024;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Blocks where the receiver is slow: a comparison needs no fairness.
bool WriteAll(int fd, const char* bytes, ssize_t count) {
  while (count > 0) {
    const ssize_t written = write(fd, bytes, static_cast<size_t>(count));
    if (written < 0 && errno == EAGAIN) {
      pollfd slow = {fd, POLLOUT, 0};
      poll(&slow, 1, -1);
      continue;
    }
    if (written < 0) return false;
    bytes += written;
    count -= written;
  }
  return true;
}

void Add(int epoll, int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: wire_bare_loop PORT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const sockaddr_in server = Loopback(atoi(argv[1]));
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in own = Loopback(0);
  socklen_t length = sizeof own;
  if (bind(listener, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0 ||
      listen(listener, 4096) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
    perror("wire_bare_loop: cannot listen");
    return 1;
  }
  printf("%d\n", ntohs(own.sin_port));
  fflush(stdout);

  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  Add(epoll, listener);
  std::vector<int> peer(65536, -1);
  std::vector<bool> ended(65536, false);
  static char buffer[kBuffer];
  epoll_event events[64];
  while (true) {
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == listener) {
        const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        const int upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(upstream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(upstream, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
          close(client);
          close(upstream);
          continue;
        }
        peer[static_cast<size_t>(client)] = upstream;
        peer[static_cast<size_t>(upstream)] = client;
        Add(epoll, client);
        Add(epoll, upstream);
        continue;
      }
      int& other = peer[static_cast<size_t>(fd)];
      if (other < 0) continue;
      const ssize_t n = read(fd, buffer, sizeof buffer);
      if (n > 0 && WriteAll(other, buffer, n)) continue;
      if (n == 0 && !ended[static_cast<size_t>(other)]) {
        // Half-closed: the other direction goes on.
        ended[static_cast<size_t>(fd)] = true;
        shutdown(other, SHUT_WR);
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
        continue;
      }
      close(fd);
      close(other);
      ended[static_cast<size_t>(fd)] = ended[static_cast<size_t>(other)] = false;
      peer[static_cast<size_t>(other)] = -1;
      other = -1;
    }
  }
}
