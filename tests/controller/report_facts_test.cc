// What a report says of a run, before it is printed: every sentence must be what was measured.
#include "controller/report_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "tests/testing/history_builder.h"

namespace firedrill::reporting {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

RunFacts Facts(const std::vector<v1::Event>& history) { return FactsOf(history, Judge(history)); }

std::vector<RunFinding> Findings(const std::vector<v1::Event>& history) {
  const v1::Judgement judgement = Judge(history);
  return FindingsOf(FactsOf(history, judgement), history, judgement);
}

// The sentence of this code, or nothing.
std::string Sentence(const std::vector<RunFinding>& findings, const std::string& code) {
  for (const RunFinding& finding : findings) {
    if (finding.code == code) return finding.text;
  }
  return "";
}
std::string Sentence(const ShopCourse& course, const std::string& code) {
  return Sentence(Findings(ShopHistory(course).Build()), code);
}

// Logins as they are before the restart at 20 s, and as they are after it, until the leak ends.
ShopCourse Restart(double before, double after) {
  ShopCourse course;
  course.logins = [=](double t) {
    if (t < 13 || t >= 43) return 100.0;
    return t < 20 ? before : after;
  };
  return course;
}

TEST(Edges, AreWhatWasDoneInItsOrder) {
  std::vector<std::string> labels;
  const RunFacts facts = Facts(ShopHistory().Build());
  for (const Edge& edge : facts.edges) labels.push_back(edge.label);
  EXPECT_THAT(labels, ElementsAre("leak in force", "cut hit", "restart-shop", "leak off"));
  EXPECT_EQ(facts.edges[0].to - facts.zero, absl::Seconds(5));
  EXPECT_EQ(facts.stretches.size(), facts.edges.size() + 1);
}

TEST(Edges, WhatIsDoneAtOnceIsOne) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(0, v1::PHASE_INJECT);
  builder.Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, true);
  builder.Remedy(0.4, "restart-shop", v1::REMEDY_STATE_RUNNING);
  builder.Remedy(0.9, "restart-shop", v1::REMEDY_STATE_DONE);
  const RunFacts facts = Facts(builder.Build());
  ASSERT_EQ(facts.edges.size(), 1u);
  EXPECT_EQ(facts.edges[0].label, "leak in force, restart-shop");
  EXPECT_EQ(facts.edges[0].faults, "leak in force");
}

// A crowd comes at `begun` and goes at `over`, while the leak is on.
HistoryBuilder WithCrowd(const ShopCourse& course, double begun, double over) {
  HistoryBuilder builder = ShopHistory(course);
  builder.Change([](v1::RunCreated& created) {
    v1::PlannedRemedy& crowd = *created.mutable_plan()->add_remedies();
    crowd = created.plan().remedies(0);
    crowd.set_name("crowd");
  });
  builder.Remedy(begun, "crowd", v1::REMEDY_STATE_RUNNING);
  builder.Remedy(over, "crowd", v1::REMEDY_STATE_DONE);
  return builder;
}

// It swallowed the restart within it, which was judged by what was before and after both.
TEST(Edges, ARemedyThatTakesLongIsTwo) {
  const RunFacts facts = Facts(WithCrowd({}, 16, 36).Build());
  std::vector<std::string> labels, acts;
  for (const Edge& edge : facts.edges) {
    labels.push_back(edge.label);
    acts.push_back(edge.acts);
  }
  EXPECT_THAT(labels, ElementsAre("leak in force", "cut hit", "crowd begun", "restart-shop",
                                  "crowd over", "leak off"));
  EXPECT_THAT(acts, ElementsAre("", "", "crowd", "restart-shop", "the end of crowd", ""));
  EXPECT_EQ(facts.edges[2].event, "crowd had begun");
  EXPECT_EQ(facts.edges[4].event, "crowd was over");
}

TEST(Remedies, WithinALongOneAreJudgedAgainstTheTimeAroundThem) {
  const auto findings = Findings(WithCrowd(Restart(33, 5), 16, 36).Build());
  EXPECT_EQ(Sentence(findings, "remedy-worse-after"),
            "restart-shop was followed by worse answers, though what was done 4s before it (crowd "
            "begun) may have hurt as well: login 32% → 5%.");
  // What has only begun is not judged for help.
  EXPECT_EQ(
      Sentence(findings, "remedy-no-cure"),
      "the end of crowd was no cure: login 5% → 5%; logins-answer and slots-free stayed broken, "
      "until leak was off.");
}

TEST(Remedies, TheEndOfALongOneMayBeTheCure) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 31 ? 100.0 : 20.0; };
  course.slots = [](double) { return 0.2; };
  EXPECT_THAT(Sentence(Findings(WithCrowd(course, 10, 30).Build()), "remedy-cured"),
              HasSubstr("the end of crowd was the cure: logins-answer held again "));
}

TEST(Remedies, ThatBeginItAllMetWhatWasWhole) {
  ShopCourse course;
  course.leak_in_force = false;
  course.logins = [](double t) { return t < 13 ? 100.0 : 20.0; };
  HistoryBuilder builder = WithCrowd(course, 1, 36);
  EXPECT_THAT(Sentence(Findings(builder.Build()), "remedy-hurt"),
              testing::StartsWith("crowd broke "));
}

