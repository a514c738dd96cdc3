// The judgement as a whole: times, verdicts, outcomes, exit codes, and the laws that hold for all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/controller/judging.h"

namespace firedrill {
namespace {

TEST(Judge, ARunInWhichAllHappensAsExpectedPasses) {
  const v1::Judgement judgement = JudgeOf(ShopCourse{});
  for (const Result& result : judgement.results()) {
    EXPECT_EQ(Word(result), "passed") << result.DebugString();
  }
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_PASSED);
  EXPECT_EQ(judgement.exit_code(), 0);
  EXPECT_EQ(judgement.findings_size(), 0) << judgement.DebugString();
  EXPECT_TRUE(judgement.undo_confirmed());
}

TEST(Judge, ResultsStandInTheOrderOfTheFileWithTheirPositions) {
  const v1::Judgement judgement = JudgeOf(ShopCourse{});
  std::vector<std::string> names;
  for (const Result& result : judgement.results()) names.push_back(result.name());
  EXPECT_THAT(names, testing::ElementsAre("leak", "cut", "logins-hurt", "slots-page",
                                          "slots-page/delivered", "slots-page/resolved",
                                          "slots-page/before/ApiErrorRateHigh", "PossibleDDoS",
                                          "HostMemoryHigh", "back-after-leak", "restart-is-no-cure",
                                          "no-leftovers", "steady-state/slots-free"));
  EXPECT_EQ(Of(judgement, "slots-page/delivered").path(), "expect.alerts[0]");
  EXPECT_EQ(Of(judgement, "slots-page/delivered").position().line(), 44u);
  EXPECT_EQ(Of(judgement, "slots-page/resolved").position().line(), 49u);
  EXPECT_EQ(Of(judgement, "HostMemoryHigh").position().column(), 34u);
}

TEST(Judge, MeasuresFromTheAnchors) {
  const v1::Judgement judgement = JudgeOf(ShopCourse{});
  EXPECT_DOUBLE_EQ(Measured(judgement, "slots-page"), 2.5);
  EXPECT_DOUBLE_EQ(Measured(judgement, "slots-page/delivered"), 3);
  EXPECT_NEAR(Measured(judgement, "slots-page/resolved"), 45 - 40.1, 1e-6);
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_detect()), 2.5);
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_notify()), 3);
  EXPECT_NEAR(Seconds(judgement.time_to_resolve()), 4.9, 1e-6);
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_any_alert()), 3);
  EXPECT_EQ(judgement.any_alert(), kAlert);
  // Logins are all answered from 43 s on; two seconds are looked at.
  EXPECT_NEAR(Seconds(judgement.time_to_recover()), 45 - 40.1, 1e-6);
  const v1::AlertTimes& times = judgement.alerts(0);
  EXPECT_EQ(FromProto(times.anchor()), HistoryBuilder::Time(5));
  EXPECT_EQ(FromProto(times.pending()), HistoryBuilder::Time(5.5));
  EXPECT_EQ(FromProto(times.firing()), HistoryBuilder::Time(7.5));
  EXPECT_EQ(FromProto(times.notified()), HistoryBuilder::Time(8));
  EXPECT_EQ(FromProto(times.resolved()), HistoryBuilder::Time(45));
  EXPECT_EQ(FromProto(times.resolve_notified()), HistoryBuilder::Time(46));
}

TEST(Judge, AnAlertThatNobodyNamedIsAFinding) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(30, "DiskFull", {}, 28);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_TRUE(HasFinding(judgement, "unexpected-alert"));
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_PASSED);
}

TEST(Judge, TheFirstPageIsNamedWhicheverItIs) {
  ShopCourse course;
  course.api_errors_firing = 6;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(judgement.any_alert(), "ApiErrorRateHigh");
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_any_alert()), 1);
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_detect()), 2.5);
}

// ---- defects, outcomes and exit codes

HistoryBuilder NotStarted(v1::Finding::Kind kind, const std::string& code,
                          const std::string& subject) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Find(-14, kind, code, subject, "the message", "the mend");
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true, "the reason");
  return builder;
}

