// What two servers that say the same are worth together.
#include "controller/alerts/replicas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::Time At(int second) { return absl::UnixEpoch() + absl::Seconds(second); }

v1::AlertTransition Word(v1::AlertState state, int active, bool suppressed = false) {
  v1::AlertTransition transition;
  transition.set_source(v1::ALERT_SOURCE_PROMETHEUS);
  transition.set_alert("A");
  (*transition.mutable_labels())["instance"] = "i";
  transition.set_state(state);
  *transition.mutable_active_at() = ToProto(At(active));
  transition.set_suppressed(suppressed);
  return transition;
}

AlertChanges Pending(int active) { return {.begun = {Word(v1::ALERT_STATE_PENDING, active)}}; }
AlertChanges Firing(int active) { return {.begun = {Word(v1::ALERT_STATE_FIRING, active)}}; }
AlertChanges Ended(int active) {
  return {.ended = {EndedAlert{Word(v1::ALERT_STATE_INACTIVE, active)}}};
}

// "ended 10", "firing 10": what happened, with the begin of the instance; "lost" where nobody saw.
std::vector<std::string> Words(const AlertChanges& changes) {
  std::vector<std::string> words;
  for (const EndedAlert& ended : changes.ended) {
    words.push_back(
        absl::StrCat(ended.rule_gone ? "lost " : "ended ", ended.transition.active_at().seconds()));
  }
  for (const v1::AlertTransition& begun : changes.begun) {
    words.push_back(absl::StrCat(begun.state() == v1::ALERT_STATE_FIRING ? "firing " : "pending ",
                                 begun.active_at().seconds()));
  }
  return words;
}

TEST(Replicas, AnAlertFiresWithTheFirstAndEndsWithTheLast) {
  Replicas pair(2);
  EXPECT_THAT(Words(pair.Feed(0, Pending(10))), ElementsAre("pending 10"));
  EXPECT_THAT(Words(pair.Feed(1, Pending(11))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(1, Firing(11))), ElementsAre("firing 11"));
  EXPECT_THAT(Words(pair.Feed(0, Firing(10))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(1, Ended(11))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(0, Ended(10))), ElementsAre("ended 11"));
  EXPECT_THAT(Words(pair.Feed(0, Firing(30))), ElementsAre("firing 30"));
}

TEST(Replicas, WhatOnlyOneSaysCounts) {
  Replicas pair(2);
  EXPECT_THAT(Words(pair.Feed(1, Firing(10))), ElementsAre("firing 10"));
  EXPECT_THAT(Words(pair.Feed(1, Ended(10))), ElementsAre("ended 10"));
}

TEST(Replicas, OneThatIsStartedAgainBeginsNothingAnewWhileTheOtherHoldsIt) {
  Replicas pair(2);
  pair.Feed(0, Firing(10));
  pair.Feed(1, Firing(11));
  EXPECT_THAT(Words(pair.Feed(0, Pending(20))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(0, Firing(20))), IsEmpty());
  // Alone it does: between two looks the alert ended.
  EXPECT_THAT(Words(pair.Feed(1, Ended(11))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(0, Firing(30))), ElementsAre("firing 30"));
}

TEST(Replicas, OneThatStillWaitsDoesNotKeepAnAlertFiring) {
  Replicas pair(2);
  pair.Feed(0, Firing(10));
  pair.Feed(1, Pending(14));
  EXPECT_THAT(Words(pair.Feed(0, Ended(10))), ElementsAre("ended 10", "pending 14"));
  EXPECT_THAT(Words(pair.Feed(1, Firing(14))), ElementsAre("firing 14"));
}

TEST(Replicas, TheWordOfOneThatFellSilentLapses) {
  Replicas pair(2);
  pair.Feed(0, Firing(10));
  pair.Feed(1, Firing(11));
  EXPECT_THAT(Words(pair.Lapse(0, At(20))), IsEmpty());
  EXPECT_THAT(Words(pair.Feed(1, Ended(11))), ElementsAre("ended 10"));
  // What nobody else held has ended, and nobody saw how.
  pair.Feed(1, Firing(30));
  EXPECT_THAT(Words(pair.Lapse(1, At(40))), ElementsAre("lost 30"));
  EXPECT_THAT(Words(pair.Lapse(1, At(41))), IsEmpty());
  // Back again, it says all anew.
  EXPECT_THAT(Words(pair.Feed(1, Firing(30))), ElementsAre("firing 30"));
}

