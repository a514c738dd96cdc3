// Judges what was measured of the system: impact reached, steady state back.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

// The question behind an impact or a recovery, as the plan asks it.
template <typename Expectation>
v1::PlannedCheck CheckOf(const Case& run, absl::string_view section, const Expectation& expected) {
  v1::PlannedCheck check;
  const v1::Probe& probe = expected.probe();
  if (probe.question_case() == v1::Probe::kProbe) {
    for (const v1::PlannedCheck& gate : run.plan.gate()) {
      if (gate.name() == probe.probe()) check = gate;
    }
  } else if (probe.question_case() == v1::Probe::kLoad) {
    check.set_load(probe.load());
    check.set_request(probe.request());
    *check.mutable_over() = expected.over();
  } else {
    check.set_probe(absl::StrCat(section, "/", expected.name()));
  }
  check.set_name(expected.name());
  if (!expected.is().empty()) check.set_is(expected.is());
  return check;
}

// What a condition did after its anchor.
struct Watch {
  v1::PlannedCheck check;
  std::vector<TruthPoint> points;
  absl::Duration blind_after;
  Since since;
  absl::Duration within;
  absl::Duration hold;
  bool steady_state = false;

  absl::Time Deadline() const { return since.at.at + within + hold; }
};

const TruthPoint* LastBefore(const Watch& watch, absl::Time time) {
  const TruthPoint* last = nullptr;
  for (const TruthPoint& point : watch.points) {
    if (point.at > time) break;
    if (point.truth != Truth::kUnknown || last == nullptr) last = &point;
  }
  return last;
}

const TruthPoint* FirstBroken(const Watch& watch, absl::Time from) {
  for (const TruthPoint& point : watch.points) {
    if (point.at >= from && point.truth == Truth::kFalse) return &point;
  }
  return nullptr;
}

// Steady state comes back; any other condition comes true.
std::string Back(const Watch& watch) { return watch.steady_state ? "back" : "true"; }

std::string HoldsText(const v1::PlannedCheck& check, absl::Duration hold) {
  if (hold == absl::ZeroDuration()) return check.is();
  return absl::StrCat(check.is(), " for ", Short(hold));
}

// ---- recovery

// When the stretch that `hold` belongs to began, seen from the anchor; negative where it was true
// before.
absl::Duration BeginOf(const Watch& watch, const Hold& hold, bool* never_broken) {
  const absl::Time begin = StretchBegin(watch.points, hold.begin);
  *never_broken = begin < watch.since.started.at;
  return (*never_broken ? watch.since.at.at : begin) - watch.since.at.at;
}

void JudgeCameBack(Case& run, const Watch& watch, const std::string& since, Result& result) {
  const absl::Time anchor = watch.since.at.at;
  const absl::Duration error = watch.since.at.error;
  const std::optional<Hold> hold =
      FirstHold(watch.points, anchor, watch.within + error, watch.hold, watch.blind_after);
  if (hold.has_value()) {
    bool never_broken = false;
    const absl::Duration measured = BeginOf(watch, *hold, &never_broken);
    *result.mutable_measured() = ToProto(measured);
    const std::string stayed =
        watch.hold > absl::ZeroDuration()
            ? absl::StrCat(", and stayed for ", Short(hold->end - hold->begin))
            : std::string();
    // What it did later was not asked for, and is told elsewhere.
    const std::string held =
        watch.hold > absl::ZeroDuration()
            ? absl::StrCat("held for the ", Short(watch.hold), " that are asked")
            : absl::StrCat("held at ", since);
    result.set_observed(
        never_broken ? held : absl::StrCat(Back(watch), " ", After(measured, since), stayed));
    if (const ImpactSeen* impact = MissingImpact(run, watch.since)) {
      return Doubt(result, "no-impact",
                   absl::StrCat("impact ", impact->name,
                                " was not reached, so that there was less to come back from"),
                   absl::StrCat("first make sure that impact ", impact->name, " is reached"));
    }
    if (!never_broken && Compare(measured, watch.within, error) == Fit::kTooCloseToCall) {
      return Doubt(result, "clock",
                   absl::StrCat("the anchor's time is known to ", Short(error), " only"));
    }
    return Pass(result, result.observed());
  }
  if (const TruthPoint* last = LastBefore(watch, watch.Deadline())) {
    result.set_observed(Seen(run, *last));
  }
  if (CutShort(run, watch.Deadline(), result)) return;
  if (FirstPossibleHold(watch.points, anchor, watch.within, watch.hold, watch.blind_after)) {
    return DoubtBlind(run, watch.points, anchor, watch.Deadline(), result);
  }
  const std::optional<Hold> later =
      FirstHold(watch.points, anchor, absl::InfiniteDuration(), watch.hold, watch.blind_after);
  if (later.has_value()) {
    const absl::Duration measured = later->begin - anchor;
    *result.mutable_measured() = ToProto(measured);
    result.set_observed(absl::StrCat(Back(watch), " ", After(measured, since)));
    return Fail(result, "late",
                absl::StrCat("it came back ", Short(measured - watch.within), " too late"),
                "see what it waited for, or allow more time in `within`");
  }
  const std::optional<Hold> flicker =
      FirstHold(watch.points, anchor, watch.within, absl::ZeroDuration(), watch.blind_after);
  if (flicker.has_value() && watch.hold > absl::ZeroDuration()) {
    result.set_observed(absl::StrCat(Back(watch), " ", After(flicker->begin - anchor, since),
                                     ", for ", Short(flicker->end - flicker->begin)));
    const TruthPoint* broken = FirstBroken(watch, flicker->end);
    return Fail(result, "did-not-stay",
                absl::StrCat("it did not stay",
                             broken == nullptr ? "" : absl::StrCat(": ", Seen(run, *broken))),
                "see what broke it again");
  }
  if (const std::optional<Hold> last = HeldAtLast(watch.points, watch.blind_after)) {
    const std::string held = Short(last->end - last->begin);
    const absl::Duration measured = last->begin - anchor;
    result.set_observed(absl::StrCat(Back(watch), " ", After(measured, since), ", for ", held));
    if (Compare(measured, watch.within, error) == Fit::kBeyond) {
      *result.mutable_measured() = ToProto(measured);
      return Fail(result, "late",
                  absl::StrCat("it came back ", Short(measured - watch.within),
                               " too late, and had held for ", held, " of the ", Short(watch.hold),
                               " that are asked when the run ended"),
                  "see what it waited for, or allow more time in `within`");
    }
    return Fail(
        result, "never-came-back",
        absl::StrCat("it held again only at ", run.At(last->begin), ", and had held for ", held,
                     " of the ", Short(watch.hold), " that are asked when the run ended"),
        "see what it waited for, or let the run last longer");
  }
  Fail(result, "never-came-back", "it was not back when the run ended",
       "see what still holds the system down: sessions, pools, caches, queues");
}

