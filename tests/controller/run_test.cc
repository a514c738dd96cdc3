// The course of a run, phase by phase.
#include "controller/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"
#include "tests/controller/rehearsal.h"

namespace firedrill {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kLeak[] = "leak@db-1";
constexpr char kCut[] = "cut@db-1";

Rehearsal Injecting() {
  Rehearsal run(RehearsalPlan());
  run.ToInject();
  run.Said();
  return run;
}

// The leak is on and in full force.
Rehearsal Leaking() {
  Rehearsal run = Injecting();
  run.Pass(absl::ZeroDuration());
  run.Report("leak", v1::FAULT_STATE_ACTIVE);
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  run.Said();
  return run;
}

void CutOnce(Rehearsal& run) {
  run.Report("cut", v1::FAULT_STATE_ACTIVE, true);
  run.Report("cut", v1::FAULT_STATE_REVERTED, true);
}

TEST(RunTest, GoesFromPreflightToTheGate) {
  Rehearsal run(RehearsalPlan());
  run.Create();
  EXPECT_THAT(run.Said(), ElementsAre("enter preflight", "start preflight"));
  run.FinishPreflight();
  EXPECT_THAT(run.Said(),
              ElementsAre("enter gate", "announce start", "start probes", "prepare cut db-1 #1",
                          "prepare leak db-1 #1", "start shoppers load-1 #1",
                          "start recovery/no-leftovers db-1 #1"));
  EXPECT_EQ(run.TimerIn("gate"), absl::Seconds(30));
}

TEST(RunTest, TellsALoadItsEndpointAndSeed) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  const v1::StartLoad& start = run.commands()[2].start_load();
  EXPECT_EQ(start.endpoint().url(), "http://127.0.0.1:1");
  EXPECT_EQ(start.seed(), 7u);
  EXPECT_GT(FromProto(start.remaining()), absl::Seconds(150));
}

TEST(RunTest, ACircumstanceKeepsItFromStarting) {
  Rehearsal run(RehearsalPlan());
  run.Create(/*inject_anyway=*/true);
  run.Find(v1::Finding::KIND_DEFECT, "rule missing");
  run.Find(v1::Finding::KIND_CIRCUMSTANCE, "SlotsPage fires already");
  run.Find(v1::Finding::KIND_CIRCUMSTANCE, "a silence");
  run.FinishPreflight();
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(run.finished().reason(), "SlotsPage fires already (and 1 more)");
  EXPECT_TRUE(run.finished().undo_confirmed());
  EXPECT_THAT(run.commands(), IsEmpty());
}

TEST(RunTest, ACircumstanceOfThePlanKeepsItFromStartingThoughNobodyRepeatedIt) {
  v1::Plan plan = RehearsalPlan();
  v1::Finding& finding = *plan.add_findings();
  finding.set_kind(v1::Finding::KIND_CIRCUMSTANCE);
  finding.set_message("no node fits");
  Rehearsal run(plan);
  run.ToGate();
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().reason(), "no node fits");
}

TEST(RunTest, ADefectKeepsItFromInjecting) {
  Rehearsal run(RehearsalPlan());
  run.Create();
  run.Find(v1::Finding::KIND_DEFECT, "no rule SlotsPage");
  run.FinishPreflight();
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(run.finished().reason(), "defects of the alerting under test: no rule SlotsPage");
}

TEST(RunTest, InjectAnywayGoesOnInSpiteOfADefect) {
  Rehearsal run(RehearsalPlan());
  run.Create(/*inject_anyway=*/true);
  run.Find(v1::Finding::KIND_DEFECT, "no rule SlotsPage");
  run.FinishPreflight();
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
}

TEST(RunTest, ANoteKeepsNothing) {
  Rehearsal run(RehearsalPlan());
  run.Create();
  run.Find(v1::Finding::KIND_NOTE, "may fire late");
  run.FinishPreflight();
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
}

// ---- gate

TEST(RunTest, TheGateOpensWhenSteadyStateHasHeldForItsTime) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(3));
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
  run.Healthy(absl::Seconds(1));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);
  EXPECT_FALSE(run.TimerIsSet("gate"));
  EXPECT_TRUE(run.TimerIsSet("apply/cut@db-1"));
  EXPECT_TRUE(run.TimerIsSet("remedy/restart-shop@app-1"));
  EXPECT_TRUE(run.TimerIsSet("end"));
}

TEST(RunTest, ABadAnswerStartsTheGateAnew) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(2));
  run.Answer("steadyState/slots-free", 0.9);
  run.Healthy(absl::Seconds(3));
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
  run.Healthy(absl::Seconds(1));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);
}

