// Faults in force, impact and recovery: each rule kept and broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/controller/judging.h"

namespace firedrill {
namespace {

// ---- efficacy and impact

TEST(JudgeEfficacy, WhatIsAnchoredOnAFaultNotInForceIsInDoubt) {
  ShopCourse course;
  course.leak_in_force = false;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "leak"), "inconclusive not-in-force");
  EXPECT_EQ(Of(judgement, "leak").observed(), "10 of 57 usable slots taken");
  // Also what did happen: it did not happen because of the fault that was asked for.
  for (const char* name : {"slots-page", "slots-page/delivered", "slots-page/resolved",
                           "back-after-leak", "restart-is-no-cure", "no-leftovers"}) {
    EXPECT_EQ(Word(judgement, name), "inconclusive not-in-force") << name;
  }
  EXPECT_EQ(Word(judgement, "logins-hurt"), "passed");
  EXPECT_EQ(judgement.exit_code(), 6);
}

TEST(JudgeEfficacy, WhatToDoHangsOnWhatWasMissing) {
  using Figures = std::map<std::string, double>;
  const auto mend = [](double real, const Figures& figures) {
    ShopCourse course;
    course.leak_in_force = false;
    std::vector<v1::Event> history = ShopHistory(course).Build();
    for (v1::Event& event : history) {
      if (!event.has_fault() || event.fault().fault() != "leak") continue;
      if (!event.fault().has_observation()) continue;
      v1::Observation& seen = *event.mutable_fault()->mutable_observation();
      seen.set_real(real);
      for (const auto& [name, value] : figures) (*seen.mutable_figures())[name] = value;
    }
    return Of(Judge(history), "leak").mend();
  };
  EXPECT_THAT(mend(10, {}), testing::StartsWith("ask for less, or see on the node"));
  EXPECT_THAT(mend(0, {}), testing::StartsWith("see on the node"));
  EXPECT_THAT(mend(0, {{"connections", 0}, {"open", 0}, {"matched", 0}}),
              testing::StartsWith("no client came through it"));
  EXPECT_THAT(mend(0, {{"connections", 2}, {"open", 1}, {"requests", 3}, {"matched", 0}}),
              testing::StartsWith("none of the requests that came was meant"));
  EXPECT_THAT(mend(0, {{"connections", 2}, {"refused", 2}, {"requests", 0}, {"matched", 0}}),
              testing::StartsWith("the server itself refused its clients"));
  // Of bytes nobody counts requests; one who was let in may have been silent.
  EXPECT_THAT(mend(0, {{"connections", 2}, {"refused", 2}}),
              testing::StartsWith("the server itself refused its clients"));
  EXPECT_THAT(mend(0, {{"connections", 2}, {"refused", 1}}),
              testing::StartsWith("see on the node"));
  EXPECT_THAT(mend(0, {{"connections", 2}, {"open", 2}, {"requests", 0}, {"matched", 0}}),
              testing::StartsWith("clients came and asked nothing"));
  EXPECT_THAT(mend(0, {{"connections", 2}, {"encrypted", 2}, {"matched", 0}}),
              testing::StartsWith("have the clients speak in the clear"));
}

// The best of the whole run stood beside the time of the first.
TEST(JudgeEfficacy, WhatIsSaidOfATimeWasMeasuredThen) {
  HistoryBuilder history = ShopHistory();
  EXPECT_EQ(Of(JudgeOf(history), "leak").observed(),
            "57 of 57 usable slots taken, 51 by this fault, 4.8s after leak.start");
  // As much, and other figures beside it.
  history.Fault(15, "leak", v1::FAULT_STATE_ACTIVE, true, "63 of 57 usable slots taken", 57);
  EXPECT_EQ(Of(JudgeOf(history), "leak").observed(),
            "57 of 57 usable slots taken, 51 by this fault, 4.8s after leak.start");
  history.Fault(20, "leak", v1::FAULT_STATE_ACTIVE, true, "60 of 60 usable slots taken", 60);
  history.Fault(21, "leak", v1::FAULT_STATE_ACTIVE, true, "60 of 60 again", 60);
  EXPECT_EQ(Of(JudgeOf(history), "leak").observed(),
            "57 of 57 usable slots taken, 51 by this fault, 4.8s after leak.start; at most 60 of "
            "60 again, 20.8s after leak.start");
}

