// Watches the alerts of a site during a run, and tells every change as an event.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

struct AlertWatchOptions {
  // Of the site.
  v1::SiteSpec site;
  // From one look to the next, for each source.
  absl::Duration interval = absl::Seconds(1);
  // An answer later than this is no answer.
  absl::Duration deadline = absl::Seconds(2);
  absl::Duration clock_interval = absl::Seconds(10);
  // Alerts whose rules must stay there and be evaluated: expected, forbidden, `before`. Changes are
  // told of every alert, whatever its name.
  std::set<std::string> names;
};

// Emits
//  - `alert` of sources "prometheus" (PENDING, FIRING, INACTIVE, UNKNOWN) and "alertmanager/<n>"
//  (FIRING,
//    RESOLVED, UNKNOWN; n from 0, as in the site file). With replicas "prometheus/<n>": several
//    Prometheus, and several Alertmanagers, tell each change once, by the first of them that saw
//    it; an alert fires as soon as one says so, and ends with the last that held it. Alerts active
//    at the first look are told at once. UNKNOWN: it ended, and its rule's selector returns no data
//    (or nobody could look). evaluated_at of Prometheus' transitions is the time of the evaluation
//    itself, equal for two rules of one group in one evaluation; FIRING has the same instant as
//    Alertmanager's startsAt.
//  - `gap` when a source does not answer, or a rule of interest is not evaluated for three
//  intervals, or is
//    gone; once when it begins (without `to`), once when it ends. Covered where another one of
//    several sees; where none does, also one of all, "prometheus" or "alertmanager".
//  - `clock` of "prometheus", at the start and every clock_interval.
// Each with source, source_time (where the source said one), clock_offset and clock_error set.
class AlertWatch {
 public:
  // Called on the watch's threads, one at a time.
  using Sink = std::function<void(v1::Event)>;

  // Fails only where a token cannot be read. A site without Prometheus and Alertmanager is watched
  // too: nothing is told.
  static absl::StatusOr<std::unique_ptr<AlertWatch>> Start(const AlertWatchOptions& options,
                                                           const Clock& clock, Sink sink);
  // Ends what is under way and waits: nothing is told afterwards.
  virtual ~AlertWatch() = default;
};

}  // namespace firedrill