// A fault that was on when the remedy ended, and had ended before `back`: then that is why.
const FaultCourse* OverBefore(const Case& run, absl::Time begun, absl::Time done, absl::Time back) {
  for (const FaultCourse& fault : run.steps.faults()) {
    if (!fault.start.has_value() || !fault.end.has_value()) continue;
    if (fault.start->at <= done && fault.end->at > begun && fault.end->at < back) return &fault;
  }
  return nullptr;
}

// Another remedy that was done after this one had begun, and before `back`: that may be why.
const RemedyCourse* DoneBefore(const Case& run, absl::string_view remedy, absl::Time begun,
                               absl::Time back) {
  for (const RemedyCourse& other : run.steps.remedies()) {
    if (other.planned.name() == remedy || !other.done.has_value()) continue;
    if (other.done->at > begun && other.done->at < back) return &other;
  }
  return nullptr;
}

// `expected: false`: this must not come back, because the remedy does not help.
void JudgeStayedAway(Case& run, const Watch& watch, const std::string& since, Result& result) {
  const absl::Time anchor = watch.since.at.at;
  // What came back while the remedy ran came back because of it.
  absl::Time begun = anchor;
  for (const RemedyCourse& remedy : run.steps.remedies()) {
    if (watch.since.anchor.point != AnchorPoint::kDone) break;
    if (remedy.planned.name() != watch.since.anchor.step || !remedy.running.has_value()) continue;
    begun = std::min(begun, remedy.running->at);
  }
  // Only what went away can come *back*: a stretch that goes on from before is passed over.
  absl::Time from = anchor;
  const std::optional<Hold> already =
      FirstHold(watch.points, anchor, watch.blind_after, absl::ZeroDuration(), watch.blind_after);
  const bool held_already =
      already.has_value() && StretchBegin(watch.points, already->begin) < begun;
  if (held_already) from = already->end + absl::Nanoseconds(1);
  const absl::Duration within = anchor + watch.within - from;
  const bool went =
      std::any_of(watch.points.begin(), watch.points.end(), [&](const TruthPoint& point) {
        return point.truth == Truth::kFalse && point.at >= from && point.at <= watch.Deadline();
      });
  if (const TruthPoint* last = LastBefore(watch, watch.Deadline())) {
    result.set_observed(Seen(run, *last));
  }
  const std::optional<Hold> back =
      FirstHold(watch.points, from, within, watch.hold, watch.blind_after);
  if (held_already && !went && !back.has_value()) {
    return Doubt(result, "held-already",
                 "it had not gone, so that there was nothing to come back from",
                 "see that the fault really breaks it before this");
  }
  if (back.has_value()) {
    const absl::Time begin = std::max(StretchBegin(watch.points, back->begin), begun);
    *result.mutable_measured() = ToProto(begin - anchor);
    result.set_observed(absl::StrCat("back ", After(begin - anchor, since)));
    if (const ImpactSeen* impact = MissingImpact(run, watch.since)) {
      return Doubt(result, "no-impact",
                   absl::StrCat("impact ", impact->name,
                                " was not reached, so that there was less to come back from"));
    }
    if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
    if (const FaultCourse* over = OverBefore(run, begun, anchor, begin)) {
      return Doubt(
          result, "fault-over",
          absl::StrCat("fault ", over->planned.name(), " was over before, so that it is not ",
                       watch.since.anchor.step, "'s doing"),
          "let the fault last for as long as the remedy and `within` take together");
    }
    if (const RemedyCourse* other = DoneBefore(run, watch.since.anchor.step, begun, begin)) {
      return Doubt(result, "other-remedy",
                   absl::StrCat("remedy ", other->planned.name(), " was done before, at ",
                                run.At(other->done->at), ", and may be why"),
                   "let the other remedy begin later, or shorten `within`");
    }
    // A restart takes away for a moment what nothing else had taken: that comes back by itself.
    const TruthPoint* when_begun = LastBefore(watch, begun);
    if (!held_already && begun < anchor && when_begun != nullptr &&
        when_begun->truth == Truth::kTrue && begun - when_begun->at <= watch.blind_after) {
      return Doubt(result, "held-already",
                   absl::StrCat("it held when ", watch.since.anchor.step,
                                " began, so that there was nothing to cure"),
                   "see that the fault really breaks it before this");
    }
    return Fail(result, "came-back",
                absl::StrCat("it came back, although it was believed that ",
                             watch.since.anchor.step, " does not help"),
                "the belief is wrong: change the runbook, or this expectation");
  }
  if (CutShort(run, watch.Deadline(), result)) return;
  if (FirstPossibleHold(watch.points, from, within, watch.hold, watch.blind_after)) {
    return DoubtBlind(run, watch.points, anchor, watch.Deadline(), result);
  }
  Pass(result, absl::StrCat("not back: ", result.observed()));
}

}  // namespace

