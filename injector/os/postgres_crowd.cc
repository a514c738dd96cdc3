// The loop that keeps a crowd of sessions.
#include "injector/os/postgres_crowd.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/clock.h"

namespace firedrill {
namespace {

// A freed slot is noticed within this time. It must be well below what an application needs to
// reconnect, or the application has the slot first.
constexpr absl::Duration kLookEvery = absl::Milliseconds(2);
// When the server goes on refusing although slots look free (a limit of the role): no more haste.
constexpr int kHastyRefusals = 200;
constexpr absl::Duration kPatientRetry = absl::Milliseconds(50);
// After any other failure: the server is down, or refuses our password.
constexpr absl::Duration kRetryAfterTrouble = absl::Milliseconds(50);
// Sessions being opened at once. More would only wait for the server's postmaster.
constexpr int kMostOpening = 32;
constexpr absl::Duration kOpeningTimeout = absl::Seconds(5);
// SCRAM takes 3 ms of our own time a session, every other step well below 0.1 ms.
constexpr absl::Duration kCostly = absl::Microseconds(500);
// Well below the server's authentication_timeout, 60 s by default.
constexpr absl::Duration kOldestSpare = absl::Seconds(15);

}  // namespace

PostgresCrowd::PostgresCrowd(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {}

PostgresCrowd::~PostgresCrowd() { Stop(); }

void PostgresCrowd::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  opening_.clear();
  spares_.clear();
  held_.clear();
  Publish();
}

PostgresCrowd::Figures PostgresCrowd::figures() const {
  MutexLock lock(mutex_);
  return published_;
}

void PostgresCrowd::Publish() {
  now_.held = static_cast<int>(held_.size());
  now_.opening = static_cast<int>(opening_.size());
  MutexLock lock(mutex_);
  published_ = now_;
}

void PostgresCrowd::Loop(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const absl::Duration now = RealClock().Boot();
    Look(stop, now);
    Launch(now);
    KeepSpares(now);
    Publish();
    Await(now);
  }
}

void PostgresCrowd::Look(std::stop_token stop, absl::Duration now) {
  if (now < next_look_) return;
  const auto need = options_.need(static_cast<int>(held_.size()), std::move(stop));
  need_ = need.ok() ? *need : Need();
  if (need.ok()) {
    next_look_ = RealClock().Boot() + kLookEvery;
  } else {
    now_.trouble = need.status();
    next_look_ = RealClock().Boot() + kRetryAfterTrouble;
  }
}

void PostgresCrowd::Launch(absl::Duration now) {
  // Sessions that are being opened hold slots themselves. As many as there are free slots keep
  // everyone else out; more would make each other fail, and take the slots that are reserved for a
  // person.
  const size_t wanted = std::clamp<int>(need_.missing, 0, kMostOpening);
  while (opening_.size() < wanted && now >= next_try_) {
    if (!spares_.empty()) {
      opening_.push_back({std::move(spares_.back().session), now});
      spares_.pop_back();
      Advance(opening_.back(), now);
      if (opening_.back().session == nullptr) opening_.pop_back();
      continue;
    }
    opening_.push_back(
        {PostgresSession::Begin(options_.account, options_.application_name, options_.settings()),
         now});
    // A connection that fails at once (nobody listens on a Unix socket) has no descriptor.
    if (opening_.back().session->fd() < 0) {
      Opening failed = std::move(opening_.back());
      opening_.pop_back();
      Failed(failed.session->Advance(), now);
    }
  }
}

void PostgresCrowd::KeepSpares(absl::Duration now) {
  std::erase_if(spares_, [&](Opening& spare) {
    if (now - spare.since > kOldestSpare) return true;
    const short events = spare.session->at_the_door() ? POLLIN : spare.session->events();
    pollfd look{spare.session->fd(), events, 0};
    if (poll(&look, 1, 0) == 0) return false;
    // At the door it is our turn to speak: when the server does, it has closed the connection.
    return spare.session->at_the_door() || !spare.session->Advance().ok();
  });
  // One a turn: making them costs the server time that sessions under way need.
  if (spares_.size() >= static_cast<size_t>(std::max(0, need_.spares)) || now < next_try_) return;
  Opening spare{
      PostgresSession::Begin(options_.account, options_.application_name, options_.settings()),
      now};
  if (spare.session->fd() >= 0) spares_.push_back(std::move(spare));
}

