// Accepts, counts, and ends what does not say who it is.
#include "identity/rpc/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/support/server_interceptor.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/clock.h"
#include "identity/listening.h"
#include "identity/rpc/gate.h"

namespace firedrill {
namespace {

constexpr uint64_t kListener = 0, kStop = 1;
constexpr int kLookMs = 100;
// For the calls of a connection whose certificate has ended to be told so.
constexpr absl::Duration kLastWords = absl::Milliseconds(200);
constexpr int kBacklog = 1024;
// Left to the rest of the process: the store, the monitoring, the listeners of lever and metrics.
constexpr size_t kReserve = 384;
constexpr size_t kFewest = 16;
constexpr int kStreamsOfOne = 100;
constexpr int kLongestMessage = 4 << 20;
// Before others have their turn.
constexpr int kMostAtATime = 256;

size_t WhatTheLimitLeaves() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kFewest;
  const size_t all = static_cast<size_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
  return std::max(kFewest, all > kReserve ? (all - kReserve) / 2 : 0);
}

struct Name {
  // As gRPC names it, and by what it is counted.
  std::string peer, origin;
};

Name NameOf(const sockaddr_storage& from) {
  char text[INET6_ADDRSTRLEN] = "";
  if (from.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(from);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
    return {absl::StrCat("ipv4:", text, ":", ntohs(in.sin_port)), OriginOf(text)};
  }
  const auto& in = reinterpret_cast<const sockaddr_in6&>(from);
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
    inet_ntop(AF_INET, &in.sin6_addr.s6_addr[12], text, sizeof(text));
    return {absl::StrCat("ipv4:", text, ":", ntohs(in.sin6_port)), OriginOf(text)};
  }
  inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof(text));
  return {absl::StrCat("ipv6:%5B", text, "%5D:", ntohs(in.sin6_port)), OriginOf(text)};
}

// gRPC's servers call it once for each call that the gate has let in.
class Proof final : public grpc::experimental::Interceptor {
 public:
  Proof(Acceptor& acceptor, grpc::experimental::ServerRpcInfo* call)
      : acceptor_(acceptor), call_(call) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      grpc::ServerContextBase* const call = call_->server_context();
      acceptor_.Proven(call->peer(), [call] { return CallerOf(*call->auth_context()); });
    }
    methods->Proceed();
  }

 private:
  Acceptor& acceptor_;
  grpc::experimental::ServerRpcInfo* const call_;
};

class ProofMaker final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit ProofMaker(Acceptor& acceptor) : acceptor_(acceptor) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override {
    return new Proof(acceptor_, call);
  }

 private:
  Acceptor& acceptor_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(const std::string& host, int port,
                                                           AcceptorLimits limits) {
  const std::string where = ListenWords("listen", host, port);
  sockaddr_storage at{};
  socklen_t size = sizeof(sockaddr_in6);
  auto& six = reinterpret_cast<sockaddr_in6&>(at);
  auto& four = reinterpret_cast<sockaddr_in&>(at);
  if (host.empty() || inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(static_cast<uint16_t>(port));
  } else if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(static_cast<uint16_t>(port));
    size = sizeof(sockaddr_in);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": write the address as numbers, or leave it out for all"));
  }
  UniqueFd fd(socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ListenFailed(where, port, errno);
  const int yes = 1, no = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (host.empty()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&at), size) != 0 ||
      listen(fd.get(), kBacklog) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size) != 0) {
    return ListenFailed(where, port, errno);
  }
  const int got = ntohs(at.ss_family == AF_INET ? four.sin_port : six.sin6_port);
  if (limits.connections == 0) limits.connections = WhatTheLimitLeaves();
  limits.unproven = std::min(limits.unproven, std::max<size_t>(1, limits.connections / 2));
  return std::unique_ptr<Acceptor>(new Acceptor(std::move(fd), got, limits));
}

Acceptor::Acceptor(UniqueFd listener, int port, AcceptorLimits limits)
    : listener_(std::move(listener)),
      port_(port),
      limits_(limits),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      spare_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListener;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event);
  event.data.u64 = kStop;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event);
}

Acceptor::~Acceptor() {
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
}

void Acceptor::Attach(grpc::ServerBuilder& builder,
                      std::shared_ptr<grpc::ServerCredentials> credentials) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<ProofMaker>(*this));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  server_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
  // What one connection may have going on, and how much one message may hold: a definition has 256
  // KiB, a report of a node less.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsOfOne);
  builder.SetMaxReceiveMessageSize(kLongestMessage);
}

