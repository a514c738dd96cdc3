// Deadlines in boot time.
#include "injector/os/patience.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"

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

absl::Status LookUntilOk(absl::FunctionRef<absl::Status()> look, absl::Duration pace,
                         const Patience& patience, absl::string_view doing) {
  absl::Status last;
  do {
    const absl::Status seen = look();
    if (seen.ok()) return seen;
    if (last.ok() || !absl::IsDeadlineExceeded(seen)) last = seen;
    absl::SleepFor(pace);
  } while (patience.Check().ok());
  return Annotate(last, doing);
}

}  // namespace firedrill
