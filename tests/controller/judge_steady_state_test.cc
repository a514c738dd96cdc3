// Steady state must come back, and stay, whether a recovery asks for it or not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controller/judging.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr char kSlots[] = "steady-state/slots-free";
constexpr char kLogins[] = "steady-state/logins-answer";
constexpr char kProbe[] = "steadyState/slots-free";

bool Has(const v1::Judgement& judgement, const std::string& name) {
  for (const Result& result : judgement.results()) {
    if (result.name() == name) return true;
  }
  return false;
}

v1::Judgement WithSlots(std::function<double(double)> slots) {
  ShopCourse course;
  course.slots = std::move(slots);
  return JudgeOf(course);
}

// A run whose samples of the slots end here, or are not known from here on.
v1::Judgement WithSlotsUntil(double end, bool say_unknown) {
  HistoryBuilder builder = ShopHistory();
  const auto after = [&](const v1::Event& event) {
    return event.has_sample() && event.sample().probe() == kProbe &&
           FromProto(event.sample().asked()) >= HistoryBuilder::Time(end);
  };
  if (!say_unknown) std::erase_if(builder.events(), after);
  for (v1::Event& event : builder.events()) {
    if (after(event)) event.mutable_sample()->set_unknown("no series");
  }
  return JudgeOf(builder);
}

v1::RunCreated& AskLogins(v1::RunCreated& created, const std::string& since, int hold_s,
                          bool expected = true) {
  auto& recovery =
      *created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_recovery(0);
  recovery.set_since(since);
  recovery.mutable_for_()->set_seconds(hold_s);
  recovery.set_expected(expected);
  return created;
}

TEST(JudgeSteadyState, WhatCameBackAndStayedPasses) {
  const v1::Judgement judgement = JudgeOf(ShopCourse{});
  EXPECT_EQ(Word(judgement, kSlots), "passed");
  EXPECT_NEAR(Measured(judgement, kSlots), 41.5 - 40.1, 0.6);
  EXPECT_THAT(Of(judgement, kSlots).observed(), HasSubstr("after leak.end, and stayed"));
  EXPECT_EQ(Of(judgement, kSlots).path(), "steadyState[1]");
  EXPECT_EQ(Of(judgement, kSlots).position().line(), 33u);
  EXPECT_EQ(judgement.exit_code(), 0);
}

TEST(JudgeSteadyState, WhatWasNeverBrokenPasses) {
  const v1::Judgement judgement = WithSlots([](double) { return 0.2; });
  EXPECT_EQ(Word(judgement, kSlots), "passed");
  EXPECT_EQ(Of(judgement, kSlots).observed(), "it held all the time");
}

// The run passed, and its report said "had not come back by the end".
TEST(JudgeSteadyState, WhatNeverCameBackFailsTheRun) {
  const v1::Judgement judgement = WithSlots([](double t) { return t < 3 ? 0.2 : 1.0; });
  EXPECT_EQ(Word(judgement, kSlots), "failed never-came-back");
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_FAILED);
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeSteadyState, ComingBackTooLateToBeSeenForLongEnoughFails) {
  const v1::Judgement judgement = WithSlots([](double t) { return t < 3 || t > 71 ? 0.2 : 1.0; });
  EXPECT_EQ(Word(judgement, kSlots), "failed never-came-back");
  EXPECT_THAT(Of(judgement, kSlots).reason(), HasSubstr("of the 5s that are asked"));
}

TEST(JudgeSteadyState, WhatIsBrokenAtTheEndDidNotStay) {
  const v1::Judgement judgement =
      WithSlots([](double t) { return t < 3 || (t > 41 && t < 72) ? 0.2 : 1.0; });
  EXPECT_EQ(Word(judgement, kSlots), "failed did-not-stay");
  // In between is not the end.
  EXPECT_EQ(
      Word(WithSlots([](double t) { return t < 3 || (t > 41 && t < 60) || t > 62 ? 0.2 : 1.0; }),
           kSlots),
      "passed");
}

TEST(JudgeSteadyState, WhatHeldOnlyDuringTheFaultHasNotComeBack) {
  EXPECT_EQ(
      Word(WithSlots([](double t) { return t < 3 || (t > 20 && t < 40) ? 0.2 : 1.0; }), kSlots),
      "failed never-came-back");
}

TEST(JudgeSteadyState, ARemedyAfterTheLastFaultIsPartOfWhatMustBeOver) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_remedy() && event.remedy().state() == v1::REMEDY_STATE_DONE) {
      *event.mutable_at() = ToProto(HistoryBuilder::Time(72));
    }
  }
  // Three seconds are left of the five that are asked, and the run should have gone on.
  EXPECT_EQ(Word(JudgeOf(builder), kSlots), "inconclusive cut-short");
}

