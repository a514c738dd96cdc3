// How long a blocking call may take: the deadline and the stop token of every door to a server.
#pragma once

#include <stop_token>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
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

// Looks every `pace` until a look is OK. In the end the error is the last one that says more than
// that a look took too long, annotated with `doing`.
absl::Status LookUntilOk(absl::FunctionRef<absl::Status()> look, absl::Duration pace,
                         const Patience& patience, absl::string_view doing);

}  // namespace firedrill
