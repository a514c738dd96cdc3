// reset_connections: idle connections are reset, once.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class ResetConnectionsTest : public WireFaults {};

TEST_F(ResetConnectionsTest, ResetsIdleConnectionsOnce) {
  v1::Fault message;
  Aim(message.mutable_reset_connections());
  auto fault = MakeFault(message);
  ASSERT_TRUE(fault.ok());
  auto& prepares = dynamic_cast<Prepares&>(**fault);
  ASSERT_TRUE(prepares.Prepare(StageContext("it"), node_).ok());
  const Session idle = Client();
  NoChanges changes;
  ASSERT_EQ((*fault)->Apply(StageContext("it"), node_, changes), absl::OkStatus());
  EXPECT_FALSE(Ask(idle, kUsers).ok);
  EXPECT_TRUE(Look(*fault).reached());
  EXPECT_TRUE(Ask(Client(), kUsers).ok);
  ExpectGone(*fault);
}

}  // namespace
}  // namespace firedrill
