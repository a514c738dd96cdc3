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

}  // namespace
}  // namespace firedrill