TEST(Routes, SettleToTheLastSecondsOfEachStretch) {
  ShopCourse course = Restart(30, 30);
  const auto logins = course.logins;
  // Bad until 6 s after the restart, then good.
  course.logins = [=](double t) {
    return t >= 13 && t < 28 ? 10.0 : t < 40 && t >= 28 ? 90.0 : 100.0;
  };
  const RunFacts facts = Facts(ShopHistory(course).Build());
  ASSERT_EQ(facts.routes[0].name, "login");
  ASSERT_TRUE(facts.settled[3][0].value.has_value());
  EXPECT_EQ(facts.stretches[3].label, "restart-shop");
  EXPECT_NEAR(*facts.settled[3][0].value, 90, 0.5);
  EXPECT_EQ(facts.settled[3][0].answers, 8u * 40);
  EXPECT_NEAR(*facts.settled[0][0].value, 100, 0.01);
}

TEST(Routes, OfAStarvedLoadAreUnknown) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(0, v1::PHASE_INJECT).Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, true);
  for (int i = 1; i < 10; ++i) {
    builder.Load(i, "shoppers", "login", 100, absl::Milliseconds(20), 20);
  }
  builder.Finish(11);
  const RunFacts facts = Facts(builder.Build());
  EXPECT_FALSE(facts.settled[1][0].value.has_value());
  EXPECT_EQ(facts.settled[1][0].unknown, "starved");
}

TEST(Remedies, ThatMakeItWorseAreNamedWithBothShares) {
  EXPECT_EQ(Sentence(Restart(33, 5), "remedy-made-worse"),
            "restart-shop made it worse: login 32% → 5%.");
  EXPECT_EQ(Sentence(Restart(33, 5), "remedy-no-cure"), "");
}

TEST(Remedies, ThatChangeNothingAreNoCure) {
  EXPECT_EQ(
      Sentence(Restart(20, 20), "remedy-no-cure"),
      "restart-shop was no cure: login 20% → 20%; logins-answer and slots-free stayed broken, "
      "until leak was off.");
}

// It said "until leak was off" of what never came back.
TEST(Remedies, WhatNeverCameBackDidNotEndWithTheFault) {
  ShopCourse course = Restart(20, 20);
  course.logins = [](double t) { return t < 13 ? 100.0 : 20.0; };
  EXPECT_THAT(Sentence(course, "remedy-no-cure"),
              HasSubstr("; slots-free stayed broken, until leak was off; logins-answer stayed so "
                        "also after that."));
  course.slots = [](double t) { return t < 3 ? 0.2 : 1.0; };
  EXPECT_THAT(Sentence(course, "remedy-no-cure"),
              HasSubstr("logins-answer and slots-free stayed broken, also once leak was off."));
}

// It said "until leak was off" of none of them, though one came back of it.
TEST(Remedies, WhatStayedBrokenEndsEachByItself) {
  ShopCourse course = Restart(20, 20);
  course.slots = [](double t) { return t < 3 ? 0.2 : 1.0; };
  EXPECT_THAT(
      Sentence(course, "remedy-no-cure"),
      HasSubstr("logins-answer stayed broken, until leak was off; slots-free stayed so also "
                "after that."));
}

// It "stayed broken, until leak was off", and was "broken to +39.0s" two lines below: it had held
// for a second when the leak went off.
TEST(Remedies, WhatHeldWhenTheNextWasDoneHadComeBackBefore) {
  ShopCourse course = Restart(20, 20);
  course.logins = [](double t) { return t < 13 || t >= 37 ? 100.0 : 20.0; };
  course.slots = [](double) { return 0.2; };
  const auto findings = Findings(ShopHistory(course).Build());
  EXPECT_EQ(Sentence(findings, "remedy-no-cure"), "");
  EXPECT_THAT(Sentence(findings, "remedy-cured"),
              HasSubstr("logins-answer held again 17.5s after it"));
  EXPECT_THAT(Sentence(findings, "route-back"), HasSubstr("to +39.0s, 17.5s after restart-shop."));
}

// It "stayed broken" by the last remedy, and "was broken to +73.0s".
TEST(Remedies, WhatHeldWhenTheRunEndedCameBackAndSaysForHowLong) {
  ShopCourse course;
  course.leak_in_force = false;
  course.leak_ended = 15;
  course.logins = [](double t) { return t < 13 || t >= 71 ? 100.0 : 20.0; };
  course.slots = [](double) { return 0.2; };
  const auto findings = Findings(ShopHistory(course).Build());
  EXPECT_EQ(Sentence(findings, "remedy-no-cure"), "");
  EXPECT_THAT(Sentence(findings, "remedy-cured"),
              HasSubstr("logins-answer held again 51.5s after it (for 1s until the run's end)"));
}

// The run was stopped 4 s after it, and the experiment looks for 10.
TEST(Remedies, AreNotCalledNoCureBeforeTheyWereLookedAtForLongEnough) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-10, v1::PHASE_GATE).Phase(0, v1::PHASE_INJECT);
  builder.Apply(0, "leak").Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, true, "", 57);
  builder.Remedy(20, "restart-shop", v1::REMEDY_STATE_RUNNING);
  builder.Remedy(21, "restart-shop", v1::REMEDY_STATE_DONE);
  builder.Stop(25, v1::StopRequested::CAUSE_OPERATOR, "enough");
  builder.Fault(25.1, "leak", v1::FAULT_STATE_REVERTED);
  for (double t = -10; t < 26; ++t) builder.Load(t, "shoppers", "login", t < 3 ? 100 : 20);
  builder.Phase(27, v1::PHASE_FINISHED).Finish(27, v1::OUTCOME_ABORTED);
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-no-cure"), "");
  EXPECT_THAT(Sentence(findings, "remedy-unknown"), HasSubstr("seen for 4.1s only"));
}

