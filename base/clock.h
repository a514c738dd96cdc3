// The two clocks: wall time for what people and other machines see, boot time for leases and
// deadlines.
#pragma once

#include <string>

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

// Which boot of this machine RealClock().Boot() counts from; empty where it does not say. Any
// thread.
const std::string& BootId();

}  // namespace firedrill
