// Judges whether an alert stayed while its cause did: one that resolves in mid-outage and fires
// again pages over and over, or is silent just when somebody looks.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "controller/judge_contract.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

// From its end to when it fired again.
struct Silence {
  absl::Time from;
  absl::Time to;
};

// Until when the cause was surely there. Of a fault that lasts until it is undone; what does not
// undo itself may have been ended by whatever the experiment did last.
absl::Time CauseLastsUntil(const Case& run, const Since& since) {
  absl::Time until = run.horizon;
  std::optional<absl::Time> last_step;
  const auto step = [&](const std::optional<Instant>& instant) {
    if (!instant.has_value() || instant->at <= since.at.at) return;
    last_step = std::max(last_step.value_or(instant->at), instant->at);
  };
  bool lasts = false;
  for (const FaultCourse& fault : run.steps.faults()) {
    const std::optional<Instant>& undone =
        fault.undo_begun.has_value() ? fault.undo_begun : fault.end;
    step(undone);
    if (fault.planned.name() != since.anchor.step) continue;
    if (fault.planned.ending() == v1::ENDING_ONE_SHOT) continue;
    lasts = true;
    if (undone.has_value()) until = std::min(until, undone->at - undone->error);
  }
  if (lasts) return until;
  for (const RemedyCourse& remedy : run.steps.remedies()) step(remedy.running);
  return std::min(until, last_step.value_or(until));
}

// Whether the experiment itself did anything then that may have ended the alert for a while.
bool SomethingWasDone(const Case& run, absl::Time from, absl::Time to) {
  const auto within = [&](const std::optional<Instant>& instant) {
    return instant.has_value() && instant->at >= from && instant->at <= to;
  };
  for (const FaultCourse& fault : run.steps.faults()) {
    if (within(fault.start) || within(fault.undo_begun) || within(fault.end)) return true;
  }
  for (const RemedyCourse& remedy : run.steps.remedies()) {
    if (!remedy.running.has_value() || remedy.running->at > to) continue;
    if (!remedy.done.has_value() || remedy.done->at >= from) return true;
  }
  return false;
}

std::vector<Silence> SilencesOf(const Case& run, const Contract& contract) {
  const absl::Time until = CauseLastsUntil(run, *contract.since);
  std::vector<Silence> silences;
  for (auto it = contract.credited.begin(); it != contract.credited.end(); ++it) {
    const AlertEpisode& episode = **it;
    // Where its series were away, or nobody looked in between, it may have been a scrape that was
    // missed.
    if (!episode.firing.has_value() || !episode.end_seen || episode.vanished.has_value()) continue;
    const auto next = std::find_if(std::next(it), contract.credited.end(), [&](const auto* later) {
      return later->firing.has_value() && later->labels == episode.labels;
    });
    if (next == contract.credited.end()) continue;
    const absl::Time fired = episode.firing->at;
    const Instant& again = *(*next)->firing;
    if (again.at + again.error >= until) continue;
    if (SomethingWasDone(run, fired, again.at)) continue;
    if (BlindIn(run, {"prometheus"}, fired, again.at) != nullptr) continue;
    const std::optional<absl::Time> back = SteadyAgain(run, fired, contract.since->started.at);
    if (back.has_value() && *back <= again.at) continue;
    silences.push_back({episode.ended->at, again.at});
  }
  return silences;
}

}  // namespace

bool DidNotStay(Case& run, const Contract& contract, Result& result) {
  if (!run.finished.has_value()) {
    Doubt(result, "open", "the run has not finished: it may still go and come again");
    return true;
  }
  const std::vector<Silence> silences = SilencesOf(run, contract);
  if (silences.empty()) return false;
  const std::string times =
      silences.size() == 1 ? std::string("once") : absl::StrCat(silences.size(), " times");
  result.set_observed(absl::StrCat(result.observed(), ", then resolved and fired again ", times));
  if (const ImpactSeen* impact = MissingImpact(run, *contract.since)) {
    Doubt(result, "no-impact", absl::StrCat("impact ", impact->name, " was not reached"));
    return true;
  }
  const Silence& longest = *std::max_element(
      silences.begin(), silences.end(),
      [](const Silence& a, const Silence& b) { return a.to - a.from < b.to - b.from; });
  Fail(result, "flapped",
       absl::StrCat("it resolved ", times,
                    " while its cause was there and steady state was not back, and fired again; ",
                    silences.size() == 1 ? "it" : "the longest time it", " was silent for ",
                    Short(longest.to - longest.from), ", from ", run.At(longest.from)),
       absl::StrCat("make the condition of ", contract.expected.alert(),
                    " hold for as long as the failure does, or give the rule `keep_firing_for`"));
  return true;
}

}  // namespace firedrill::judging
