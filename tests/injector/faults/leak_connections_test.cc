// leak_connections: what clients close stays open at the server.
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

class LeakConnectionsTest : public WireFaults {};

TEST_F(LeakConnectionsTest, LeaksUntilItIsHealed) {
  v1::Fault message;
  Aim(message.mutable_leak_connections());
  const auto fault = Put(message);
  const std::string count =
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'client'";
  const int before = server_->Number(count);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Ask(Client(), kUsers).ok);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Look(fault).real() == 3; }));
  EXPECT_EQ(server_->Number(count), before + 3) << "their clients are gone";
  ExpectGone(fault);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return server_->Number(count) == before; }));
}

}  // namespace
}  // namespace firedrill
