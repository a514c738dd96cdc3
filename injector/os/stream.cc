// Plain sockets that never block.
#include "injector/os/stream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/resolve.h"
#include "base/status_macros.h"
#include "injector/os/socket_destroy.h"

namespace firedrill {
namespace {

constexpr char kNobodyPayload[] = "firedrill/nobody-listens";
// How long a blocking call goes on before it looks at the stop token again.
constexpr absl::Duration kLook = absl::Milliseconds(20);
constexpr absl::Duration kConnectFor = absl::Seconds(3);

// The sockets of each stamp, gone ones too: the kernel says which are there.
struct Sockets {
  std::set<uint32_t> inodes;
  std::vector<sockaddr_storage> destinations;
};
struct Stamped {
  Mutex mutex;
  std::map<std::string, Sockets> sockets FD_GUARDED_BY(mutex);
};
Stamped& TheStamped() {
  static auto* const stamped = new Stamped;
  return *stamped;
}

absl::Status SocketError(int error) {
  if (error == 0) return absl::OkStatus();
  absl::Status status = absl::UnavailableError(std::strerror(error));
  if (error == EMFILE || error == ENFILE) {
    status = absl::InternalError(
        absl::StrCat(std::strerror(error), "; raise the limit of open files, or ask for fewer"));
  } else if (error == EADDRNOTAVAIL) {
    status = absl::UnavailableError(
        "no local port is free any more; widen net.ipv4.ip_local_port_range, or ask for fewer");
  } else if (error == ECONNREFUSED || error == ENOENT) {
    status.SetPayload(kNobodyPayload, absl::Cord("1"));
  }
  return status;
}

absl::StatusOr<sockaddr_storage> Numeric(const std::string& address, uint32_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat(address, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  sockaddr_storage storage{};
  std::memcpy(&storage, found->ai_addr, std::min<size_t>(found->ai_addrlen, sizeof(storage)));
  return storage;
}

socklen_t LengthOf(const sockaddr_storage& address) {
  return address.ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

absl::Status AwaitConnected(int fd, const Patience& patience) {
  for (;;) {
    RETURN_IF_ERROR(patience.Check());
    pollfd wait{fd, POLLOUT, 0};
    const absl::Duration length = std::min(patience.Left(), kLook);
    if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(length)) + 1) > 0) {
      return StreamError(fd);
    }
  }
}

}  // namespace

std::string StreamAddress::Name() const { return absl::StrCat(host, ":", port); }

bool StreamNobodyListens(const absl::Status& status) {
  return status.GetPayload(kNobodyPayload).has_value();
}

absl::StatusOr<StreamAddress> FindStream(const std::string& host, uint32_t port,
                                         const Patience& patience) {
  RETURN_IF_ERROR(patience.Check());
  const Patience limited = patience.AtMost(kConnectFor);
  const auto addresses = ResolveHost(host, limited.Left(), limited.stop());
  if (!addresses.ok()) return Annotate(addresses.status(), absl::StrCat("resolving ", host));
  StreamAddress server{.host = host, .port = port};
  absl::Status last = absl::NotFoundError(absl::StrCat(host, " has no address"));
  for (const std::string& address : *addresses) {
    ASSIGN_OR_RETURN(server.address, Numeric(address, port));
    const auto fd = BeginStream(server.address);
    last = fd.ok() ? AwaitConnected(fd->get(), limited) : fd.status();
    if (last.ok()) return server;
  }
  absl::Status status(last.code(),
                      absl::StrCat("connecting to ", server.Name(), ": ", last.message(),
                                   StreamNobodyListens(last)
                                       ? "; is the server up, and is this its address and port?"
                                       : ""));
  if (StreamNobodyListens(last)) status.SetPayload(kNobodyPayload, absl::Cord("1"));
  return status;
}

absl::StatusOr<UniqueFd> BeginStream(const sockaddr_storage& address) {
  UniqueFd fd(socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return SocketError(errno);
  const auto set = [&](int level, int name, int value) {
    setsockopt(fd.get(), level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  const linger reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), LengthOf(address)) != 0 &&
      errno != EINPROGRESS) {
    return SocketError(errno);
  }
  return fd;
}

absl::Status StreamError(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return SocketError(error);
}

StreamMember::StreamMember(const sockaddr_storage& address, const std::string& stamp,
                           std::string greeting)
    : to_send_(std::move(greeting)) {
  auto fd = BeginStream(address);
  begun_ = fd.status();
  if (!fd.ok()) return;
  fd_ = *std::move(fd);
  struct stat info {};
  if (fstat(fd_.get(), &info) != 0) return;
  MutexLock lock(TheStamped().mutex);
  Sockets& sockets = TheStamped().sockets[stamp];
  sockets.inodes.insert(static_cast<uint32_t>(info.st_ino));
  for (const sockaddr_storage& one : sockets.destinations) {
    if (std::memcmp(&one, &address, sizeof(one)) == 0) return;
  }
  sockets.destinations.push_back(address);
}

short StreamMember::events() const {
  const bool writes = !connected_ || !to_send_.empty();
  return static_cast<short>(POLLIN | (writes ? POLLOUT : 0));
}

absl::Status StreamMember::Advance() {
  RETURN_IF_ERROR(begun_);
  if (!connected_) {
    pollfd look{fd_.get(), POLLOUT, 0};
    if (poll(&look, 1, 0) <= 0) return absl::OkStatus();
    RETURN_IF_ERROR(StreamError(fd_.get()));
    connected_ = true;
  }
  RETURN_IF_ERROR(Receive());
  return Flush();
}

absl::Status StreamMember::Flush() {
  while (!to_send_.empty()) {
    const ssize_t sent =
        send(fd_.get(), to_send_.data(), to_send_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return absl::OkStatus();
    if (sent < 0) return SocketError(errno);
    to_send_.erase(0, static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status StreamMember::Receive() {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return absl::OkStatus();
    if (got < 0) return SocketError(errno);
    if (got == 0) return absl::UnavailableError("the server has closed the connection");
    RETURN_IF_ERROR(Take(absl::string_view(buffer.data(), static_cast<size_t>(got))));
  }
}

absl::StatusOr<int> CountStamped(const std::string& stamp) {
  SocketSelection selection;
  {
    MutexLock lock(TheStamped().mutex);
    const auto found = TheStamped().sockets.find(stamp);
    if (found == TheStamped().sockets.end()) return 0;
    selection.only = found->second.inodes;
    selection.destinations = found->second.destinations;
  }
  return CountSockets(selection);
}

void ForgetStamped(const std::string& stamp) {
  MutexLock lock(TheStamped().mutex);
  TheStamped().sockets.erase(stamp);
}

}  // namespace firedrill
