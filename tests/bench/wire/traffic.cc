// Both ends of the traffic by which proxies are compared: a server that echoes, takes and gives
// bytes, and clients that measure. Every client prints one line of JSON.
//
//   wire_traffic server                              prints its port; until its stdin ends
//   wire_traffic echo  ADDRESS PORT COUNT            round trips of 64 bytes, one after the other
//   wire_traffic bulk  ADDRESS PORT up|down BYTES
//   wire_traffic idle  ADDRESS PORT COUNT            opens them and says so; a line "send" on stdin
//                      sends on each, "receive" says how many got an answer; until stdin ends
//   wire_traffic churn ADDRESS PORT                  downloads that are left in the middle, until
//                      stdin ends
//   wire_traffic delay ADDRESS PORT CONNECTIONS COUNT ASKED_US PERIOD_US    round trips beyond what
//                      was asked, so many on each connection, on a schedule that knows of no
//                      answers; polls, so that its own waking does not count
//   wire_traffic paced ADDRESS PORT RATE SECONDS     64-byte messages at a rate, echoed
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr size_t kMessage = 64;

[[noreturn]] void Die(const char* doing) {
  std::fprintf(stderr, "wire_traffic: %s: %s\n", doing, std::strerror(errno));
  std::exit(1);
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

void NoDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int Connect(const char* address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) Die(address);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Die("socket");
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Die("connect");
  NoDelay(fd);
  return fd;
}

void WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      poll(&ready, 1, -1);
      continue;
    }
    if (n < 0) Die("write");
    data += n;
    size -= static_cast<size_t>(n);
  }
}

void ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = read(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Die("read");
    if (n == 0) {
      std::fprintf(stderr, "wire_traffic: the connection ended %zu bytes early\n", size);
      std::exit(1);
    }
    data += n;
    size -= static_cast<size_t>(n);
  }
}

double At(const std::vector<int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto place = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
  return static_cast<double>(sorted[place]) / 1e3;
}

// ---- the server: the first byte of a connection says what it is for -----------------------------

struct Peer {
  char mode = 0;          // E: echo. U: take everything, then give its number. D: give so many.
  uint64_t taken = 0;     // U: bytes so far. D: bytes of the number so far.
  uint64_t to_give = 0;   // D.
  std::string unwritten;  // E.
};

class Server {
 public:
  int Run() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) Die("bind");
    if (listen(listener, 4096) != 0) Die("listen");
    getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
    std::printf("%d\n", ntohs(at.sin_port));
    std::fflush(stdout);
    poll_ = epoll_create1(EPOLL_CLOEXEC);
    Watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    Watch(STDIN_FILENO, EPOLLIN, EPOLL_CTL_ADD);
    std::vector<epoll_event> events(256);
    while (true) {
      const int n = epoll_wait(poll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < n; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        if (fd == STDIN_FILENO) return 0;
        if (fd == listener) {
          Accept(listener);
        } else if (!Serve(fd)) {
          peers_.erase(fd);
          close(fd);
        }
      }
    }
  }

 private:
  void Watch(int fd, uint32_t what, int how) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    if (epoll_ctl(poll_, how, fd, &event) != 0) Die("epoll_ctl");
  }

  void Accept(int listener) {
    while (true) {
      const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      NoDelay(fd);
      peers_[fd] = Peer();
      Watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
  }

  // False: the connection is over.
  bool Serve(int fd) {
    Peer& peer = peers_[fd];
    if (!peer.unwritten.empty() || peer.to_give > 0) return Give(fd, peer);
    const ssize_t n = read(fd, scratch_.data(), scratch_.size());
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
      if (peer.mode == 'U') WriteAll(fd, reinterpret_cast<char*>(&peer.taken), sizeof peer.taken);
      return false;
    }
    const char* data = scratch_.data();
    auto size = static_cast<size_t>(n);
    if (peer.mode == 0) {
      peer.mode = *data++;
      --size;
    }
    switch (peer.mode) {
      case 'E':
        peer.unwritten.assign(data, size);
        return Give(fd, peer);
      case 'U':
        peer.taken += size;
        return true;
      case 'D':
        for (; size > 0 && peer.taken < 8; --size, ++data, ++peer.taken) {
          peer.to_give |= uint64_t{static_cast<uint8_t>(*data)} << (8 * peer.taken);
        }
        return peer.taken < 8 || Give(fd, peer);
      default:
        return false;
    }
  }

  bool Give(int fd, Peer& peer) {
    while (!peer.unwritten.empty() || peer.to_give > 0) {
      const bool echo = !peer.unwritten.empty();
      const ssize_t n =
          echo ? write(fd, peer.unwritten.data(), peer.unwritten.size())
               : write(fd, scratch_.data(), std::min<uint64_t>(scratch_.size(), peer.to_give));
      if (n < 0) {
        if (errno != EAGAIN) return false;
        Watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
        return true;
      }
      if (echo) {
        peer.unwritten.erase(0, static_cast<size_t>(n));
      } else {
        peer.to_give -= static_cast<uint64_t>(n);
        if (peer.to_give == 0) return false;
      }
    }
    Watch(fd, EPOLLIN, EPOLL_CTL_MOD);
    return true;
  }

  int poll_ = -1;
  std::map<int, Peer> peers_;
  std::vector<char> scratch_ = std::vector<char>(256 * 1024, 'x');
};

