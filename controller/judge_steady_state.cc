// Judges that steady state came back, and stayed, once everything was over: each check that no
// recovery asks for then.
#include <algorithm>
#include <set>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

constexpr char kAgain[] = "see what still holds the system down: sessions, pools, caches, queues";

absl::Duration LastPlannedEnd(const Case& run) {
  absl::Duration last;
  for (const v1::PlannedFault& fault : run.plan.faults()) {
    last = std::max(last, FromProto(fault.at()) + FromProto(fault.duration()));
  }
  return last;
}

// From the gate's end to the anchor; what a remedy takes is known only once it is done. Empty where
// it never came.
std::optional<absl::Duration> AnchorAt(const Case& run, const Anchor& anchor) {
  for (const v1::PlannedFault& fault : run.plan.faults()) {
    if (fault.name() != anchor.step) continue;
    const absl::Duration at = FromProto(fault.at());
    return anchor.point == AnchorPoint::kEnd ? at + FromProto(fault.duration()) : at;
  }
  const std::optional<Instant> done = run.steps.Find(anchor);
  if (done.has_value() && run.gate_passed.has_value()) return done->at - *run.gate_passed;
  if (run.finished.has_value() && run.gate_passed.has_value() && !run.stop.has_value()) return {};
  for (const v1::PlannedRemedy& remedy : run.plan.remedies()) {
    if (remedy.name() == anchor.step) return FromProto(remedy.at());
  }
  return std::nullopt;
}

// A recovery that can only pass where the check was seen to hold after the last fault's end.
bool AskedForAtTheEnd(const Case& run, const v1::PlannedCheck& check) {
  return absl::c_any_of(run.spec.expect().recovery(), [&](const v1::RecoveryExpectation& asked) {
    if (asked.has_expected() && !asked.expected()) return false;
    if (asked.probe().probe() != check.name() || !asked.is().empty()) return false;
    const absl::StatusOr<Anchor> anchor = ParseAnchor(asked.since());
    if (!anchor.ok()) return false;
    const std::optional<absl::Duration> at = AnchorAt(run, *anchor);
    return at.has_value() && *at + FromProto(asked.for_()) >= LastPlannedEnd(run);
  });
}

// When the last fault and the last remedy were over, and what that was: "lost.end". By the
// controller's clock, as the run itself takes it. Empty where a fault that began never ended.
struct Over {
  absl::Time at;
  std::string what;
};
std::optional<Over> AllOver(const Case& run) {
  const bool begun = absl::c_any_of(run.steps.faults(), [](const FaultCourse& fault) {
    return fault.start.has_value() && !fault.end.has_value();
  });
  if (begun) return std::nullopt;
  Over over{*run.gate_passed, "the gate"};
  std::set<std::pair<std::string, std::string>> ended;
  for (const v1::Event& event : run.history) {
    const v1::FaultReport& fault = event.fault();
    const v1::RemedyReport& remedy = event.remedy();
    if (event.has_fault() && (fault.state() == v1::FAULT_STATE_REVERTED ||
                              fault.state() == v1::FAULT_STATE_SUPERSEDED)) {
      // Said again, it is no later end.
      if (!ended.emplace(fault.fault(), fault.node()).second) continue;
      over = {FromProto(event.at()), absl::StrCat(fault.fault(), ".end")};
    } else if (event.has_remedy() && (remedy.state() == v1::REMEDY_STATE_DONE ||
                                      remedy.state() == v1::REMEDY_STATE_FAILED)) {
      over = {FromProto(event.at()), remedy.state() == v1::REMEDY_STATE_DONE
                                         ? absl::StrCat(remedy.remedy(), ".done")
                                         : absl::StrCat("the failure of ", remedy.remedy())};
    }
  }
  return over;
}

// All of it was seen before the run ended or was stopped.
struct Course {
  std::vector<TruthPoint> points;
  const TruthPoint* last = nullptr;
  const TruthPoint* last_known = nullptr;
  const TruthPoint* last_broken = nullptr;
};

