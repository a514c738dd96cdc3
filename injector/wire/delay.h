// How long something is held, drawn from the shape that the experiment gives.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill::wire {

class Delay {
 public:
  // No delay at all.
  Delay() = default;
  // INVALID_ARGUMENT for a negative time, one above 10 minutes, a maximum below its minimum, a
  // shape that is missing or not a number: the message says which.
  static absl::StatusOr<Delay> Make(const v1::DelayShape& shape);

  bool none() const { return kind_ == kNone; }
  // The next one, in microseconds. The same state gives the same sequence.
  uint32_t Draw(uint64_t* chance) const;
  // No draw is above it.
  uint32_t longest() const { return longest_; }

 private:
  enum Kind { kNone, kFixed, kUniform, kNormal, kPareto };

  Kind kind_ = kNone;
  // Microseconds: what they mean hangs on the kind.
  double first_ = 0;
  double second_ = 0;
  uint32_t longest_ = 0;
};

}  // namespace firedrill::wire
