// Judges how an alert ends: gone everywhere, in time, and with its series there to say so.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_contract.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

void JudgeNotResolved(Case& run, const Contract& contract, absl::Time deadline,
                      const AlertEpisode& open, Result& result) {
  result.set_observed(absl::StrCat("still ", open.ended.has_value() ? "at Alertmanager" : "firing",
                                   " at the run's end"));
  // What stays unknown is no matter of time, and no failure either.
  if (open.unwatched) {
    result.set_observed(absl::StrCat("last seen ", run.At(open.vanished->at)));
    return Doubt(result, "blind",
                 absl::StrCat(contract.expected.alert(),
                              " ended or went on while the controller was away: nobody watched"),
                 "run again");
  }
  const bool only_alertmanager = !open.pending.has_value() && !open.ended.has_value();
  if (open.vanished.has_value() || (only_alertmanager && open.left_alertmanager.has_value())) {
    result.set_observed(absl::StrCat(
        "went away ",
        run.At(open.vanished.has_value() ? open.vanished->at : open.left_alertmanager->at),
        " without its series"));
    return Doubt(result, "blind-resolve",
                 absl::StrCat(contract.expected.alert(),
                              " went away while its series were absent: that is blindness, not the "
                              "end of what it was about"),
                 "see why the exporter stopped answering");
  }
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap =
          BlindIn(run, {"prometheus", "alertmanager"}, contract.since->started.at, deadline)) {
    return Doubt(result, "blind", GapText(run, *gap));
  }
  Fail(result, "not-resolved",
       absl::StrCat(contract.expected.alert(), " was still active when the run ended"),
       "see what keeps its condition true after the fault's end, or allow more time");
}

// The same instance began again after it had gone out of sight: then that is how it went on.
bool WentOn(const Contract& contract, const AlertEpisode& episode) {
  return episode.vanished.has_value() &&
         std::any_of(contract.credited.begin(), contract.credited.end(), [&](const auto* later) {
           return later->labels == episode.labels && later->Begin().at > episode.Begin().at;
         });
}

}  // namespace

void JudgeResolved(Case& run, Contract& contract) {
  const v1::AlertExpectation& expected = contract.expected;
  if (!expected.has_resolved()) return;
  const v1::ResolvedExpectation& wanted = expected.resolved();
  const absl::Duration budget = FromProto(wanted.within());
  Result& result = run.Add(Result::KIND_ALERT_RESOLVED, absl::StrCat(expected.name(), "/resolved"),
                           contract.path, "resolved");
  result.set_expected(absl::StrCat("resolved within ", Short(budget), " of ", wanted.since()));
  *result.mutable_budget() = wanted.within();
  const std::optional<Since> since = Anchored(run, wanted.since(), result);
  if (!since.has_value()) return;
  if (contract.fired == nullptr) {
    result.set_observed("never fired");
    return Doubt(result, "never-fired", "it did not fire, so that there was nothing to resolve");
  }
  std::optional<Instant> last;
  const absl::Time deadline = since->at.at + budget;
  std::optional<absl::Time> told;
  for (const AlertEpisode* episode : contract.credited) {
    if (!episode->firing.has_value() || WentOn(contract, *episode)) continue;
    const std::optional<Instant> resolved = episode->Resolved();
    if (!resolved.has_value()) return JudgeNotResolved(run, contract, deadline, *episode, result);
    if (!last.has_value() || resolved->at > last->at) last = resolved;
    for (const auto& [receiver, delivery] : episode->deliveries) {
      if (expected.has_notification() && receiver != expected.notification().receiver()) continue;
      if (!delivery.resolved.has_value()) continue;
      told = std::max(told.value_or(*delivery.resolved), *delivery.resolved);
    }
  }
  if (!last.has_value()) {
    return Doubt(result, "blind-resolve", "it went out of sight before it fired again");
  }
  *contract.times->mutable_resolved() = ToProto(last->at);
  if (told.has_value()) *contract.times->mutable_resolve_notified() = ToProto(*told);
  const absl::Duration measured = last->at - since->at.at;
  const absl::Duration error = last->error + since->at.error;
  *result.mutable_measured() = ToProto(measured);
  result.set_observed(absl::StrCat("resolved ", After(measured, wanted.since())));
  const Fit fit = Compare(measured, budget, error);
  if (fit == Fit::kWithin) {
    if (measured + error < absl::ZeroDuration()) {
      run.Note("resolved-early", expected.name(),
               absl::StrCat(expected.alert(), " resolved ", Short(-measured), " before ",
                            wanted.since()),
               "see whether its condition really ended, or only went out of sight");
    }
    return Pass(result, result.observed());
  }
  if (fit == Fit::kTooCloseToCall) {
    return Doubt(result, "clock", "the clocks do not tell whether that was in time");
  }
  if (CutShort(run, deadline, result)) return;
  if (BlindIn(run, {"prometheus", "alertmanager"}, since->at.at, last->at) ||
      AwayIn(run, since->at.at, last->at)) {
    return Doubt(result, "blind",
                 "a source told nothing fresh, so that it may have resolved in time");
  }
  Fail(result, "late", absl::StrCat("it resolved ", Short(measured - budget), " too late"),
       "allow more time in resolved.within, or shorten the window that its expression looks back "
       "on");
}

}  // namespace firedrill::judging