void PostgresCrowd::Await(absl::Duration now) {
  std::vector<pollfd> waits;
  waits.push_back({wake_.get(), POLLIN, 0});
  waits.push_back({epoll_.get(), POLLIN, 0});
  for (const Opening& opening : opening_) {
    waits.push_back({opening.session->fd(), opening.session->events(), 0});
  }
  const absl::Duration length = std::max(absl::ZeroDuration(), next_look_ - now);
  const timespec wait = absl::ToTimespec(length);
  ppoll(waits.data(), waits.size(), &wait, nullptr);
  std::vector<Opening*> ready;
  for (size_t i = 0; i < opening_.size(); ++i) {
    if (waits[i + 2].revents != 0) ready.push_back(&opening_[i]);
  }
  // A refused session is replaced before anything else is done, since until then the door is open
  // to others; then all go up to the door; the costly proofs of the password come last, one a turn.
  std::stable_sort(ready.begin(), ready.end(), [](const Opening* a, const Opening* b) {
    return std::make_pair(!a->proven, a->steps) < std::make_pair(!b->proven, b->steps);
  });
  for (Opening* opening : ready) {
    const absl::Duration before = RealClock().Boot();
    Advance(*opening, before);
    if (RealClock().Boot() - before < kCostly) continue;
    opening->proven = true;
    break;
  }
  for (Opening& opening : opening_) {
    if (opening.session == nullptr || now - opening.since < kOpeningTimeout) continue;
    opening.session.reset();
    Failed(absl::DeadlineExceededError("the server did not answer a new session within 5 s"), now);
  }
  std::erase_if(opening_, [](const Opening& opening) { return opening.session == nullptr; });
  if (waits[1].revents != 0) ServeHeld();
}

void PostgresCrowd::Advance(Opening& opening, absl::Duration now) {
  ++opening.steps;
  if (const absl::Status status = opening.session->Advance(); !status.ok()) {
    opening.session.reset();
    Failed(status, now);
    return;
  }
  if (!opening.session->ready()) return;
  --need_.missing;
  refused_in_a_row_ = 0;
  ++now_.opened;
  now_.trouble = absl::OkStatus();
  Hold(std::move(opening.session));
}

void PostgresCrowd::Failed(const absl::Status& status, absl::Duration now) {
  now_.trouble = status;
  if (SqlState(status) != kTooManyConnections) {
    next_try_ = now + kRetryAfterTrouble;
    return;
  }
  ++now_.refused;
  // Otherwise at once: while one of ours is at the door, nobody else gets in.
  if (++refused_in_a_row_ > kHastyRefusals) next_try_ = now + kPatientRetry;
}

void PostgresCrowd::Hold(std::unique_ptr<PostgresSession> session) {
  if (options_.statement) {
    if (const absl::Status status = session->Send(options_.statement()); !status.ok()) {
      now_.trouble = status;
      return;
    }
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.fd = session->fd();
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session->fd(), &event);
  held_[event.data.fd] = std::move(session);
}

void PostgresCrowd::ServeHeld() {
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  for (int i = 0; i < count; ++i) {
    const auto found = held_.find(events[i].data.fd);
    if (found == held_.end()) continue;
    const absl::Status status = found->second->Drain();
    if (status.ok()) continue;
    now_.trouble = status;
    ++now_.lost;
    // Closing the socket also takes it out of the epoll set.
    held_.erase(found);
    // Its slot is free now, and others want it.
    next_look_ = absl::ZeroDuration();
  }
}

}  // namespace firedrill
