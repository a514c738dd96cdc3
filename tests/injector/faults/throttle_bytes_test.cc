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
  // When nobody asks for anything any more it still says what has passed.
  Look(throttle);
  absl::SleepFor(absl::Milliseconds(150));
  const v1::Observation idle = Look(throttle);
  EXPECT_EQ(idle.real(), 0) << idle.detail();
  EXPECT_GT(idle.figures().at("passed"), 200'000) << idle.detail();
  EXPECT_THAT(idle.detail(), ::testing::HasSubstr(" bytes have passed, now 0 bytes/s"));
  ExpectGone(throttle);
}

}  // namespace
}  // namespace firedrill