TEST(JudgeEfficacy, AOneShotFaultWithoutEffectIsNotInForce) {
  ShopCourse course;
  course.cut_in_force = false;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "cut"), "inconclusive not-in-force");
  EXPECT_EQ(Word(judgement, "logins-hurt"), "inconclusive not-in-force");
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
}

TEST(JudgeEfficacy, AFaultThatWasOffBeforeItsTimeIsInDoubt) {
  ShopCourse course;
  course.leak_ended = 38;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "leak"), "inconclusive ended-early");
  EXPECT_THAT(Of(judgement, "leak").observed(), ::testing::EndsWith("off after 37.8s"));
  EXPECT_EQ(judgement.exit_code(), 6);
}

// It was said to have had no clients, though nobody had looked before its injector was gone.
TEST(JudgeEfficacy, AFaultThatWasOffBeforeItWasSeenInForceEndedEarlyToo) {
  ShopCourse course;
  course.leak_in_force = false;
  course.leak_ended = 3;
  HistoryBuilder history = ShopHistory(course);
  for (v1::Event& event : history.events()) {
    if (event.has_fault() && event.fault().state() == v1::FAULT_STATE_REVERTED) {
      event.mutable_fault()->set_reason("its injector had ended");
    }
  }
  const v1::Judgement judgement = Judge(history.Build());
  EXPECT_EQ(Word(judgement, "leak"), "inconclusive ended-early");
  EXPECT_EQ(Of(judgement, "leak").reason(),
            "it was off after 2.8s of 40s, before it was seen in force: its injector had ended");
  EXPECT_THAT(Of(judgement, "leak").mend(), ::testing::StartsWith("see what happened on "));
  // What hangs on it is still in doubt.
  EXPECT_EQ(Word(judgement, "slots-page"), "inconclusive not-in-force");
  EXPECT_EQ(judgement.exit_code(), 6);
}

// The same of one whose injector ended before it could say that it was on.
TEST(JudgeEfficacy, AFaultThatEndedWhileItWasAppliedEndedEarlyToo) {
  ShopCourse course;
  course.leak_in_force = false;
  course.leak_ended = 3;
  HistoryBuilder history = ShopHistory(course);
  history.Apply(0.1, "leak");
  std::erase_if(history.events(), [](const v1::Event& event) {
    return event.has_fault() && event.fault().fault() == "leak" &&
           event.fault().state() == v1::FAULT_STATE_ACTIVE;
  });
  EXPECT_EQ(Word(Judge(history.Build()), "leak"), "inconclusive ended-early");
}

// A node that needs its time to apply is not early for it: the end was armed when it was told.
TEST(JudgeEfficacy, WhatApplyingTakesIsOffWhatIsLeft) {
  ShopCourse course;
  HistoryBuilder history = ShopHistory(course);
  for (v1::Event& event : history.events()) {
    const bool first = event.has_fault() && event.fault().fault() == "leak" &&
                       event.fault().observation().real() == 10;
    if (first) *event.mutable_at() = ToProto(HistoryBuilder::Time(1.4));
  }
  EXPECT_EQ(Word(Judge(history.Build()), "leak"), "passed");
}

TEST(JudgeEfficacy, AFaultThatAStopEndedIsNotEarly) {
  ShopCourse course;
  course.leak_ended = 33;
  HistoryBuilder history = ShopHistory(course);
  history.Stop(32.9, v1::StopRequested::CAUSE_OPERATOR, "enough");
  EXPECT_EQ(Word(Judge(history.Build()), "leak"), "passed");
}