TEST(Remedies, WhatACutRunLeavesChangedIsTold) {
  HistoryBuilder builder(ShopRun());
  builder.Change([](v1::RunCreated& created) {
    v1::PlannedRemedy& back = *created.mutable_plan()->add_remedies();
    back = created.plan().remedies(0);
    back.set_name("pool-as-before");
    created.mutable_plan()->mutable_remedies(0)->set_leaves(v1::LEAVES_CHANGED);
  });
  builder.Phase(0, v1::PHASE_INJECT);
  builder.Apply(0, "leak").Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, true, "", 57);
  builder.Remedy(20, "restart-shop", v1::REMEDY_STATE_RUNNING);
  builder.Remedy(21, "restart-shop", v1::REMEDY_STATE_DONE);
  builder.Fault(25.1, "leak", v1::FAULT_STATE_REVERTED);
  HistoryBuilder whole = builder;
  whole.Finish(27);
  EXPECT_EQ(Sentence(Findings(whole.Build()), "left-changed"), "");
  builder.Stop(25, v1::StopRequested::CAUSE_OPERATOR, "enough").Finish(27, v1::OUTCOME_ABORTED);
  EXPECT_EQ(Sentence(Findings(builder.Build()), "left-changed"),
            "What restart-shop on app-1 changed stays so; not run any more: pool-as-before on "
            "app-1.");
}

// Full and empty by turns, as a queue is: 30% on the average, and then 45%.
TEST(Remedies, WhatGoesUpAndDownByItselfIsNoEffect) {
  const auto waves = [](double half) {
    ShopCourse course;
    course.logins = [=](double t) {
      if (t < 13 || t >= 43) return 100.0;
      const bool full = static_cast<int>(t / 2) % 2 == 0;
      return (t < 20 ? 30.0 : 45.0) + (full ? half : -half);
    };
    return course;
  };
  EXPECT_THAT(Sentence(waves(0), "remedy-partial"), HasSubstr("restart-shop helped"));
  EXPECT_EQ(Sentence(waves(29), "remedy-partial"), "");
  EXPECT_THAT(Sentence(waves(29), "remedy-no-cure"), HasSubstr("restart-shop was no cure"));
}

TEST(Remedies, AreNotSaidToHurtWhereSomethingElseWasDoneShortlyBefore) {
  HistoryBuilder builder = ShopHistory(Restart(33, 5));
  for (v1::Event& event : builder.events()) {
    if (!event.has_fault() || event.fault().fault() != "cut") continue;
    *event.mutable_at() = ToProto(FromProto(event.at()) + absl::Seconds(3));
  }
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-made-worse"), "");
  EXPECT_EQ(Sentence(findings, "remedy-worse-after"),
            "restart-shop was followed by worse answers, though what was done 4.9s before it (cut "
            "hit) may have hurt as well: login 32% → 5%.");
}

// 40 answers a second: two of a hundred more or less are chance.
TEST(Remedies, ChanceIsNoEffect) {
  const std::string sentence = Sentence(Restart(50, 55), "remedy-no-cure");
  EXPECT_THAT(sentence, HasSubstr("was no cure"));
  EXPECT_EQ(Sentence(Restart(50, 55), "remedy-partial"), "");
}

TEST(Remedies, ThatHelpAndDoNotHealAreToldAsThat) {
  const std::string sentence = Sentence(Restart(20, 70), "remedy-partial");
  EXPECT_THAT(sentence, HasSubstr("helped, and was no cure: login 20% → 70%"));
  EXPECT_THAT(sentence, HasSubstr("logins-answer and slots-free stayed broken"));
}

TEST(Remedies, AfterWhichAllHoldsAreTheCure) {
  ShopCourse course = Restart(20, 100);
  course.slots = [](double t) { return t < 3 || t > 23 ? 0.2 : 1.0; };
  const std::string sentence = Sentence(course, "remedy-cured");
  EXPECT_THAT(sentence, HasSubstr("restart-shop was the cure: logins-answer held again "));
  EXPECT_THAT(sentence, HasSubstr("login 20% → 100%"));
  EXPECT_EQ(Sentence(course, "remedy-no-cure"), "");
}

// The queue was empty for a moment.
TEST(Remedies, AreNotComparedOverAMomentOnly) {
  ShopCourse course = Restart(20, 60);
  course.leak_ended = 25;
  HistoryBuilder builder = ShopHistory(course);
  auto& events = builder.events();
  events.erase(std::remove_if(events.begin(), events.end(),
                              [](const v1::Event& event) {
                                return event.has_fault() &&
                                       event.fault().state() == v1::FAULT_STATE_REVERTING;
                              }),
               events.end());
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-partial"), "");
  EXPECT_THAT(Sentence(findings, "remedy-no-cure"), HasSubstr("was no cure: logins-answer"));
}

