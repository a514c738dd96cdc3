// How many connections are wanted at a moment, by the size, ramp and refill of a definition.
#pragma once

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "firedrill/v1/fault.pb.h"

namespace firedrill {

// One thread at a time. Times are boot times.
class CrowdGoal {
 public:
  // Of a server that tells nobody how many it permits.
  static constexpr int kUnlimited = std::numeric_limits<int>::max();

  // `taken`: slots that were taken when it began.
  CrowdGoal(const v1::HoldConnections& message, int usable, int taken, absl::Duration start,
            absl::Duration end);

  // Sessions of ours are wanted, not slots taken by anyone.
  bool counts_sessions() const { return message_.size_case() == v1::HoldConnections::kCount; }
  int usable() const { return usable_; }
  // In sessions of ours, or in slots taken by anyone.
  int Wanted() const;
  // INVALID_ARGUMENT where the server has not so many.
  absl::Status Check() const;

  // How many of ours are to be opened now, those under way included. `taken`: slots by anyone;
  // `held`, `opened`: of ours, now and since the begin.
  int Missing(int taken, int held, uint64_t opened, absl::Duration now);
  // False when nothing is to be opened any more.
  bool Goes(absl::Duration now) const { return now < end_ && (!done_ || message_.refill()); }
  // All that was wanted was there once.
  bool done() const { return done_; }

 private:
  int WantedAt(absl::Duration now) const;

  const v1::HoldConnections message_;
  const int usable_;
  const int taken_at_start_;
  const absl::Duration start_;
  const absl::Duration end_;
  bool done_ = false;
};

}  // namespace firedrill
