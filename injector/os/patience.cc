// Deadlines in boot time.
#include "injector/os/patience.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace firedrill {

Patience::Patience(absl::Duration length, std::stop_token stop)
    : end_(RealClock().Boot() + length), stop_(std::move(stop)) {}

absl::Duration Patience::Left() const {
  return std::max(absl::ZeroDuration(), end_ - RealClock().Boot());
}

absl::Status Patience::Check() const {
  if (stop_.stop_requested()) return absl::CancelledError("stopped");
  if (Left() <= absl::ZeroDuration()) return absl::DeadlineExceededError("no answer in time");
  return absl::OkStatus();
}

Patience Patience::AtMost(absl::Duration length) const {
  return Patience(std::min(length, Left()), stop_);
}

}  // namespace firedrill
