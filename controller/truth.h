// What the history says about one condition, moment by moment: true, false or unknown. Pure.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "experiment/condition.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct TruthPoint {
  // When it was so, by the controller's clock: when a question was asked, or the end of a load's
  // window.
  absl::Time at;
  Truth truth = Truth::kUnknown;
  // "ok 43.1%, p95 1.2s", or why nothing is known.
  std::string observed;
  // Why nothing is known, for machines: "blind", "late", "starved". Empty where it is known.
  std::string code = {};
  // What was measured, by field; empty where nothing is known.
  std::map<std::string, double> values = {};
  // Unknown: whoever asks was away until now. However short that was, no stretch goes across it.
  bool away = false;
};

// Folds events into points of one condition. A late sample, a missing series and a starved load are
// unknown. `at` never goes back for a load whose windows come in order; samples of one probe come
// in order anyway.
class TruthTracker {
 public:
  // The check's `is` must be valid, or empty for `page: unexpected` (which is not tracked here).
  explicit TruthTracker(const v1::PlannedCheck& check);
  // A point, where this event says something about the condition. A load without a request name
  // gives the point of a second when the next one begins, for only then have all its request names
  // been heard.
  std::optional<TruthPoint> Feed(const v1::Event& event);

 private:
  std::optional<TruthPoint> FeedSample(const v1::Event& event);
  std::optional<TruthPoint> FeedWindow(const v1::LoadWindow& window);
  // The point of the windows that begin in (end - over, end].
  TruthPoint PointAt(absl::Time end) const;

  v1::PlannedCheck check_;
  Condition condition_;
  // The load's windows of the last `over`, by start.
  std::deque<v1::LoadWindow> windows_;
};

// The whole history at once, by time.
std::vector<TruthPoint> TruthOf(const v1::PlannedCheck& check,
                                const std::vector<v1::Event>& history);

// Answers may be missing for so long before a stretch counts as blind: three questions, at least 3
// s.
absl::Duration BlindAfter(const v1::Plan& plan, const v1::PlannedCheck& check);

// When an unbroken stretch of kTrue began that lasted for `hold`, looking only at points in
// [from, from + within] for its begin; unknown points neither extend nor break it unless nothing
// was known for longer than `blind_after`. Empty where there is none. `points` by time.
struct Hold {
  absl::Time begin;
  absl::Time end;  // The last point that was still true.
};
std::optional<Hold> FirstHold(const std::vector<TruthPoint>& points, absl::Time from,
                              absl::Duration within, absl::Duration hold,
                              absl::Duration blind_after = absl::Seconds(3));

// The same, had everything that is not known been true: where even that finds nothing, the
// condition surely did not hold. Nothing is known of the times before the first and after the last
// point.
std::optional<Hold> FirstPossibleHold(const std::vector<TruthPoint>& points, absl::Time from,
                                      absl::Duration within, absl::Duration hold,
                                      absl::Duration blind_after = absl::Seconds(3));

// The first true point of the unbroken stretch that the true point at `when` belongs to; it may lie
// long before. InfinitePast where nothing false was ever seen before it.
absl::Time StretchBegin(const std::vector<TruthPoint>& points, absl::Time when);

}  // namespace firedrill