TEST(JudgeDefects, ADefectFailsTheExpectationItIsAbout) {
  const v1::Judgement judgement =
      JudgeOf(NotStarted(v1::Finding::KIND_DEFECT, "rule-missing", "slots-page"));
  EXPECT_EQ(Word(judgement, "slots-page"), "failed rule-missing");
  EXPECT_EQ(Of(judgement, "slots-page").reason(), "the message");
  EXPECT_EQ(Of(judgement, "slots-page").mend(), "the mend");
  EXPECT_EQ(Word(judgement, "back-after-leak"), "inconclusive not-run");
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_FAILED);
  EXPECT_EQ(judgement.outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeDefects, ADefectOfTheWayToTheReceiverFailsTheDelivery) {
  for (const char* subject : {"slots-page", kAlert, "oncall"}) {
    const v1::Judgement judgement =
        JudgeOf(NotStarted(v1::Finding::KIND_DEFECT, "receiver-not-wired", subject));
    EXPECT_EQ(Word(judgement, "slots-page/delivered"), "failed receiver-not-wired") << subject;
    EXPECT_EQ(Word(judgement, "slots-page"), "inconclusive not-run") << subject;
  }
}

TEST(JudgeDefects, AForbiddenAlertWithoutARuleFails) {
  const v1::Judgement judgement =
      JudgeOf(NotStarted(v1::Finding::KIND_DEFECT, "rule-missing", "PossibleDDoS"));
  EXPECT_EQ(Word(judgement, "PossibleDDoS"), "failed rule-missing");
}

TEST(JudgeDefects, ADefectOfNothingInParticularFailsTheRun) {
  const v1::Judgement judgement =
      JudgeOf(NotStarted(v1::Finding::KIND_DEFECT, "odd", "something else"));
  EXPECT_EQ(Word(judgement, "something else"), "failed odd");
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeDefects, InjectedAnywayTheDefectStillFails) {
  HistoryBuilder builder = ShopHistory();
  builder.Find(-14, v1::Finding::KIND_DEFECT, "silenced", "slots-page", "silenced by anna");
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "failed silenced");
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeOutcome, ACircumstanceIsNoVerdictOnTheAlerting) {
  const v1::Judgement judgement =
      JudgeOf(NotStarted(v1::Finding::KIND_CIRCUMSTANCE, "already-firing", "slots-page"));
  EXPECT_EQ(Word(judgement, "slots-page"), "inconclusive not-run");
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_INCONCLUSIVE);
  EXPECT_EQ(judgement.exit_code(), 3);
}

HistoryBuilder Aborted(double at, v1::StopRequested::Cause cause, bool undo_confirmed = true) {
  ShopCourse course;
  course.finished = 1000;
  HistoryBuilder builder = ShopHistory(course);
  std::erase_if(builder.events(), [&](const v1::Event& event) {
    return event.has_finished() || FromProto(event.at()) > HistoryBuilder::Time(at);
  });
  builder.Stop(at, cause, "guardrail shop-gone");
  builder.Fault(at + 0.3, "leak", v1::FAULT_STATE_REVERTED);
  return builder.Finish(at + 0.4, v1::OUTCOME_ABORTED, undo_confirmed, "guardrail shop-gone");
}

TEST(JudgeOutcome, AnAbortKeepsWhatWasDecidedAndDoubtsTheRest) {
  const v1::Judgement judgement = JudgeOf(Aborted(18, v1::StopRequested::CAUSE_GUARDRAIL));
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_EQ(Word(judgement, "logins-hurt"), "passed");
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "inconclusive cut-short");
  EXPECT_EQ(Word(judgement, "back-after-leak"), "inconclusive cut-short");
  EXPECT_EQ(Word(judgement, "restart-is-no-cure"), "inconclusive cut-short");
  EXPECT_EQ(Word(judgement, "PossibleDDoS"), "inconclusive cut-short");
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_INCONCLUSIVE);
  EXPECT_EQ(judgement.exit_code(), 4);
}