TEST(RunTest, OneMissingAnswerDoesNotStartTheGateAnewButALongGapDoes) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(2));
  run.NoAnswer("steadyState/slots-free", "timeout");
  run.Pass(absl::Seconds(1));
  run.Healthy(absl::Seconds(1));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);

  Rehearsal blind(RehearsalPlan());
  blind.ToGate();
  blind.Healthy(absl::Seconds(2));
  blind.Pass(absl::Seconds(5));
  blind.Healthy(absl::Seconds(2));
  EXPECT_EQ(blind.state().phase, v1::PHASE_GATE);
}

TEST(RunTest, ALateAnswerDoesNotCountAtTheGate) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  for (int i = 0; i < 8; ++i) {
    v1::Event event;
    event.mutable_sample()->set_probe("steadyState/slots-free");
    (*event.mutable_sample()->mutable_values())["value"] = 0.1;
    event.mutable_sample()->set_late(true);
    run.Feed(event);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
}

TEST(RunTest, AGateThatDoesNotOpenSaysWhatWasObserved) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Answer("steadyState/slots-free", 0.72);
  run.Said();
  run.Pass(absl::Seconds(30));
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(run.finished().reason(),
            "steady state did not hold within 30s: slots-free must be < 0.6 for 3s, last "
            "observed: 0.72");
  EXPECT_THAT(run.Said(),
              ElementsAre("stop shoppers load-1 #1", "stop recovery/no-leftovers db-1 #1",
                          "stop probes", "revert cut db-1 #1", "revert leak db-1 #1",
                          "announce end", "finish not_started"));
}

TEST(RunTest, TheGateStaysClosedWhileAGuardrailIsBroken) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Answer("guardrails/shop-gone", 500, "status");
  for (int i = 0; i < 6; ++i) {
    run.Answer("steadyState/slots-free", 0.2);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
}

TEST(RunTest, ANodeThatRefusesToPrepareKeepsItFromStarting) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Report("leak", v1::FAULT_STATE_REFUSED, false, "no control connection");
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(run.finished().reason(), "db-1 refuses leak: no control connection");
}

TEST(RunTest, ANodeLostBeforeAnythingWasAppliedKeepsItFromStarting) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Node("db-1", false);
  run.Pass(absl::Seconds(2));
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
}

TEST(RunTest, NodesOfOthersAreNoneOfItsBusiness) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Node("stranger", false);
  run.Pass(absl::Seconds(3));
  EXPECT_FALSE(run.is_finished());
}

// ---- the whole way

TEST(RunTest, GoesTheWholeWay) {
  Rehearsal run = Injecting();
  run.Pass(absl::ZeroDuration());
  EXPECT_THAT(run.Said(), ElementsAre("announce fault on", "apply leak db-1 #1"));
  EXPECT_EQ(FromProto(run.commands().back().apply().remaining()), absl::Seconds(40));
  run.Pass(absl::Seconds(1));
  run.Report("leak", v1::FAULT_STATE_ACTIVE);
  EXPECT_EQ(run.TimerIn("revert/leak@db-1"), absl::Seconds(40));
  run.Pass(absl::Seconds(4));
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  EXPECT_EQ(*run.state().faults.at(kLeak).reached - *run.state().faults.at(kLeak).started,
            absl::Seconds(4));
  run.Healthy(absl::Seconds(7));
  EXPECT_THAT(run.Said(), ElementsAre("announce fault on", "apply cut db-1 #1"));
  EXPECT_EQ(FromProto(run.commands().back().apply().remaining()), absl::Seconds(30));
  CutOnce(run);
  EXPECT_EQ(run.state().faults.at(kCut).state, v1::FAULT_STATE_REVERTED);
  run.Healthy(absl::Seconds(8));
  EXPECT_THAT(run.Said(), ElementsAre("announce fault off", "run restart-shop app-1 #1"));
  run.Remedy(v1::REMEDY_STATE_DONE);
  run.Healthy(absl::Seconds(21));
  EXPECT_THAT(run.Said(), ElementsAre("revert leak db-1 #1", "enter revert"));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_THAT(run.Said(), ElementsAre("announce fault off", "enter recover"));
  // 30 s for the alert to resolve, and 2 s for late answers.
  EXPECT_EQ(run.TimerIn("end"), absl::Seconds(32));
  run.Pass(absl::Seconds(32));
  EXPECT_THAT(run.Said(),
              ElementsAre("stop shoppers load-1 #1", "stop recovery/no-leftovers db-1 #1",
                          "stop probes", "announce end", "finish completed"));
  EXPECT_TRUE(run.finished().undo_confirmed());
  EXPECT_EQ(run.state().phase, v1::PHASE_FINISHED);
}