// ---- the clients
// ----------------------------------------------------------------------------------

int Echo(const char* address, int port, int count) {
  const int fd = Connect(address, port);
  WriteAll(fd, "E", 1);
  char message[kMessage] = {};
  std::vector<int64_t> took;
  const int64_t begin = NowNs();
  for (int i = 0; i < count; ++i) {
    const int64_t sent = NowNs();
    WriteAll(fd, message, sizeof message);
    ReadAll(fd, message, sizeof message);
    took.push_back(NowNs() - sent);
  }
  const double seconds = static_cast<double>(NowNs() - begin) / 1e9;
  std::sort(took.begin(), took.end());
  std::printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"per_second\": %.0f}\n", At(took, 0.5),
              At(took, 0.99), count / seconds);
  return 0;
}

int Bulk(const char* address, int port, const std::string& way, uint64_t bytes) {
  const int fd = Connect(address, port);
  std::vector<char> block(256 * 1024, 'x');
  const int64_t begin = NowNs();
  uint64_t moved = 0;
  if (way == "up") {
    WriteAll(fd, "U", 1);
    for (uint64_t left = bytes; left > 0; left -= std::min<uint64_t>(left, block.size())) {
      WriteAll(fd, block.data(), std::min<uint64_t>(left, block.size()));
    }
    shutdown(fd, SHUT_WR);
    ReadAll(fd, reinterpret_cast<char*>(&moved), sizeof moved);
  } else {
    char order[9] = {'D'};
    for (int i = 0; i < 8; ++i) order[i + 1] = static_cast<char>(bytes >> (8 * i));
    WriteAll(fd, order, sizeof order);
    for (ssize_t n = 1; n > 0; moved += static_cast<uint64_t>(std::max<ssize_t>(n, 0))) {
      n = read(fd, block.data(), block.size());
      if (n < 0) Die("read");
    }
  }
  const double seconds = static_cast<double>(NowNs() - begin) / 1e9;
  if (moved != bytes) {
    std::fprintf(stderr, "wire_traffic: %llu of %llu bytes came through\n",
                 static_cast<unsigned long long>(moved), static_cast<unsigned long long>(bytes));
    return 1;
  }
  std::printf("{\"gbit_per_second\": %.2f, \"seconds\": %.3f}\n",
              static_cast<double>(bytes) * 8 / 1e9 / seconds, seconds);
  return 0;
}

