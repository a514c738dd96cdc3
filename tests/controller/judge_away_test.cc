// A run whose controller was away for a while is not judged by what nobody saw: neither passed nor
// failed for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/report.h"
#include "tests/controller/judging.h"

namespace firedrill {
namespace {

using testing::HasSubstr;
using testing::Not;

// Which is passed where nobody is away.
HistoryBuilder Whole() { return ShopHistory(); }

std::string Reason(const v1::Judgement& judgement, const std::string& name) {
  return Of(judgement, name).reason();
}

TEST(JudgeAway, AForbiddenAlertMayHaveFiredMeanwhile) {
  EXPECT_EQ(Word(JudgeOf(Whole()), "PossibleDDoS"), "passed");
  const v1::Judgement judgement = JudgeOf(Whole().Unwatched(14, 19));
  EXPECT_EQ(Word(judgement, "PossibleDDoS"), "inconclusive blind");
  EXPECT_EQ(Reason(judgement, "PossibleDDoS"),
            "nobody watched from +14.0s to +19.0s, and it may have fired then");
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_INCONCLUSIVE);
  EXPECT_EQ(judgement.exit_code(), 6);
  // What hides nothing is told all the same.
  const v1::Judgement brief = JudgeOf(Whole().Unwatched(14, 15));
  EXPECT_EQ(Word(brief, "PossibleDDoS"), "passed");
  EXPECT_TRUE(HasFinding(brief, "controller-gap"));
}

TEST(JudgeAway, TheReportTellsWhenNobodyWatched) {
  const std::vector<v1::Event> history = Whole().Unwatched(14, 19).Build();
  const v1::Judgement judgement = Judge(history);
  EXPECT_TRUE(HasFinding(judgement, "controller-gap"));
  EXPECT_FALSE(HasFinding(judgement, "monitor-gap"));
  EXPECT_THAT(ReportText(history, judgement, {}),
              HasSubstr("nobody watched from +14.0s to +19.0s, during the fault: the controller "
                        "was started again"));
}

TEST(JudgeAway, AnAlertThatEndsMeanwhileIsNeitherResolvedNorStillOn) {
  EXPECT_EQ(Word(JudgeOf(Whole()), "slots-page/resolved"), "passed");
  // However short: the one that comes back remembers nothing.
  for (const double to : {44.9, 49.0}) {
    const v1::Judgement judgement = JudgeOf(Whole().Unwatched(44, to));
    EXPECT_EQ(Word(judgement, "slots-page/resolved"), "inconclusive blind") << to;
    EXPECT_THAT(Reason(judgement, "slots-page/resolved"),
                HasSubstr("ended or went on while the controller was away"));
    // Its series were there all the time.
    EXPECT_FALSE(HasFinding(judgement, "false-resolve"));
  }
}

TEST(JudgeAway, AnAlertThatIsThereAgainHasGoneOn) {
  HistoryBuilder whole = Whole();
  HistoryBuilder history = whole;
  history.Unwatched(20, 24.5);
  // What is active still is told anew.
  for (const v1::Event& event : whole.events()) {
    if (!event.has_alert() || event.alert().alert() != kAlert) continue;
    if (event.alert().source() == v1::ALERT_SOURCE_WEBHOOK) continue;
    if (event.alert().state() != v1::ALERT_STATE_FIRING) continue;
    v1::Event again = event;
    *again.mutable_at() = ToProto(HistoryBuilder::Time(25));
    history.events().push_back(again);
  }
  EXPECT_EQ(Word(JudgeOf(history), "slots-page/resolved"), "passed");
}

TEST(JudgeAway, AReceiverThatWasNotThereIsToldLate) {
  ShopCourse course;
  course.delivered = 40;
  EXPECT_EQ(Word(JudgeOf(course), "slots-page/delivered"), "failed late");
  const v1::Judgement judgement = JudgeOf(ShopHistory(course).Unwatched(8, 9));
  EXPECT_EQ(Word(judgement, "slots-page/delivered"), "inconclusive blind");
  EXPECT_THAT(Reason(judgement, "slots-page/delivered"), HasSubstr("may have been sent in time"));
}

// Asked by the controller itself: what comes back after the leak, for so long.
HistoryBuilder BackBy(absl::Duration within, absl::Duration hold) {
  return Changed({}, [&](v1::RunCreated& created) {
    v1::RecoveryExpectation& back =
        *created.mutable_experiment()->mutable_spec()->mutable_expect()->add_recovery();
    back.set_name("back");
    back.mutable_probe()->set_probe("slots-free");
    back.set_since("leak.end");
    *back.mutable_within() = ToProto(within);
    *back.mutable_for_() = ToProto(hold);
  });
}

TEST(JudgeAway, WhatCameBackWhileNobodyAskedIsNotLate) {
  const auto within = BackBy(absl::Seconds(2), absl::Seconds(3));
  EXPECT_EQ(Word(JudgeOf(within), "back"), "passed");
  HistoryBuilder unwatched = within;
  unwatched.Unwatched(41.5, 43.5);
  EXPECT_EQ(Word(JudgeOf(unwatched), "back"), "inconclusive blind");
  // The control: the same answers, had somebody asked all the time.
  HistoryBuilder silent = within;
  silent.Unwatched(41.5, 43.5);
  std::erase_if(silent.events(), [](const v1::Event& event) { return event.has_resumed(); });
  EXPECT_EQ(Word(JudgeOf(silent), "back"), "failed late");
}

TEST(JudgeAway, NothingHoldsAcrossTheTimeInWhichNobodyAsked) {
  HistoryBuilder history = BackBy(absl::Seconds(2), absl::Seconds(10));
  EXPECT_EQ(Word(JudgeOf(history), "back"), "passed");
  history.Unwatched(46.5, 48.5);
  EXPECT_EQ(Word(JudgeOf(history), "back"), "inconclusive blind");
}

// What nodes ask, and send, goes on without their controller, and is told when it is back.
TEST(JudgeAway, WhatNodesSawMeanwhileCounts) {
  HistoryBuilder history = Whole();
  history.Away(41, 44);
  EXPECT_EQ(Word(JudgeOf(history), "back-after-leak"), "passed");
  EXPECT_EQ(Word(JudgeOf(history), "no-leftovers"), "passed");
}

}  // namespace
}  // namespace firedrill
