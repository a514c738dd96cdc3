// The times that sum a run up, and what a reader must know besides the expectations.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

// Of the fault whose anchor an expectation counts from; of a remedy, the first fault.
std::optional<Instant> ReachedOf(const Case& run, const std::string& since) {
  const auto anchor = ParseAnchor(since);
  if (anchor.ok() && run.steps.IsFault(anchor->step)) {
    return run.steps.Find({anchor->step, AnchorPoint::kReached});
  }
  return std::nullopt;
}

std::optional<Instant> FirstReached(const Case& run) {
  std::optional<Instant> first;
  for (const FaultCourse& fault : run.steps.faults()) {
    if (!fault.reached.has_value()) continue;
    if (!first.has_value() || fault.reached->at < first->at) first = fault.reached;
  }
  return first;
}

void Keep(std::optional<absl::Duration>& least, absl::Duration duration) {
  least = std::min(least.value_or(duration), duration);
}

void MeasureAnyAlert(Case& run) {
  const std::optional<Instant> reached = FirstReached(run);
  const std::optional<Instant> started = run.steps.FirstStart();
  if (!reached.has_value() || !started.has_value()) return;
  std::vector<const AlertEpisode*> pages;
  for (const AlertEpisode& episode : run.episodes) {
    if (!episode.firing.has_value() || !MeansPage(run.created.site(), episode)) continue;
    if (episode.Begin().at >= started->at) pages.push_back(&episode);
  }
  const bool any_told = std::any_of(pages.begin(), pages.end(), [](const AlertEpisode* page) {
    return page->FirstTold().has_value();
  });
  const AlertEpisode* first = nullptr;
  absl::Time when;
  for (const AlertEpisode* page : pages) {
    const AlertEpisode& episode = *page;
    const std::optional<absl::Time> told = episode.FirstTold();
    if (!Called(run.spec.expect(), episode.alert, told.has_value(), any_told)) continue;
    const absl::Time known = told.value_or(episode.firing->at);
    if (first != nullptr && known >= when) continue;
    first = &episode;
    when = known;
  }
  if (first == nullptr) return;
  *run.out->mutable_time_to_any_alert() = ToProto(when - reached->at);
  run.out->set_any_alert(first->alert);
}

void MeasureExpected(Case& run) {
  std::optional<absl::Duration> detect, notify;
  std::optional<absl::Time> resolved;
  bool all_resolved = true;
  for (int i = 0; i < run.out->alerts_size(); ++i) {
    const v1::AlertTimes& times = run.out->alerts(i);
    const auto reached = ReachedOf(run, run.spec.expect().alerts(i).since());
    if (!times.has_firing()) continue;
    if (reached.has_value()) Keep(detect, FromProto(times.firing()) - reached->at);
    if (reached.has_value() && times.has_notified()) {
      Keep(notify, FromProto(times.notified()) - reached->at);
    }
    if (!run.spec.expect().alerts(i).has_resolved()) continue;
    if (!times.has_resolved()) {
      all_resolved = false;
    } else {
      resolved =
          std::max(resolved.value_or(FromProto(times.resolved())), FromProto(times.resolved()));
    }
  }
  if (detect.has_value()) *run.out->mutable_time_to_detect() = ToProto(*detect);
  if (notify.has_value()) *run.out->mutable_time_to_notify() = ToProto(*notify);
  const std::optional<Instant> end = run.steps.LastEnd();
  if (resolved.has_value() && all_resolved && end.has_value()) {
    *run.out->mutable_time_to_resolve() = ToProto(*resolved - end->at);
  }
}

void MeasureRecovery(Case& run) {
  const std::optional<Instant> start = run.steps.FirstStart();
  const std::optional<Instant> end = run.steps.LastEnd();
  if (!start.has_value() || !end.has_value()) return;
  const std::optional<absl::Time> back = SteadyAgain(run, end->at, start->at);
  // What broke again and stayed so has not recovered.
  for (const v1::PlannedCheck& check : run.plan.gate()) {
    const std::vector<TruthPoint> points = TruthOf(check, run.history);
    const auto last = std::find_if(points.rbegin(), points.rend(), [](const TruthPoint& point) {
      return point.truth != Truth::kUnknown;
    });
    if (last != points.rend() && last->truth == Truth::kFalse) return;
  }
  if (back.has_value()) *run.out->mutable_time_to_recover() = ToProto(*back - end->at);
}