// A fault whose end nobody saw may have gone off by itself.
TEST(Remedies, AreNotCalledTheCureWhereAFaultsEndIsUnknown) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_fault() && event.fault().fault() == "leak" &&
        event.fault().state() == v1::FAULT_STATE_REVERTED) {
      event.mutable_fault()->set_state(v1::FAULT_STATE_STUCK);
    }
  }
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-cured"), "");
  EXPECT_THAT(Sentence(findings, "remedy-followed"), HasSubstr("restart-shop was followed by"));
}

// A crowd runs from 1 s to 15 s and breaks the logins, restart-shop from 20 s to 21.5 s; they are
// back at `back`.
HistoryBuilder Crowd(double back) {
  ShopCourse course;
  course.logins = [=](double t) { return t < 5 || t >= back - 2 ? 100.0 : 20.0; };
  course.slots = [](double) { return 0.2; };
  HistoryBuilder builder = WithCrowd(course, 1, 15);
  builder.Change([](v1::RunCreated& created) {
    v1::Expectations& expect = *created.mutable_experiment()->mutable_spec()->mutable_expect();
    expect.clear_recovery();
    v1::RecoveryExpectation& wanted = *expect.add_recovery();
    wanted.set_name("back-after-crowd");
    wanted.mutable_probe()->set_probe("logins-answer");
    wanted.set_since("crowd.done");
    wanted.mutable_within()->set_seconds(10);
    wanted.mutable_for_()->set_seconds(5);
  });
  return builder;
}

TEST(Remedies, AreNotCalledTheCureWhereSomethingElseEndedShortlyBefore) {
  const auto findings = Findings(Crowd(24).Build());
  EXPECT_EQ(Sentence(findings, "remedy-cured"), "");
  EXPECT_THAT(
      Sentence(findings, "remedy-followed"),
      HasSubstr("restart-shop was followed by recovery, though the end of crowd 5s before it "
                "may have healed as well: logins-answer held again 2.5s after it"));
}

// A crowd that went 5 s before the restart, and is looked at for 15 s.
TEST(Remedies, AreNotSaidToHelpWhereSomethingElseEndedShortlyBefore) {
  HistoryBuilder builder = Crowd(90);
  for (v1::Event& event : builder.events()) {
    if (event.has_load() && FromProto(event.load().start()) > HistoryBuilder::Time(20)) {
      event.mutable_load()->set_ok(28);
      (*event.mutable_load()->mutable_errors())["refused"] = 12;
    }
  }
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-partial"), "");
  EXPECT_THAT(Sentence(findings, "remedy-better-after"),
              HasSubstr("restart-shop was followed by better answers, and was no cure, though "
                        "the end of crowd 5s before it may have helped as well: login 20% → 70%"));
}

// The experiment looks at what the crowd's end does for 15 s.
TEST(Remedies, AreTheCureOfWhatStayedBrokenLongAfterAllElse) {
  EXPECT_THAT(Sentence(Findings(Crowd(31).Build()), "remedy-cured"),
              HasSubstr("restart-shop was the cure: logins-answer held again 9.5s after it"));
}

// It was broken anew, after the crowd.
TEST(Remedies, AreTheCureOfWhatBrokeAfterAllElseHadEnded) {
  HistoryBuilder builder = Crowd(24);
  for (v1::Event& event : builder.events()) {
    if (!event.has_load() || FromProto(event.load().start()) > HistoryBuilder::Time(14)) continue;
    event.mutable_load()->set_ok(40);
    event.mutable_load()->clear_errors();
  }
  EXPECT_THAT(Sentence(Findings(builder.Build()), "remedy-cured"),
              HasSubstr("restart-shop was the cure"));
}

// This experiment has seen that it comes back of nothing that the crowd's end does.
TEST(Remedies, AreTheCureWhereTheOtherWasSeenToBeNone) {
  HistoryBuilder builder = Crowd(24);
  builder.Change([](v1::RunCreated& created) {
    v1::RecoveryExpectation& asked =
        *created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_recovery(0);
    asked.set_expected(false);
    asked.mutable_within()->set_seconds(8);
  });
  EXPECT_THAT(Sentence(Findings(builder.Build()), "remedy-cured"),
              HasSubstr("restart-shop was the cure"));
}

TEST(Remedies, OfWhichTooLittleWasSeenAreNotJudged) {
  HistoryBuilder builder = ShopHistory();
  builder.Stop(22, v1::StopRequested::CAUSE_GUARDRAIL, "slots-free is broken");
  builder.Fault(22.1, "leak", v1::FAULT_STATE_REVERTED, false, "0 sessions left");
  builder.Finish(22.3, v1::OUTCOME_ABORTED, true, "slots-free is broken");
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-no-cure"), "");
  EXPECT_THAT(Sentence(findings, "remedy-unknown"),
              HasSubstr("whether restart-shop helped is not known"));
}

// What came back when the fault had ended was not healed by the remedy before.
TEST(Remedies, AreNotCreditedWithWhatTheFaultsEndHealed) {
  ShopCourse course = Restart(20, 20);
  course.leak_ended = 30;
  course.logins = [](double t) { return t < 13 || t >= 31 ? 100.0 : 20.0; };
  EXPECT_EQ(Sentence(course, "remedy-cured"), "");
  EXPECT_THAT(Sentence(course, "remedy-no-cure"), HasSubstr("until leak was off"));
}

