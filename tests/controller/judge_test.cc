// What is judged of a run: each rule with the history that keeps it and the one that breaks it.
#include "controller/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/time_proto.h"
#include "tests/testing/history_builder.h"

namespace firedrill {
namespace {

using Result = v1::ExpectationResult;
constexpr char kAlert[] = "PostgresConnectionsNearLimit";

v1::Judgement JudgeOf(const HistoryBuilder& history) { return Judge(history.Build()); }
v1::Judgement JudgeOf(const ShopCourse& course) { return JudgeOf(ShopHistory(course)); }

const Result& Of(const v1::Judgement& judgement, const std::string& name) {
  for (const Result& result : judgement.results()) {
    if (result.name() == name) return result;
  }
  ADD_FAILURE() << "no result " << name << " in\n" << judgement.DebugString();
  static const Result none;
  return none;
}

// "passed", "failed late", "inconclusive blind".
std::string Word(const Result& result) {
  const std::string code = result.code().empty() ? "" : " " + result.code();
  switch (result.verdict()) {
    case v1::VERDICT_PASSED:
      return "passed" + code;
    case v1::VERDICT_INCONCLUSIVE:
      return "inconclusive" + code;
    case v1::VERDICT_FAILED:
      return "failed" + code;
    default:
      return "none" + code;
  }
}

std::string Word(const v1::Judgement& judgement, const std::string& name) {
  return Word(Of(judgement, name));
}

double Measured(const v1::Judgement& judgement, const std::string& name) {
  return absl::ToDoubleSeconds(FromProto(Of(judgement, name).measured()));
}

double Seconds(const google::protobuf::Duration& duration) {
  return absl::ToDoubleSeconds(FromProto(duration));
}

bool HasFinding(const v1::Judgement& judgement, const std::string& code) {
  for (const v1::Finding& finding : judgement.findings()) {
    if (finding.code() == code) return true;
  }
  return false;
}

// A run with other expectations, otherwise like the shop's.
HistoryBuilder Changed(const ShopCourse& course,
                       const std::function<void(v1::RunCreated&)>& change) {
  HistoryBuilder builder = ShopHistory(course);
  return builder.Change(change);
}

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
                                          "no-leftovers"));
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
  EXPECT_DOUBLE_EQ(Seconds(judgement.time_to_any_alert()), 2.5);
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
  EXPECT_EQ(Of(judgement, "slots-page").observed(),
            "fired only with other labels: {severity=\"info\"}");
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

TEST(JudgeEfficacy, AOneShotFaultWithoutEffectIsNotInForce) {
  ShopCourse course;
  course.cut_in_force = false;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "cut"), "inconclusive not-in-force");
  EXPECT_EQ(Word(judgement, "logins-hurt"), "inconclusive not-in-force");
  EXPECT_EQ(Word(judgement, "slots-page"), "passed");
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

TEST(JudgeRecovery, NeverComingBackFails) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 ? 100.0 : 0.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed never-came-back");
  EXPECT_FALSE(judgement.has_time_to_recover());
}

TEST(JudgeRecovery, ComingBackOnlyForAMomentFails) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || (t >= 43 && t < 49) ? 100.0 : 20.0; };
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "back-after-leak"), "failed did-not-stay");
  EXPECT_THAT(Of(judgement, "back-after-leak").reason(),
              testing::HasSubstr("it did not stay: ok 20%"));
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
}

TEST(JudgeRecovery, ProbesOfTheirOwnAreFoundByTheirPlannedName) {
  ShopCourse course;
  course.leftovers_gone = 60;
  const v1::Judgement judgement = JudgeOf(course);
  EXPECT_EQ(Word(judgement, "no-leftovers"), "failed late");
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