void Acceptor::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Acceptor::Run() {
  epoll_event events[64];
  while (true) {
    const int count = epoll_wait(epoll_.get(), events, 64, kLookMs);
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kStop) return;
      if (id == kListener) continue;
      MutexLock lock(mutex_);
      const auto found = by_id_.find(id);
      if (found != by_id_.end()) Drop(found->second);
    }
    DropLate();
    TakeAll();
  }
}

void Acceptor::TakeAll() {
  for (int i = 0; i < kMostAtATime; ++i) {
    sockaddr_storage from{};
    socklen_t size = sizeof(from);
    UniqueFd fd(accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from), &size,
                        SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == ECONNABORTED || errno == EINTR) continue;
      if (errno != EMFILE && errno != ENFILE) return;
      // Taken and closed: else it would wait there, and wake us, for ever.
      spare_.Reset();
      UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      spare_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
      continue;
    }
    const int yes = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    const Name name = NameOf(from);
    {
      MutexLock lock(mutex_);
      Connection* const connection = Admit(fd.get(), name.peer, name.origin);
      if (connection == nullptr) {
        // Without a last word: it must not linger in our kernel.
        const linger at_once{1, 0};
        setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        continue;
      }
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters given;
    given.listener_fd = listener_.get();
    given.fd = fd.Release();
    server_->HandleNewConnection(&given);
  }
}

Acceptor::Connection* Acceptor::Admit(int fd, const std::string& peer, const std::string& origin) {
  if (unproven_ >= limits_.unproven || connections_.size() >= limits_.connections) {
    const auto one = TakesRoom();
    if (one == connections_.end()) return nullptr;
    Drop(one);
  }
  const auto others = of_origin_.find(origin);
  if (others != of_origin_.end() && others->second >= limits_.of_one_peer) return nullptr;
  UniqueFd second(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!second.valid()) return nullptr;
  const uint64_t id = next_++;
  epoll_event event{};
  event.events = EPOLLRDHUP;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, second.get(), &event) != 0) return nullptr;
  connections_.push_back({id, std::move(second), peer, origin, RealClock().Boot()});
  by_id_[id] = std::prev(connections_.end());
  by_peer_[peer] = id;
  ++of_origin_[origin];
  ++unproven_;
  return &connections_.back();
}

Acceptor::Connections::iterator Acceptor::TakesRoom() {
  std::vector<Connections::iterator> unproven;
  std::vector<absl::string_view> origins;
  for (auto it = connections_.begin(); it != connections_.end(); ++it) {
    if (it->proven) continue;
    unproven.push_back(it);
    origins.push_back(it->origin);
  }
  if (unproven.empty()) return connections_.end();
  return unproven[WhoMakesRoom(origins,
                               [&](size_t i) { return ProgressOf(unproven[i]->fd.get()); })];
}

void Acceptor::Drop(Connections::iterator connection) {
  shutdown(connection->fd.get(), SHUT_RDWR);
  if (!connection->proven) --unproven_;
  const auto others = of_origin_.find(connection->origin);
  if (--others->second == 0) of_origin_.erase(others);
  const auto peer = by_peer_.find(connection->peer);
  if (peer != by_peer_.end() && peer->second == connection->id) by_peer_.erase(peer);
  by_id_.erase(connection->id);
  connections_.erase(connection);
}

void Acceptor::DropLate() {
  const absl::Duration now = RealClock().Boot();
  MutexLock lock(mutex_);
  for (auto it = connections_.begin(); it != connections_.end();) {
    const auto next = std::next(it);
    if (now - it->since <= limits_.proven_within) break;
    if (!it->proven) Drop(it);
    it = next;
  }
}

void Acceptor::Proven(const std::string& peer,
                      absl::FunctionRef<absl::StatusOr<Certificate>()> who) {
  MutexLock lock(mutex_);
  const auto found = by_peer_.find(peer);
  if (found == by_peer_.end()) return;
  Connection& connection = *by_id_.at(found->second);
  if (std::exchange(connection.proven, true)) return;
  --unproven_;
  absl::StatusOr<Certificate> holder = who();
  if (holder.ok()) connection.holder = *std::move(holder);
}

void Acceptor::EndThose(absl::FunctionRef<bool(const Certificate&)> ended) {
  const absl::Duration now = RealClock().Boot();
  MutexLock lock(mutex_);
  for (auto it = connections_.begin(); it != connections_.end();) {
    const auto next = std::next(it);
    if (it->holder.has_value() && !it->ended.has_value() && ended(*it->holder)) it->ended = now;
    if (it->ended.has_value() && now - *it->ended >= kLastWords) Drop(it);
    it = next;
  }
}

}  // namespace firedrill
