// Accepting, and what is done to all connections of a thread.
#include "injector/wire/lane.h"

#include <errno.h>
#include <malloc.h>
#include <sys/socket.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/wire/chance.h"
#include "injector/wire/relay.h"

namespace firedrill::wire {
namespace {

// At one go; then others have their turn.
constexpr int kAccepts = 32;
// Without descriptors, accepting is tried again after this long.
constexpr Nanos kPause = 50'000'000;
// So many connections must have gone before memory is given back.
constexpr size_t kTrimAbove = 256;
constexpr uint64_t kResetPurpose = 3;

absl::Status CheckShare(absl::string_view name, double share) {
  if (share >= 0 && share <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", name, "` is a share of the connections, from 0 to 1, not ", share));
}

absl::Status CheckRate(absl::string_view name, double rate) {
  if (std::isfinite(rate) && (rate == 0 || rate >= 1)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "`", name, "` is in bytes per second, at least 1, or 0 for no limit, not ", rate));
}

}  // namespace

absl::StatusOr<Orders> Orders::From(const Disturbance& disturbance) {
  absl::Status status;
  status.Update(CheckShare("stall", disturbance.stall));
  status.Update(CheckShare("leak", disturbance.leak));
  status.Update(CheckRate("rate_to_server", disturbance.rate_to_server));
  status.Update(CheckRate("rate_to_client", disturbance.rate_to_client));
  Orders orders;
  const auto delay = [&](Direction direction, absl::string_view name,
                         const std::optional<v1::DelayShape>& shape) {
    if (!shape.has_value()) return;
    absl::StatusOr<Delay> made = Delay::Make(*shape);
    status.Update(Annotate(made.status(), name));
    if (made.ok()) orders.delay[direction] = *made;
  };
  delay(kToServer, "delay_to_server", disturbance.delay_to_server);
  delay(kToClient, "delay_to_client", disturbance.delay_to_client);
  if (!status.ok()) return status;
  orders.rules = disturbance.rules;
  orders.rule_holds = disturbance.rule_holds;
  orders.holds[kToServer] = disturbance.holds_to_server;
  orders.holds[kToClient] = disturbance.holds_to_client;
  orders.rate[kToServer] = disturbance.rate_to_server;
  orders.rate[kToClient] = disturbance.rate_to_client;
  orders.stall = disturbance.stall;
  orders.leak = disturbance.leak;
  orders.seed = disturbance.seed;
  return orders;
}

Lane::Lane(Settings& settings)
    : settings_(settings), scratch_(new char[kScratch]), orders_(std::make_shared<Orders>()) {}

Lane::~Lane() { Stop(); }

absl::Status Lane::Start() {
  RETURN_IF_ERROR(loop_.Start());
  settings_.cancels->Join(this);
  loop_.Post([this] { Listen(); });
  return absl::OkStatus();
}

void Lane::Stop() {
  settings_.cancels->Leave(this);
  loop_.Stop([this] {
    StopAccepting();
    while (!relays_.empty()) relays_.back()->Reset();
  });
}

void Lane::Listen() {
  if (!accepting_ || listening_) return;
  listening_ = true;
  int slot = 0;
  for (const UniqueFd& listener : settings_.listeners) {
    // One connection wakes one thread.
    if (loop_.Watch(listener.get(), this, slot++, EPOLLIN | EPOLLEXCLUSIVE)) continue;
    PauseAccepting();
    return;
  }
}

void Lane::OnEvents(int slot, uint32_t events) {
  for (int i = 0; i < kAccepts && listening_; ++i) {
    UniqueFd client(
        accept4(settings_.listeners[slot].get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid()) {
      // What is wrong with one connection, or a signal, does not matter to the next.
      if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO || errno == EPERM) continue;
      if (errno != EAGAIN) PauseAccepting();
      return;
    }
    Counters::Add(counters.accepted, 1);
    Counters::Add(counters.open, 1);
    auto* relay = new Relay(*this, settings_.next_id.fetch_add(1, std::memory_order_relaxed),
                            std::move(client));
    relay->place = relays_.size();
    relays_.push_back(relay);
    most_ = std::max(most_, relays_.size());
    relay->Begin();
  }
}

void Lane::OnAlarm() {
  if (most_ >= kTrimAbove && relays_.size() < most_ / 2) Trim();
  Listen();
}

void Lane::PauseAccepting() {
  ForgetListeners();
  if (accepting_) loop_.WakeAt(this, NowNanos() + kPause);
}

void Lane::StopAccepting() {
  ForgetListeners();
  accepting_ = false;
}

void Lane::ForgetListeners() {
  if (!listening_) return;
  // An exclusive watch cannot be changed, only taken away.
  for (const UniqueFd& listener : settings_.listeners) loop_.Forget(listener.get());
  listening_ = false;
}

void Lane::Obey(std::shared_ptr<const Orders> orders) {
  const bool rules_changed = orders->rules != orders_->rules;
  orders_ = std::move(orders);
  for (const Direction direction : {kToServer, kToClient}) {
    holds[direction].network = orders_->holds[direction];
    holds[direction].rules = orders_->rule_holds;
  }
  // From the back: a relay that is over leaves its place to the last one.
  for (size_t i = relays_.size(); i > 0; --i) relays_[i - 1]->Obey(rules_changed);
}

size_t Lane::Reset(double share, uint64_t seed) {
  size_t count = 0;
  for (size_t i = relays_.size(); i > 0; --i) {
    Relay* relay = relays_[i - 1];
    if (!Picked(seed, kResetPurpose, relay->id(), share)) continue;
    relay->Reset();
    ++count;
  }
  Counters::Add(counters.reset, count);
  return count;
}

bool Lane::Cancel(uint64_t key) {
  for (Relay* relay : relays_) {
    // It may be over by that, and its place another one's.
    if (relay->Cancel(key)) return true;
  }
  return false;
}

void Lane::Tell(uint64_t relay, bool cancelled) {
  for (Relay* one : relays_) {
    if (one->id() == relay) return one->Told(cancelled);
  }
}

void Lane::Remove(Relay* relay) {
  relays_.back()->place = relay->place;
  relays_[relay->place] = relays_.back();
  relays_.pop_back();
  Counters::Less(counters.open);
  if (relay->encrypted()) Counters::Less(counters.encrypted_open);
  if (relay->lost()) Counters::Less(counters.lost_open);
  loop_.Retire(std::unique_ptr<Watcher>(relay));
  // A descriptor is free again, or soon much memory is.
  if (accepting_ && !listening_) loop_.WakeAt(this, 0);
  if (most_ >= kTrimAbove && relays_.size() < most_ / 2 && !loop_.has_alarm(*this)) {
    loop_.WakeAt(this, NowNanos() + kPause);
  }
}

void Lane::Trim() {
  most_ = relays_.size();
  relays_.shrink_to_fit();
  malloc_trim(0);
}

void Lane::NoteLost(absl::string_view why) {
  Counters::Add(counters.lost, 1);
  MutexLock lock(mutex_);
  lost_why_.assign(why.data(), why.size());
}

std::string Lane::lost_why() const {
  MutexLock lock(mutex_);
  return lost_why_;
}

}  // namespace firedrill::wire