TEST(Replicas, SuppressedOnlyWhereAllSaySo) {
  Replicas pair(2);
  pair.Feed(0, {.begun = {Word(v1::ALERT_STATE_FIRING, 10, true)}});
  const AlertChanges heard = pair.Feed(1, {.begun = {Word(v1::ALERT_STATE_FIRING, 10, false)}});
  ASSERT_EQ(heard.begun.size(), 1u);
  EXPECT_FALSE(heard.begun[0].suppressed());
  const AlertChanges silenced = pair.Feed(1, {.begun = {Word(v1::ALERT_STATE_FIRING, 10, true)}});
  ASSERT_EQ(silenced.begun.size(), 1u);
  EXPECT_TRUE(silenced.begun[0].suppressed());
}

TEST(Replicas, OneServerAloneSaysWhatItSays) {
  Replicas alone(1);
  EXPECT_THAT(Words(alone.Feed(0, Firing(10))), ElementsAre("firing 10"));
  EXPECT_THAT(Words(alone.Feed(0, Pending(20))), ElementsAre("pending 20"));
}

// "prometheus/0 from 5", "prometheus/0 from 5 to 9 covered".
std::vector<std::string> Told(const std::vector<v1::MonitorGap>& gaps) {
  std::vector<std::string> told;
  for (const v1::MonitorGap& gap : gaps) {
    told.push_back(absl::StrCat(gap.source(), " from ", gap.from().seconds(),
                                gap.has_to() ? absl::StrCat(" to ", gap.to().seconds()) : "",
                                gap.covered() ? " covered" : ""));
  }
  return told;
}

TEST(GapBook, ASingleServerIsAllThereIs) {
  GapBook book("prometheus", {"prometheus"});
  EXPECT_THAT(Told(book.Open(0, "", At(5), "down", At(6))), ElementsAre("prometheus from 5"));
  EXPECT_THAT(Told(book.Open(0, "", At(5), "down", At(7))), IsEmpty());
  EXPECT_THAT(Told(book.Close(0, "", At(9))), ElementsAre("prometheus from 5 to 9"));
  EXPECT_THAT(Told(book.Close(0, "", At(10))), IsEmpty());
}

TEST(GapBook, NobodyIsBlindAsLongAsOneSees) {
  GapBook book("prometheus", {"prometheus/0", "prometheus/1"});
  EXPECT_THAT(Told(book.Open(0, "", At(5), "down", At(6))),
              ElementsAre("prometheus/0 from 5 covered"));
  // From when the last one fell silent.
  EXPECT_THAT(Told(book.Open(1, "", At(8), "down", At(9))),
              ElementsAre("prometheus/1 from 8 covered", "prometheus from 8"));
  EXPECT_THAT(Told(book.Close(0, "", At(12))),
              ElementsAre("prometheus/0 from 5 to 12 covered", "prometheus from 8 to 12"));
  EXPECT_THAT(Told(book.Close(1, "", At(13))), ElementsAre("prometheus/1 from 8 to 13 covered"));
}

TEST(GapBook, WhoIsDownDoesNotSeeAStaleRuleEither) {
  GapBook book("prometheus", {"prometheus/0", "prometheus/1"});
  EXPECT_THAT(Told(book.Open(0, "stale A", At(5), "rule A", At(6))),
              ElementsAre("prometheus/0 from 5 covered"));
  EXPECT_THAT(Told(book.Open(1, "", At(8), "down", At(9))),
              ElementsAre("prometheus/1 from 8 covered", "prometheus from 8"));
  EXPECT_THAT(Told(book.Close(0, "stale A", At(11))),
              ElementsAre("prometheus/0 from 5 to 11 covered", "prometheus from 8 to 11"));
}

}  // namespace
}  // namespace firedrill