TEST(JudgeOutcome, AnAlertIsNotMissedBeforeItsTimeIsOver) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  for (const double stop : {12.0, 18.0}) {
    HistoryBuilder builder = ShopHistory(silent);
    std::erase_if(builder.events(), [&](const v1::Event& event) {
      return event.has_finished() || FromProto(event.at()) > HistoryBuilder::Time(stop);
    });
    builder.Stop(stop, v1::StopRequested::CAUSE_OPERATOR, "anna");
    builder.Fault(stop + 0.3, "leak", v1::FAULT_STATE_REVERTED);
    builder.Finish(stop + 5, v1::OUTCOME_ABORTED);
    EXPECT_EQ(Word(JudgeOf(builder), "slots-page"),
              stop < 15 ? "inconclusive cut-short" : "failed never-fired");
  }
}

TEST(JudgeOutcome, ExitCodesTellWhoEndedItAndWhetherItIsUndone) {
  EXPECT_EQ(JudgeOf(Aborted(18, v1::StopRequested::CAUSE_INTERRUPT)).exit_code(), 130);
  EXPECT_EQ(JudgeOf(Aborted(18, v1::StopRequested::CAUSE_OPERATOR)).exit_code(), 4);
  EXPECT_EQ(JudgeOf(Aborted(18, v1::StopRequested::CAUSE_INTERRUPT, false)).exit_code(), 5);
  HistoryBuilder completed = ShopHistory();
  for (v1::Event& event : completed.events()) {
    if (event.has_finished()) event.mutable_finished()->set_undo_confirmed(false);
  }
  EXPECT_EQ(JudgeOf(completed).exit_code(), 5);
}

TEST(JudgeOutcome, AnUndoThatItsFaultContradictsIsNotConfirmed) {
  for (const v1::FaultState last : {v1::FAULT_STATE_STUCK, v1::FAULT_STATE_EXPIRED}) {
    HistoryBuilder builder = ShopHistory();
    for (v1::Event& event : builder.events()) {
      if (event.has_fault() && event.fault().fault() == "leak" &&
          event.fault().state() == v1::FAULT_STATE_REVERTED) {
        event.mutable_fault()->set_state(last);
      }
    }
    const v1::Judgement judgement = JudgeOf(builder);
    EXPECT_FALSE(judgement.undo_confirmed());
    EXPECT_EQ(judgement.exit_code(), 5);
  }
}

TEST(JudgeOutcome, AFaultThatIsStuckAfterAllIsNotUndone) {
  HistoryBuilder builder = ShopHistory();
  builder.Fault(41, "leak", v1::FAULT_STATE_STUCK);
  EXPECT_EQ(JudgeOf(builder).exit_code(), 5);
}

TEST(JudgeOutcome, WhereNothingWasAppliedNothingIsToBeUndone) {
  HistoryBuilder builder(ShopRun());
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, /*undo_confirmed=*/false);
  EXPECT_EQ(JudgeOf(builder).exit_code(), 3);
}

TEST(JudgeOutcome, TheWorstOfSeveralExitCodes) {
  EXPECT_EQ(WorstExitCode({}), 0);
  EXPECT_EQ(WorstExitCode({0, 3}), 3);
  EXPECT_EQ(WorstExitCode({3, 6, 0}), 6);
  EXPECT_EQ(WorstExitCode({6, 1, 3}), 1);
  EXPECT_EQ(WorstExitCode({1, 4}), 4);
  EXPECT_EQ(WorstExitCode({4, 130, 1}), 130);
  EXPECT_EQ(WorstExitCode({130, 5, 0}), 5);
}

// ---- laws

TEST(JudgeLaws, AHistoryWithoutABeginIsJudgedAsNothing) {
  EXPECT_EQ(Judge({}).verdict(), v1::VERDICT_INCONCLUSIVE);
}

TEST(JudgeLaws, TheSameHistoryIsJudgedTheSame) {
  const auto history = ShopHistory().Build();
  EXPECT_EQ(Judge(history).SerializeAsString(), Judge(history).SerializeAsString());
}