TEST(JudgeImpact, NotReachedLeavesWhatDependsOnItInDoubt) {
  ShopCourse course;
  course.logins = [](double) { return 100.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "logins-hurt"), "inconclusive no-impact");
  // The leak was in force, and the alert is about the leak.
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_EQ(Word(judgement, "back-after-leak"), "inconclusive no-impact");
  EXPECT_EQ(Word(judgement, "restart-is-no-cure"), "inconclusive held-already");
  EXPECT_EQ(judgement.exit_code(), 6);
}

TEST(JudgeImpact, AMissingAlertOfAFaultThatDidNotHurtIsInDoubt) {
  ShopCourse course;
  course.logins = [](double) { return 100.0; };
  course.pending = course.firing = course.api_errors_firing = std::nullopt;
  const auto on_cut = [](v1::RunCreated& created) {
    v1::AlertExpectation& alert =
        *created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_alerts(0);
    alert.set_since("cut.start");
  };
  EXPECT_EQ(Word(JudgeOf(Changed(course, on_cut)), "slots-page"), "inconclusive no-impact");
  // It came before the impact, and does not depend on it.
  EXPECT_EQ(Word(JudgeOf(course), "slots-page"), "failed never-fired");
  // With the impact reached there is no excuse.
  course.logins = ShopCourse().logins;
  EXPECT_EQ(Word(JudgeOf(Changed(course, on_cut)), "slots-page"), "failed never-fired");
}

TEST(JudgeImpact, AFaultThatDidNotHurtMayStillBeSeenToAlert) {
  ShopCourse course;
  course.logins = [](double) { return 100.0; };
  course.pending = 13.0;
  course.firing = 15.0;
  const auto on_cut = [](v1::RunCreated& created) {
    created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_alerts(0)->set_since(
        "cut.start");
  };
  EXPECT_EQ(Word(JudgeOf(Changed(course, on_cut)), "slots-page"), "passed");
}

TEST(JudgeImpact, ABlindLoadIsNotMistakenForOneThatDoesNotHurt) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_load() && FromProto(event.load().start()) >= HistoryBuilder::Time(11)) {
      event.mutable_load()->set_sent(30);
    }
  }
  EXPECT_EQ(Word(JudgeOf(builder), "logins-hurt"), "inconclusive starved");
}

// ---- recovery

TEST(JudgeRecovery, ComingBackLateFailsAndIsMeasured) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 58 ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed late");
  EXPECT_NEAR(Measured(judgement, "back-after-leak"), 60 - 40.1, 1e-6);
  EXPECT_NEAR(Seconds(judgement.time_to_recover()), 60 - 40.1, 1e-6);
}

// "It held all the time" stood beside "was broken from +61.0s to +66.0s".
TEST(JudgeRecovery, HoldingIsSaidOfTheTimeThatIsAskedOnly) {
  ShopCourse course;
  course.logins = [](double t) { return t >= 59 && t < 64 ? 20.0 : 100.0; };
  EXPECT_EQ(Of(JudgeOf(course), "back-after-leak").observed(), "held for the 10s that are asked");
}

TEST(JudgeRecovery, NeverComingBackFails) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 ? 100.0 : 0.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed never-came-back");
  EXPECT_FALSE(judgement.has_time_to_recover());
}

// It said "not back", and showed a good share: 5 s of the 10 s that were asked were left.
TEST(JudgeRecovery, ComingBackTooLateToBeSeenForLongEnoughSaysForHowLong) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 67 ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Of(judgement, "back-after-leak").observed(), "back 28.9s after leak.end, for 5s");
  // A longer run would not have mended it.
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed late");
  EXPECT_NEAR(Measured(judgement, "back-after-leak"), 28.9, 1e-6);
  EXPECT_EQ(Of(judgement, "back-after-leak").reason(),
            "it came back 13.9s too late, and had held for 5s of the 10s that are asked when the "
            "run ended");
  EXPECT_EQ(Of(judgement, "back-after-leak").mend(),
            "see what it waited for, or allow more time in `within`");
}

