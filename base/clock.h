// The two clocks: wall time for what people and other machines see, boot time for leases and
// deadlines.
#pragma once

#include "absl/time/time.h"

namespace firedrill {

class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time; may jump.
  virtual absl::Time Now() const = 0;
  // Since boot, counting suspension (CLOCK_BOOTTIME); never jumps.
  virtual absl::Duration Boot() const = 0;
};

// The machine's own clocks. Any thread.
const Clock& RealClock();

}  // namespace firedrill