TEST(Remedies, ThatFailAreNotJudgedForHelp) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_remedy() && event.remedy().state() == v1::REMEDY_STATE_DONE) {
      event.mutable_remedy()->set_state(v1::REMEDY_STATE_FAILED);
      event.mutable_remedy()->set_exit_code(3);
    }
  }
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "remedy-failed"),
            "restart-shop failed with exit code 3; what it did is not judged.");
  EXPECT_EQ(Sentence(findings, "remedy-no-cure"), "");
}

TEST(Remedies, ThatFailAtOnceWithOthersAreNamedAlone) {
  v1::RunCreated created = ShopRun();
  for (const char* name : {"call", "call-404"}) {
    v1::PlannedRemedy& remedy = *created.mutable_plan()->add_remedies();
    remedy = created.plan().remedies(0);
    remedy.set_name(name);
  }
  HistoryBuilder builder(created);
  builder.Phase(0, v1::PHASE_INJECT).Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, true);
  double at = 10;
  for (const char* name : {"call", "call-404", "restart-shop"}) {
    const bool fails = std::string(name) == "call-404";
    builder.Remedy(at, name, v1::REMEDY_STATE_RUNNING);
    builder.Remedy(at + 0.1, name, fails ? v1::REMEDY_STATE_FAILED : v1::REMEDY_STATE_DONE, -1);
    if (fails) builder.Last().mutable_remedy()->set_failure("HTTP 501");
    at += 1;
  }
  builder.Finish(20);
  EXPECT_EQ(Sentence(Findings(builder.Build()), "remedy-failed"),
            "call-404 failed: HTTP 501; what call, call-404 and restart-shop did together is not "
            "judged.");
}

TEST(Checks, TellWhenTheyBrokeAndSinceWhatTheyHoldAgain) {
  EXPECT_THAT(
      Sentence(ShopCourse(), "route-back"),
      HasSubstr("logins-answer was broken from +14.0s to +45.0s, 4.9s after leak was off."));
  ShopCourse course;
  course.slots = [](double) { return 0.2; };
  EXPECT_EQ(Sentence(course, "route-unharmed"), "slots-free held all the time.");
  course.logins = [](double t) { return t < 13 ? 100.0 : 20.0; };
  EXPECT_THAT(Sentence(course, "route-not-back"), HasSubstr("had not come back by the end"));
}

// It said "it names the cause", which nobody had measured.
TEST(FirstPage, ThatIsExpectedIsDeclaredToLeadToTheCause) {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (!event.has_alert() || event.alert().alert() != "PostgresConnectionsNearLimit") continue;
    (*event.mutable_alert()->mutable_annotations())["summary"] = "98% of the slots are taken";
    (*event.mutable_alert()->mutable_annotations())["runbook"] = "find who holds them";
  }
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(findings[0].code, "first-page");
  EXPECT_EQ(findings[0].text,
            "First page: PostgresConnectionsNearLimit, delivered to oncall at +8.0s, 3s after "
            "leak.reached; declared as the page that leads to the cause.");
  EXPECT_EQ(findings[0].more,
            "It says “98% of the slots are taken”, and leads to “find who holds them”. The next "
            "page, ApiErrorRateHigh, came 16s later; a symptom.");
}

TEST(FirstPage, ThatMisleadsIsSetAgainstTheOneThatDoesNot) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(6, "PossibleDDoS", {{"severity", "page"}}, 5);
  builder.Delivered(6.5, "oncall", "PossibleDDoS", {{"severity", "page"}}, 6);
  EXPECT_EQ(
      Sentence(Findings(builder.Build()), "first-page"),
      "First page: PossibleDDoS, delivered to oncall at +6.5s, 1.5s after leak.reached; it "
      "misleads (mustNotFire); 1.5s before PostgresConnectionsNearLimit, which should lead to "
      "the cause.");
}

// Its closing words said that it misleads, and not whereto.
TEST(FirstPage, ThatMisleadsSaysWhereItLeads) {
  const auto sentence = [](const std::map<std::string, std::string>& annotations) {
    HistoryBuilder builder = ShopHistory();
    builder.Firing(6, "PossibleDDoS", {{"severity", "page"}}, 5);
    builder.Delivered(6.5, "oncall", "PossibleDDoS", {{"severity", "page"}}, 6);
    for (const auto& [name, value] : annotations) {
      (*builder.Last().mutable_alert()->mutable_annotations())[name] = value;
    }
    return Sentence(Findings(builder.Build()), "first-page");
  };
  EXPECT_THAT(sentence({{"summary", "10 times the usual requests"}}),
              testing::EndsWith("which should lead to the cause. It says “10 times the usual "
                                "requests”, and has no runbook."));
  EXPECT_THAT(sentence({{"summary", "10 times the usual requests"}, {"runbook", "block them"}}),
              testing::EndsWith("It says “10 times the usual requests”, and leads to “block "
                                "them”."));
  EXPECT_THAT(sentence({}), testing::EndsWith("which should lead to the cause."));
}

TEST(FirstPage, ThatMisleadsWhereTheCauseWasNeverNamed) {
  ShopCourse course;
  course.pending = course.firing = course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(6, "PossibleDDoS", {{"severity", "page"}}, 5);
  builder.Delivered(6.5, "oncall", "PossibleDDoS", {{"severity", "page"}}, 6);
  EXPECT_THAT(
      Sentence(Findings(builder.Build()), "first-page"),
      HasSubstr("PostgresConnectionsNearLimit, which should lead to the cause, never fired."));
  builder.Firing(7, "PostgresConnectionsNearLimit", {{"severity", "none"}}, 6);
  EXPECT_THAT(
      Sentence(Findings(builder.Build()), "first-page"),
      HasSubstr("which should lead to the cause, fired with labels that are not asked for."));
}