// The whole way until no fault is on, and no remedy is to come.
Rehearsal Over(const v1::Plan& plan) {
  Rehearsal run(plan);
  run.ToInject();
  run.Pass(absl::ZeroDuration());
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  run.Healthy(absl::Seconds(13));
  CutOnce(run);
  run.Healthy(absl::Seconds(9));
  run.Remedy(v1::REMEDY_STATE_DONE);
  run.Healthy(absl::Seconds(20));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(run.state().all_over.has_value());
  return run;
}

void AnswerFor(Rehearsal& run, absl::Duration time, double slots) {
  for (absl::Duration passed; passed < time && !run.is_finished(); passed += absl::Seconds(1)) {
    run.Answer("steadyState/slots-free", slots);
    run.Pass(absl::Seconds(1));
  }
}

TEST(RunTest, SteadyStateThatIsNotBackIsWaitedForAsLongAsAtTheGate) {
  v1::Plan plan = RehearsalPlan();
  ASSERT_EQ(FromProto(plan.gate_timeout()), absl::Seconds(30));
  plan.clear_waits();
  const auto lasts = [&](absl::Duration well_after) {
    Rehearsal run = Over(plan);
    const absl::Time from = *run.state().all_over;
    AnswerFor(run, well_after, 0.9);
    AnswerFor(run, absl::Seconds(60), 0.2);
    EXPECT_TRUE(run.is_finished());
    EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_COMPLETED);
    EXPECT_EQ(run.finished().reason(), "");
    return run.now() - from;
  };
  // What holds at once is seen for its `for`; what held before does not count.
  EXPECT_LE(lasts(absl::ZeroDuration()), absl::Seconds(5));
  EXPECT_GE(lasts(absl::ZeroDuration()), absl::Seconds(3));
  EXPECT_GE(lasts(absl::Seconds(10)), absl::Seconds(13));
  EXPECT_LE(lasts(absl::Seconds(10)), absl::Seconds(15));
  EXPECT_LE(lasts(absl::Seconds(60)), absl::Seconds(32));
}

TEST(RunTest, ARemedyThatComesAfterTheLastFaultIsWaitedFor) {
  v1::Plan plan = RehearsalPlan();
  *plan.mutable_remedies(0)->mutable_at() = ToProto(absl::Seconds(60));
  Rehearsal run(plan);
  run.ToInject();
  run.Pass(absl::ZeroDuration());
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  run.Healthy(absl::Seconds(13));
  CutOnce(run);
  run.Healthy(absl::Seconds(27));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_EQ(run.state().phase, v1::PHASE_RECOVER);
  EXPECT_FALSE(run.state().all_over.has_value());
  run.Healthy(absl::Seconds(20));
  EXPECT_EQ(run.state().remedies.at("restart-shop@app-1"), v1::REMEDY_STATE_RUNNING);
  run.Remedy(v1::REMEDY_STATE_DONE);
  EXPECT_TRUE(run.state().all_over.has_value());
  EXPECT_EQ(run.TimerIn("end"), absl::Seconds(12));
}

TEST(RunTest, TellsACallItsEndpointAndOtherRemediesNone) {
  for (const char* endpoint : {"shop", ""}) {
    v1::Plan plan = RehearsalPlan();
    *plan.mutable_remedies(0)->mutable_at() = ToProto(absl::Seconds(5));
    if (*endpoint != 0) {
      plan.mutable_remedies(0)->mutable_remedy()->mutable_call_url()->set_endpoint(endpoint);
    }
    Rehearsal run(plan);
    run.ToInject();
    run.Healthy(absl::Seconds(6));
    ASSERT_TRUE(run.commands().back().has_run_remedy());
    EXPECT_EQ(run.commands().back().run_remedy().endpoint().name(), endpoint);
  }
}

TEST(RunTest, ARemedyThatNeverAnswersDoesNotKeepTheRunForEver) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(12));
  CutOnce(run);
  run.Healthy(absl::Seconds(29));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  run.Healthy(absl::Seconds(80));
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_COMPLETED);
  EXPECT_EQ(run.finished().reason(), "the plan's longest time is over");
}

