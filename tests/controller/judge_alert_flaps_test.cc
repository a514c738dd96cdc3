// An alert that comes and goes while its cause stays; and everything else that looks like it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/controller/judging.h"

namespace firedrill {
namespace {

using Stretches = std::vector<std::pair<double, double>>;

// The cut is at 12 s, the restart from 20 s to 21.5 s, the end of the leak at 40 s.
const Stretches kFlapping = {{7.5, 9.5}, {23, 26}, {28, 31}, {33, 44.5}};

HistoryBuilder Add(HistoryBuilder builder, const Stretches& stretches) {
  for (const auto& [from, to] : stretches) {
    builder.Firing(from, kAlert, SlotsLabels(), from)
        .AtAlertmanager(from + 0.4, kAlert, SlotsLabels(), from)
        .Delivered(from + 0.5, "oncall", kAlert, SlotsLabels(), from)
        .Inactive(to, kAlert, SlotsLabels(), from)
        .LeftAlertmanager(to + 0.5, kAlert, SlotsLabels(), from);
  }
  return builder;
}

HistoryBuilder Firing(const Stretches& stretches, ShopCourse course = {}) {
  course.pending = course.firing = course.delivered = course.inactive = std::nullopt;
  return Add(ShopHistory(course), stretches);
}

std::string WordOf(const HistoryBuilder& builder) { return Word(JudgeOf(builder), "slots-page"); }

TEST(JudgeAlertFlaps, ComingAndGoingWhileTheCauseStaysFails) {
  const v1::Judgement judgement = JudgeOf(Firing(kFlapping));
  EXPECT_EQ(Word(judgement, "slots-page"), "failed flapped");
  const Result& result = Of(judgement, "slots-page");
  EXPECT_EQ(result.observed(),
            "firing 2.5s after leak.reached, then resolved and fired again 2 times");
  EXPECT_EQ(result.reason(),
            "it resolved 2 times while its cause was there and steady state was not back, and "
            "fired again; the longest time it was silent for 2s, from +26.0s");
  EXPECT_THAT(result.mend(), testing::HasSubstr("keep_firing_for"));
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "passed");
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "passed");
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeAlertFlaps, OneSilenceInMidOutageIsEnough) {
  const v1::Judgement judgement = JudgeOf(Firing({{7.5, 9.5}, {23, 26}, {32, 44.5}}));
  EXPECT_EQ(Word(judgement, "slots-page"), "failed flapped");
  EXPECT_THAT(Of(judgement, "slots-page").reason(),
              testing::HasSubstr("it resolved once while its cause was there and steady state was "
                                 "not back, and fired again; it was silent for 6s"));
}

TEST(JudgeAlertFlaps, BeingLateIsTheWorseReason) {
  EXPECT_EQ(WordOf(Firing({{23, 26}, {28, 31}, {33, 44.5}})), "failed late");
}

TEST(JudgeAlertFlaps, StayingOrEndingOnceIsNoFlapping) {
  EXPECT_EQ(WordOf(Firing({{7.5, 44.5}})), "passed");
  EXPECT_EQ(WordOf(Firing({{7.5, 30}})), "passed");
  // Pending again is silence, and not another page.
  HistoryBuilder builder = Firing({{7.5, 30}});
  builder.Pending(33, kAlert, SlotsLabels(), 33).Inactive(36, kAlert, SlotsLabels(), 33);
  EXPECT_EQ(WordOf(builder), "passed");
}

TEST(JudgeAlertFlaps, FiringAgainAfterTheCauseIsNoFlapping) {
  EXPECT_EQ(WordOf(Firing({{7.5, 9.5}, {23, 39}, {41, 44.5}})), "passed");
  EXPECT_EQ(WordOf(Firing({{7.5, 9.5}, {23, 36}, {39, 44.5}})), "failed flapped");
}

TEST(JudgeAlertFlaps, WhatTheExperimentDidMayHaveEndedItForAWhile) {
  EXPECT_EQ(WordOf(Firing({{7.5, 11}, {14, 44.5}})), "passed");  // The cut.
  EXPECT_EQ(WordOf(Firing({{7.5, 11}, {14, 22}, {24, 44.5}})), "passed");
  EXPECT_EQ(WordOf(Firing({{7.5, 9}, {11, 44.5}})), "failed flapped");
}

