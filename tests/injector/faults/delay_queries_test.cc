// delay_queries: requests that match are held, and no others.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class DelayQueriesTest : public WireFaults {};

TEST_F(DelayQueriesTest, DelaysOneTableAndNoOther) {
  const auto fault = Put(DelayUsers());
  const Session client = Client();
  EXPECT_FALSE(Look(fault).reached()) << "nothing was met yet";
  EXPECT_LT(Fastest(client, kImages), kDelay / 2);
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  const v1::Observation seen = Look(fault);
  EXPECT_TRUE(seen.reached()) << seen.detail();
  EXPECT_EQ(seen.requested(), 150);
  EXPECT_GE(seen.real(), 150);
  EXPECT_EQ(seen.figures().at("hit"), 1);
  ExpectGone(fault);
  EXPECT_LT(Fastest(client, kUsers), kDelay / 2) << "the same connection goes on untouched";
}

TEST_F(DelayQueriesTest, BringsPooledConnectionsThroughTheFault) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  v1::Fault message = DelayUsers();
  const Session pooled = Client();
  EXPECT_LT(Fastest(pooled, kUsers), kDelay / 2);
  const auto without = Put(message);
  EXPECT_LT(Fastest(pooled, kUsers), kDelay / 2) << "it was there before";
  ExpectGone(without);

  message.mutable_delay_queries()->set_reconnect(true);
  const auto fault = Put(message);
  EXPECT_FALSE(Ask(pooled, kUsers).ok) << "its connection was ended";
  PQreset(pooled.get());
  EXPECT_GE(Ask(pooled, kUsers).took, kDelay);
  EXPECT_GE(Look(fault).figures().at("reconnected"), 1);
  ExpectGone(fault);
}

TEST_F(DelayQueriesTest, SaysWhatItCouldNotLookAt) {
  const auto fault = Put(DelayUsers());
  const Session client = Client();
  const auto prepare = [&client](int i, const std::string& from) {
    ASSERT_TRUE(Ask(client, absl::StrCat("PREPARE s", i, " AS SELECT ", i, " FROM ", from)).ok);
  };
  prepare(0, "users");
  EXPECT_GE(Ask(client, "EXECUTE s0").took, kDelay);
  const std::string all_seen = Look(fault).detail();
  EXPECT_THAT(all_seen, ::testing::Not(::testing::HasSubstr("unmatched")));
  EXPECT_THAT(all_seen, ::testing::Not(::testing::HasSubstr("16 KiB")));
  // More than are remembered.
  for (int i = 1; i < 1100; ++i) prepare(i, "images");
  EXPECT_LT(Fastest(client, "EXECUTE s0"), kDelay / 2);
  const std::string text = absl::StrCat("SELECT 1 /*", std::string(17000, 'x'), "*/ FROM users");
  EXPECT_LT(Fastest(client, text), kDelay / 2);
  const v1::Observation seen = Look(fault);
  EXPECT_THAT(seen.detail(),
              ::testing::HasSubstr("; 5 requests passed unmatched: what was prepared "
                                   "under that name is not known any more"));
  EXPECT_THAT(seen.detail(),
              ::testing::HasSubstr("; 5 long requests were matched by the first 16 KiB only"));
  EXPECT_EQ(seen.figures().at("forgotten"), 5);
  EXPECT_EQ(seen.figures().at("cut"), 5);
  ExpectGone(fault);
}

TEST_F(DelayQueriesTest, EndsByItselfWhenItsTimeIsOver) {
  const auto fault = Put(DelayUsers(), "it", absl::Milliseconds(600));
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  EXPECT_TRUE(Within(absl::Seconds(3), [&] { return Ask(client, kUsers).took < kDelay / 2; }));
  EXPECT_TRUE(fault->ReadBack(StageContext("it"), node_).ok());
}

}  // namespace
}  // namespace firedrill