// Its own report said "First page", and how soon, of an alert that Alertmanager never had.
TEST(FirstPage, IsNoneWhereNothingWasDelivered) {
  ShopCourse course;
  course.delivered = std::nullopt;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(14, "AppPoolWaiters", {{"severity", "ticket"}}, 12);
  const v1::Judgement judgement = Judge(builder.Build());
  EXPECT_FALSE(judgement.has_time_to_any_alert());
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "first-page"), "");
  EXPECT_EQ(Sentence(findings, "no-page"),
            "Nobody was paged. What should page fired, and was delivered to nobody: "
            "PostgresConnectionsNearLimit (+7.5s) and ApiErrorRateHigh (+24.0s). What else fired "
            "calls nobody: AppPoolWaiters (+14.0s).");
}

TEST(FirstPage, IsTimedByItsDelivery) {
  const v1::Judgement judgement = Judge(ShopHistory().Build());
  EXPECT_EQ(judgement.any_alert(), "PostgresConnectionsNearLimit");
  EXPECT_EQ(FromProto(judgement.time_to_any_alert()), absl::Seconds(3));
}

// The one that should have called nobody told of, another one did.
TEST(FirstPage, IsTheOneThatWasDelivered) {
  ShopCourse course;
  course.delivered = std::nullopt;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Delivered(24.5, "oncall", "ApiErrorRateHigh", {{"severity", "page"}, {"job", "shop"}},
                    24);
  EXPECT_THAT(Sentence(Findings(builder.Build()), "first-page"),
              HasSubstr("First page: ApiErrorRateHigh, delivered to oncall"));
}

TEST(MisleadingAlerts, ThatCameLaterAreToldTogether) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(33, "PossibleDDoS", {{"severity", "page"}}, 30);
  builder.Firing(34, "HostMemoryHigh", {{"severity", "ticket"}}, 30);
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "misleading-alert"),
            "Misleading (mustNotFire): PossibleDDoS at +33.0s and HostMemoryHigh (a ticket) at "
            "+34.0s.");
  EXPECT_THAT(findings.at(1).more, HasSubstr("PossibleDDoS came 25s after "
                                             "PostgresConnectionsNearLimit, which should lead "
                                             "to the cause."));
}

TEST(FirstPage, TicketsCallNobody) {
  ShopCourse course;
  course.pending = course.firing = course.inactive = course.api_errors_firing = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(14, "AppPoolWaiters", {{"severity", "ticket"}}, 12);
  EXPECT_EQ(Sentence(Findings(builder.Build()), "no-page"),
            "Nobody was paged. What fired calls nobody: AppPoolWaiters (+14.0s).");
  EXPECT_EQ(Sentence(Findings(ShopHistory(course).Build()), "no-page"),
            "No alert fired: nobody was told that logins-answer and slots-free broke.");
  course.logins = [](double) { return 100.0; };
  course.slots = [](double) { return 0.2; };
  EXPECT_EQ(Sentence(Findings(ShopHistory(course).Build()), "no-page"), "No alert fired.");
}

// It was told three times, each time in other words.
TEST(FirstPage, WithOtherLabelsIsToldOnce) {
  ShopCourse course;
  course.pending = course.firing = course.inactive = course.delivered = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(7, "PostgresConnectionsNearLimit", {{"severity", "page"}}, 6);
  builder.Delivered(7.5, "oncall", "PostgresConnectionsNearLimit", {{"severity", "page"}}, 7);
  builder.Change([](v1::RunCreated& created) {
    created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_alerts(0)->add_matchers(
        "table=\"orders\"");
  });
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(Sentence(findings, "first-page"),
            "First page: PostgresConnectionsNearLimit, delivered to oncall at +7.5s, 2.5s after "
            "leak.reached; it fired with labels that are not asked for: {env=\"lab\", "
            "severity=\"page\"}, and not table=\"orders\".");
  EXPECT_EQ(Sentence(findings, "other-labels"), "");
  EXPECT_EQ(Sentence(findings, "wrong-order"), "");
}

// What was firing before the fault is no answer to it.
TEST(FirstPage, IsNotOneThatWasThereBefore) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(-8, "PossibleDDoS", {{"severity", "page"}}, -9);
  EXPECT_THAT(Sentence(Findings(builder.Build()), "first-page"),
              HasSubstr("First page: PostgresConnectionsNearLimit"));
}

absl::Duration Sum(const AlertBreakdown& breakdown) {
  absl::Duration sum;
  for (const AlertPart& part : breakdown.parts) {
    if (!part.within && part.took.has_value()) sum += *part.took;
  }
  return sum;
}

const AlertPart* Part(const AlertBreakdown& breakdown, const std::string& begins) {
  for (const AlertPart& part : breakdown.parts) {
    if (part.name.rfind(begins, 0) == 0) return &part;
  }
  return nullptr;
}

