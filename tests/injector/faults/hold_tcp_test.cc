// hold_connections at a server whose protocol nobody knows. The server itself says how many there
// are.
#include <gmock/gmock.h>

#include <sys/resource.h>

#include "tests/testing/child.h"
#include "tests/testing/counting_server.h"
#include "tests/testing/hold_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

class HoldTcpTest : public HoldStage {
 protected:
  void SetUp() override {
    v1::TcpServer& tcp = *AddProfile("queue").mutable_tcp();
    tcp.set_host("127.0.0.1");
    tcp.set_port(server_.port());
    AddProfile("front").mutable_http()->set_host("127.0.0.1");
  }
  absl::Status ApplyTcp(const std::string& text) {
    return Apply("protocol: PROTOCOL_TCP profile: 'queue' " + text);
  }

  CountingServer server_;
};

TEST_F(HoldTcpTest, HoldsThousands) {
  ASSERT_TRUE(ApplyTcp("count: 3000").ok());
  ASSERT_TRUE(Reached());
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 3000; }));
  const v1::Observation seen = Seen();
  EXPECT_EQ(seen.requested(), 3000);
  EXPECT_EQ(seen.real(), 3000);
  EXPECT_EQ(seen.unit(), "sessions");
  EXPECT_EQ(seen.subject(), absl::StrCat("tcp/127.0.0.1/", server_.port()));
  EXPECT_EQ(seen.detail(), "3000 held (idle)");
  EXPECT_FALSE(ReadBack(absl::Milliseconds(200)).ok());
  fault_->Release();
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 0; }));
}

TEST_F(HoldTcpTest, SaysNothing) {
  ASSERT_TRUE(ApplyTcp("count: 3").ok());
  ASSERT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 3; }));
  for (const std::string& said : server_.said()) EXPECT_EQ(said, "");
}

TEST_F(HoldTcpTest, TakesBackWithRefillOnly) {
  ASSERT_TRUE(ApplyTcp("count: 10").ok());
  ASSERT_TRUE(Reached());
  // One more for the look whether somebody listens.
  ASSERT_TRUE(Within(absl::Seconds(5), [this] { return server_.accepted() == 11; }));
  server_.Kick(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().real() == 6; }));
  EXPECT_FALSE(Seen().reached());
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("lost") == 4; }));
  EXPECT_EQ(server_.accepted(), 11);

  ASSERT_TRUE(ApplyTcp("count: 10 refill: true").ok());
  ASSERT_TRUE(Reached());
  ASSERT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 10; }));
  const int before = server_.accepted();
  server_.Kick(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return server_.accepted() == before + 4; }));
  EXPECT_TRUE(Reached());
  EXPECT_EQ(server_.open(), 10);
}

TEST_F(HoldTcpTest, RampsUp) {
  ASSERT_TRUE(ApplyTcp("count: 100 ramp { seconds: 2 }").ok());
  EXPECT_LT(server_.accepted(), 60);
  EXPECT_FALSE(Seen().reached());
  EXPECT_TRUE(Reached());
}

TEST_F(HoldTcpTest, DiesWithItsProcess) {
  const pid_t holder = SpawnHolder({"protocol: PROTOCOL_TCP profile: 'queue' count: 50"});
  EXPECT_TRUE(Within(absl::Seconds(10), [this] { return server_.open() == 50; }));
  Kill(holder);
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return server_.open() == 0; }));
}

TEST_F(HoldTcpTest, NamesAServerThatIsDown) {
  node_.mutable_spec.mutable_profiles(0)->mutable_tcp()->set_port(FreePort());
  const absl::Status status = ApplyTcp("count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("reaching the server of profile queue: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("is the server up"));
  fault_->Release();
  // Nothing can be left at a server that is down.
  EXPECT_TRUE(ReadBack(absl::Seconds(1)).ok());
}

TEST_F(HoldTcpTest, EndsWhenTheServerIsGone) {
  auto own = std::make_unique<CountingServer>();
  node_.mutable_spec.mutable_profiles(0)->mutable_tcp()->set_port(own->port());
  ASSERT_TRUE(ApplyTcp("count: 5 refill: true").ok());
  ASSERT_TRUE(Reached());
  own.reset();
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().real() == 0; }));
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    return Seen().detail().find("Connection refused") != std::string::npos;
  })) << Seen().detail();
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
}

TEST_F(HoldTcpTest, RefusesWhatTheProtocolDoesNotHave) {
  const std::string mine = "protocol: PROTOCOL_TCP profile: 'queue' ";
  EXPECT_TRUE(Validate(mine + "count: 3").ok());
  for (const char* state : {"SESSION_STATE_ACTIVE", "SESSION_STATE_IDLE_IN_TRANSACTION"}) {
    EXPECT_THAT(std::string(Validate(absl::StrCat(mine, "count: 3 state: ", state)).message()),
                HasSubstr("can only be idle"));
  }
  EXPECT_THAT(std::string(Validate(mine + "fill_to: 0.5").message()),
              HasSubstr("say `count` instead of `fillTo`"));
  EXPECT_THAT(std::string(Validate(mine + "leave_free: 5").message()),
              HasSubstr("say `count` instead of `leaveFree`"));
  EXPECT_THAT(std::string(Validate("protocol: PROTOCOL_TCP profile: 'front' count: 3").message()),
              HasSubstr("profile front is no server of plain TCP"));
  EXPECT_THAT(std::string(Validate("protocol: PROTOCOL_TCP profile: 'other' count: 3").message()),
              HasSubstr("there is no other"));
}

TEST_F(HoldTcpTest, RefusesMoreThanThisProcessMayOpen) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max >= 100000) GTEST_SKIP() << "this process may open very many files";
  const absl::Status status = Validate("protocol: PROTOCOL_TCP profile: 'queue' count: 100000");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace firedrill
