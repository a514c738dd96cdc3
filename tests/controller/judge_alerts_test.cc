// The contract on alerts: each rule with the history that keeps it and the one that breaks it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controller/judging.h"

namespace firedrill {
namespace {

// ---- alerts: firing

TEST(JudgeAlerts, FiringTooLateFails) {
  ShopCourse course;
  course.pending = 13.0;
  course.firing = 15.0;
  course.delivered = 15.5;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page"), "passed");
  course.firing = 15.5;
  course.delivered = 16;
  const v1::Judgement late = JudgeOf(course);
  EXPECT_EQ(Word(late, "slots-page"), "failed late");
  EXPECT_EQ(Of(late, "slots-page").observed(), "firing 10.5s after leak.reached");
  EXPECT_THAT(Of(late, "slots-page").mend(), testing::HasSubstr("at most 1s until a scrape"));
  EXPECT_EQ(late.verdict(), v1::VERDICT_FAILED);
  EXPECT_EQ(late.exit_code(), 1);
}

TEST(JudgeAlerts, NeverFiringFailsAndWhatFollowsFromItIsInDoubtOnly) {
  ShopCourse course;
  course.pending = course.firing = course.api_errors_firing = std::nullopt;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page"), "failed never-fired");
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "inconclusive never-fired");
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "inconclusive never-fired");
  EXPECT_EQ(Word(judgement, "slots-page/before/ApiErrorRateHigh"), "inconclusive never-fired");
  EXPECT_EQ(judgement.exit_code(), 1);
}

TEST(JudgeAlerts, BeingOnlyPendingIsSaidAndBlamedOnFor) {
  ShopCourse course;
  course.firing = std::nullopt;
  course.inactive = 41.5;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page"), "failed only-pending");
  EXPECT_THAT(Of(judgement, "slots-page").reason(), testing::HasSubstr("`for` of 2s"));
  EXPECT_EQ(Of(judgement, "slots-page").observed(),
            "pending 500ms after leak.reached, for 36s, and never fired");
}

// It said "for 1s" of a condition that came and went nineteen times.
TEST(JudgeAlerts, ComingAndGoingWithoutFiringIsSaidAsThat) {
  ShopCourse course;
  course.pending = course.firing = course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  for (const auto& [from, to] :
       {std::pair(6.0, 7.0), std::pair(9.0, 10.5), std::pair(12.0, 13.0)}) {
    builder.Pending(from, kAlert, SlotsLabels(), from).Inactive(to, kAlert, SlotsLabels(), from);
  }
  // Another instance is another matter.
  auto other = SlotsLabels();
  other["instance"] = "db-2:9187";
  builder.Pending(20, kAlert, other, 20).Inactive(21, kAlert, other, 20);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "failed only-pending");
  EXPECT_EQ(
      Of(judgement, "slots-page").observed(),
      "pending 3 times, first 1s after leak.reached, never longer than 1.5s, and never fired");
  EXPECT_EQ(Of(judgement, "slots-page").reason(),
            "its condition came and went 3 times, never longer than 1.5s, and did not last for the "
            "whole of the rule's `for` of 2s");
}

TEST(JudgeAlerts, AnInstanceThatWasPendingBeforeTheFaultIsNotCredited) {
  ShopCourse course;
  course.pending = -4.0;
  course.firing = 6.0;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page"), "inconclusive already-active");
  course.pending = 1.0;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page"), "passed");
}

TEST(JudgeAlerts, AnEpisodeThatEndedBeforeTheFaultDoesNotStandInTheWay) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(-9, kAlert, SlotsLabels(), -11).Inactive(-5, kAlert, SlotsLabels(), -11);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page"), "passed");
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  HistoryBuilder before = ShopHistory(silent);
  before.Firing(-9, kAlert, SlotsLabels(), -11).Inactive(-5, kAlert, SlotsLabels(), -11);
  EXPECT_EQ(Word(JudgeOf(before), "slots-page"), "failed never-fired");
}

