// The loop that keeps a crowd of sessions.
#include "injector/os/postgres_crowd.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "base/clock.h"

namespace firedrill {
namespace {

// A freed slot is noticed within this time. It must be well below what an application needs to
// reconnect, or the application has the slot first.
constexpr absl::Duration kLookEvery = absl::Milliseconds(2);
// A look takes time in which a refusal would go unnoticed.
constexpr absl::Duration kLookWhileOpening = absl::Milliseconds(8);
// When the server goes on refusing although slots look free (a limit of the role): no more haste.
constexpr int kHastyRefusals = 200;
constexpr absl::Duration kPatientRetry = absl::Milliseconds(50);
// After any other failure: the server is down, or refuses our password.
constexpr absl::Duration kRetryAfterTrouble = absl::Milliseconds(50);
// Sessions being opened at once. More would only wait for the server's postmaster.
constexpr int kMostOpening = 32;
constexpr absl::Duration kOpeningTimeout = absl::Seconds(5);
// Well below the server's authentication_timeout, 60 s by default.
constexpr absl::Duration kOldestSpare = absl::Seconds(15);
// From the announcement of freed slots until they are free, and how long they are waited for.
constexpr absl::Duration kToTheDoor = absl::Milliseconds(2);
constexpr absl::Duration kExpect = absl::Milliseconds(15);
// At a full server these stand on slots that are reserved for a person: one of the usual three
// stays.
constexpr int kMostBeforehand = 2;

// On a busy node a freed slot belongs to whoever wakes first.
constexpr int kNice = -10;

// The crowds of this process.
struct Crowds {
  Mutex mutex;
  std::set<PostgresCrowd*> all FD_GUARDED_BY(mutex);
};
Crowds& TheCrowds() {
  static auto* const crowds = new Crowds;
  return *crowds;
}

}  // namespace

PostgresCrowd::PostgresCrowd(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {
  MutexLock lock(TheCrowds().mutex);
  TheCrowds().all.insert(this);
}

PostgresCrowd::~PostgresCrowd() {
  {
    MutexLock lock(TheCrowds().mutex);
    TheCrowds().all.erase(this);
  }
  Stop();
}

bool PostgresCrowd::Expecting(absl::Duration now) const {
  return now < absl::Nanoseconds(expecting_until_.load());
}

void PostgresCrowd::ExpectFreedSlots(const std::string& server, int count) {
  bool any = false;
  {
    MutexLock lock(TheCrowds().mutex);
    for (PostgresCrowd* crowd : TheCrowds().all) {
      if (crowd->options_.server != server) continue;
      any = true;
      crowd->expected_ = count;
      crowd->expecting_until_ = absl::ToInt64Nanoseconds(RealClock().Boot() + kExpect);
      eventfd_write(crowd->wake_.get(), 1);
    }
  }
  if (any) absl::SleepFor(kToTheDoor);
}

void PostgresCrowd::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  for (Attempt& attempt : attempts_) attempt.thread.request_stop();
  attempts_.clear();
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
  now_.opening = static_cast<int>(attempts_.size());
  MutexLock lock(mutex_);
  published_ = now_;
}

void PostgresCrowd::Loop(std::stop_token stop) {
  // Of this thread only, and of the attempts that it starts. Without the right to it we are as
  // slow as everybody else.
  (void)setpriority(PRIO_PROCESS, 0, kNice);
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
  now_.held = static_cast<int>(held_.size());
  const auto need = options_.need(now_, std::move(stop));
  need_ = need.ok() ? *need : Need();
  if (need.ok()) {
    next_look_ =
        RealClock().Boot() +
        (attempts_.empty() || need_.spares == 0 || Expecting(now) ? kLookEvery : kLookWhileOpening);
  } else {
    Trouble(need.status());
    next_look_ = RealClock().Boot() + kRetryAfterTrouble;
  }
}

void PostgresCrowd::Launch(absl::Duration now) {
  const size_t wanted = std::clamp(Wanted(now), 0, kMostOpening);
  while (attempts_.size() < wanted && now >= next_try_) {
    if (!spares_.empty()) {
      Begin(std::move(spares_.back().session));
      spares_.pop_back();
    } else {
      Begin(
          PostgresSession::Begin(options_.account, options_.application_name, options_.settings()));
    }
  }
}

int PostgresCrowd::Wanted(absl::Duration now) const {
  // A session that is being opened holds a slot, so as many as there are free slots keep everyone
  // else out. More make each other fail, and take slots that are reserved for a person.
  if (need_.spares == 0 || !need_.to_the_last) return need_.missing;
  if (Expecting(now)) return need_.missing + std::min<int>(expected_, kMostBeforehand);
  if (need_.missing == 0) return 0;
  // Somebody else is at the door (he has just made one of ours fail), or may come: with one more,
  // the next failure does not leave the door open. But then ours make each other fail, too: every
  // third failure makes room.
  const bool cover = need_.missing == 1 || refused_in_a_row_ > 0;
  return need_.missing + (cover && refused_in_a_row_ % 3 != 2 ? 1 : 0);
}

void PostgresCrowd::Begin(std::unique_ptr<PostgresSession> session) {
  const auto attempt = attempts_.insert(attempts_.end(), {.session = std::move(session)});
  attempt->thread = std::jthread([this, attempt](std::stop_token stop) {
    attempt->result = attempt->session->Connect(Patience(kOpeningTimeout, std::move(stop)));
    MutexLock lock(mutex_);
    finished_.push_back(attempt);
    eventfd_write(wake_.get(), 1);
  });
}

void PostgresCrowd::KeepSpares(absl::Duration now) {
  std::erase_if(spares_, [&](Spare& spare) {
    if (now - spare.since > kOldestSpare) return true;
    const short events = spare.session->at_the_door() ? POLLIN : spare.session->events();
    pollfd look{spare.session->fd(), events, 0};
    if (poll(&look, 1, 0) == 0) return false;
    // At the door it is our turn to speak: when the server does, it has closed the connection.
    return spare.session->at_the_door() || !spare.session->Advance().ok();
  });
  // One a turn: making them costs the server time that sessions under way need.
  if (spares_.size() >= static_cast<size_t>(std::max(0, need_.spares)) || now < next_try_) return;
  Spare spare{
      PostgresSession::Begin(options_.account, options_.application_name, options_.settings()),
      now};
  if (spare.session->fd() >= 0) spares_.push_back(std::move(spare));
}

void PostgresCrowd::Await(absl::Duration now) {
  pollfd waits[] = {{wake_.get(), POLLIN, 0}, {epoll_.get(), POLLIN, 0}};
  const timespec length = absl::ToTimespec(std::max(absl::ZeroDuration(), next_look_ - now));
  ppoll(waits, 2, &length, nullptr);
  if (waits[0].revents != 0) Collect();
  if (waits[1].revents != 0) ServeHeld();
}

void PostgresCrowd::Collect() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
  std::vector<std::list<Attempt>::iterator> finished;
  {
    MutexLock lock(mutex_);
    finished.swap(finished_);
  }
  for (const auto attempt : finished) {
    attempt->thread.join();
    if (attempt->result.ok()) {
      --need_.missing;
      refused_in_a_row_ = 0;
      ++now_.opened;
      now_.trouble.clear();
      Hold(std::move(attempt->session));
    } else {
      Failed(attempt->result, RealClock().Boot());
    }
    attempts_.erase(attempt);
  }
  Launch(RealClock().Boot());
}

void PostgresCrowd::Trouble(const absl::Status& status) {
  now_.trouble = std::string(status.message());
  now_.trouble_code = status.code();
}

void PostgresCrowd::Failed(const absl::Status& status, absl::Duration now) {
  Trouble(status);
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
      Trouble(status);
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
    Trouble(status);
    ++now_.lost;
    // Closing the socket also takes it out of the epoll set.
    held_.erase(found);
    // Its slot is free now, and others want it.
    next_look_ = absl::ZeroDuration();
  }
}

}  // namespace firedrill