void JudgeImpacts(Case& run) {
  for (int i = 0; i < run.spec.expect().impact_size(); ++i) {
    const v1::ImpactExpectation& expected = run.spec.expect().impact(i);
    Result& result =
        run.Add(Result::KIND_IMPACT, expected.name(), absl::StrCat("expect.impact[", i, "]"));
    Watch watch{CheckOf(run, "impact", expected)};
    watch.within = FromProto(expected.within());
    watch.hold = FromProto(expected.for_());
    result.set_expected(absl::StrCat(HoldsText(watch.check, watch.hold), ", within ",
                                     Short(watch.within), " of ", expected.since()));
    *result.mutable_budget() = expected.within();
    const std::optional<Since> since = Anchored(run, expected.since(), result);
    ImpactSeen seen{expected.name()};
    if (const auto anchor = ParseAnchor(expected.since()); anchor.ok()) seen.anchor = *anchor;
    if (since.has_value()) {
      seen.since = since->at;
      watch.since = *since;
      watch.points = TruthOf(watch.check, run.history);
      watch.blind_after = BlindAfter(run.plan, watch.check);
      const std::optional<Hold> hold =
          FirstHold(watch.points, since->at.at, watch.within, watch.hold, watch.blind_after);
      if (hold.has_value()) {
        seen.reached = true;
        const absl::Duration measured = hold->begin - since->at.at;
        *result.mutable_measured() = ToProto(measured);
        const TruthPoint* point = LastBefore(watch, hold->begin);
        Pass(result, absl::StrCat(point->observed, ", ", After(measured, expected.since())));
      } else {
        if (const TruthPoint* last = LastBefore(watch, watch.Deadline())) {
          result.set_observed(Seen(run, *last));
        }
        if (CutShort(run, watch.Deadline(), result)) {
          // Said.
        } else if (FirstPossibleHold(watch.points, since->at.at, watch.within, watch.hold,
                                     watch.blind_after)) {
          DoubtBlind(run, watch.points, since->at.at, watch.Deadline(), result);
        } else {
          Doubt(
              result, "no-impact", "it did not hurt enough for the run to mean anything",
              "make the fault bigger or longer, or add what makes the system feel it (a warm pool "
              "does not notice a full server)");
        }
      }
    }
    run.impacts.push_back(std::move(seen));
  }
}

void JudgeRecovery(Case& run) {
  for (int i = 0; i < run.spec.expect().recovery_size(); ++i) {
    const v1::RecoveryExpectation& expected = run.spec.expect().recovery(i);
    const bool back = !expected.has_expected() || expected.expected();
    Result& result =
        run.Add(Result::KIND_RECOVERY, expected.name(), absl::StrCat("expect.recovery[", i, "]"));
    Watch watch{CheckOf(run, "recovery", expected)};
    watch.within = FromProto(expected.within());
    watch.hold = FromProto(expected.for_());
    watch.steady_state = expected.probe().question_case() == v1::Probe::kProbe;
    result.set_expected(absl::StrCat(back ? "" : "NOT ", HoldsText(watch.check, watch.hold),
                                     ", within ", Short(watch.within), " of ", expected.since()));
    *result.mutable_budget() = expected.within();
    const std::optional<Since> since = Anchored(run, expected.since(), result);
    if (!since.has_value()) continue;
    watch.since = *since;
    watch.points = TruthOf(watch.check, run.history);
    watch.blind_after = BlindAfter(run.plan, watch.check);
    if (back) {
      JudgeCameBack(run, watch, expected.since(), result);
    } else {
      JudgeStayedAway(run, watch, expected.since(), result);
    }
  }
}

}  // namespace firedrill::judging
