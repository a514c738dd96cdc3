// How long a blocking call may take: the deadline and the stop token of every door to a server.
#pragma once

#include <stop_token>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace firedrill {

// When a blocking call must return: after a length of time, or when `stop` is requested.
class Patience {
 public:
  explicit Patience(absl::Duration length, std::stop_token stop = {});
  absl::Duration Left() const;
  // OK, CANCELLED or DEADLINE_EXCEEDED.
  absl::Status Check() const;
  const std::stop_token& stop() const { return stop_; }
  // At most `length`, and at most what is left.
  Patience AtMost(absl::Duration length) const;

 private:
  absl::Duration end_;  // Boot time.
  std::stop_token stop_;
};

}  // namespace firedrill