TEST(Breakdown, SumsUpToWhatWasMeasured) {
  for (const double delivered : {8.0, 12.4, 30.0}) {
    ShopCourse course;
    course.delivered = delivered;
    const auto breakdowns = Facts(ShopHistory(course).Build()).breakdowns;
    ASSERT_EQ(breakdowns.size(), 1u);
    ASSERT_TRUE(breakdowns[0].total.has_value());
    EXPECT_EQ(Sum(breakdowns[0]), *breakdowns[0].total->took);
    EXPECT_EQ(*breakdowns[0].total->took, absl::Milliseconds(delivered * 1000 - 5000));
    EXPECT_EQ(breakdowns[0].total->name, "until oncall was told");
  }
}

TEST(Breakdown, SaysOfEachPartWhetherItIsMeasuredOrConfigured) {
  HistoryBuilder builder = ShopHistory();
  builder.Change([](v1::RunCreated& created) {
    created.mutable_plan()->mutable_arithmetic(0)->mutable_group_wait();
  });
  const auto breakdowns = Facts(builder.Build()).breakdowns;
  const AlertBreakdown& breakdown = breakdowns.at(0);
  EXPECT_EQ(Part(breakdown, "until its rule")->source, "measured");
  EXPECT_EQ(Part(breakdown, "wait for the scrape")->source, "configured");
  EXPECT_EQ(Part(breakdown, "wait for the scrape")->amount, "up to 1s");
  EXPECT_EQ(Part(breakdown, "until its condition")->source, "not measured apart");
  EXPECT_EQ(Part(breakdown, "until its condition")->amount, "up to 500ms");
  EXPECT_EQ(Part(breakdown, "the rule's `for` (2s configured)")->source, "measured");
  EXPECT_EQ(Part(breakdown, "grouping (group_wait)")->amount, "0s");
  EXPECT_EQ(Part(breakdown, "sending")->amount, "500ms");
}

// Two seconds are all that scrape and evaluation explain.
TEST(Breakdown, BoundsWhatTheConditionItselfTook) {
  ShopCourse course;
  course.pending = 13.5;
  course.firing = 17;
  course.delivered = 18;
  const auto breakdowns = Facts(ShopHistory(course).Build()).breakdowns;
  EXPECT_EQ(Part(breakdowns.at(0), "until its condition")->amount, "6.5s to 8.5s");
}

// It said "-424ms until its rule saw the failure".
TEST(Breakdown, OfAConditionThatWasTrueBeforeTheAnchorHasNoNegativePart) {
  ShopCourse course;
  course.pending = 4.6;
  course.firing = 6.6;
  course.delivered = 7;
  const auto breakdowns = Facts(ShopHistory(course).Build()).breakdowns;
  for (const AlertPart& part : breakdowns.at(0).parts) {
    EXPECT_GE(part.took.value_or(absl::ZeroDuration()), absl::ZeroDuration()) << part.name;
  }
  EXPECT_EQ(Part(breakdowns.at(0), "until its rule"), nullptr);
  EXPECT_EQ(Part(breakdowns.at(0), "what was left of the rule's `for`")->took,
            absl::Milliseconds(1600));
  EXPECT_EQ(Part(breakdowns.at(0), "pending before leak.reached")->amount, "400ms");
  EXPECT_EQ(Sum(breakdowns.at(0)), *breakdowns.at(0).total->took);
}

TEST(Breakdown, OfAGroupThatDidNotWaitLeavesSendingUnknown) {
  HistoryBuilder builder = ShopHistory();
  builder.Change([](v1::RunCreated& created) {
    created.mutable_plan()->mutable_arithmetic(0)->mutable_group_wait()->set_seconds(30);
  });
  const auto breakdowns = Facts(builder.Build()).breakdowns;
  EXPECT_EQ(Part(breakdowns.at(0), "sending")->amount, "unknown");
}

TEST(Breakdown, WithoutArithmeticGuessesNothing) {
  HistoryBuilder builder = ShopHistory();
  builder.Change([](v1::RunCreated& created) { created.mutable_plan()->clear_arithmetic(); });
  const auto breakdowns = Facts(builder.Build()).breakdowns;
  EXPECT_EQ(Part(breakdowns.at(0), "scrape, evaluation")->amount, "unknown");
  EXPECT_EQ(Part(breakdowns.at(0), "grouping and sending")->amount, "unknown");
  EXPECT_EQ(Sum(breakdowns.at(0)), *breakdowns.at(0).total->took);
}

TEST(Breakdown, OfAnAlertThatOnlyBecamePendingHasNoSum) {
  ShopCourse course;
  course.firing = std::nullopt;
  const auto breakdowns = Facts(ShopHistory(course).Build()).breakdowns;
  EXPECT_FALSE(breakdowns.at(0).total.has_value());
  EXPECT_EQ(breakdowns.at(0).parts.back().source, "never fired");
}

TEST(Breakdown, OfAnAlertThatNeverFiredIsEmpty) {
  ShopCourse course;
  course.pending = course.firing = std::nullopt;
  EXPECT_THAT(Facts(ShopHistory(course).Build()).breakdowns.at(0).parts, IsEmpty());
}

TEST(Findings, OfAnAbortedRunBeginWithThat) {
  HistoryBuilder builder = ShopHistory();
  builder.Stop(22, v1::StopRequested::CAUSE_GUARDRAIL, "slots-free is broken");
  builder.Fault(22.1, "leak", v1::FAULT_STATE_REVERTED, false, "0 sessions left");
  builder.Finish(22.3, v1::OUTCOME_ABORTED, true, "slots-free is broken");
  const auto findings = Findings(builder.Build());
  EXPECT_EQ(findings.at(0).text,
            "The run was stopped at +22.0s by a guardrail: slots-free is broken; what would have "
            "come later is not known.");
}

