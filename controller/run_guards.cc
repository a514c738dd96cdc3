// What ends a run early: a guardrail that is broken, or blind, or a page that nobody expects.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/run_turn.h"
#include "experiment/matcher.h"

namespace firedrill::turn {
namespace {

constexpr char kCanaryLabel[] = "firedrill_canary";

// Once everything is undone a stop has nothing left to end, and would only hide whether the system
// comes back; unless a remedy is still to come.
bool Watching(const Turn& turn) {
  const RunState& state = turn.state;
  if (state.stopping || state.finishing) return false;
  if (state.phase == v1::PHASE_INJECT || state.phase == v1::PHASE_REVERT) return true;
  return state.phase == v1::PHASE_RECOVER && !RemediesOver(turn);
}

bool MeansPage(const v1::Plan& plan, const v1::AlertTransition& alert) {
  for (const std::string& text : plan.page_matchers()) {
    const auto matcher = ParseMatcher(text);
    if (matcher.ok() && Matches(*matcher, alert.labels())) return true;
  }
  return false;
}

bool IsUnexpectedPage(const Turn& turn) {
  if (!turn.event.has_alert() || !turn.state.gate_passed.has_value()) return false;
  const v1::AlertTransition& alert = turn.event.alert();
  if (alert.source() != v1::ALERT_SOURCE_WEBHOOK &&
      alert.source() != v1::ALERT_SOURCE_ALERTMANAGER) {
    return false;
  }
  if (alert.state() != v1::ALERT_STATE_FIRING || alert.suppressed()) return false;
  if (alert.labels().contains(kCanaryLabel)) return false;
  if (absl::c_linear_search(turn.plan.known_alerts(), alert.alert())) return false;
  // One that began before the gate's end is not this run's doing.
  const absl::Time began = alert.has_active_at()
                               ? FromProto(alert.active_at()) - FromProto(turn.event.clock_offset())
                               : turn.now;
  return began >= *turn.state.gate_passed && MeansPage(turn.plan, alert);
}

void Breach(Turn& turn, const v1::PlannedCheck& check, std::string what) {
  SayStop(turn, v1::StopRequested::CAUSE_GUARDRAIL, check.name(),
          absl::StrCat("guardrail ", check.name(), ": ", what));
}

void WatchPages(Turn& turn, const v1::PlannedCheck& check) {
  if (!Watching(turn) || !IsUnexpectedPage(turn)) return;
  Breach(turn, check,
         absl::StrCat(turn.event.alert().alert(),
                      " pages, and is named neither in alerts, before nor mayFire"));
}

void WatchCondition(Turn& turn, const v1::PlannedCheck& check, CheckProgress& progress) {
  const absl::Duration hold = FromProto(check.for_());
  const absl::Duration blind_after = std::max(absl::Seconds(10), 3 * hold);
  FeedCheck(turn, progress, blind_after);
  if (!Watching(turn)) return;
  if (progress.broken_since.has_value() && progress.known.has_value() &&
      *progress.known - *progress.broken_since >= hold) {
    return Breach(turn, check,
                  absl::StrCat("must be ", check.is(), ", observed: ", progress.observed,
                               hold > absl::ZeroDuration()
                                   ? absl::StrCat(", for ", firedrill::FormatDuration(hold))
                                   : std::string()));
  }
  const absl::Time seen = std::max(progress.known.value_or(absl::InfinitePast()),
                                   turn.state.gate_passed.value_or(turn.now));
  if (turn.now - seen > blind_after) {
    Breach(turn, check,
           absl::StrCat("blind for ", firedrill::FormatDuration(blind_after), ": ",
                        progress.observed));
  }
}

}  // namespace

CheckProgress NewCheck(const v1::PlannedCheck& check) {
  CheckProgress progress;
  if (!check.unexpected_page() && ParseCondition(check.is()).ok()) {
    progress.tracker.emplace(check);
  }
  return progress;
}

void FeedCheck(Turn& turn, CheckProgress& check, absl::Duration blind_after, absl::Time from) {
  if (!check.tracker.has_value()) return;
  const std::optional<TruthPoint> point = check.tracker->Feed(turn.event);
  if (!point.has_value() || point->at < from) return;
  check.observed = point->observed;
  const bool gap =
      check.holding_until.has_value() && point->at - *check.holding_until > blind_after;
  if (gap || point->truth == Truth::kFalse) {
    check.holding_since.reset();
    check.holding_until.reset();
  }
  if (point->truth == Truth::kUnknown) return;
  check.known = point->at;
  if (point->truth == Truth::kTrue) {
    if (!check.holding_since.has_value()) check.holding_since = point->at;
    check.holding_until = point->at;
    check.broken_since.reset();
  } else if (!check.broken_since.has_value()) {
    check.broken_since = point->at;
  }
}

void WatchGuardrails(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase != v1::PHASE_GATE && !Watching(turn)) return;
  for (const v1::PlannedCheck& check : turn.plan.guardrails()) {
    if (check.unexpected_page()) {
      WatchPages(turn, check);
    } else {
      WatchCondition(turn, check, state.guardrails[check.name()]);
    }
  }
}

}  // namespace firedrill::turn