TEST(JudgeSteadyState, ARunThatEndedTooEarlyIsInDoubt) {
  ShopCourse course;
  course.finished = 60;
  course.slots = [](double t) { return t < 3 ? 0.2 : 1.0; };
  EXPECT_EQ(Word(JudgeOf(course), kSlots), "inconclusive cut-short");
  // Enough was seen.
  course.slots = ShopCourse().slots;
  EXPECT_EQ(Word(JudgeOf(course), kSlots), "passed");
}

TEST(JudgeSteadyState, ARunThatWasStoppedBeforeItsFaultsWereOverIsInDoubt) {
  for (const bool broken : {false, true}) {
    ShopCourse course;
    course.slots = [broken](double t) { return broken && t > 3 ? 1.0 : 0.2; };
    HistoryBuilder builder = ShopHistory(course);
    builder.Stop(33, v1::StopRequested::CAUSE_OPERATOR, "enough");
    const v1::Judgement judgement = Judge(builder.Build());
    EXPECT_EQ(Word(judgement, kSlots), "inconclusive cut-short");
  }
}

TEST(JudgeSteadyState, ARunThatGoesOnIsOpen) {
  HistoryBuilder builder = ShopHistory();
  std::erase_if(builder.events(), [](const v1::Event& event) { return event.has_finished(); });
  EXPECT_EQ(Word(JudgeOf(builder), kSlots), "inconclusive open");
}

TEST(JudgeSteadyState, WhatNobodySawIsNotClaimed) {
  EXPECT_EQ(Word(WithSlotsUntil(40, true), kSlots), "inconclusive blind");
  EXPECT_EQ(Word(WithSlotsUntil(40, false), kSlots), "inconclusive blind");
  // It held for long enough, and what it was like at the end is not known.
  EXPECT_EQ(Word(WithSlotsUntil(60, true), kSlots), "inconclusive blind");
  EXPECT_EQ(Word(WithSlotsUntil(60, false), kSlots), "inconclusive blind");
  // The last answers of a run come late, or not at all.
  EXPECT_EQ(Word(WithSlotsUntil(73, false), kSlots), "passed");
}

// "ok 0%" because nothing is asked any more would be a load's end, not the system's.
TEST(JudgeSteadyState, ALoadThatEndedIsNotBroken) {
  HistoryBuilder builder = Changed({}, [](v1::RunCreated& created) {
    created.mutable_experiment()->mutable_spec()->mutable_expect()->clear_recovery();
  });
  std::erase_if(builder.events(), [](const v1::Event& event) {
    return event.has_load() && FromProto(event.load().start()) >= HistoryBuilder::Time(72);
  });
  EXPECT_EQ(Word(JudgeOf(builder), kLogins), "passed");
}

TEST(JudgeSteadyState, ARecoveryThatAsksAtTheEndJudgesItAlone) {
  ShopCourse never;
  never.logins = [](double t) { return t < 13 ? 100.0 : 0.0; };
  const v1::Judgement judgement = JudgeOf(never);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed never-came-back");
  EXPECT_FALSE(Has(judgement, kLogins));
  const auto word = [&](const std::string& since, int hold_s, bool expected = true) {
    const v1::Judgement changed = JudgeOf(Changed(
        never, [&](v1::RunCreated& created) { AskLogins(created, since, hold_s, expected); }));
    return Has(changed, kLogins) ? Word(changed, kLogins) : "not judged twice";
  };
  // It begins before the last fault's end, and can pass before it.
  EXPECT_EQ(word("leak.start", 14), "failed never-came-back");
  EXPECT_EQ(word("restart-shop.done", 10), "failed never-came-back");
  // Here it cannot.
  EXPECT_EQ(word("leak.start", 41), "not judged twice");
  EXPECT_EQ(word("restart-shop.done", 19), "not judged twice");
  // Whoever believes that something stays away asks for nothing to come back.
  EXPECT_EQ(word("leak.end", 10, false), "failed never-came-back");
}

TEST(JudgeSteadyState, ImpactsThatWereNotReachedAreNoExcuse) {
  ShopCourse course;
  course.logins = [](double) { return 100.0; };
  EXPECT_EQ(Word(JudgeOf(course), kSlots), "passed");
  course.slots = [](double t) { return t < 3 ? 0.2 : 1.0; };
  EXPECT_EQ(Word(JudgeOf(course), kSlots), "failed never-came-back");
}

TEST(JudgeSteadyState, WhereNothingWasInjectedItIsNamed) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Finish(-14, v1::OUTCOME_NOT_STARTED, true, "no target");
  const v1::Judgement judgement = Judge(builder.Build());
  EXPECT_EQ(Word(judgement, kSlots), "inconclusive not-run");
}

}  // namespace
}  // namespace firedrill