int Idle(const char* address, int port, int count) {
  std::vector<int> open;
  char message[kMessage] = {};
  for (int i = 0; i < count; ++i) {
    open.push_back(Connect(address, port));
    WriteAll(open.back(), "E", 1);
    // One round trip: what a connection allocates when it is first used is allocated.
    WriteAll(open.back(), message, sizeof message);
    ReadAll(open.back(), message, sizeof message);
  }
  std::printf("{\"open\": %zu}\n", open.size());
  std::fflush(stdout);
  char order[16];
  while (std::fgets(order, sizeof order, stdin) != nullptr) {
    if (order[0] == 's') {
      const int64_t begin = NowNs();
      for (const int fd : open) WriteAll(fd, message, sizeof message);
      std::printf("{\"sent\": %zu, \"took_ms\": %.3f}\n", open.size(),
                  static_cast<double>(NowNs() - begin) / 1e6);
    } else {
      for (const int fd : open) ReadAll(fd, message, sizeof message);
      std::printf("{\"answered\": %zu}\n", open.size());
    }
    std::fflush(stdout);
  }
  return 0;
}

int Churn(const char* address, int port) {
  std::atomic<bool> over = false;
  std::atomic<int> left = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] {
      std::vector<char> block(300'000);
      // More than is ever fetched.
      const char order[9] = {'D', 0, 0, 0, 0, 1, 0, 0, 0};
      while (!over) {
        const int fd = Connect(address, port);
        WriteAll(fd, order, sizeof order);
        ReadAll(fd, block.data(), block.size());
        // Every third one without a goodbye.
        const linger reset{1, 0};
        if (i == 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        ++left;
      }
    });
  }
  char ignored[16];
  while (read(STDIN_FILENO, ignored, sizeof ignored) > 0) continue;
  over = true;
  for (std::thread& client : clients) client.join();
  std::printf("{\"left\": %d}\n", left.load());
  return 0;
}

// Each connection sends once a period, in turn, and a little aside so that there is no beat between
// these instants and the delay's: the same ones each time, whatever comes back when.
std::vector<std::pair<int64_t, int>> Schedule(int connections, int count, int64_t period_ns) {
  std::minstd_rand random(1);
  std::uniform_int_distribution<int64_t> aside(0, period_ns / 50);
  std::vector<std::pair<int64_t, int>> sends;
  for (int round = 0; round < count; ++round) {
    for (int i = 0; i < connections; ++i) {
      sends.emplace_back(round * period_ns + i * period_ns / connections + aside(random), i);
    }
  }
  std::sort(sends.begin(), sends.end());
  return sends;
}

int Delay(const char* address, int port, int connections, int count, int64_t asked_us,
          int64_t period_us) {
  struct Talk {
    int fd;
    size_t received = 0;
    char answer[kMessage] = {};
  };
  std::vector<Talk> talks;
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  for (int i = 0; i < connections; ++i) {
    talks.push_back({.fd = Connect(address, port)});
    WriteAll(talks.back().fd, "E", 1);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = static_cast<uint32_t>(i);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, talks.back().fd, &event) != 0) Die("epoll_ctl");
  }
  const auto sends = Schedule(connections, count, period_us * 1000);
  std::vector<int64_t> beyond;
  char message[kMessage] = {};
  std::vector<epoll_event> events(16);
  // By then all connections are under way.
  const int64_t begin = NowNs() + 20'000'000;
  for (size_t next = 0; beyond.size() < sends.size();) {
    if (next < sends.size() && NowNs() >= begin + sends[next].first) {
      const int64_t now = NowNs();
      std::memcpy(message, &now, sizeof now);
      WriteAll(talks[static_cast<size_t>(sends[next++].second)].fd, message, sizeof message);
    }
    const int ready = epoll_wait(poll, events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < ready; ++i) {
      Talk& talk = talks[events[static_cast<size_t>(i)].data.u32];
      const ssize_t n =
          recv(talk.fd, talk.answer + talk.received, kMessage - talk.received, MSG_DONTWAIT);
      if (n <= 0) Die("read");
      talk.received += static_cast<size_t>(n);
      if (talk.received < kMessage) continue;
      int64_t sent;
      std::memcpy(&sent, talk.answer, sizeof sent);
      beyond.push_back(NowNs() - sent - asked_us * 1000);
      talk.received = 0;
    }
  }
  std::sort(beyond.begin(), beyond.end());
  const auto early = std::lower_bound(beyond.begin(), beyond.end(), 0) - beyond.begin();
  std::printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"early\": %td, \"trips\": %zu}\n",
              At(beyond, 0.5), At(beyond, 0.99), early, beyond.size());
  return 0;
}