TEST(JudgeRecovery, ComingBackOnlyForAMomentFails) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || (t >= 43 && t < 49) ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed did-not-stay");
  // It was told as recovered 4.9 s after the leak.
  EXPECT_FALSE(judgement.has_time_to_recover());
  EXPECT_THAT(Of(judgement, "back-after-leak").reason(),
              testing::HasSubstr("it did not stay: ok 60%, p95 20ms at +50.0s"));
  // By what broke it, not by how it ended.
  course.logins = [](double t) {
    return t < 13 || (t >= 43 && t < 49) || (t >= 62 && t < 70) ? 100.0 : 20.0;
  };
  EXPECT_EQ(Of(JudgeOf(course), "back-after-leak").reason(),
            Of(judgement, "back-after-leak").reason());
}

TEST(JudgeRecovery, HealingDuringTheFaultIsNegative) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 33 ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "passed");
  EXPECT_NEAR(Measured(judgement, "back-after-leak"), 35 - 40.1, 1e-6);
  EXPECT_EQ(Of(judgement, "back-after-leak").observed(),
            "back 5.1s before leak.end, and stayed for 33s");
}

TEST(JudgeRecovery, TimeToRecoverIsNegativeWhereAllHealedDuringTheFault) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 33 ? 100.0 : 20.0; };
  course.slots = [](double t) { return t < 3 || t > 30 ? 0.2 : 1.0; };
  EXPECT_NEAR(Seconds(JudgeOf(course).time_to_recover()), 35 - 40.1, 1e-6);
}

TEST(JudgeRecovery, AStarvedLoadLeavesItInDoubt) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_load() && FromProto(event.load().start()) >= HistoryBuilder::Time(41)) {
      event.mutable_load()->set_sent(30);
    }
  }
  EXPECT_EQ(Word(JudgeOf(builder), "back-after-leak"), "inconclusive starved");
}

TEST(JudgeRecovery, BlindnessThatCannotHideARecoveryIsNoExcuse) {
  // Blind for 5 s in the middle; ten seconds in a row would have been needed.
  ShopCourse course;
  course.logins = [](double t) { return t < 13 ? 100.0 : 0.0; };
  HistoryBuilder builder = ShopHistory(course);
  for (v1::Event& event : builder.events()) {
    if (!event.has_load()) continue;
    const absl::Time start = FromProto(event.load().start());
    if (start >= HistoryBuilder::Time(46) && start < HistoryBuilder::Time(50)) {
      event.mutable_load()->set_sent(30);
    }
  }
  EXPECT_EQ(Word(JudgeOf(builder), "back-after-leak"), "failed never-came-back");
}

TEST(JudgeRecovery, ALoadThatEndedLeavesItInDoubt) {
  HistoryBuilder builder = ShopHistory();
  std::erase_if(builder.events(), [](const v1::Event& event) {
    return event.has_load() && FromProto(event.load().start()) >= HistoryBuilder::Time(41);
  });
  EXPECT_EQ(Word(JudgeOf(builder), "back-after-leak"), "inconclusive blind");
}

TEST(JudgeRecovery, ARemedyThatHelpsRefutesTheBeliefThatItDoesNot) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 23 ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "restart-is-no-cure"), "failed came-back");
  EXPECT_NEAR(Measured(judgement, "restart-is-no-cure"), 25 - 21.5, 1e-6);
}

TEST(JudgeRecovery, WhatComesBackWhileTheRemedyRunsCameBackThroughIt) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 18.9 ? 100.0 : 20.0; };
  EXPECT_EQ(Word(JudgeOf(course), "restart-is-no-cure"), "failed came-back");
}

