// delay_bytes: every byte takes longer, there and back.
#include <unistd.h>

#include "absl/strings/match.h"
#include "tests/testing/counting_server.h"
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

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

TEST_F(DelayBytesTest, SaysWhatItHoldsBeforeAnyOfItIsLetGo) {
  const CountingServer server;
  v1::Profile* profile = node_.mutable_spec.add_profiles();
  profile->set_name("silent");
  profile->mutable_tcp()->set_host("127.0.0.1");
  profile->mutable_tcp()->set_port(static_cast<uint32_t>(server.port()));
  v1::Fault delay;
  delay.mutable_delay_bytes()->set_profile("silent");
  const int port = FreePort();
  delay.mutable_delay_bytes()->set_listen(absl::StrCat("127.0.0.1:", port));
  *delay.mutable_delay_bytes()->mutable_delay() = ToProto(absl::Minutes(1));
  const auto slow = Put(delay);
  EXPECT_THAT(Look(slow).detail(), HasSubstr("no bytes have come yet"));
  const UniqueFd client = ConnectToPort(port);
  ASSERT_EQ(write(client.get(), "held", 4), 4);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] {
    return absl::StrContains(Look(slow).detail(), "bytes were held, 1 time, and none");
  })) << Look(slow).detail();
  EXPECT_FALSE(Look(slow).reached());
  ExpectGone(slow);
}

}  // namespace
}  // namespace firedrill