TEST(RunTest, NoFaultOutlivesTheLimit) {
  v1::Plan plan = RehearsalPlan();
  *plan.mutable_max_duration() = ToProto(absl::Seconds(15));
  Rehearsal run(plan);
  run.ToInject();
  run.Pass(absl::ZeroDuration());
  EXPECT_EQ(FromProto(run.commands().back().apply().remaining()), absl::Seconds(15));
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  run.Healthy(absl::Seconds(13));
  // Twelve of the fifteen seconds are over.
  EXPECT_EQ(FromProto(run.commands().back().apply().remaining()), absl::Seconds(3));
  run.Healthy(absl::Seconds(3));
  EXPECT_TRUE(run.state().faults.at(kLeak).revert_issued);
  EXPECT_TRUE(run.state().faults.at(kCut).revert_issued);
}

TEST(RunTest, AnApplyThatIsNeverAnsweredIsRevertedWhenItsTimeIsOver) {
  Rehearsal run = Injecting();
  run.Healthy(absl::Seconds(41));
  EXPECT_TRUE(run.state().faults.at(kLeak).revert_issued);
}

// ---- what ends it early

// The last of the reasons with which a phase was entered.
std::string ReasonOf(v1::Phase phase, const Rehearsal& run) {
  std::string reason;
  for (const v1::Event& event : run.history()) {
    if (event.has_phase() && event.phase().phase() == phase) reason = event.phase().reason();
  }
  return reason;
}

TEST(RunTest, SaysWhyNothingIsOnAnyMore) {
  Rehearsal timely = Leaking();
  timely.Healthy(absl::Seconds(12));
  CutOnce(timely);
  timely.Healthy(absl::Seconds(29));
  EXPECT_EQ(ReasonOf(v1::PHASE_REVERT, timely), "the last fault's time is over");

  Rehearsal early = Leaking();
  early.Healthy(absl::Seconds(12));
  CutOnce(early);
  early.Report("leak", v1::FAULT_STATE_REVERTED, false, "the server has thrown it out");
  EXPECT_EQ(ReasonOf(v1::PHASE_REVERT, early),
            "leak on db-1 was ended before its time: the server has thrown it out");

  Rehearsal own_clock = Leaking();
  own_clock.Healthy(absl::Seconds(12));
  CutOnce(own_clock);
  own_clock.Report("leak", v1::FAULT_STATE_REVERTED, false, "its time is over");
  EXPECT_EQ(ReasonOf(v1::PHASE_REVERT, own_clock), "the last fault's time is over");

  Rehearsal acted = Leaking();
  acted.Healthy(absl::Seconds(5));
  acted.Report("leak", v1::FAULT_STATE_REVERTED, false, "the server has thrown it out");
  acted.Healthy(absl::Seconds(7));
  CutOnce(acted);
  EXPECT_EQ(ReasonOf(v1::PHASE_REVERT, acted), "cut@db-1 acts once, and is the last");
}

TEST(RunTest, AStopUndoesEverythingAndIsConfirmedOnlyByTheReport) {
  Rehearsal run = Leaking();
  run.AskToStop();
  EXPECT_THAT(run.Said(),
              ElementsAre("revert leak db-1 #1", "announce abort", "enter revert",
                          "stop shoppers load-1 #1", "stop recovery/no-leftovers db-1 #1",
                          "stop probes", "revert cut db-1 #1"));
  EXPECT_FALSE(run.is_finished());
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ(run.finished().cause(), v1::StopRequested::CAUSE_OPERATOR);
  EXPECT_TRUE(run.finished().undo_confirmed());
}

TEST(RunTest, AStopAlsoUndoesWhatWasAskedForAndNotAnswered) {
  Rehearsal run = Injecting();
  run.Pass(absl::ZeroDuration());
  run.AskToStop();
  EXPECT_THAT(run.Said(), Contains("revert leak db-1 #1"));
  run.Report("leak", v1::FAULT_STATE_ACTIVE);  // The apply's answer, which was under way.
  EXPECT_FALSE(run.is_finished());
  EXPECT_EQ(run.state().faults.at(kLeak).state, v1::FAULT_STATE_REVERTING);
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(run.finished().undo_confirmed());
}

