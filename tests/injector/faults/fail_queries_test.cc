// fail_queries: requests that match fail as the server itself would let them.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class FailQueriesTest : public WireFaults {};

TEST_F(FailQueriesTest, FailsWithTheServersOwnCodes) {
  v1::Fault message;
  Aim(message.mutable_fail_queries());
  message.mutable_fail_queries()->mutable_match()->add_tables("users");
  message.mutable_fail_queries()->set_error("40P01");
  const auto fault = Put(message);
  const Session client = Client();
  EXPECT_EQ(Ask(client, kUsers).code, "40P01");
  EXPECT_TRUE(Ask(client, kImages).ok) << "the session lives on";
  EXPECT_TRUE(Look(fault).reached());
  ExpectGone(fault);
  EXPECT_TRUE(Ask(client, kUsers).ok);
}

TEST_F(FailQueriesTest, AnAnswerThatIsShorterThanTheCutHasNotFailed) {
  v1::Fault message;
  Aim(message.mutable_fail_queries());
  message.mutable_fail_queries()->mutable_match()->add_tables("users");
  message.mutable_fail_queries()->set_cut_after(100'000);
  const auto fault = Put(message, "longer");
  {
    const Session client = Client();
    EXPECT_TRUE(Ask(client, kUsers).ok);
    EXPECT_TRUE(Ask(client, kUsers).ok) << "the session lives on";
  }
  EXPECT_EQ(Look(fault).figures().at("failed"), 0);
  EXPECT_FALSE(Look(fault).reached());
  ExpectGone(fault, "longer");
  message.mutable_fail_queries()->set_cut_after(0);
  const auto cutting = Put(message, "shorter");
  EXPECT_FALSE(Ask(Client(), kUsers).ok);
  EXPECT_EQ(Look(cutting).figures().at("failed"), 1);
  ExpectGone(cutting, "shorter");
}

// Two runs may break the same server at once.
TEST_F(FailQueriesTest, CountsItsOwn) {
  v1::Fault users;
  Aim(users.mutable_fail_queries());
  users.mutable_fail_queries()->mutable_match()->add_tables("users");
  users.mutable_fail_queries()->set_error("40P01");
  v1::Fault images = users;
  images.mutable_fail_queries()->mutable_match()->set_tables(0, "images");
  const auto first = Put(users, "first");
  const auto second = Put(images, "second");
  const Session client = Client();
  EXPECT_EQ(Ask(client, kUsers).code, "40P01");
  EXPECT_EQ(Look(first).figures().at("failed"), 1);
  EXPECT_EQ(Look(second).figures().at("failed"), 0);
  EXPECT_FALSE(Look(second).reached());
  EXPECT_EQ(Ask(client, kImages).code, "40P01");
  ExpectGone(second, "second");
  // Rules are made anew when others go; what was counted is kept.
  EXPECT_EQ(Look(first).figures().at("failed"), 1);
  EXPECT_EQ(Look(first).real(), 1);
  ExpectGone(first, "first");
}

}  // namespace
}  // namespace firedrill