int Paced(const char* address, int port, int rate, int seconds) {
  prctl(PR_SET_TIMERSLACK, 1);
  const int fd = Connect(address, port);
  WriteAll(fd, "E", 1);
  const int total = rate * seconds;
  std::thread sender([fd, rate, total] {
    // In batches of a millisecond: a message each 20 µs would measure the sleeping.
    std::vector<char> batch;
    const int64_t begin = NowNs();
    for (int sent = 0; sent < total;) {
      const int64_t now = NowNs();
      const auto due =
          static_cast<int>(std::min<int64_t>(total, (now - begin) * rate / 1'000'000'000 + 1));
      batch.assign(static_cast<size_t>(std::max(0, due - sent)) * kMessage, 0);
      for (size_t at = 0; at < batch.size(); at += kMessage) std::memcpy(&batch[at], &now, 8);
      WriteAll(fd, batch.data(), batch.size());
      sent = std::max(sent, due);
      const timespec nap{0, 1'000'000};
      nanosleep(&nap, nullptr);
    }
  });
  std::vector<int64_t> took;
  took.reserve(static_cast<size_t>(total));
  std::vector<char> buffer(kMessage * 4096);
  size_t held = 0;
  const int64_t give_up = NowNs() + (seconds + 20) * int64_t{1'000'000'000};
  while (took.size() < static_cast<size_t>(total) && NowNs() < give_up) {
    pollfd ready{fd, POLLIN, 0};
    if (poll(&ready, 1, 1000) <= 0) continue;
    const ssize_t n = read(fd, buffer.data() + held, buffer.size() - held);
    if (n <= 0) break;
    held += static_cast<size_t>(n);
    const int64_t now = NowNs();
    size_t at = 0;
    for (; at + kMessage <= held; at += kMessage) {
      int64_t sent;
      std::memcpy(&sent, &buffer[at], 8);
      took.push_back(now - sent);
    }
    std::memmove(buffer.data(), buffer.data() + at, held - at);
    held -= at;
  }
  shutdown(fd, SHUT_RDWR);
  sender.join();
  const double share = static_cast<double>(took.size()) / total;
  std::sort(took.begin(), took.end());
  std::printf("{\"delivered\": %.4f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", share, At(took, 0.5),
              At(took, 0.99));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> given(argv + 1, argv + argc);
  const std::string mode = given.empty() ? "" : given[0];
  const auto number = [&](size_t at) { return std::atoll(given[at].c_str()); };
  const auto port = given.size() > 2 ? static_cast<int>(number(2)) : 0;
  if (mode == "server") return Server().Run();
  if (mode == "echo" && given.size() == 4) {
    return Echo(argv[2], port, static_cast<int>(number(3)));
  }
  if (mode == "bulk" && given.size() == 5) {
    return Bulk(argv[2], port, given[3], static_cast<uint64_t>(number(4)));
  }
  if (mode == "idle" && given.size() == 4) {
    return Idle(argv[2], port, static_cast<int>(number(3)));
  }
  if (mode == "churn" && given.size() == 3) return Churn(argv[2], port);
  if (mode == "delay" && given.size() == 7) {
    return Delay(argv[2], port, static_cast<int>(number(3)), static_cast<int>(number(4)), number(5),
                 number(6));
  }
  if (mode == "paced" && given.size() == 5) {
    return Paced(argv[2], port, static_cast<int>(number(3)), static_cast<int>(number(4)));
  }
  std::fprintf(stderr, "usage: see the first lines of tests/bench/wire/traffic.cc\n");
  return 2;
}
