// Connections that are held at a server that has no transactions, and an injector that dies at
// every step of opening and closing them: the sockets are its own, and are gone.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>

#include "absl/strings/str_split.h"
#include "tests/injector/doomed_injector.h"
#include "tests/testing/counting_server.h"
#include "tests/testing/redis_server.h"

namespace firedrill {
namespace {

class HoldCrashTest : public ::testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  static void SetUpTestSuite() {
    server_ = RedisServer::Start().release();
    ASSERT_NE(server_, nullptr);
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    // Orphaned reapers come to us, so that their end can be seen.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  static bool IsHttp() { return absl::string_view(GetParam().first) == "http"; }

  // By TCP, as none of ours is.
  int Connections() {
    if (IsHttp()) return counting_.open();
    const std::string clients = server_->Run({"CLIENT", "LIST"});
    int count = 0;
    for (absl::string_view line : absl::StrSplit(clients, '\n')) {
      count += absl::StrContains(line, " addr=127.0.0.1:");
    }
    return count;
  }

  static inline RedisServer* server_ = nullptr;
  CountingServer counting_;
  TempDir folder_{"firedrill-hold"};
  const std::string dir_ = folder_.path() + "/state";
};

TEST_P(HoldCrashTest, AnInjectorThatDiesAtAnyStepHoldsNothing) {
  const std::string fault = absl::StrCat(
      "name: 'leak' ending: ENDING_DIES_WITH_PROCESS fault { hold_connections { profile: 'cache' ",
      GetParam().second, " } }");
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    DoomedInjector injector(dir_, DoomedInjector::Then::kRevert, fault.c_str(),
                            [this](StageNode& node) {
                              v1::Profile& profile = *node.mutable_spec.add_profiles();
                              profile.set_name("cache");
                              if (IsHttp()) {
                                profile.mutable_http()->set_host("127.0.0.1");
                                profile.mutable_http()->set_port(counting_.port());
                              } else if (absl::string_view(GetParam().first) == "redis") {
                                profile.mutable_redis()->set_host("127.0.0.1");
                                profile.mutable_redis()->set_port(server_->port());
                              } else {
                                profile.mutable_tcp()->set_host("127.0.0.1");
                                profile.mutable_tcp()->set_port(server_->port());
                              }
                            });
    const bool stopped = RunUntilStep(injector, step);
    if (stopped && Connections() >= 4) ++met;
    injector.Kill();
    EXPECT_EQ(CodeOfReaper(injector.reaper()), 0) << "step " << step;
    EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Connections() == 0; })) << "step " << step;
    EXPECT_EQ(LastingLeftovers(dir_), 0) << "step " << step;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  EXPECT_GT(steps, 10);
  // Else no death was in the middle of anything.
  EXPECT_GT(met, 2);
  EXPECT_LT(met, steps);
}

INSTANTIATE_TEST_SUITE_P(
    Every, HoldCrashTest,
    ::testing::Values(std::pair("redis", "protocol: PROTOCOL_REDIS count: 4 refill: true"),
                      std::pair("tcp", "protocol: PROTOCOL_TCP count: 4 refill: true"),
                      std::pair("http",
                                "protocol: PROTOCOL_HTTP state: SESSION_STATE_ACTIVE "
                                "count: 4 refill: true")),
    [](const auto& info) { return std::string(info.param.first); });

}  // namespace
}  // namespace firedrill