TEST(JudgeAlertFlaps, AfterARecoveryItFiresOfAnotherOutage) {
  const Stretches twice = {{7.5, 9.5}, {22.5, 25}, {36, 44.5}};
  ShopCourse course;
  EXPECT_EQ(WordOf(Firing(twice, course)), "failed flapped");
  course.logins = [](double t) { return t < 13 || (t > 23 && t < 33) || t > 43 ? 100.0 : 20.0; };
  EXPECT_EQ(WordOf(Firing(twice, course)), "failed flapped");
  course.slots = [](double t) { return t < 3 || (t > 23 && t < 33) || t > 41 ? 0.2 : 1.0; };
  EXPECT_EQ(WordOf(Firing(twice, course)), "passed");
  // Shorter than steady state asks for.
  course.slots = [](double t) { return t < 3 || (t > 24 && t < 28) || t > 41 ? 0.2 : 1.0; };
  EXPECT_EQ(WordOf(Firing(twice, course)), "failed flapped");
}

TEST(JudgeAlertFlaps, AMissedScrapeIsNoFlapping) {
  HistoryBuilder away = Firing({{7.5, 9.5}, {30, 44.5}});
  away.Firing(23, kAlert, SlotsLabels(), 23)
      .Inactive(27, kAlert, SlotsLabels(), 23, /*series_present=*/false);
  EXPECT_EQ(WordOf(away), "passed");
  // It had begun anew when somebody looked again.
  HistoryBuilder unseen = Firing({{7.5, 9.5}, {30, 44.5}});
  unseen.Firing(23, kAlert, SlotsLabels(), 23);
  EXPECT_EQ(WordOf(unseen), "passed");
  unseen.Inactive(27, kAlert, SlotsLabels(), 23);
  EXPECT_EQ(WordOf(unseen), "failed flapped");
}

TEST(JudgeAlertFlaps, WhatABlindPrometheusToldIsNotHeldAgainstTheRule) {
  EXPECT_EQ(WordOf(Firing({{7.5, 9.5}, {23, 26}, {30, 44.5}}).Gap("prometheus", 25.5, 29)),
            "passed");
  EXPECT_EQ(WordOf(Firing({{7.5, 9.5}, {23, 26}, {30, 44.5}}).Gap("alertmanager/0", 25.5, 29)),
            "failed flapped");
}

TEST(JudgeAlertFlaps, InstancesInTurnAreNoFlapping) {
  HistoryBuilder builder = Firing({{7.5, 26}});
  HistoryBuilder::Labels other = SlotsLabels();
  other["instance"] = "db-2:9187";
  builder.Firing(28, kAlert, other, 28).Inactive(44.5, kAlert, other, 28);
  EXPECT_EQ(WordOf(builder), "passed");
}

TEST(JudgeAlertFlaps, OfWhatDoesNotUndoItselfTheLastStepMayBeTheEnd) {
  const auto since_cut = [](v1::RunCreated& created) {
    v1::AlertExpectation& alert =
        *created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_alerts(0);
    alert.set_since("cut.start");
  };
  ShopCourse course;
  for (const auto& [again, word] :
       std::vector<std::pair<double, const char*>>{{26, "failed flapped"}, {41, "passed"}}) {
    EXPECT_EQ(WordOf(Firing({{22, 24}, {again, 44.5}}, course).Change(since_cut)), word) << again;
  }
  // Without its harm there is less to alert about.
  course.logins = [](double) { return 100; };
  EXPECT_EQ(WordOf(Firing({{22, 24}, {26, 44.5}}, course).Change(since_cut)),
            "inconclusive no-impact");
}

TEST(JudgeAlertFlaps, ARunThatGoesOnIsNotJudgedYet) {
  HistoryBuilder builder = Firing(kFlapping);
  std::vector<v1::Event> history = builder.Build();
  ASSERT_TRUE(history.back().has_finished());
  history.pop_back();
  EXPECT_EQ(Word(Judge(history), "slots-page"), "inconclusive open");
}

TEST(JudgeAlertFlaps, WhatAlertmanagerHadBeforeIsGoneThoughNobodyLooked) {
  ShopCourse course;
  course.pending = course.firing = course.delivered = course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  for (const auto& [from, to] : Stretches{{7.5, 11}, {14, 44.5}}) {
    builder.Firing(from, kAlert, SlotsLabels(), from).Inactive(to, kAlert, SlotsLabels(), from);
    builder.AtAlertmanager(from + 0.4, kAlert, SlotsLabels(), from);
  }
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "failed not-resolved");
  builder.LeftAlertmanager(45, kAlert, SlotsLabels(), 14);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "passed");
}

}  // namespace
}  // namespace firedrill
