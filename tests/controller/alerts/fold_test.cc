// From looks at alerts to transitions.
#include "controller/alerts/fold.h"

#include <gtest/gtest.h>

#include "base/time_proto.h"

namespace firedrill {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Seconds(1000) + absl::Milliseconds(819);

// Instants are kStart + n s; `late` after them the rule is evaluated.
AlertingRule Rule(int instant, v1::AlertState state = v1::ALERT_STATE_UNSPECIFIED, int active = 0,
                  absl::Duration late = absl::Milliseconds(3), const std::string& name = "A") {
  AlertingRule rule;
  rule.name = name;
  rule.group = "g";
  rule.interval = absl::Seconds(1);
  rule.hold = absl::Seconds(2);
  rule.last_evaluation = kStart + absl::Seconds(instant) + late;
  if (state != v1::ALERT_STATE_UNSPECIFIED) {
    rule.alerts.push_back(
        {name, {{"alertname", name}, {"instance", "i"}}, state, kStart + absl::Seconds(active), 3});
  }
  return rule;
}

TEST(AlertFold, FollowsAnInstanceFromPendingToInactive) {
  AlertFold fold;
  EXPECT_TRUE(fold.FeedPrometheus({Rule(0)}).begun.empty());

  AlertChanges changes = fold.FeedPrometheus({Rule(1, v1::ALERT_STATE_PENDING, 1)});
  ASSERT_EQ(changes.begun.size(), 1u);
  EXPECT_EQ(changes.begun[0].state(), v1::ALERT_STATE_PENDING);
  EXPECT_EQ(changes.begun[0].alert(), "A");
  EXPECT_EQ(changes.begun[0].labels().at("instance"), "i");
  EXPECT_EQ(FromProto(changes.begun[0].evaluated_at()), kStart + absl::Seconds(1));
  EXPECT_EQ(changes.begun[0].value(), 3);

  EXPECT_TRUE(fold.FeedPrometheus({Rule(2, v1::ALERT_STATE_PENDING, 1)}).begun.empty());

  changes = fold.FeedPrometheus({Rule(3, v1::ALERT_STATE_FIRING, 1)});
  ASSERT_EQ(changes.begun.size(), 1u);
  EXPECT_EQ(changes.begun[0].state(), v1::ALERT_STATE_FIRING);
  EXPECT_EQ(FromProto(changes.begun[0].active_at()), kStart + absl::Seconds(1));
  EXPECT_EQ(FromProto(changes.begun[0].evaluated_at()), kStart + absl::Seconds(3));

  changes = fold.FeedPrometheus({Rule(4)});
  ASSERT_EQ(changes.ended.size(), 1u);
  const v1::AlertTransition ended = Settle(changes.ended[0], true);
  EXPECT_EQ(ended.state(), v1::ALERT_STATE_INACTIVE);
  EXPECT_TRUE(ended.series_present());
  EXPECT_EQ(FromProto(ended.evaluated_at()), kStart + absl::Seconds(4));
  EXPECT_TRUE(fold.FeedPrometheus({Rule(5)}).ended.empty());
}

TEST(AlertFold, TwoRulesOfOneEvaluationHaveOneInstant) {
  // The rules of a group are evaluated one after the other: their own times differ.
  AlertFold fold;
  const AlertChanges changes =
      fold.FeedPrometheus({Rule(5, v1::ALERT_STATE_FIRING, 3, absl::Milliseconds(1), "A"),
                           Rule(5, v1::ALERT_STATE_FIRING, 3, absl::Milliseconds(90), "B")});
  ASSERT_EQ(changes.begun.size(), 2u);
  EXPECT_EQ(FromProto(changes.begun[0].evaluated_at()), kStart + absl::Seconds(5));
  EXPECT_EQ(FromProto(changes.begun[1].evaluated_at()), kStart + absl::Seconds(5));
}

TEST(AlertFold, FiringSeenLateStillHasItsOwnInstant) {
  AlertFold fold;
  fold.FeedPrometheus({Rule(2, v1::ALERT_STATE_PENDING, 1)});
  // Three looks failed.
  const AlertChanges changes = fold.FeedPrometheus({Rule(6, v1::ALERT_STATE_FIRING, 1)});
  EXPECT_EQ(FromProto(changes.begun.at(0).evaluated_at()), kStart + absl::Seconds(3));
}

TEST(AlertFold, AnEvaluationThatWasMissedDelaysFiring) {
  AlertFold fold;
  // Still pending at 4, though its `for` was over at 3: the evaluations between did not happen.
  fold.FeedPrometheus({Rule(4, v1::ALERT_STATE_PENDING, 1)});
  const AlertChanges changes = fold.FeedPrometheus({Rule(5, v1::ALERT_STATE_FIRING, 1)});
  EXPECT_EQ(FromProto(changes.begun.at(0).evaluated_at()), kStart + absl::Seconds(5));
}

TEST(AlertFold, WhatIsActiveAtTheFirstLookIsTold) {
  AlertFold fold;
  const AlertChanges changes = fold.FeedPrometheus({Rule(60, v1::ALERT_STATE_FIRING, 1)});
  ASSERT_EQ(changes.begun.size(), 1u);
  EXPECT_EQ(FromProto(changes.begun[0].active_at()), kStart + absl::Seconds(1));
}

TEST(AlertFold, ASecondLifeBetweenTwoLooksIsTold) {
  AlertFold fold;
  fold.FeedPrometheus({Rule(3, v1::ALERT_STATE_FIRING, 1)});
  const AlertChanges changes = fold.FeedPrometheus({Rule(9, v1::ALERT_STATE_FIRING, 6)});
  ASSERT_EQ(changes.begun.size(), 1u);
  EXPECT_EQ(FromProto(changes.begun[0].active_at()), kStart + absl::Seconds(6));
}

TEST(AlertFold, AnEndWithoutSeriesIsUnknown) {
  AlertFold fold;
  fold.FeedPrometheus({Rule(3, v1::ALERT_STATE_FIRING, 1)});
  const AlertChanges changes = fold.FeedPrometheus({Rule(4)});
  const v1::AlertTransition ended = Settle(changes.ended.at(0), false);
  EXPECT_EQ(ended.state(), v1::ALERT_STATE_UNKNOWN);
  EXPECT_FALSE(ended.series_present());
}

TEST(AlertFold, ARuleThatIsGoneEndsNothing) {
  AlertFold fold;
  fold.FeedPrometheus({Rule(3, v1::ALERT_STATE_FIRING, 1)});
  const AlertChanges changes = fold.FeedPrometheus({});
  EXPECT_EQ(Settle(changes.ended.at(0), true).state(), v1::ALERT_STATE_UNKNOWN);
}

AlertmanagerAlert Held(const std::string& fingerprint, absl::Time starts, bool suppressed = false) {
  AlertmanagerAlert alert;
  alert.name = "A";
  alert.labels = {{"alertname", "A"}, {"env", "lab"}};
  alert.fingerprint = fingerprint;
  alert.starts_at = starts;
  alert.suppressed = suppressed;
  return alert;
}

TEST(AlertFold, FollowsAlertmanager) {
  AlertFold fold;
  const absl::Time now = kStart + absl::Minutes(1);
  AlertChanges changes = fold.FeedAlertmanager({Held("f", kStart)}, now);
  ASSERT_EQ(changes.begun.size(), 1u);
  EXPECT_EQ(changes.begun[0].source(), v1::ALERT_SOURCE_ALERTMANAGER);
  EXPECT_EQ(changes.begun[0].state(), v1::ALERT_STATE_FIRING);
  EXPECT_EQ(FromProto(changes.begun[0].active_at()), kStart);
  EXPECT_TRUE(fold.FeedAlertmanager({Held("f", kStart)}, now).begun.empty());
  changes = fold.FeedAlertmanager({Held("f", kStart, true)}, now);
  EXPECT_TRUE(changes.begun.at(0).suppressed());
  changes = fold.FeedAlertmanager({}, now);
  EXPECT_EQ(Settle(changes.ended.at(0), true).state(), v1::ALERT_STATE_RESOLVED);
}

TEST(AlertFold, CanariesArePassedOver) {
  AlertFold fold;
  AlertmanagerAlert canary = Held("f", kStart);
  canary.labels["firedrill_canary"] = "r";
  EXPECT_TRUE(fold.FeedAlertmanager({canary}, kStart).begun.empty());
  EXPECT_TRUE(fold.FeedAlertmanager({}, kStart).ended.empty());
}

}  // namespace
}  // namespace firedrill
