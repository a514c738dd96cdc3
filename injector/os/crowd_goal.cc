// The size of a crowd over time.
#include "injector/os/crowd_goal.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"

namespace firedrill {

CrowdGoal::CrowdGoal(const v1::HoldConnections& message, int usable, int taken,
                     absl::Duration start, absl::Duration end)
    : message_(message), usable_(usable), taken_at_start_(taken), start_(start), end_(end) {}

int CrowdGoal::Wanted() const {
  switch (message_.size_case()) {
    case v1::HoldConnections::kFillTo:
      return static_cast<int>(std::ceil(message_.fill_to() * usable_ - 1e-9));
    case v1::HoldConnections::kLeaveFree:
      return usable_ - static_cast<int>(message_.leave_free());
    default:
      return static_cast<int>(message_.count());
  }
}

absl::Status CrowdGoal::Check() const {
  if (Wanted() > 0 && Wanted() <= usable_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the server of profile ", message_.profile(), " has ", usable_,
                   " usable slots, and this fault would take ", std::max(Wanted(), 0),
                   "; ask for 1 to ", usable_, ", or for a share of them with `fillTo`"));
}

int CrowdGoal::Missing(int taken, int held, uint64_t opened, absl::Duration now) {
  if (!Goes(now)) return 0;
  const int sessions = message_.refill() ? held : static_cast<int>(opened);
  const int have = counts_sessions() ? sessions : taken;
  if (have >= Wanted()) done_ = true;
  // Attempts at a full server would only cost it work, and fill its log.
  return std::clamp(WantedAt(now) - have, 0, std::max(0, usable_ - taken));
}

// The ramp goes from what was there to what is wanted.
int CrowdGoal::WantedAt(absl::Duration now) const {
  const absl::Duration ramp = FromProto(message_.ramp());
  if (ramp <= absl::ZeroDuration() || now >= start_ + ramp) return Wanted();
  const int base = counts_sessions() ? 0 : taken_at_start_;
  const double share = absl::FDivDuration(now - start_, ramp);
  return base + static_cast<int>(std::ceil((Wanted() - base) * share));
}

}  // namespace firedrill