TEST(JudgeAlerts, ALabelThatDoesNotMatchIsAnotherInstance) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  HistoryBuilder builder = ShopHistory(silent);
  builder.Firing(7, kAlert, {{"severity", "info"}}, 6);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "failed other-labels");
  EXPECT_EQ(Of(judgement, "slots-page").observed(), "firing 2s after leak.reached");
  EXPECT_EQ(Of(judgement, "slots-page").reason(),
            "it fired with labels that are not asked for: {severity=\"info\"}, and not "
            "severity=\"page\"");
  EXPECT_EQ(Of(judgement, "slots-page/before/ApiErrorRateHigh").observed(),
            "ApiErrorRateHigh fired at +24.0s, PostgresConnectionsNearLimit with labels that are "
            "not asked for");
}

TEST(JudgeAlerts, ExternalLabelsMatchAsWell) {
  const auto by_env = [](v1::RunCreated& created) {
    created.mutable_experiment()->mutable_spec()->mutable_expect()->mutable_alerts(0)->add_matchers(
        "env=\"lab\"");
  };
  EXPECT_EQ(Word(JudgeOf(Changed({}, by_env)), "slots-page"), "passed");
}

TEST(JudgeAlerts, AlertmanagersStartOfFiringIsMorePreciseThanOurLook) {
  // Prometheus was asked late: the evaluation that we saw is 1 s after the first one in which it
  // fired.
  ShopCourse course;
  course.firing = std::nullopt;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(15.5, kAlert, SlotsLabels(), 5.5)
      .AtAlertmanager(15.6, kAlert, SlotsLabels(), 14.5);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_DOUBLE_EQ(Measured(judgement, "slots-page"), 9.5);
}

TEST(JudgeAlerts, WhatOnlyAlertmanagerSawHasFired) {
  ShopCourse course;
  course.pending = course.firing = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.AtAlertmanager(8, kAlert, SlotsLabels(), 7)
      .Delivered(8.2, "oncall", kAlert, SlotsLabels(), 7);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "passed");
}

TEST(JudgeAlerts, APageCountsFromWhenItWasReadNotFromWhenItWasWrittenDown) {
  ShopCourse course;
  course.delivered = std::nullopt;
  for (const double read : {8.0, 9.5, 10.5}) {
    HistoryBuilder builder = ShopHistory(course);
    builder.Delivered(10, "oncall", kAlert, SlotsLabels(), 7.5);
    for (v1::Event& event : builder.events()) {
      if (event.alert().source() != v1::ALERT_SOURCE_WEBHOOK) continue;
      *event.mutable_source_time() = ToProto(HistoryBuilder::Time(read));
    }
    // Never later than it was written down: that clock has jumped.
    EXPECT_DOUBLE_EQ(Measured(JudgeOf(builder), "slots-page/delivered"), std::min(read, 10.0) - 5);
  }
}

TEST(JudgeAlerts, AnotherClockIsCorrectedByItsOffset) {
  for (const double skew : {-3.0, 3.0}) {
    ShopCourse silent;
    silent.pending = silent.firing = std::nullopt;
    HistoryBuilder builder = ShopHistory(silent);
    builder.Clock(absl::Seconds(skew), absl::Milliseconds(50))
        .Firing(14, kAlert, SlotsLabels(), 12);
    const v1::Judgement judgement = JudgeOf(builder);
    EXPECT_EQ(Word(judgement, "slots-page"), "passed") << skew;
    EXPECT_DOUBLE_EQ(Measured(judgement, "slots-page"), 9) << skew;
  }
}

TEST(JudgeAlerts, ATimeInsideTheErrorOfTheClocksIsInconclusive) {
  for (const double firing : {14.8, 15.2}) {
    ShopCourse silent;
    silent.pending = silent.firing = std::nullopt;
    HistoryBuilder builder = ShopHistory(silent);
    builder.Clock(absl::ZeroDuration(), absl::Milliseconds(300));
    builder.Firing(firing, kAlert, SlotsLabels(), 12);
    EXPECT_EQ(Word(JudgeOf(builder), "slots-page"), "inconclusive clock") << firing;
  }
}

TEST(JudgeAlerts, ABlindPrometheusLeavesAMissingAlertInDoubt) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  HistoryBuilder builder = ShopHistory(silent);
  builder.Gap("prometheus", 6, 20);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page"), "inconclusive blind");
  EXPECT_TRUE(HasFinding(judgement, "monitor-gap"));
}