bool Named(const Case& run, const std::string& alert) {
  const v1::Expectations& expect = run.spec.expect();
  for (const v1::AlertExpectation& expected : expect.alerts()) {
    if (expected.alert() == alert) return true;
    for (const std::string& symptom : expected.before()) {
      if (symptom == alert) return true;
    }
  }
  const auto has = [&](const auto& names) {
    return std::find(names.begin(), names.end(), alert) != names.end();
  };
  return has(expect.may_fire()) || has(expect.must_not_fire());
}

// One note an alert, however often its series came and went.
void NoteVanished(Case& run) {
  std::vector<std::string> alerts;
  std::map<std::string, std::set<absl::Time>> times;
  for (const AlertEpisode& episode : run.episodes) {
    if (!episode.vanished.has_value() || episode.unwatched) continue;
    if (times.count(episode.alert) == 0) alerts.push_back(episode.alert);
    times[episode.alert].insert(episode.vanished->at);
  }
  for (const std::string& alert : alerts) {
    const std::set<absl::Time>& when = times[alert];
    const std::string first = run.At(*when.begin());
    run.Note("false-resolve", alert,
             when.size() == 1
                 ? absl::StrCat(alert, " went away at ", first,
                                " because its series did: that was no recovery")
                 : absl::StrCat(alert, " went away ", when.size(),
                                " times because its series did, first at ", first, ", last at ",
                                run.At(*when.rbegin()), ": that was no recovery"),
             absl::StrCat("alert on the absence of the series of ", alert, " as well"));
  }
}

}  // namespace

std::optional<absl::Time> SteadyAgain(const Case& run, absl::Time from, absl::Time start) {
  std::optional<absl::Time> back;
  for (const v1::PlannedCheck& check : run.plan.gate()) {
    const std::vector<TruthPoint> points = TruthOf(check, run.history);
    const std::optional<Hold> hold =
        FirstHold(points, from, absl::InfiniteDuration(), FromProto(check.for_()),
                  BlindAfter(run.plan, check));
    if (!hold.has_value()) return std::nullopt;
    const absl::Time begin = StretchBegin(points, hold->begin);
    if (begin < start) continue;
    back = std::max(back.value_or(begin), begin);
  }
  return back;
}

void MeasureTimes(Case& run) {
  MeasureAnyAlert(run);
  MeasureExpected(run);
  MeasureRecovery(run);
}

void FindObservations(Case& run) {
  const std::optional<Instant> start = run.steps.FirstStart();
  const std::optional<Instant> end = run.steps.LastEnd();
  for (const Gap& gap : run.gaps) {
    const bool during =
        start.has_value() && gap.to >= start->at && (!end.has_value() || gap.from <= end->at);
    const std::string why = gap.reason.empty() ? "" : absl::StrCat(": ", gap.reason);
    if (gap.covered) {
      run.Note("replica-gap", gap.source,
               absl::StrCat(GapText(run, gap), ", while another one did", why));
      continue;
    }
    run.Note(gap.away ? "controller-gap" : "monitor-gap", gap.source,
             absl::StrCat(GapText(run, gap), during ? ", during the fault" : "", why),
             during && !gap.away ? "monitoring must outlive the failure that it watches" : "");
  }
  NoteVanished(run);
  std::set<std::string> told;
  for (const AlertEpisode& episode : run.episodes) {
    if (!episode.firing.has_value() || !run.gate_passed.has_value()) continue;
    if (episode.firing->at < *run.gate_passed || Named(run, episode.alert)) continue;
    if (!told.insert(episode.alert).second) continue;
    run.Note("unexpected-alert", episode.alert,
             absl::StrCat(episode.alert, " fired at ", run.At(episode.firing->at),
                          ", and the experiment does not name it"),
             "name it in alerts, mayFire or mustNotFire");
  }
  for (const FaultCourse& fault : run.steps.faults()) {
    if (fault.last == v1::FAULT_STATE_SUPERSEDED) {
      run.Note("superseded", fault.planned.name(),
               absl::StrCat("someone else changed what ", fault.planned.name(), " had changed on ",
                            fault.planned.node(), ": it was left alone"));
    }
  }
}

}  // namespace firedrill::judging
