// throttle_bytes: bytes pass no faster than a rate.
#include <vector>

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
  v1::Observation idle;
  EXPECT_TRUE(Within(absl::Seconds(5), [&] {
    idle = Look(throttle);
    return idle.real() == 0;
  })) << idle.detail();
  EXPECT_GT(idle.figures().at("passed"), 200'000) << idle.detail();
  EXPECT_THAT(idle.detail(), ::testing::HasSubstr(" bytes have passed, "));
  ExpectGone(throttle);
}

TEST_F(ThrottleBytesTest, ManyWhoAskForLessTogetherAreNotLimited) {
  v1::Fault message;
  Aim(message.mutable_throttle_bytes());
  message.mutable_throttle_bytes()->set_rate(1e6);
  const auto throttle = Put(message);
  std::vector<Session> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(Client());
  Look(throttle);
  double most = 0;
  // 2 kB each in 10 ms or more: a fifth of the rate, but more than the rate together.
  for (int i = 0; i < 50; ++i) {
    for (const Session& client : clients) Ask(client, "SELECT repeat('x', 2000)");
    absl::SleepFor(absl::Milliseconds(2));
    const v1::Observation seen = Look(throttle);
    most = std::max(most, seen.real());
    ASSERT_FALSE(seen.reached()) << seen.detail();
  }
  EXPECT_GT(most, 100'000);
  EXPECT_THAT(Look(throttle).detail(), ::testing::HasSubstr(", 0 had to wait for the limit, now "));
  Ask(clients.front(), "SELECT repeat('x', 200000)");
  EXPECT_TRUE(Look(throttle).reached());
  ExpectGone(throttle);
}

}  // namespace
}  // namespace firedrill