TEST(RunTest, AStopBeforeAnythingWasAppliedEndsAtOnce) {
  Rehearsal preflight(RehearsalPlan());
  preflight.Create();
  preflight.AskToStop(v1::StopRequested::CAUSE_INTERRUPT);
  ASSERT_TRUE(preflight.is_finished());
  EXPECT_EQ(preflight.finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_TRUE(preflight.finished().undo_confirmed());

  Rehearsal gate(RehearsalPlan());
  gate.ToGate();
  gate.AskToStop();
  ASSERT_TRUE(gate.is_finished());
  EXPECT_EQ(gate.finished().outcome(), v1::OUTCOME_ABORTED);
}

TEST(RunTest, NothingIsAppliedAndNoRemedyRunsAfterAStop) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Said();
  run.Timer("apply/cut@db-1");
  run.Timer("remedy/restart-shop@app-1");
  EXPECT_THAT(run.Said(), IsEmpty());
}

TEST(RunTest, AStopEndsARemedyAndWaitsForWhatItSays) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(12));
  CutOnce(run);
  run.Healthy(absl::Seconds(10));
  ASSERT_EQ(run.state().remedies.at("restart-shop@app-1"), v1::REMEDY_STATE_RUNNING);
  Rehearsal deaf = run;
  run.Said();
  run.AskToStop();
  EXPECT_THAT(run.Said(), Contains("interrupt restart-shop app-1 #1"));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_FALSE(run.is_finished());
  run.Remedy(v1::REMEDY_STATE_FAILED);
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_TRUE(run.finished().undo_confirmed());
  // One that says nothing is not waited for longer than it may take.
  deaf.AskToStop();
  deaf.Report("leak", v1::FAULT_STATE_REVERTED);
  deaf.Pass(kRemedyPatience - absl::Seconds(1));
  EXPECT_FALSE(deaf.is_finished());
  deaf.Pass(absl::Seconds(1));
  EXPECT_TRUE(deaf.is_finished());
}

TEST(RunTest, ABrokenGuardrailStops) {
  Rehearsal run = Leaking();
  for (int i = 0; i < 3; ++i) {
    run.Answer("guardrails/shop-gone", 500, "status");
    run.Pass(absl::Seconds(1));
  }
  EXPECT_FALSE(run.state().stopping);
  run.Answer("guardrails/shop-gone", 503, "status");
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_EQ(run.state().stop->cause(), v1::StopRequested::CAUSE_GUARDRAIL);
  EXPECT_EQ(run.state().stop->by(), "shop-gone");
  EXPECT_EQ(run.state().stop->reason(),
            "guardrail shop-gone: must be status == 200, observed: status 503, for 3s");
  EXPECT_EQ(run.state().phase, v1::PHASE_REVERT);
}

TEST(RunTest, AGuardrailThatMendsInTimeDoesNotStop) {
  Rehearsal run = Leaking();
  for (int i = 0; i < 4; ++i) {
    run.Answer("guardrails/shop-gone", 500, "status");
    run.Pass(absl::Seconds(1));
    run.Answer("guardrails/shop-gone", 200, "status");
    run.Pass(absl::Seconds(1));
  }
  EXPECT_FALSE(run.state().stopping);
}

TEST(RunTest, NothingIsAppliedBetweenABreachAndItsStop) {
  Rehearsal run = Leaking();
  run.LoseStops();
  for (int i = 0; i < 4; ++i) {
    run.Answer("guardrails/shop-gone", 500, "status");
    run.Pass(absl::Seconds(1));
  }
  EXPECT_THAT(run.Said(), ElementsAre("stop guardrail"));
  run.Timer("apply/cut@db-1");
  run.Timer("remedy/restart-shop@app-1");
  EXPECT_THAT(run.Said(), IsEmpty());
}

TEST(RunTest, AnUnknownAnswerIsNotABreachButABlindGuardrailIs) {
  Rehearsal run = Leaking();
  for (int i = 0; i < 10; ++i) {
    run.NoAnswer("guardrails/shop-gone", "no route");
    run.Pass(absl::Seconds(1));
  }
  EXPECT_FALSE(run.state().stopping);
  run.NoAnswer("guardrails/shop-gone", "no route");
  run.Pass(absl::Seconds(1));
  run.NoAnswer("guardrails/shop-gone", "no route");
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_THAT(run.state().stop->reason(), HasSubstr("blind for 10s"));
}

TEST(RunTest, AGuardrailOfWhichNothingIsHeardAtAllIsBlindToo) {
  Rehearsal run = Leaking();
  for (int i = 0; i < 12; ++i) {
    run.Answer("steadyState/slots-free", 0.9);
    run.Pass(absl::Seconds(1));
  }
  EXPECT_TRUE(run.state().stop.has_value());
}

