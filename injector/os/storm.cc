// The thread that serves a storm of statements.
#include "injector/os/storm.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace firedrill {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);
constexpr absl::Duration kPublishEvery = absl::Milliseconds(50);
// A session that could not be opened, or was ended: not at once again.
constexpr absl::Duration kRetry = absl::Milliseconds(100);
// Being opened at once: the proof of a password takes 3 ms of our own time each.
constexpr int kMostOpening = 16;
// What the figures of the last second are made from.
constexpr size_t kMostRecent = 200000;
constexpr absl::Duration kLongestWait = absl::Milliseconds(50);
// By so much a session's own time-outs may end later than they would if they were set now.
constexpr absl::Duration kStale = absl::Seconds(1);

template <typename Deque, typename TimeOf>
void DropOld(Deque& deque, absl::Duration now, TimeOf time_of) {
  while (!deque.empty() && (time_of(deque.front()) < now - kWindow || deque.size() > kMostRecent)) {
    deque.pop_front();
  }
}

}  // namespace

Storm::Storm(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      start_(RealClock().Boot()),
      slots_(options_.sessions),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {}

Storm::~Storm() { Stop(); }

void Storm::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  slots_.clear();
  Publish(RealClock().Boot());
}

Storm::Figures Storm::figures() const {
  MutexLock lock(mutex_);
  return published_;
}

uint64_t Storm::DueBy(absl::Duration now) const {
  if (options_.rate <= 0) return 0;
  const absl::Duration until = std::min(now, options_.end);
  return static_cast<uint64_t>(
      std::max(0.0, absl::ToDoubleSeconds(until - start_) * options_.rate));
}

void Storm::Loop(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const absl::Duration now = RealClock().Boot();
    Connect(now);
    Begin(now);
    if (now >= next_publish_) {
      Publish(now);
      next_publish_ = now + kPublishEvery;
    }
    Await(now);
  }
}

void Storm::Connect(absl::Duration now) {
  int opening = 0;
  for (const Slot& slot : slots_) opening += slot.session != nullptr && !slot.session->ready();
  for (Slot& slot : slots_) {
    if (opening >= kMostOpening) return;
    if (slot.session != nullptr || now < slot.next_try || now >= options_.end) continue;
    slot.session = options_.begin();
    slot.limited = options_.end - now;
    if (slot.session->fd() < 0) Fail(slot, slot.session->Connect(Patience(kRetry)), now);
    ++opening;
  }
}

void Storm::Begin(absl::Duration now) {
  if (now >= options_.end) return;
  const uint64_t due = DueBy(now);
  for (Slot& slot : slots_) {
    if (slot.session == nullptr || !slot.session->usable() || !slot.session->Quiet()) continue;
    if (Limit(slot, now) || (options_.rate > 0 && begun_ >= due)) continue;
    slot.due = options_.rate > 0
                   ? start_ + absl::Seconds(static_cast<double>(begun_ + 1) / options_.rate)
                   : now;
    const absl::Status sent = slot.session->Send(options_.statement);
    if (!sent.ok() && !slot.session->usable()) {
      Fail(slot, sent, now);
      continue;
    }
    ++begun_;
    recently_begun_.push_back(now);
    slot.running = true;
    if (!sent.ok()) {
      Note(slot, sent);
      slot.failed = true;
    }
    // It may be over before it has to be waited for: then nothing would wake us.
    if (slot.session->Quiet()) {
      CountEnd(slot, RealClock().Boot());
      at_once_ = true;
    }
  }
}

// Who dies or hangs tells the server nothing, and what is begun last would run for as long as the
// first was allowed to.
bool Storm::Limit(Slot& slot, absl::Duration now) {
  const absl::Duration left = options_.end - now;
  if (!options_.limit || slot.limited - left < kStale) return false;
  slot.limited = left;
  const absl::Status sent = slot.session->Send(options_.limit(left));
  if (!sent.ok()) Fail(slot, sent, now);
  if (slot.session != nullptr && slot.session->Quiet()) at_once_ = true;
  return true;
}

