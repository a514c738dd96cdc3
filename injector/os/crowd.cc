// The loop that keeps a crowd of connections.
#include "injector/os/crowd.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/clock.h"

namespace firedrill {
namespace {

constexpr absl::Duration kOpeningTimeout = absl::Seconds(5);
// After a failure: the server is down, is full, or refuses our password.
constexpr absl::Duration kRetryAfterTrouble = absl::Milliseconds(50);
// After a refusal: somebody may give a slot free at any moment, and who asks first has it.
constexpr absl::Duration kRetryAfterRefusal = absl::Milliseconds(3);
constexpr absl::Duration kSweepEvery = absl::Milliseconds(100);

uint32_t EpollEvents(short events) {
  uint32_t bits = EPOLLRDHUP;
  if ((events & POLLIN) != 0) bits |= EPOLLIN;
  if ((events & POLLOUT) != 0) bits |= EPOLLOUT;
  return bits;
}

}  // namespace

Crowd::Crowd(Options options)
    : options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      thread_([this](std::stop_token stop) { Loop(std::move(stop)); }) {}

Crowd::~Crowd() { Stop(); }

void Crowd::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
  entries_.clear();
  now_.held = now_.opening = 0;
  Publish();
}

Crowd::Figures Crowd::figures() const {
  MutexLock lock(mutex_);
  return published_;
}

void Crowd::Publish() {
  MutexLock lock(mutex_);
  published_ = now_;
}

void Crowd::Loop(std::stop_token stop) {
  epoll_event wake{};
  wake.events = EPOLLIN;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &wake);
  while (!stop.stop_requested()) {
    const absl::Duration now = RealClock().Boot();
    Look(stop, now);
    Launch(now);
    Sweep(now);
    Publish();
    Await(RealClock().Boot());
  }
}

void Crowd::Look(std::stop_token stop, absl::Duration now) {
  if (now < next_look_) return;
  const auto missing = options_.missing(now_, std::move(stop));
  missing_ = missing.ok() ? *missing : 0;
  if (!missing.ok()) Trouble(missing.status());
  next_look_ = RealClock().Boot() + (missing.ok() ? options_.look_every : kRetryAfterTrouble);
}

void Crowd::Launch(absl::Duration now) {
  // One that is there at once is missing no more.
  while (now_.opening < std::min(missing_, options_.most_opening) && now >= next_try_) {
    auto member = options_.begin();
    CrowdMember* const key = member.get();
    const auto entry =
        entries_.emplace(key, Entry{.member = std::move(member), .since = now}).first;
    ++now_.opening;
    Go(entry);
  }
}

void Crowd::Sweep(absl::Duration now) {
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepEvery;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto one = entry++;
    if (!one->second.held && now - one->second.since > kOpeningTimeout) {
      Gone(one, absl::DeadlineExceededError("the server did not answer within 5 s"));
    } else if (now >= one->second.member->due()) {
      Go(one);
    }
  }
}

void Crowd::Await(absl::Duration now) {
  std::array<epoll_event, 256> events;
  // Rounded up: else it would be asked again and again in the last millisecond.
  const absl::Duration length = std::min(next_look_, next_sweep_) - now + absl::Milliseconds(1);
  const int count =
      epoll_wait(epoll_.get(), events.data(), events.size(),
                 static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(length))));
  for (int i = 0; i < count; ++i) {
    const auto found = entries_.find(static_cast<CrowdMember*>(events[i].data.ptr));
    if (found != entries_.end()) Go(found);
  }
}

bool Crowd::Go(Entries::iterator entry) {
  Entry& one = entry->second;
  const absl::Status status = one.member->Advance();
  if (!status.ok()) {
    Gone(entry, status);
    return false;
  }
  if (!one.held && one.member->ready()) {
    one.held = true;
    --now_.opening;
    --missing_;
    ++now_.held;
    ++now_.opened;
    now_.trouble.clear();
    now_.trouble_code = absl::StatusCode::kOk;
  }
  Watch(entry->first, one);
  return true;
}

void Crowd::Watch(CrowdMember* member, Entry& entry) {
  const int fd = member->fd();
  const short events = member->events();
  if (fd == entry.fd && events == entry.events) return;
  epoll_event event{};
  event.events = EpollEvents(events);
  event.data.ptr = member;
  // A descriptor that was closed has left the epoll set by itself.
  const int operation = fd == entry.fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (epoll_ctl(epoll_.get(), operation, fd, &event) != 0 && operation == EPOLL_CTL_ADD) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  }
  entry.fd = fd;
  entry.events = events;
}

void Crowd::Gone(Entries::iterator entry, const absl::Status& why) {
  const absl::Duration now = RealClock().Boot();
  Trouble(why);
  if (entry->second.held) {
    --now_.held;
    ++now_.lost;
    // Its slot is free now, and others want it.
    next_look_ = absl::ZeroDuration();
  } else {
    --now_.opening;
    const bool refused = absl::IsResourceExhausted(why);
    if (refused) ++now_.refused;
    next_try_ = now + (refused ? kRetryAfterRefusal : kRetryAfterTrouble);
  }
  // Closing the socket also takes it out of the epoll set.
  entries_.erase(entry);
}

void Crowd::Trouble(const absl::Status& status) {
  now_.trouble = std::string(status.message());
  now_.trouble_code = status.code();
}

}  // namespace firedrill
