// The life of a connection: connecting, going on, and how each way of ending is passed on.
#include "injector/wire/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "injector/wire/chance.h"

namespace firedrill::wire {
namespace {

// Registered once: readiness is remembered, so there is nothing to change at the epoll later.
constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
// Without a descriptor for the server's side, it is tried again after this long.
constexpr Nanos kRetry = 50'000'000;
// A reset throws away what the peer's machine has not yet taken: it is given this long.
constexpr Nanos kPatience = 100'000'000;
// A client that was closed in good order has this long to close too.
constexpr Nanos kLinger = 2'000'000'000;
constexpr Nanos kLook = 1'000'000;
// A server that keeps a connection for so long without its client has not heard a goodbye, such as
// an encrypted one, that was passed on to it.
constexpr Nanos kGrace = 1'000'000'000;

constexpr uint64_t kStallPurpose = 1;
constexpr uint64_t kLeakPurpose = 2;
constexpr uint64_t kDelayPurpose = 16;  // And the direction.

// The next close(2) sends RST, and nothing that was not sent yet.
void CloseByReset(int fd) {
  const linger now = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

bool Unsent(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

}  // namespace

Relay::Relay(Lane& lane, uint64_t id, UniqueFd client)
    : lane_(lane), id_(id), codec_(lane.settings().make_codec()) {
  sockets_[kClient].fd = std::move(client);
  sockets_[kClient].writable = true;
}

Relay::~Relay() = default;

void Relay::Begin() {
  if (!lane_.loop().Watch(sockets_[kClient].fd.get(), this, kClient, kEvents)) {
    Close(true, false);
    return;
  }
  Obey(true);
}

void Relay::Obey(bool rules_changed) {
  const Orders& orders = lane_.orders();
  SetStalled(Picked(orders.seed, kStallPurpose, id_, orders.stall));
  leak_ = Picked(orders.seed, kLeakPurpose, id_, orders.leak);
  for (const Direction direction : {kToServer, kToClient}) {
    Way& way = ways_[direction];
    way.chance = Mix(Mix(orders.seed ^ Mix(kDelayPurpose + direction)) ^ id_);
    way.flow.Relax(orders.delay[direction].longest(), !rules_changed);
    way.flow.SetRate(orders.rate[direction]);
  }
  if (!leak_) ways_[kToServer].flow.GoOn();
  if (stalled_) return;
  if (stage_ == Stage::kWaiting) {
    Connect();
  } else if (stage_ == Stage::kOpen) {
    Go();
  }
}

void Relay::Connect() {
  const Settings& settings = lane_.settings();
  if (sockets_[kClient].broken) return Close(false, false);
  UniqueFd fd(socket(settings.server.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    lane_.PauseAccepting();
    lane_.loop().WakeAt(this, NowNanos() + kRetry);
    return;
  }
  if (settings.server.ss_family != AF_UNIX) {
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  if (settings.prepare_socket && !settings.prepare_socket(fd.get()).ok()) return Refuse();
  const auto* address = reinterpret_cast<const sockaddr*>(&settings.server);
  const bool connected = connect(fd.get(), address, settings.server_length) == 0;
  if (!connected && errno == EAGAIN) {
    // A Unix socket whose queue is full.
    lane_.loop().WakeAt(this, NowNanos() + kRetry);
    return;
  }
  if (!connected && errno != EINPROGRESS) return Refuse();
  sockets_[kServer].fd = std::move(fd);
  stage_ = Stage::kConnecting;
  // The event that tells of the connection comes at once where it is there already.
  if (!lane_.loop().Watch(sockets_[kServer].fd.get(), this, kServer, kEvents)) Refuse();
}

void Relay::Connected() {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(sockets_[kServer].fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return Refuse();
  stage_ = Stage::kOpen;
  Go();
}

void Relay::Refuse() {
  Counters::Add(lane_.counters.refused, 1);
  Close(true, false);
  if (lane_.settings().on_refused) lane_.settings().on_refused();
}

void Relay::OnEvents(int slot, uint32_t events) {
  Socket& socket = sockets_[slot];
  if (!socket.fd.valid()) return;
  constexpr uint32_t kOver = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if (events & (EPOLLIN | kOver)) socket.readable = true;
  if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) socket.writable = true;
  if (events & kOver) socket.closing = true;
  if (events & EPOLLERR) socket.broken = true;
  switch (stage_) {
    case Stage::kWaiting:
      // Nothing has been said to the server yet, and nobody is left to hear it.
      if (socket.broken) Close(false, false);
      break;
    case Stage::kConnecting:
      if (slot == kServer) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) Connected();
      } else if (socket.broken && !leak_) {
        // The server may have seen the connection already.
        Close(false, true);
      }
      break;
    case Stage::kOpen:
      Go();
      break;
    case Stage::kOver:
      break;
  }
}

void Relay::OnAlarm() {
  if (stage_ == Stage::kWaiting && !stalled_) {
    Connect();
  } else if (stage_ == Stage::kOpen) {
    Go();
  }
}

void Relay::Go() {
  if (stalled_) return;
  now_ = 0;
  again_ = false;
  Carry(kToServer);
  Carry(kToClient);
  Settle();
}

// Passes on what has ended, once everything in front of it has gone.
void Relay::Settle() {
  if (cut_ != Cut::kNo) return FinishCut();
  for (const Direction direction : {kToServer, kToClient}) {
    Way& way = ways_[direction];
    if (way.last == Last::kNothing || way.done) continue;
    Drain(direction);
    const bool stuck = !destination(direction).writable;
    if (way.last == Last::kReset && (way.passed() || stuck)) {
      if (direction == kToServer && leak_) {
        Leak();
      } else {
        return PassOnReset(direction);
      }
    } else if (way.last == Last::kFin && way.passed()) {
      PassOnFin(direction);
    }
  }
  // A client may say goodbye and stay, to hear the server's word.
  const Way& to_server = ways_[kToServer];
  if (to_server.last == Last::kNothing) SetLeaking(to_server.flow.stopped());
  const bool server_done = ways_[kToClient].done;
  if (server_done && (ways_[kToServer].done || leaking_)) return Close(false, false);
  // The server takes nothing any more, and has said that it says nothing more: what the client
  // sends now is answered as the server's machine answers it.
  if (ways_[kToServer].dropped && server_done) return Close(true, false);
  if (ways_[kToClient].dropped && ways_[kToServer].done && !leaking_) return Close(false, true);
  SetAlarm();
}

void Relay::PassOnFin(Direction direction) {
  if (direction == kToServer) {
    SetLeaking(leak_);
    if (leak_) return;
  }
  ways_[direction].done = true;
  if (destination(direction).fd.valid()) shutdown(destination(direction).fd.get(), SHUT_WR);
}

void Relay::PassOnReset(Direction direction) {
  const Socket& to = destination(direction);
  if (to.fd.valid() && to.writable && !to.broken && WaitForUnsent(to.fd.get())) return;
  Close(direction == kToClient, direction == kToServer);
}

void Relay::Leak() {
  SetLeaking(true);
  sockets_[kClient] = Socket{};
  ways_[kToClient].Drop();
}

void Relay::FinishCut() {
  for (const Direction direction : {kToServer, kToClient}) {
    Drain(direction);
    if (!ways_[direction].passed() && destination(direction).writable) return SetAlarm();
  }
  if (cut_ == Cut::kClose) return FinishClose();
  if (sockets_[kClient].fd.valid() && WaitForUnsent(sockets_[kClient].fd.get())) return;
  Counters::Add(lane_.counters.reset, 1);
  Close(true, true);
}

// A close with bytes unread would be a reset: what the client still says is taken and thrown away.
void Relay::FinishClose() {
  Socket& client = sockets_[kClient];
  const Nanos now = NowNanos();
  if (patience_ == 0) {
    patience_ = now + kLinger;
    sockets_[kServer] = Socket{};
    if (client.fd.valid()) shutdown(client.fd.get(), SHUT_WR);
  }
  while (client.readable) {
    const ssize_t count = read(client.fd.get(), lane_.scratch(), Lane::kScratch);
    if (count > 0) continue;
    if (count < 0 && errno == EAGAIN) client.readable = false;
    if (count == 0 || (errno != EAGAIN && errno != EINTR)) return Close(false, false);
  }
  if (!client.fd.valid() || now >= patience_) return Close(false, false);
  lane_.loop().WakeAt(this, patience_);
}

// True: come again, there is still something to be taken.
bool Relay::WaitForUnsent(int fd) {
  if (!Unsent(fd)) return false;
  const Nanos now = NowNanos();
  if (patience_ == 0) patience_ = now + kPatience;
  if (now >= patience_) return false;
  lane_.loop().WakeAt(this, now + kLook);
  return true;
}

void Relay::SetAlarm() {
  Nanos when = again_ ? 0 : kNever;
  for (const Direction direction : {kToServer, kToClient}) {
    const Flow& flow = ways_[direction].flow;
    if (flow.empty() || !destination(direction).writable) continue;
    when = std::min(when, flow.NextReady(Now()));
  }
  if (leaking_ && !kept_) when = std::min(when, grace_);
  lane_.loop().WakeAt(this, when);
}

void Relay::SetStalled(bool stalled) {
  if (stalled == stalled_) return;
  stalled_ = stalled;
  Counters::Add(lane_.counters.stalled, stalled ? 1 : ~uint64_t{0});
  if (stalled) lane_.loop().WakeAt(this, kNever);
}

void Relay::SetLeaking(bool leaking) {
  if (leaking && !leaking_) grace_ = Now() + kGrace;
  leaking_ = leaking;
  SetKept(leaking && Now() >= grace_);
}

void Relay::SetKept(bool kept) {
  if (kept == kept_) return;
  kept_ = kept;
  Counters::Add(lane_.counters.leaked, kept ? 1 : ~uint64_t{0});
}

void Relay::Reset() { Close(true, false); }

bool Relay::Cancel(uint64_t key) {
  if (stage_ != Stage::kOpen || codec_ == nullptr || codec_->key() != key) return false;
  const auto hold = CancelFront(*codec_, ways_[kToServer].flow, NowNanos());
  if (!hold.has_value()) return false;
  lane_.holds[kToServer].AddCancelled(*hold);
  Go();
  return true;
}

// A server says nothing to such a question, and closes.
void Relay::Told(bool cancelled) {
  if (stage_ != Stage::kOpen) return;
  if (cancelled) {
    ways_[kToServer].Drop();
    cut_ = Cut::kClose;
  } else {
    ways_[kToServer].flow.Relax(UINT32_MAX, false);
  }
  Go();
}

void Relay::Close(bool reset_client, bool reset_server) {
  if (stage_ == Stage::kOver) return;
  SetStalled(false);
  SetLeaking(false);
  stage_ = Stage::kOver;
  if (reset_client && sockets_[kClient].fd.valid()) CloseByReset(sockets_[kClient].fd.get());
  if (reset_server && sockets_[kServer].fd.valid()) CloseByReset(sockets_[kServer].fd.get());
  sockets_[kClient].fd.Reset();
  sockets_[kServer].fd.Reset();
  lane_.Remove(this);
}

}  // namespace firedrill::wire
