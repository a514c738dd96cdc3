// delay_bytes: every byte takes longer, there and back.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class DelayBytesTest : public WireFaults {};

TEST_F(DelayBytesTest, DelaysBothWays) {
  v1::Fault delay;
  Aim(delay.mutable_delay_bytes());
  *delay.mutable_delay_bytes()->mutable_delay() = ToProto(absl::Milliseconds(20));
  const auto slow = Put(delay);
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, absl::Milliseconds(40)) << "there and back";
  EXPECT_TRUE(Look(slow).reached()) << Look(slow).detail();
  ExpectGone(slow);
}

}  // namespace
}  // namespace firedrill
