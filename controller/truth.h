// What the history says about one condition, moment by moment: true, false or unknown. Pure.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "experiment/condition.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct TruthPoint {
  // When it was so, by the controller's clock: when a question was asked, or the end of a load's window.
  absl::Time at;
  Truth truth = Truth::kUnknown;
  // "ok 43.1%, p95 1.2s", or why nothing is known.
  std::string observed;
};

// Folds events into points of one condition. A late sample, a missing series and a starved load are unknown.
class TruthTracker {
 public:
  // The check's `is` must be valid, or empty for `page: unexpected` (which is not tracked here).
  explicit TruthTracker(const v1::PlannedCheck& check);
  // A point, where this event says something about the condition.
  std::optional<TruthPoint> Feed(const v1::Event& event);

 private:
  v1::PlannedCheck check_;
  Condition condition_;
  // The load's windows of the last `over`, by start.
  std::deque<v1::LoadWindow> windows_;
};

// The whole history at once.
std::vector<TruthPoint> TruthOf(const v1::PlannedCheck& check, const std::vector<v1::Event>& history);

// When an unbroken stretch of kTrue began that lasted for `hold`, looking only at points in
// [from, from + within] for its begin; unknown points neither extend nor break it unless they last longer
// than `blind_after`. Empty where there is none.
struct Hold {
  absl::Time begin;
  absl::Time end;  // The last point that was still true.
};
std::optional<Hold> FirstHold(const std::vector<TruthPoint>& points, absl::Time from,
                              absl::Duration within, absl::Duration hold);

}  // namespace firedrill