TEST(JudgeAlerts, AGapThatIsShortOrElsewhereIsNoExcuse) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(ShopHistory(silent).Gap("prometheus", 6, 8)), "slots-page"),
            "failed never-fired");
  EXPECT_EQ(Word(JudgeOf(ShopHistory(silent).Gap("prometheus", 50, 60)), "slots-page"),
            "failed never-fired");
  EXPECT_EQ(Word(JudgeOf(ShopHistory(silent).Gap("alertmanager/0", 6, 20)), "slots-page"),
            "failed never-fired");
}

TEST(JudgeAlerts, AReplicaThatIsDownIsToldAndNoExcuseWhileAnotherOneAnswers) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  const v1::Judgement judgement =
      JudgeOf(ShopHistory(silent).Gap("prometheus/0", 6, 20, "no answer", /*covered=*/true));
  EXPECT_EQ(Word(judgement, "slots-page"), "failed never-fired");
  EXPECT_TRUE(HasFinding(judgement, "replica-gap"));
  EXPECT_FALSE(HasFinding(judgement, "monitor-gap"));
  EXPECT_EQ(Word(JudgeOf(ShopHistory(silent).Gap("prometheus", 6, 20)), "slots-page"),
            "inconclusive blind");
}

TEST(JudgeAlerts, AGapDoesNotTakeAwayWhatWasSeen) {
  const v1::Judgement judgement = JudgeOf(ShopHistory().Gap("prometheus", 8, 14));
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_TRUE(HasFinding(judgement, "monitor-gap"));
}

TEST(JudgeAlerts, TheCanaryIsNobodysAlert) {
  ShopCourse silent;
  silent.pending = silent.firing = std::nullopt;
  HistoryBuilder builder = ShopHistory(silent);
  HistoryBuilder::Labels canary = SlotsLabels();
  canary["firedrill_canary"] = "uc-7f3a";
  builder.AtAlertmanager(7, kAlert, canary, 6).Delivered(7, "oncall", kAlert, canary, 6);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page"), "failed never-fired");
}

// ---- alerts: delivered

TEST(JudgeAlerts, LateDeliveryFailsByItself) {
  ShopCourse course;
  course.delivered = 21;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "failed late");
  EXPECT_EQ(Of(judgement, "slots-page/delivered").mend(), "shorten `group_wait` of its route");
}

TEST(JudgeAlerts, NoDeliveryFailsWithItsReason) {
  ShopCourse course;
  course.delivered = std::nullopt;
  course.inactive = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/delivered"), "failed not-delivered");

  HistoryBuilder elsewhere = ShopHistory(course);
  elsewhere.Delivered(8, "tickets", kAlert, SlotsLabels(), 7.5);
  const v1::Judgement judgement = JudgeOf(elsewhere);
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "failed wrong-receiver");
  EXPECT_THAT(Of(judgement, "slots-page/delivered").reason(), testing::HasSubstr("tickets"));

  HistoryBuilder silenced = ShopHistory(course);
  silenced.AtAlertmanager(8, kAlert, SlotsLabels(), 7.5, /*suppressed=*/true);
  EXPECT_EQ(Word(JudgeOf(silenced), "slots-page/delivered"), "failed silenced");

  ShopCourse unsent = course;
  unsent.firing = std::nullopt;
  HistoryBuilder only_prometheus = ShopHistory(unsent);
  only_prometheus.Firing(7.5, kAlert, SlotsLabels(), 5.5);
  EXPECT_EQ(Word(JudgeOf(only_prometheus), "slots-page/delivered"), "failed not-at-alertmanager");

  // Prometheus' alert_relabel_configs took a label away.
  HistoryBuilder relabelled = ShopHistory(unsent);
  relabelled.Firing(7.5, kAlert, SlotsLabels(), 5.5);
  HistoryBuilder::Labels fewer = SlotsLabels();
  fewer.erase("severity");
  relabelled.AtAlertmanager(8, kAlert, fewer, 7.5);
  const v1::Judgement changed = JudgeOf(relabelled);
  EXPECT_EQ(Word(changed, "slots-page/delivered"), "failed relabelled");
  EXPECT_EQ(Of(changed, "slots-page/delivered").reason(),
            "it reached Alertmanager without severity=\"page\", and nobody was told at oncall");
}

TEST(JudgeAlerts, ABlindReceiverLeavesTheDeliveryInDoubt) {
  ShopCourse course;
  course.delivered = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(ShopHistory(course).Gap("webhook", 6, 30)), "slots-page/delivered"),
            "inconclusive blind");
}

