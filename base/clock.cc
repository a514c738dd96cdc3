// The machine's own clocks.
#include "base/clock.h"

#include <ctime>

#include "absl/time/clock.h"

namespace firedrill {
namespace {

class MachineClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  absl::Duration Boot() const override {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return absl::DurationFromTimespec(now);
  }
};

}  // namespace

const Clock& RealClock() {
  static const auto* const clock = new MachineClock;
  return *clock;
}

}  // namespace firedrill