TEST(RunTest, AnUnexpectedPageStops) {
  Rehearsal run = Leaking();
  run.Page("HostMemoryHigh", {{"severity", "page"}});
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_THAT(run.state().stop->reason(), HasSubstr("HostMemoryHigh"));
}

TEST(RunTest, OtherAlertsDoNotStop) {
  Rehearsal run = Leaking();
  run.Page("SlotsPage", {{"severity", "page"}});         // Expected.
  run.Page("HostMemoryHigh", {{"severity", "ticket"}});  // Nobody is paged.
  run.Page("Watchdog", {{"severity", "page"}, {"firedrill_canary", "r1"}});
  run.Page("OldTrouble", {{"severity", "page"}}, absl::Hours(1));
  EXPECT_FALSE(run.state().stopping);
}

TEST(RunTest, OnceAllIsUndoneAGuardrailHidesNoRecovery) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(12));
  CutOnce(run);
  run.Healthy(absl::Seconds(8));
  run.Remedy(v1::REMEDY_STATE_DONE);
  run.Healthy(absl::Seconds(21));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  ASSERT_EQ(run.state().phase, v1::PHASE_RECOVER);
  run.Page("HostMemoryHigh", {{"severity", "page"}});
  EXPECT_FALSE(run.state().stopping);
}

TEST(RunTest, ARefusedFaultStopsTheRun) {
  Rehearsal run = Injecting();
  run.Pass(absl::ZeroDuration());
  run.Report("leak", v1::FAULT_STATE_REFUSED, false, "policy");
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().cause(), v1::StopRequested::CAUSE_FAULT_REFUSED);
  EXPECT_EQ(run.finished().reason(), "db-1 refuses leak: policy");
  EXPECT_TRUE(run.finished().undo_confirmed());
  EXPECT_THAT(run.Said(), Contains("enter revert"));
}

TEST(RunTest, AStuckFaultIsAnnouncedAndNeverCalledUndone) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Said();
  run.Report("leak", v1::FAULT_STATE_STUCK, false, "permission denied");
  EXPECT_THAT(run.Said(), Contains("announce stuck"));
  ASSERT_TRUE(run.is_finished());
  EXPECT_FALSE(run.finished().undo_confirmed());
}

TEST(RunTest, AFaultThatSomeoneElseChangedIsNotCalledUndone) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Report("leak", v1::FAULT_STATE_SUPERSEDED);
  ASSERT_TRUE(run.is_finished());
  EXPECT_FALSE(run.finished().undo_confirmed());
}

TEST(RunTest, ARevertThatIsNotAnsweredIsSentAgainButNotForEver) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Said();
  run.Pass(absl::Seconds(40));
  EXPECT_THAT(run.Said(), ElementsAre("revert leak db-1 #2", "revert leak db-1 #3",
                                      "revert leak db-1 #4", "revert leak db-1 #5"));
  run.Pass(absl::Seconds(10));
  ASSERT_TRUE(run.is_finished());
  EXPECT_FALSE(run.finished().undo_confirmed());
  EXPECT_THAT(run.Said(), Contains("announce stuck"));
}

TEST(RunTest, AnInjectorThatRevertsByItselfIsWaitedForAndAsked) {
  Rehearsal run = Leaking();
  run.Report("leak", v1::FAULT_STATE_REVERTING, false, "policy hours are over");
  run.Said();
  for (int i = 0; i < 10; ++i) {
    run.Answer("guardrails/shop-gone", 200, "status");
    run.Pass(absl::Seconds(1));
  }
  EXPECT_THAT(run.Said(), ElementsAre("revert leak db-1 #1"));
}

// ---- nodes

TEST(RunTest, ANodeThatComesBackWithinItsGraceChangesNothing) {
  Rehearsal run = Leaking();
  run.Node("db-1", false);
  EXPECT_EQ(run.state().faults.at(kLeak).state, v1::FAULT_STATE_UNKNOWN);
  run.Pass(absl::Seconds(1));
  run.Node("db-1", true);
  EXPECT_EQ(run.state().faults.at(kLeak).state, v1::FAULT_STATE_ACTIVE);
  run.Healthy(absl::Seconds(6));
  EXPECT_FALSE(run.state().stopping);
  EXPECT_THAT(run.Said(), IsEmpty());
}