Course CourseOf(const Case& run, const v1::PlannedCheck& check) {
  Course course{TruthOf(check, run.history)};
  std::erase_if(course.points, [&](const TruthPoint& point) { return point.at > run.horizon; });
  for (const TruthPoint& point : course.points) {
    course.last = &point;
    if (point.truth != Truth::kUnknown) course.last_known = &point;
    if (point.truth == Truth::kFalse && point.at >= *run.gate_passed) course.last_broken = &point;
  }
  return course;
}

// It held for long enough, and nothing is known against its holding still.
void PassBack(const Course& course, const Over& over, Result& result) {
  if (course.last_broken == nullptr) return Pass(result, "it held all the time");
  const absl::Duration measured = StretchBegin(course.points, course.last_known->at) - over.at;
  *result.mutable_measured() = ToProto(measured);
  Pass(result, absl::StrCat("back ", After(measured, over.what), ", and stayed"));
}

void JudgeCheck(Case& run, const v1::PlannedCheck& check, Result& result) {
  if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
  const std::optional<Over> over = AllOver(run);
  if (run.stop.has_value() && (!over.has_value() || over->at > run.horizon)) {
    return Doubt(result, "cut-short", "the run was stopped before everything was over");
  }
  if (!over.has_value()) {
    return Doubt(result, "no-anchor", "a fault was never seen to end, so that nothing comes after");
  }
  const absl::Duration hold = FromProto(check.for_());
  const absl::Duration blind_after = BlindAfter(run.plan, check);
  const Course course = CourseOf(run, check);
  const bool goes_on = course.last != nullptr && run.horizon - course.last->at <= blind_after;
  const absl::Time seen_to = goes_on ? course.last->at : run.horizon;
  const std::optional<Hold> held =
      FirstHold(course.points, over->at, absl::InfiniteDuration(), hold, blind_after);
  const bool broken = course.last_known != nullptr && course.last_known->truth == Truth::kFalse;
  if (course.last_known != nullptr) result.set_observed(Seen(run, *course.last_known));
  if (held.has_value() && !broken) {
    if (run.horizon - course.last_known->at <= blind_after) return PassBack(course, *over, result);
    return DoubtBlind(run, course.points, course.last_known->at, run.horizon, result);
  }
  if (CutShort(run, over->at + FromProto(run.plan.gate_timeout()), result)) return;
  if (held.has_value()) {
    result.set_observed(absl::StrCat("back ", After(held->begin - over->at, over->what), ", for ",
                                     Short(held->end - held->begin)));
    return Fail(result, "did-not-stay",
                absl::StrCat("it did not stay, and was broken when the run ended: ",
                             Seen(run, *course.last_known)),
                "see what broke it again");
  }
  if (FirstPossibleHold(course.points, over->at, seen_to - hold - over->at, hold, blind_after)) {
    return DoubtBlind(run, course.points, over->at, run.horizon, result);
  }
  if (const std::optional<Hold> last = HeldAtLast(course.points, blind_after)) {
    return Fail(result, "never-came-back",
                absl::StrCat("it held again only at ", run.At(last->begin), ", and had held for ",
                             Short(last->end - std::max(last->begin, over->at)), " of the ",
                             Short(hold), " that are asked when the run ended"),
                kAgain);
  }
  Fail(result, "never-came-back", "it was not back when the run ended", kAgain);
}

}  // namespace

void JudgeSteadyState(Case& run) {
  for (int i = 0; i < run.plan.gate_size(); ++i) {
    const v1::PlannedCheck& check = run.plan.gate(i);
    if (AskedForAtTheEnd(run, check)) continue;
    Result& result = run.Add(Result::KIND_RECOVERY, absl::StrCat("steady-state/", check.name()),
                             absl::StrCat("steadyState[", i, "]"));
    const absl::Duration hold = FromProto(check.for_());
    result.set_expected(absl::StrCat(
        check.is(), hold > absl::ZeroDuration() ? absl::StrCat(" for ", Short(hold)) : "",
        " again, within ", Short(FromProto(run.plan.gate_timeout())),
        " of the end of all faults and remedies, and at the run's end"));
    *result.mutable_budget() = run.plan.gate_timeout();
    if (run.gate_passed.has_value()) {
      JudgeCheck(run, check, result);
    } else {
      DoubtNotRun(run, result);
    }
  }
}

}  // namespace firedrill::judging