TEST(JudgeRecovery, WhatWasBackBeforeTheRemedyIsNotItsDoing) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 16 ? 100.0 : 20.0; };
  EXPECT_EQ(Word(JudgeOf(course), "restart-is-no-cure"), "inconclusive held-already");
}

TEST(JudgeRecovery, WhatOnlyTheRemedyItselfBrokeRefutesNoBelief) {
  ShopCourse course;
  // It came back from what the fault did before.
  course.logins = [](double t) {
    return t < 13 || (t >= 15 && t < 20.5) || t >= 23 ? 100.0 : 20.0;
  };
  EXPECT_EQ(Word(JudgeOf(course), "restart-is-no-cure"), "inconclusive held-already");
}

TEST(JudgeRecovery, WhatComesBackWithTheFaultsEndRefutesNoBelief) {
  ShopCourse course;
  // The restart took so long that the leak was over before it could be judged.
  course.leak_ended = 25;
  course.logins = [](double t) { return t < 13 || t >= 25.5 ? 100.0 : 20.0; };
  EXPECT_EQ(Word(JudgeOf(course), "restart-is-no-cure"), "inconclusive fault-over");
}

TEST(JudgeRecovery, WhatComesBackAfterAnotherRemedyRefutesNoBelief) {
  const auto word = [](double done) {
    ShopCourse course;
    course.logins = [](double t) { return t < 13 || t >= 25 ? 100.0 : 20.0; };
    HistoryBuilder builder = Changed(course, [](v1::RunCreated& created) {
      v1::PlannedRemedy& remedy = *created.mutable_plan()->add_remedies();
      remedy.set_name("feature-off");
      remedy.set_node("app-1");
    });
    builder.Remedy(done - 0.5, "feature-off", v1::REMEDY_STATE_RUNNING);
    builder.Remedy(done, "feature-off", v1::REMEDY_STATE_DONE);
    std::stable_sort(builder.events().begin(), builder.events().end(),
                     [](const v1::Event& a, const v1::Event& b) {
                       return FromProto(a.at()) < FromProto(b.at());
                     });
    return Word(JudgeOf(builder), "restart-is-no-cure");
  };
  EXPECT_EQ(word(24), "inconclusive other-remedy");
  // Neither what was done before it began, nor what came later.
  EXPECT_EQ(word(19), "failed came-back");
  EXPECT_EQ(word(28), "failed came-back");
}

TEST(JudgeRecovery, ComingBackLaterThanWithinDoesNotRefuteTheBelief) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 32 ? 100.0 : 20.0; };
  EXPECT_EQ(Word(JudgeOf(course), "restart-is-no-cure"), "passed");
}

TEST(JudgeRecovery, ARemedyThatFailedIsNotJudgedForItsHelp) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_remedy() && event.remedy().state() == v1::REMEDY_STATE_DONE) {
      event.mutable_remedy()->set_state(v1::REMEDY_STATE_FAILED);
      event.mutable_remedy()->set_exit_code(2);
    }
  }
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "restart-is-no-cure"), "inconclusive no-anchor");
  EXPECT_EQ(Of(judgement, "restart-is-no-cure").reason(),
            "remedy restart-shop failed with exit code 2");
  for (v1::Event& event : builder.events()) {
    if (!event.has_remedy() || event.remedy().state() != v1::REMEDY_STATE_FAILED) continue;
    event.mutable_remedy()->set_exit_code(-1);
    event.mutable_remedy()->set_failure("HTTP 503");
  }
  EXPECT_EQ(Of(JudgeOf(builder), "restart-is-no-cure").reason(),
            "remedy restart-shop failed: HTTP 503");
}

TEST(JudgeRecovery, ProbesOfTheirOwnAreFoundByTheirPlannedName) {
  ShopCourse course;
  course.leftovers_gone = 60;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "no-leftovers"), "failed late");
}

}  // namespace
}  // namespace firedrill