TEST(RunTest, ANodeThatStaysAwayStopsTheRunAndItsFaultExpires) {
  Rehearsal run = Leaking();
  run.Node("db-1", false);
  run.Pass(absl::Seconds(2));
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_EQ(run.state().stop->cause(), v1::StopRequested::CAUSE_NODE_LOST);
  EXPECT_THAT(run.Said(), Contains("revert leak db-1 #1"));
  EXPECT_FALSE(run.is_finished());
  run.Pass(absl::Seconds(4));  // The lease of 5 s and its margin are over.
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.state().faults.at(kLeak).state, v1::FAULT_STATE_EXPIRED);
  EXPECT_FALSE(run.finished().undo_confirmed());
}

TEST(RunTest, ANodeThatComesBackUndoneBeforeItsLeaseIsOverConfirmsTheUndo) {
  Rehearsal run = Leaking();
  run.Node("db-1", false);
  run.Pass(absl::Seconds(4));
  run.Node("db-1", true);
  EXPECT_EQ(run.state().faults.at(kLeak).state, v1::FAULT_STATE_REVERTING);
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  ASSERT_TRUE(run.is_finished());
  EXPECT_TRUE(run.finished().undo_confirmed());
}

TEST(RunTest, ASilentNodeIsGivenNothingNewUntilItIsBack) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(11));
  run.Node("db-1", false);
  run.Pass(absl::Milliseconds(1500));
  EXPECT_FALSE(run.state().faults.at(kCut).apply_issued);
  run.Node("db-1", true);
  run.Pass(absl::Milliseconds(500));
  EXPECT_TRUE(run.state().faults.at(kCut).apply_issued);
}

// ---- nodes that are started again

// The slots are asked about on db-1, as the recovery is.
v1::Plan AskedOnTheNode() {
  v1::Plan plan = RehearsalPlan();
  v1::PlannedProbe& probe = *plan.add_probes();
  probe.set_id("steadyState/slots-free");
  probe.set_node("db-1");
  return plan;
}

TEST(RunTest, AtTheGateANodeThatWasStartedAgainIsAskedAndPreparedAgain) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(1));
  run.Said();
  run.Restart("db-1");
  EXPECT_THAT(run.Said(), ElementsAre("prepare cut db-1 #2", "prepare leak db-1 #2",
                                      "start recovery/no-leftovers db-1 #2"));
  run.Restart("load-1");
  EXPECT_THAT(run.Said(), ElementsAre("start shoppers load-1 #2"));
  EXPECT_EQ(run.commands().back().start_load().seed(), 7u);
  EXPECT_EQ(run.commands().back().start_load().endpoint().url(), "http://127.0.0.1:1");
  run.Restart("load-1");
  EXPECT_THAT(run.Said(), ElementsAre("start shoppers load-1 #3"));
  run.Healthy(absl::Seconds(4));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);
}

TEST(RunTest, SteadyStateMustHoldAnewWhereItWasSeenThroughANodeThatWasStartedAgain) {
  Rehearsal run(AskedOnTheNode());
  run.ToGate();
  run.Healthy(absl::Seconds(3));
  run.Restart("db-1");
  run.Healthy(absl::Seconds(3));
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
  run.Healthy(absl::Seconds(1));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);
}

TEST(RunTest, SteadyStateMustHoldAnewWhereItsLoadWasStartedAgain) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(3));
  run.Restart("load-1");
  run.Healthy(absl::Seconds(3));
  EXPECT_EQ(run.state().phase, v1::PHASE_GATE);
}

TEST(RunTest, WhatIsSeenElsewhereGoesOnHolding) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.Healthy(absl::Seconds(3));
  run.Restart("db-1");
  run.Healthy(absl::Seconds(1));
  EXPECT_EQ(run.state().phase, v1::PHASE_INJECT);
}

TEST(RunTest, AGateThatDoesNotOpenAfterARestartTellsOfNoAnswerFromBefore) {
  Rehearsal run(AskedOnTheNode());
  run.ToGate();
  run.Answer("steadyState/slots-free", 0.1);
  run.Restart("db-1");
  run.Pass(absl::Seconds(30));
  ASSERT_TRUE(run.is_finished());
  EXPECT_THAT(run.finished().reason(),
              HasSubstr("last observed: nothing since node db-1 was started again"));
}

TEST(RunTest, WhatWasAppliedIsNotAppliedAgainButWhatIsToComeIsPreparedAgain) {
  Rehearsal run = Leaking();
  run.Restart("db-1");
  EXPECT_THAT(run.Said(),
              ElementsAre("prepare cut db-1 #2", "start recovery/no-leftovers db-1 #2"));
  EXPECT_FALSE(run.state().stopping);
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  run.Healthy(absl::Seconds(12));
  EXPECT_THAT(run.Said(), Contains("apply cut db-1 #1"));
  CutOnce(run);
  run.Restart("db-1");
  EXPECT_EQ(run.commands().back().id().name(), "recovery/no-leftovers");
  EXPECT_EQ(run.commands().back().id().attempt(), 3u);
}

