// stall_connections: connections fall silent, and lose nothing.
#include <atomic>
#include <thread>

#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class StallConnectionsTest : public WireFaults {};

TEST_F(StallConnectionsTest, StallsAndGoesOnWhereItStopped) {
  v1::Fault message;
  Aim(message.mutable_stall_connections());
  const auto fault = Put(message);
  std::atomic<bool> answered = false;
  std::jthread client([&] { answered = Ask(Client(), kUsers).ok; });
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Look(fault).reached(); }));
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_FALSE(answered);
  ExpectGone(fault);
  client.join();
  EXPECT_TRUE(answered) << "no byte is lost, nothing was closed";
}

}  // namespace
}  // namespace firedrill