TEST(JudgeAlerts, AnEarlierEpisodesDeliveryIsNotCredited) {
  ShopCourse course;
  course.delivered = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(-9, kAlert, SlotsLabels(), -11).Inactive(-5, kAlert, SlotsLabels(), -11);
  // Told again at 9 s, of the firing that began before the fault.
  builder.Delivered(9, "oncall", kAlert, SlotsLabels(), -9);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/delivered"), "failed not-delivered");
}

// ---- alerts: resolved

TEST(JudgeAlerts, ResolvingTooLateOrNeverFails) {
  ShopCourse course;
  course.finished = 90;
  course.inactive = 72;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/resolved"), "failed late");
  course.inactive = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/resolved"), "failed not-resolved");
  course.inactive = 68;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/resolved"), "passed");
}

TEST(JudgeAlerts, ResolvedMeansGoneFromAlertmanagerToo) {
  ShopCourse course;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Inactive(44.5, kAlert, SlotsLabels(), 5.5);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "failed not-resolved");
  builder.LeftAlertmanager(50, kAlert, SlotsLabels(), 7.5);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "passed");
  EXPECT_NEAR(Measured(judgement, "slots-page/resolved"), 9.9, 1e-6);
}

TEST(JudgeAlerts, VanishingWithItsSeriesIsNotResolving) {
  ShopCourse course;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Inactive(44.5, kAlert, SlotsLabels(), 5.5, /*series_present=*/false);
  builder.LeftAlertmanager(45, kAlert, SlotsLabels(), 7.5);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "inconclusive blind-resolve");
  EXPECT_TRUE(HasFinding(judgement, "false-resolve"));
}

// A restart after the other took the exporter away: 23 times the same was said of nine alerts.
TEST(JudgeAlerts, WhatVanishesOftenIsNotedOnce) {
  HistoryBuilder builder = ShopHistory();
  const auto vanish = [&](const std::string& alert, const std::string& instance, double at) {
    const HistoryBuilder::Labels labels = {{"instance", instance}};
    builder.Firing(at - 1, alert, labels, at - 2).Inactive(at, alert, labels, at - 2, false);
  };
  for (const double at : {20.0, 35.0, 50.5}) vanish("AppPoolSaturated", "shop-1", at);
  vanish("AppPoolSaturated", "shop-2", 20.0);  // In the same evaluation.
  vanish("PgQueriesSlow", "db-1", 30.0);
  std::vector<std::string> told;
  const v1::Judgement judgement = JudgeOf(builder);
  for (const v1::Finding& finding : judgement.findings()) {
    if (finding.code() == "false-resolve") told.push_back(finding.message());
  }
  EXPECT_THAT(told, testing::ElementsAre(
                        "AppPoolSaturated went away 3 times because its series did, first at "
                        "+20.0s, last at +50.5s: that was no recovery",
                        "PgQueriesSlow went away at +30.0s because its series did: that was no "
                        "recovery"));
}

TEST(JudgeAlerts, AnEndWithoutSeriesIsNoEndWhateverItIsCalled) {
  ShopCourse course;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Inactive(44.5, kAlert, SlotsLabels(), 5.5);
  builder.Last().mutable_alert()->set_series_present(false);
  builder.LeftAlertmanager(45, kAlert, SlotsLabels(), 7.5);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "inconclusive blind-resolve");
}

TEST(JudgeAlerts, AnEndInsideTheErrorOfTheClocksIsInconclusive) {
  ShopCourse course;
  course.inactive = std::nullopt;
  course.finished = 90;
  HistoryBuilder builder = ShopHistory(course);
  builder.Clock(absl::ZeroDuration(), absl::Milliseconds(300));
  // The limit is at 70.1 s.
  builder.LeftAlertmanager(69, kAlert, SlotsLabels(), 7.5);
  builder.Inactive(70, kAlert, SlotsLabels(), 5.5);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "inconclusive clock");
}