void Storm::CountEnd(Slot& slot, absl::Duration now) {
  if (!slot.running) return;
  ++(slot.failed ? now_.failed : now_.finished);
  slot.running = slot.failed = false;
  recent_.push_back({now, now - slot.due});
}

void Storm::Note(const Slot& slot, const absl::Status& status) {
  const std::string code = slot.session == nullptr ? "" : slot.session->ErrorCode(status);
  ++now_.errors[code.empty() ? "connection" : code];
  now_.trouble = std::string(status.message());
  now_.trouble_code = status.code();
}

void Storm::Fail(Slot& slot, const absl::Status& status, absl::Duration now) {
  Note(slot, status);
  if (slot.session == nullptr) return;
  if (slot.session->ready()) ++now_.lost_sessions;
  slot.session.reset();
  slot.running = slot.failed = false;
  slot.next_try = now + kRetry;
}

void Storm::Serve(Slot& slot, absl::Duration now) {
  StormSession& session = *slot.session;
  if (!session.ready()) {
    const absl::Status advanced = session.Advance();
    if (!advanced.ok()) Fail(slot, advanced, now);
    return;
  }
  const absl::Status drained = session.Drain();
  if (!drained.ok() && !session.usable()) return Fail(slot, drained, now);
  if (!drained.ok()) {
    // The statement failed; the session goes on.
    Note(slot, drained);
    slot.failed = slot.running;
  }
  if (session.Quiet()) CountEnd(slot, now);
}

void Storm::Await(absl::Duration now) {
  std::vector<pollfd> waits = {{wake_.get(), POLLIN, 0}};
  std::vector<Slot*> waiting = {nullptr};
  for (Slot& slot : slots_) {
    if (slot.session == nullptr) continue;
    waits.push_back({slot.session->fd(), slot.session->events(), 0});
    waiting.push_back(&slot);
  }
  absl::Duration length = std::exchange(at_once_, false) ? absl::ZeroDuration() : kLongestWait;
  if (options_.rate > 0 && begun_ >= DueBy(now)) {
    const absl::Duration next =
        start_ + absl::Seconds(static_cast<double>(begun_ + 1) / options_.rate);
    length = std::clamp(next - now, absl::ZeroDuration(), length);
  }
  const timespec wait = absl::ToTimespec(length);
  if (ppoll(waits.data(), waits.size(), &wait, nullptr) <= 0) return;
  const absl::Duration then = RealClock().Boot();
  for (size_t i = 1; i < waits.size(); ++i) {
    if (waits[i].revents != 0) Serve(*waiting[i], then);
  }
}

void Storm::Publish(absl::Duration now) {
  DropOld(recently_begun_, now, [](absl::Duration at) { return at; });
  DropOld(recent_, now, [](const Answer& answer) { return answer.at; });
  now_.connected = now_.busy = 0;
  for (const Slot& slot : slots_) {
    if (slot.session == nullptr || !slot.session->ready()) continue;
    ++now_.connected;
    if (slot.running) ++now_.busy;
  }
  const absl::Duration window = std::clamp(now - start_, absl::Milliseconds(1), kWindow);
  const double seconds = absl::ToDoubleSeconds(window);
  const uint64_t due = DueBy(now);
  now_.waiting = due > begun_ ? due - begun_ : 0;
  now_.due_rate = static_cast<double>(due - DueBy(now - window)) / seconds;
  now_.begun_rate = static_cast<double>(recently_begun_.size()) / seconds;
  now_.answered_rate = static_cast<double>(recent_.size()) / seconds;
  std::vector<absl::Duration> took;
  for (const Answer& answer : recent_) took.push_back(answer.took);
  std::sort(took.begin(), took.end());
  now_.p50 = took.empty() ? absl::ZeroDuration() : took[took.size() / 2];
  now_.p95 = took.empty() ? absl::ZeroDuration() : took[took.size() * 95 / 100];
  MutexLock lock(mutex_);
  published_ = now_;
}

}  // namespace firedrill