TEST(JudgeLaws, OfAnUnfinishedRunOnlyWhatCannotChangeIsSaid) {
  ShopCourse course;
  course.pending = course.firing = std::nullopt;
  course.logins = [](double t) { return t < 13 ? 100.0 : 0.0; };
  std::vector<v1::Event> history = ShopHistory(course).Build();
  EXPECT_EQ(Word(Judge(history), "slots-page"), "failed never-fired");
  history.pop_back();
  const v1::Judgement open = Judge(history);
  // Its time is long over; but what tells of it may still be on its way.
  EXPECT_EQ(Word(open, "slots-page"), "inconclusive open");
  EXPECT_EQ(Word(open, "back-after-leak"), "inconclusive open");
  EXPECT_EQ(Word(open, "PossibleDDoS"), "inconclusive open");
  EXPECT_EQ(Word(open, "logins-hurt"), "passed");
  HistoryBuilder forbidden = ShopHistory(course);
  history = forbidden.Firing(33, "PossibleDDoS", {}, 30).Build();
  history.pop_back();
  EXPECT_EQ(Word(Judge(history), "PossibleDDoS"), "failed forbidden-fired");
  EXPECT_EQ(Judge(history).verdict(), v1::VERDICT_FAILED);
}

// Courses that fail and pass in many ways, drawn with a seed.
ShopCourse RandomCourse(std::mt19937_64& chance) {
  const auto maybe = [&](double from, double to) -> std::optional<double> {
    if (chance() % 4 == 0) return std::nullopt;
    return std::uniform_real_distribution<double>(from, to)(chance);
  };
  ShopCourse course;
  course.pending = maybe(-6, 14);
  course.firing = maybe(2, 20);
  if (course.pending && course.firing && *course.firing < *course.pending)
    course.firing = course.pending;
  course.delivered = maybe(course.firing.value_or(5), 25);
  course.inactive = maybe(course.firing.value_or(20), 80);
  course.api_errors_firing = maybe(2, 30);
  course.leak_in_force = chance() % 5 != 0;
  course.cut_in_force = chance() % 5 != 0;
  const double back = std::uniform_real_distribution<double>(14, 90)(chance);
  course.logins = [back](double t) { return t < 13 || t >= back ? 100.0 : 20.0; };
  return course;
}

TEST(JudgeLaws, NoLaterEventTakesAFailureBack) {
  std::mt19937_64 chance(7);
  int failures = 0;
  for (int run = 0; run < 60; ++run) {
    HistoryBuilder builder = ShopHistory(RandomCourse(chance));
    if (chance() % 3 == 0)
      builder.Firing(33, "PossibleDDoS", {}, 30).AtAlertmanager(33.1, "PossibleDDoS", {}, 32.5);
    if (chance() % 3 == 0) builder.Gap("prometheus", 10, 10 + static_cast<double>(chance() % 20));
    if (chance() % 4 == 0)
      builder.Find(-14, v1::Finding::KIND_DEFECT, "silenced", "slots-page", "silenced");
    // What sources tell may be long on its way to us.
    for (v1::Event& event : builder.events()) {
      if (!event.has_alert() && !event.has_sample() && !event.has_load()) continue;
      if (chance() % 8 != 0) continue;
      *event.mutable_at() = ToProto(FromProto(event.at()) +
                                    absl::Milliseconds(static_cast<int64_t>(chance() % 12000)));
    }
    const std::vector<v1::Event> history = builder.Build();
    std::map<std::string, std::string> failed;
    v1::Verdict worst = v1::VERDICT_UNSPECIFIED;
    for (size_t cut = 1; cut <= history.size();
         cut += cut + 40 < history.size() ? 1 + chance() % 40 : 1) {
      const v1::Judgement judgement = Judge(
          std::vector<v1::Event>(history.begin(), history.begin() + static_cast<ptrdiff_t>(cut)));
      if (worst == v1::VERDICT_FAILED) {
        ASSERT_EQ(judgement.verdict(), v1::VERDICT_FAILED) << "run " << run << " after " << cut;
      }
      worst = std::max(worst, judgement.verdict());
      for (const Result& result : judgement.results()) {
        if (result.verdict() == v1::VERDICT_FAILED) failed.emplace(result.name(), result.code());
      }
      for (const auto& [name, code] : failed) {
        ASSERT_EQ(Of(judgement, name).verdict(), v1::VERDICT_FAILED)
            << "run " << run << " after " << cut << ": " << name << " was " << code;
      }
      if (cut < history.size()) {
        ASSERT_NE(judgement.verdict(), v1::VERDICT_PASSED) << "run " << run << " after " << cut;
      }
    }
    failures += worst == v1::VERDICT_FAILED ? 1 : 0;
  }
  EXPECT_GT(failures, 20);
}

}  // namespace
}  // namespace firedrill
