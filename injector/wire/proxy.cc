// A proxy: its lanes, what is asked of all of them at once, and their counters added up.
#include "injector/wire/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "injector/wire/lane.h"

namespace firedrill::wire {
namespace {

constexpr int kMostThreads = 64;
constexpr size_t kLeastHeld = 64 * 1024;
constexpr size_t kMostListeners = 2;
static_assert(kMostListeners <= Loop::kSlots);

// Waits until it has been counted down to zero.
class Countdown {
 public:
  explicit Countdown(size_t from) : left_(from) {}
  void Down() FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (--left_ == 0) changed_.NotifyAll();
  }
  void Wait() FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (left_ > 0) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t left_ FD_GUARDED_BY(mutex_);
};

absl::StatusOr<socklen_t> LengthOf(const sockaddr_storage& address) {
  switch (address.ss_family) {
    case AF_INET:
      return sizeof(sockaddr_in);
    case AF_INET6:
      return sizeof(sockaddr_in6);
    case AF_UNIX:
      return sizeof(sockaddr_un);
    default:
      return absl::InvalidArgumentError(absl::StrCat("the server's address is of family ",
                                                     address.ss_family,
                                                     "; give one of IPv4, IPv6 or a Unix socket"));
  }
}

absl::Status PrepareListener(int listener) {
  int listening = 0;
  socklen_t length = sizeof listening;
  if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || !listening) {
    return absl::InvalidArgumentError(
        "the listener is not a listening socket: bind and listen first");
  }
  if (fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK) != 0) {
    return absl::InternalError(absl::StrCat("cannot prepare the listener: ", strerror(errno)));
  }
  // What is accepted inherits these. A Unix socket has no such options, and needs none.
  const int on = 1;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return absl::OkStatus();
}

class LaneProxy final : public Proxy {
 public:
  static absl::StatusOr<std::unique_ptr<Proxy>> Start(ProxyOptions options) {
    if (options.threads < 1 || options.threads > kMostThreads) {
      return absl::InvalidArgumentError(
          absl::StrCat("a proxy has 1 to ", kMostThreads, " threads, not ", options.threads));
    }
    if (options.max_held < kLeastHeld) {
      return absl::InvalidArgumentError(
          absl::StrCat("`max_held` is at least ", kLeastHeld, " bytes, not ", options.max_held));
    }
    absl::StatusOr<socklen_t> length = LengthOf(options.server);
    if (!length.ok()) return length.status();
    if (options.listeners.empty() || options.listeners.size() > kMostListeners) {
      return absl::InvalidArgumentError(absl::StrCat("a proxy has 1 to ", kMostListeners,
                                                     " listeners, not ", options.listeners.size()));
    }
    for (const UniqueFd& listener : options.listeners) {
      if (absl::Status status = PrepareListener(listener.get()); !status.ok()) return status;
    }

    std::unique_ptr<LaneProxy> proxy(new LaneProxy);
    proxy->settings_.server = options.server;
    proxy->settings_.server_length = *length;
    proxy->settings_.protocol = options.protocol;
    proxy->settings_.max_held = options.max_held;
    proxy->settings_.make_codec = std::move(options.make_codec);
    if (!proxy->settings_.make_codec) {
      proxy->settings_.make_codec = [protocol = options.protocol] { return MakeCodec(protocol); };
    }
    proxy->settings_.prepare_socket = std::move(options.prepare_socket);
    proxy->settings_.on_refused = std::move(options.on_refused);
    proxy->settings_.cancels =
        options.cancels != nullptr ? std::move(options.cancels) : std::make_shared<Cancels>();
    proxy->settings_.listeners = std::move(options.listeners);
    for (int i = 0; i < options.threads; ++i) {
      proxy->lanes_.push_back(std::make_unique<Lane>(proxy->settings_));
    }
    for (const auto& lane : proxy->lanes_) {
      if (absl::Status status = lane->Start(); !status.ok()) return status;
    }
    return proxy;
  }

  absl::Status Set(Disturbance disturbance) override {
    absl::StatusOr<Orders> orders = Orders::From(disturbance);
    if (!orders.ok()) return orders.status();
    const auto shared = std::make_shared<const Orders>(*std::move(orders));
    OnEveryLane([&](size_t, Lane& lane) { lane.Obey(shared); });
    return absl::OkStatus();
  }

  size_t Reset(double share, uint64_t seed) override {
    std::vector<size_t> counts(lanes_.size());
    OnEveryLane([&](size_t i, Lane& lane) { counts[i] = lane.Reset(share, seed); });
    size_t sum = 0;
    for (const size_t count : counts) sum += count;
    return sum;
  }

  void StopAccepting() override {
    OnEveryLane([](size_t, Lane& lane) { lane.StopAccepting(); });
    MutexLock lock(closing_);
    settings_.listeners.clear();
  }

  ProxyCounters Read() const override {
    ProxyCounters sum;
    std::vector<uint32_t> asked;
    std::vector<uint32_t> held;
    const auto add = [](uint64_t& to, const Counters::Count& from) {
      to += from.load(std::memory_order_relaxed);
    };
    for (const auto& lane : lanes_) {
      const Counters& counters = lane->counters;
      add(sum.accepted, counters.accepted);
      add(sum.open, counters.open);
      add(sum.refused, counters.refused);
      add(sum.encrypted, counters.encrypted);
      add(sum.lost, counters.lost);
      add(sum.encrypted_open, counters.encrypted_open);
      add(sum.lost_open, counters.lost_open);
      add(sum.leaked, counters.leaked);
      add(sum.stalled, counters.stalled);
      add(sum.reset, counters.reset);
      add(sum.bytes_to_server, counters.bytes[kToServer]);
      add(sum.bytes_to_client, counters.bytes[kToClient]);
      add(sum.requests, counters.requests);
      add(sum.failed, counters.failed);
      add(sum.unmatched, counters.unmatched);
      add(sum.cut, counters.cut);
      add(sum.waited_to_server, counters.waited[kToServer]);
      add(sum.waited_to_client, counters.waited[kToClient]);
      for (const HoldLogs& logs : lane->holds) {
        sum.delayed += logs.all.count();
        logs.all.Read(&asked, &held);
      }
      if (sum.lost_why.empty()) sum.lost_why = lane->lost_why();
    }
    sum.asked_p50 = Quantile(asked, 0.5);
    sum.held_p50 = Quantile(held, 0.5);
    sum.held_p99 = Quantile(held, 0.99);
    return sum;
  }

 private:
  LaneProxy() = default;

  // All at the same time; returns when the last one is done.
  template <typename Task>
  void OnEveryLane(const Task& task) {
    Countdown countdown(lanes_.size());
    for (size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i]->loop().Post([&, i] {
        task(i, *lanes_[i]);
        countdown.Down();
      });
    }
    countdown.Wait();
  }

  Settings settings_;
  Mutex closing_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Proxy>> Proxy::Start(ProxyOptions options) {
  return LaneProxy::Start(std::move(options));
}

}  // namespace firedrill::wire
