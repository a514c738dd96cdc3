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
constexpr absl::Duration kLookEvery = absl::Milliseconds(3);
// After a refusal. Each attempt costs the server a process.
constexpr absl::Duration kRetry = absl::Milliseconds(2);
// When the server goes on refusing although slots look free (a limit of the role): no more haste.
constexpr int kHastyRefusals = 100;
constexpr absl::Duration kPatientRetry = absl::Milliseconds(50);
// After any other failure: the server is down, or refuses our password.
constexpr absl::Duration kRetryAfterTrouble = absl::Milliseconds(50);
// Sessions being opened at once. More would only wait for the server's postmaster.
constexpr size_t kMostOpening = 32;
constexpr absl::Duration kOpeningTimeout = absl::Seconds(5);

}  // namespace

PostgresCrowd::PostgresCrowd(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      width_(kMostOpening),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {}

PostgresCrowd::~PostgresCrowd() { Stop(); }

void PostgresCrowd::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  opening_.clear();
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
    Publish();
    Await(now);
  }
}

void PostgresCrowd::Look(std::stop_token stop, absl::Duration now) {
  if (now < next_look_) return;
  const auto missing = options_.missing(static_cast<int>(held_.size()), std::move(stop));
  budget_ = 0;
  if (missing.ok()) {
    budget_ = *missing - static_cast<int>(opening_.size());
    next_look_ = RealClock().Boot() + kLookEvery;
  } else {
    now_.trouble = missing.status();
    next_look_ = RealClock().Boot() + kRetryAfterTrouble;
  }
}

void PostgresCrowd::Launch(absl::Duration now) {
  while (budget_ > 0 && opening_.size() < width_ && now >= next_try_) {
    --budget_;
    opening_.push_back(
        {PostgresSession::Begin(options_.account, options_.application_name, options_.settings()),
         now});
    // A connection that fails at once (nobody listens on a Unix socket) has no descriptor to wait
    // for.
    if (opening_.back().session->fd() < 0) {
      Opening failed = std::move(opening_.back());
      opening_.pop_back();
      Failed(failed.session->Advance(), now);
    }
  }
}

void PostgresCrowd::Await(absl::Duration now) {
  std::vector<pollfd> waits;
  waits.push_back({wake_.get(), POLLIN, 0});
  waits.push_back({epoll_.get(), POLLIN, 0});
  for (const Opening& opening : opening_) {
    waits.push_back({opening.session->fd(), opening.session->events(), 0});
  }
  const absl::Duration length = std::max(absl::ZeroDuration(), next_look_ - now);
  poll(waits.data(), waits.size(), static_cast<int>(absl::ToInt64Milliseconds(length)) + 1);
  const absl::Duration after = RealClock().Boot();
  for (size_t i = 0; i < opening_.size(); ++i) {
    if (waits[i + 2].revents != 0) {
      Advance(opening_[i], after);
    } else if (after - opening_[i].since > kOpeningTimeout) {
      opening_[i].session.reset();
      Failed(absl::DeadlineExceededError("the server did not answer a new session within 5 s"),
             after);
    }
  }
  std::erase_if(opening_, [](const Opening& opening) { return opening.session == nullptr; });
  if (waits[1].revents != 0) ServeHeld();
}

void PostgresCrowd::Advance(Opening& opening, absl::Duration now) {
  if (const absl::Status status = opening.session->Advance(); !status.ok()) {
    opening.session.reset();
    Failed(status, now);
    return;
  }
  if (!opening.session->ready()) return;
  width_ = std::min(kMostOpening, width_ * 2);
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
  ++refused_in_a_row_;
  // Sessions that are being opened hold slots themselves: several at a nearly full server make each
  // other fail, and take the slots that are reserved for a person.
  width_ = 1;
  next_try_ = now + (refused_in_a_row_ > kHastyRefusals ? kPatientRetry : kRetry);
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
