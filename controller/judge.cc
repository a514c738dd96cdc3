// Puts the judgement of a run together: expectations, verdict, outcome and exit code.
#include "controller/judge.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/run_left.h"
#include "controller/words.h"

namespace firedrill {
namespace judging {
namespace {

using Result = v1::ExpectationResult;

// What preflight finds wrong with the way to the receiver, rather than with the rule.
bool IsAboutDelivery(const std::string& code) {
  for (absl::string_view word :
       {"silenc", "inhibit", "rout", "receiver", "alertmanager", "canary", "notify"}) {
    if (absl::StrContains(code, word)) return true;
  }
  return false;
}

// The result that a defect fails: by its own name, by its alert's, or by its receiver's.
Result* Concerned(Case& run, const v1::Finding& defect) {
  Result* found = nullptr;
  const bool delivery = IsAboutDelivery(defect.code());
  for (int i = 0; i < run.out->results_size(); ++i) {
    Result& result = *run.out->mutable_results(i);
    if (result.name() == defect.subject()) {
      if (found == nullptr) found = &result;
    }
    for (int j = 0; j < run.spec.expect().alerts_size(); ++j) {
      const v1::AlertExpectation& alert = run.spec.expect().alerts(j);
      if (result.path() != absl::StrCat("expect.alerts[", j, "]")) continue;
      const bool about = alert.name() == defect.subject() || alert.alert() == defect.subject() ||
                         alert.notification().receiver() == defect.subject();
      if (!about) continue;
      const bool part =
          result.kind() == (delivery ? Result::KIND_ALERT_DELIVERED : Result::KIND_ALERT_FIRING);
      if (part || found == nullptr) found = &result;
    }
    // `before` names rules that must exist too.
    if (found == nullptr && result.kind() == Result::KIND_ALERT_ORDER &&
        absl::EndsWith(result.name(), absl::StrCat("/before/", defect.subject()))) {
      found = &result;
    }
  }
  return found;
}

// Names every expectation of a run in which nothing was injected.
void NotRun(Case& run) {
  const auto add = [&](Result::Kind kind, const std::string& name, const std::string& path,
                       const std::string& expected, absl::string_view part = "") {
    Result& result = run.Add(kind, name, path, part);
    result.set_expected(expected);
    DoubtNotRun(run, result);
  };
  const v1::Expectations& expect = run.spec.expect();
  for (int i = 0; i < expect.impact_size(); ++i) {
    add(Result::KIND_IMPACT, expect.impact(i).name(), absl::StrCat("expect.impact[", i, "]"),
        expect.impact(i).is());
  }
  for (int i = 0; i < expect.alerts_size(); ++i) {
    const v1::AlertExpectation& alert = expect.alerts(i);
    const std::string path = absl::StrCat("expect.alerts[", i, "]");
    add(Result::KIND_ALERT_FIRING, alert.name(), path,
        absl::StrCat(alert.alert(), " firing within ", Short(FromProto(alert.firing_within())),
                     " of ", alert.since()));
    if (alert.has_notification()) {
      add(Result::KIND_ALERT_DELIVERED, absl::StrCat(alert.name(), "/delivered"), path,
          absl::StrCat("delivered to ", alert.notification().receiver()), "notification");
    }
    if (alert.has_resolved()) {
      add(Result::KIND_ALERT_RESOLVED, absl::StrCat(alert.name(), "/resolved"), path, "resolved",
          "resolved");
    }
    for (const std::string& symptom : alert.before()) {
      add(Result::KIND_ALERT_ORDER, absl::StrCat(alert.name(), "/before/", symptom), path,
          absl::StrCat(alert.alert(), " firing before ", symptom), "before");
    }
  }
  for (int i = 0; i < expect.must_not_fire_size(); ++i) {
    add(Result::KIND_FORBIDDEN_ALERT, expect.must_not_fire(i),
        absl::StrCat("expect.mustNotFire[", i, "]"),
        absl::StrCat(expect.must_not_fire(i), " does not fire"));
  }
  for (int i = 0; i < expect.recovery_size(); ++i) {
    add(Result::KIND_RECOVERY, expect.recovery(i).name(), absl::StrCat("expect.recovery[", i, "]"),
        expect.recovery(i).is().empty()
            ? absl::StrCat("steady state ", expect.recovery(i).probe().probe(), " back")
            : expect.recovery(i).is());
  }
  JudgeSteadyState(run);
}

// What was applied has been seen to be undone: told by the run's end, and not contradicted by its
// faults.
bool UndoConfirmed(const Case& run) {
  bool applied = false;
  for (const FaultCourse& fault : run.steps.faults()) {
    if (!fault.apply_issued) continue;
    applied = true;
    if (fault.last == v1::FAULT_STATE_STUCK) return false;
    const bool seen = fault.end.has_value() || fault.last == v1::FAULT_STATE_REFUSED;
    if (run.finished.has_value() && run.finished->undo_confirmed() && !seen) return false;
  }
  if (!applied) return true;
  return run.finished.has_value() && run.finished->undo_confirmed();
}

v1::Verdict VerdictOf(const Case& run) {
  v1::Verdict verdict = run.finished.has_value() && run.gate_passed.has_value()
                            ? v1::VERDICT_PASSED
                            : v1::VERDICT_INCONCLUSIVE;
  for (const Result& result : run.out->results()) verdict = std::max(verdict, result.verdict());
  return verdict;
}

int ExitCodeOf(const v1::Judgement& out) {
  if (!out.undo_confirmed()) return 5;
  switch (out.outcome()) {
    case v1::OUTCOME_ABORTED:
      return out.cause() == v1::StopRequested::CAUSE_INTERRUPT ? 130 : 4;
    case v1::OUTCOME_NOT_STARTED:
      if (out.cause() == v1::StopRequested::CAUSE_INTERRUPT) return 130;
      return out.verdict() == v1::VERDICT_FAILED ? 1 : 3;
    case v1::OUTCOME_MISSED:
      return 3;
    default:
      break;
  }
  if (out.verdict() == v1::VERDICT_FAILED) return 1;
  return out.verdict() == v1::VERDICT_PASSED ? 0 : 6;
}

}  // namespace

void ApplyDefects(Case& run) {
  std::set<const Result*> told;
  for (const v1::Event& event : run.history) {
    if (!event.has_finding()) continue;
    const v1::Finding& finding = event.finding();
    *run.out->add_findings() = finding;
    if (finding.kind() != v1::Finding::KIND_DEFECT) continue;
    Result* result = Concerned(run, finding);
    if (result == nullptr) {
      result = &run.Add(Result::KIND_UNSPECIFIED, finding.subject(), "");
      result->set_expected("alerting that can do what this experiment asks of it");
    }
    // The first defect of an expectation is the one that is told; the others stand among the
    // findings.
    if (!told.insert(result).second) continue;
    if (!run.gate_passed.has_value()) result->set_observed("found before anything was injected");
    Fail(*result, finding.code(), finding.message(), finding.mend());
  }
}

}  // namespace judging

v1::Judgement Judge(const std::vector<v1::Event>& history) {
  v1::Judgement judgement;
  if (history.empty() || !history.front().has_created()) {
    judgement.set_verdict(v1::VERDICT_INCONCLUSIVE);
    judgement.set_exit_code(6);
    judgement.set_reason("this history does not begin with the creation of a run");
    return judgement;
  }
  // What was told after its end changes nothing but whether it is undone.
  if (const size_t length = LengthToEnd(history); length < history.size()) {
    judgement = Judge({history.begin(), history.begin() + static_cast<ptrdiff_t>(length)});
    if (!LeftBy(history).empty() || !SettledWords(history).empty()) return judgement;
    judgement.set_undo_confirmed(true);
    judgement.set_exit_code(judging::ExitCodeOf(judgement));
    return judgement;
  }
  judging::Case run(history);
  run.out = &judgement;
  judgement.set_run(run.plan.run().empty() ? history.front().run() : run.plan.run());
  if (run.finished.has_value()) {
    judgement.set_outcome(run.finished->outcome());
    judgement.set_cause(run.finished->cause());
    judgement.set_reason(run.finished->reason());
  }
  if (run.gate_passed.has_value()) {
    judging::JudgeEfficacy(run);
    judging::JudgeImpacts(run);
    judging::JudgeAlerts(run);
    judging::JudgeForbidden(run);
    judging::JudgeRecovery(run);
    judging::JudgeSteadyState(run);
    judging::MeasureTimes(run);
  } else {
    judging::NotRun(run);
  }
  judging::ApplyDefects(run);
  judging::FindObservations(run);
  judgement.set_undo_confirmed(judging::UndoConfirmed(run));
  judgement.set_verdict(judging::VerdictOf(run));
  judgement.set_exit_code(judging::ExitCodeOf(judgement));
  return judgement;
}

int WorstExitCode(const std::vector<int>& codes) {
  // Anything that is not known is worse than all that is.
  constexpr int kByWeight[] = {0, 3, 6, 1, 4, 130, 5};
  const auto weight = [&](int code) {
    return std::find(std::begin(kByWeight), std::end(kByWeight), code) - std::begin(kByWeight);
  };
  int worst = 0;
  for (int code : codes) {
    if (weight(code) > weight(worst)) worst = code;
  }
  return worst;
}

}  // namespace firedrill
