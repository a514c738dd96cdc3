// Judges which alerts fired first, and which must not fire at all.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_contract.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

// The first evaluation in which `alert` fired because of this run.
const AlertEpisode* FirstFiring(const Case& run, const std::string& alert, const Since& since) {
  const AlertEpisode* first = nullptr;
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != alert || !episode.firing_raw.has_value()) continue;
    if (WasActiveBefore(episode, since.started)) continue;
    if (first == nullptr || *episode.firing_raw < *first->firing_raw) first = &episode;
  }
  return first;
}

}  // namespace

void JudgeOrder(Case& run, const Contract& contract, const std::string& symptom) {
  const v1::AlertExpectation& expected = contract.expected;
  Result& result =
      run.Add(Result::KIND_ALERT_ORDER, absl::StrCat(expected.name(), "/before/", symptom),
              contract.path, "before");
  result.set_expected(absl::StrCat(expected.alert(), " firing before ", symptom));
  if (!Anchored(run, expected.since(), result).has_value()) return;
  const AlertEpisode* other = FirstFiring(run, symptom, *contract.since);
  const AlertEpisode* first = contract.fired;
  const auto blind = [&] {
    return BlindIn(run, {"prometheus"}, contract.since->started.at,
                   contract.since->at.at + FromProto(expected.firing_within())) != nullptr;
  };
  if (other == nullptr) {
    result.set_observed(absl::StrCat(symptom, " never fired"));
    if (first == nullptr) {
      return Doubt(
          result, "never-fired",
          contract.otherwise == nullptr
              ? "neither of them fired, so that there is no order"
              : absl::StrCat(expected.alert(), " fired with labels that are not asked for, and ",
                             symptom, " did not: there is no order"));
    }
    if (blind()) return Doubt(result, "blind", "Prometheus told nothing fresh for a while");
    if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
    return Pass(result, result.observed());
  }
  const std::string other_at = run.At(other->firing->at);
  if (first != nullptr && *first->firing_raw < *other->firing_raw) {
    return Pass(result,
                absl::StrCat(Short(*other->firing_raw - *first->firing_raw), " before ", symptom));
  }
  if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
  if (first != nullptr && *first->firing_raw == *other->firing_raw) {
    result.set_observed(absl::StrCat("both in the evaluation at ", other_at));
    run.Note("tie", result.name(),
             absl::StrCat(expected.alert(), " and ", symptom,
                          " fired in the same evaluation: neither was first"),
             "evaluate more often, or put them into different groups");
    return Doubt(result, "tie", "both fired in the same evaluation");
  }
  result.set_observed(
      first == nullptr
          ? absl::StrCat(
                symptom, " fired at ", other_at, ", ", expected.alert(),
                contract.otherwise == nullptr ? " never" : " with labels that are not asked for")
          : absl::StrCat(symptom, " fired ", Short(*first->firing_raw - *other->firing_raw),
                         " before it"));
  if (blind()) return Doubt(result, "blind", "Prometheus told nothing fresh for a while");
  Fail(result, "wrong-order",
       absl::StrCat("the symptom (", symptom, ") was named before the cause (", expected.alert(),
                    ")"),
       absl::StrCat("make ", expected.alert(), " quicker, or ", symptom, " slower"));
}

void JudgeForbidden(Case& run) {
  for (int i = 0; i < run.spec.expect().must_not_fire_size(); ++i) {
    const std::string& alert = run.spec.expect().must_not_fire(i);
    Result& result =
        run.Add(Result::KIND_FORBIDDEN_ALERT, alert, absl::StrCat("expect.mustNotFire[", i, "]"));
    result.set_expected(absl::StrCat(alert, " does not fire"));
    const AlertEpisode* fired = nullptr;
    const AlertEpisode* pending = nullptr;
    for (const AlertEpisode& episode : run.episodes) {
      if (episode.alert != alert) continue;
      // By when it was seen: what is learnt later must not take back what was said.
      if (!episode.seen_firing.has_value()) {
        pending = &episode;
      } else if (episode.seen_firing->at >= *run.gate_passed && fired == nullptr) {
        fired = &episode;
      }
    }
    if (fired != nullptr) {
      result.set_observed(absl::StrCat("fired at ", run.At(fired->firing->at)));
      *result.mutable_measured() = ToProto(fired->firing->at - *run.gate_passed);
      Fail(
          result, "forbidden-fired",
          absl::StrCat(alert, " fired during the run, and would have sent someone the wrong way"),
          // Who mutes what is right has mended nothing.
          absl::StrCat("where what ", alert, " tells is true here, give the system the protection ",
                       "that it lacks; else make ", alert,
                       " tell this failure from the one it is meant for"));
      continue;
    }
    const std::string observed =
        pending == nullptr
            ? "never fired"
            : absl::StrCat("pending at ", run.At(pending->Begin().at), ", never fired");
    result.set_observed(observed);
    if (!run.finished.has_value()) {
      Doubt(result, "open", "the run has not finished");
    } else if (run.stop.has_value()) {
      Doubt(result, "cut-short", "the run was stopped, and it might have fired later");
    } else if (const Gap* gap = BlindIn(run, {"prometheus"}, *run.gate_passed, run.end)) {
      Doubt(result, "blind", absl::StrCat(GapText(run, *gap), ", and it may have fired then"));
    } else {
      Pass(result, observed);
    }
  }
}

}  // namespace firedrill::judging