TEST(Findings, OfAFaultThatNeverBitSayThatNothingIsItsDoing) {
  ShopCourse course;
  course.leak_in_force = false;
  const std::string sentence = Sentence(course, "fault-without-effect");
  EXPECT_THAT(sentence, HasSubstr("Fault leak was never in force"));
  EXPECT_THAT(sentence, HasSubstr("was not caused by it."));
}

TEST(Findings, OfAnUnfinishedRunSayThatItHasNoEnd) {
  HistoryBuilder builder = ShopHistory();
  auto& events = builder.events();
  events.erase(std::remove_if(events.begin(), events.end(),
                              [](const v1::Event& event) { return event.has_finished(); }),
               events.end());
  EXPECT_EQ(Findings(builder.Build()).at(0).code, "unfinished");
}

TEST(Findings, OfARunThatWasNotStartedClaimNothing) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true, "node db-1 is silent");
  EXPECT_THAT(Findings(builder.Build()), IsEmpty());
}

TEST(Findings, TellAnAllClearThatCameTooEarly) {
  ShopCourse course;
  course.inactive = 41;
  course.logins = [](double t) { return t < 13 || t >= 43.5 ? 100.0 : 20.0; };
  const std::string sentence = Sentence(course, "early-all-clear");
  EXPECT_THAT(sentence, HasSubstr("On-call was told at +42.5s that PostgresConnectionsNearLimit is "
                                  "over, while the system was not well: logins-answer held again "
                                  "only 3.5s later."));
  EXPECT_EQ(Sentence(ShopCourse(), "early-all-clear"), "");
}

// The check looks back for 2 s: what was asked since +42.0s was answered.
TEST(Findings, TellNoAllClearTooEarlyWithinTheTimeThatTheCheckLooksBack) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 42 ? 100.0 : 20.0; };
  course.inactive = 40.8;
  EXPECT_EQ(Sentence(course, "early-all-clear"), "");
  // Nor between two questions, of which the second was answered well.
  course.slots = [](double t) { return t < 3 || t > 42.4 ? 0.2 : 1.0; };
  EXPECT_EQ(Sentence(course, "early-all-clear"), "");
  course.slots = [](double t) { return t < 3 || t > 43.4 ? 0.2 : 1.0; };
  EXPECT_THAT(Sentence(course, "early-all-clear"), HasSubstr("slots-free held again only 1.2s"));
}

// It is in no lane of a route, and may be all that failed.
TEST(Findings, TellWhatARecoveryAskedByItselfAndDidNotFind) {
  ShopCourse course;
  course.leftovers_gone = 60;
  EXPECT_THAT(Sentence(course, "recovery-failed"), HasSubstr("no-leftovers (== 0"));
  EXPECT_THAT(Sentence(course, "recovery-failed"), HasSubstr("too late"));
  EXPECT_EQ(Sentence(ShopCourse(), "recovery-failed"), "");
}

TEST(Findings, OfAlertsThatVanishedNameAFewAndTheOthersTogether) {
  HistoryBuilder builder = ShopHistory();
  const auto told = [&] {
    std::vector<std::string> texts;
    for (const RunFinding& finding : Findings(builder.Build())) {
      if (finding.code == "false-resolve") texts.push_back(finding.text);
    }
    return texts;
  };
  const auto vanish = [&](const std::string& alert, double at) {
    builder.Firing(at - 1, alert, {}, at - 2).Inactive(at, alert, {}, at - 2, false);
  };
  for (const char* alert : {"A", "B", "C"}) vanish(alert, 20);
  EXPECT_THAT(told(), testing::SizeIs(3));
  vanish("D", 21);
  EXPECT_EQ(told().at(3), "D went away with its series, too.");
  vanish("E", 22);
  vanish("E", 30);
  EXPECT_THAT(told(), testing::SizeIs(4));
  EXPECT_EQ(told().at(3), "D and E went away with their series, too.");
}

TEST(Findings, OfLateAlertsSayWhereTheTimeWent) {
  ShopCourse course;
  course.pending = 13.5;
  course.firing = 17;
  course.delivered = 18;
  EXPECT_THAT(Sentence(course, "late-alert"),
              HasSubstr("slots-page (PostgresConnectionsNearLimit): it fired 2s too late: 8.5s "
                        "until it was pending"));
}

TEST(Findings, OfAnAlertThatComesAndGoesSayHowOftenAndForHowLong) {
  ShopCourse course;
  course.inactive = 25;
  HistoryBuilder builder = ShopHistory(course);
  for (const auto& [from, to] : {std::pair(28.0, 31.0), std::pair(35.0, 44.5)}) {
    builder.Firing(from, "PostgresConnectionsNearLimit", SlotsLabels(), from)
        .Inactive(to, "PostgresConnectionsNearLimit", SlotsLabels(), from);
  }
  EXPECT_THAT(Sentence(Findings(builder.Build()), "flapped"),
              HasSubstr("slots-page (PostgresConnectionsNearLimit): it resolved once while its "
                        "cause was there"));
}

}  // namespace
}  // namespace firedrill::reporting
