// throttle_bytes: bytes pass no faster than a rate.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class ThrottleBytesTest : public WireFaults {};

TEST_F(ThrottleBytesTest, SlowsALongAnswer) {
  v1::Fault message;
  Aim(message.mutable_throttle_bytes());
  message.mutable_throttle_bytes()->set_rate(200'000);
  message.mutable_throttle_bytes()->set_direction(v1::BYTE_DIRECTION_TO_CLIENT);
  const auto throttle = Put(message);
  {
    const Session client = Client();
    Look(throttle);
    const Answer answer = Ask(client, "SELECT repeat('x', 200000)");
    EXPECT_TRUE(answer.ok);
    EXPECT_GT(answer.took, absl::Milliseconds(500));
    const v1::Observation seen = Look(throttle);
    EXPECT_TRUE(seen.reached()) << seen.detail();
  }
  ExpectGone(throttle);
}

}  // namespace
}  // namespace firedrill
