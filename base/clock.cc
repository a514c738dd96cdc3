// The machine's own clocks.
#include "base/clock.h"

#include <ctime>
#include <fstream>

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

const std::string& BootId() {
  static const auto* const id = [] {
    auto* const line = new std::string;
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::getline(file, *line);
    return line;
  }();
  return *id;
}

}  // namespace firedrill