TEST(JudgeAlerts, GoingOutOfSightAndFiringAgainIsJudgedByItsEnd) {
  ShopCourse course;
  course.inactive = std::nullopt;
  HistoryBuilder builder = ShopHistory(course);
  builder.Inactive(20.5, kAlert, SlotsLabels(), 5.5, /*series_present=*/false);
  builder.LeftAlertmanager(21, kAlert, SlotsLabels(), 7.5);
  builder.Firing(27, kAlert, SlotsLabels(), 25).AtAlertmanager(27.2, kAlert, SlotsLabels(), 27);
  EXPECT_EQ(Word(JudgeOf(builder), "slots-page/resolved"), "failed not-resolved");
  builder.Inactive(45, kAlert, SlotsLabels(), 25).LeftAlertmanager(45.4, kAlert, SlotsLabels(), 27);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "passed");
  EXPECT_TRUE(HasFinding(judgement, "false-resolve"));
}

TEST(JudgeAlerts, ResolvingDuringTheFaultPassesAndIsSaid) {
  ShopCourse course;
  course.inactive = 30;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page/resolved"), "passed");
  EXPECT_TRUE(HasFinding(judgement, "resolved-early"));
}

// ---- alerts: order and forbidden

TEST(JudgeAlerts, TheSymptomFirstFails) {
  ShopCourse course;
  course.api_errors_firing = 6.5;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page/before/ApiErrorRateHigh"), "failed wrong-order");
  EXPECT_EQ(Of(judgement, "slots-page/before/ApiErrorRateHigh").observed(),
            "ApiErrorRateHigh fired 1s before it");
}

TEST(JudgeAlerts, TheSameEvaluationIsATie) {
  ShopCourse course;
  course.api_errors_firing = course.firing;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "slots-page/before/ApiErrorRateHigh"), "inconclusive tie");
  EXPECT_TRUE(HasFinding(judgement, "tie"));
  EXPECT_EQ(judgement.exit_code(), 6);
}

TEST(JudgeAlerts, ASymptomThatNeverFiresCameLater) {
  ShopCourse course;
  course.api_errors_firing = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/before/ApiErrorRateHigh"), "passed");
}

TEST(JudgeAlerts, OnlyTheSymptomFails) {
  ShopCourse course;
  course.pending = course.firing = std::nullopt;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/before/ApiErrorRateHigh"), "failed wrong-order");
}

TEST(JudgeForbidden, FiringFailsWhoeverSawIt) {
  HistoryBuilder prometheus = ShopHistory();
  prometheus.Firing(33, "PossibleDDoS", {}, 30);
  const v1::Judgement judgement = JudgeOf(prometheus);
  EXPECT_EQ(Word(judgement, "PossibleDDoS"), "failed forbidden-fired");
  EXPECT_EQ(Of(judgement, "PossibleDDoS").observed(), "fired at +33.0s");
  // Else whoever obeys mutes an alert that is right.
  EXPECT_EQ(Of(judgement, "PossibleDDoS").mend(),
            "where what PossibleDDoS tells is true here, give the system the protection that it "
            "lacks; else make PossibleDDoS tell this failure from the one it is meant for");
  EXPECT_EQ(Word(judgement, "HostMemoryHigh"), "passed");
  HistoryBuilder alertmanager = ShopHistory();
  alertmanager.AtAlertmanager(33, "PossibleDDoS", {}, 32);
  EXPECT_EQ(Word(JudgeOf(alertmanager), "PossibleDDoS"), "failed forbidden-fired");
}

TEST(JudgeForbidden, PendingPassesAndIsSaid) {
  HistoryBuilder builder = ShopHistory();
  builder.Pending(33, "PossibleDDoS", {}, 33);
  const v1::Judgement judgement = JudgeOf(builder);
  EXPECT_EQ(Word(judgement, "PossibleDDoS"), "passed");
  EXPECT_EQ(Of(judgement, "PossibleDDoS").observed(), "pending at +33.0s, never fired");
}

TEST(JudgeForbidden, WhatFiredBeforeTheGateIsNotThisRuns) {
  HistoryBuilder builder = ShopHistory();
  builder.Firing(-4, "PossibleDDoS", {}, -8).Inactive(-2, "PossibleDDoS", {}, -8);
  EXPECT_EQ(Word(JudgeOf(builder), "PossibleDDoS"), "passed");
}

TEST(JudgeForbidden, ABlindPrometheusCannotVouchForSilence) {
  EXPECT_EQ(Word(JudgeOf(ShopHistory().Gap("prometheus", 20, 26)), "PossibleDDoS"),
            "inconclusive blind");
}

}  // namespace
}  // namespace firedrill