TEST(RunTest, ALoadThatIsLostWithItsNodeEndsTheExperiment) {
  Rehearsal run = Leaking();
  run.Restart("load-1");
  EXPECT_THAT(run.Said(), Contains("stop node_lost"));
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_EQ(run.state().stop->by(), "load-1");
  EXPECT_EQ(run.state().stop->reason(),
            "the injector of load-1 was started again, and its load shoppers was lost with the old "
            "one");
  for (const v1::Command& command : run.commands()) {
    if (command.has_start_load()) EXPECT_EQ(command.id().attempt(), 1u);
  }
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
}

// Nobody asks the system anything any more: that it comes back proves nothing.
TEST(RunTest, ALoadThatIsLostDuringTheRecoveryEndsTheRun) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(13));
  CutOnce(run);
  run.Healthy(absl::Seconds(28));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  run.Remedy(v1::REMEDY_STATE_DONE);
  ASSERT_EQ(run.state().phase, v1::PHASE_RECOVER);
  run.Restart("load-1");
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_TRUE(run.finished().undo_confirmed());
}

TEST(RunTest, ARestartAfterAStopStartsNothing) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Said();
  run.Restart("db-1");
  EXPECT_THAT(run.Said(), IsEmpty());
}

TEST(RunTest, ALoadThatCannotRunKeepsItFromStarting) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.LoadEnds("the policy does not permit load");
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_NOT_STARTED);
  EXPECT_EQ(run.finished().reason(),
            "load shoppers on load-1 ended by itself: the policy does not permit load");
}

TEST(RunTest, ALoadThatEndsByItselfEndsTheExperimentAndOneThatWasToldToDoesNot) {
  Rehearsal run = Leaking();
  run.LoadEnds("");
  EXPECT_FALSE(run.state().stopping);
  run.LoadEnds("the connection to its controller was lost");
  ASSERT_TRUE(run.state().stop.has_value());
  EXPECT_EQ(run.state().stop->cause(), v1::StopRequested::CAUSE_NODE_LOST);
  EXPECT_THAT(run.state().stop->reason(), HasSubstr("the connection to its controller was lost"));
}

// ---- robustness

TEST(RunTest, WhatComesLateOrTwiceChangesNothing) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(12));
  CutOnce(run);
  run.Said();
  const absl::Time ended = *run.state().faults.at(kCut).ended;
  run.Pass(absl::Seconds(1));
  CutOnce(run);
  run.Timer("apply/cut@db-1");
  run.Timer("revert/cut@db-1");
  run.Timer("again/cut@db-1");
  run.Timer("nonsense");
  run.Timer("apply/nobody@nowhere");
  run.Create();
  run.FinishPreflight();
  run.Report("stranger", v1::FAULT_STATE_ACTIVE);
  EXPECT_THAT(run.Said(), IsEmpty());
  EXPECT_EQ(*run.state().faults.at(kCut).ended, ended);
}

TEST(RunTest, ASecondStopChangesNothing) {
  Rehearsal run = Leaking();
  run.AskToStop(v1::StopRequested::CAUSE_INTERRUPT);
  run.Said();
  run.AskToStop(v1::StopRequested::CAUSE_OPERATOR);
  EXPECT_THAT(run.Said(), IsEmpty());
  EXPECT_EQ(run.state().stop->cause(), v1::StopRequested::CAUSE_INTERRUPT);
}

TEST(RunTest, NothingFollowsTheEnd) {
  Rehearsal run = Leaking();
  run.AskToStop();
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  ASSERT_TRUE(run.is_finished());
  run.Said();
  run.Report("leak", v1::FAULT_STATE_ACTIVE);
  run.AskToStop();
  run.Timer("apply/leak@db-1");
  EXPECT_THAT(run.Said(), IsEmpty());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
}

TEST(RunTest, TheHistoryAloneGivesTheSameState) {
  Rehearsal run = Leaking();
  run.Healthy(absl::Seconds(5));
  const RunState folded = Fold(run.history());
  EXPECT_EQ(folded.phase, v1::PHASE_INJECT);
  EXPECT_EQ(folded.faults.at(kLeak).reached, run.state().faults.at(kLeak).reached);
  EXPECT_EQ(folded.gate_passed, run.state().gate_passed);
}

}  // namespace
}  // namespace firedrill
