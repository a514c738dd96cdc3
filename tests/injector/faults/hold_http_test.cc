// hold_connections at a server of HTTP: one that counts, and nginx, whose slots run out.
#include <gmock/gmock.h>

#include "base/http.h"
#include "tests/testing/child.h"
#include "tests/testing/counting_server.h"
#include "tests/testing/hold_stage.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kNginx[] = "/usr/sbin/nginx";

class HoldHttpTest : public HoldStage {
 protected:
  void SetUp() override {
    AddProfile("front").mutable_http()->set_host("127.0.0.1");
    AddProfile("queue").mutable_tcp()->set_host("127.0.0.1");
    At(server_.port());
  }
  void At(int port) {
    node_.mutable_spec.mutable_profiles(0)->mutable_http()->set_port(static_cast<uint32_t>(port));
  }
  absl::Status ApplyHttp(const std::string& text) {
    return Apply("protocol: PROTOCOL_HTTP profile: 'front' " + text);
  }

  CountingServer server_;
};

TEST_F(HoldHttpTest, HoldsConnectionsWithoutARequest) {
  ASSERT_TRUE(ApplyHttp("count: 20 state: SESSION_STATE_IDLE").ok());
  ASSERT_TRUE(Reached());
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 20; }));
  for (const std::string& said : server_.said()) EXPECT_EQ(said, "");
  EXPECT_EQ(Seen().subject(), absl::StrCat("http/127.0.0.1/", server_.port()));
}

TEST_F(HoldHttpTest, HoldsRequestsThatDoNotEnd) {
  ASSERT_TRUE(ApplyHttp("count: 20 state: SESSION_STATE_ACTIVE").ok());
  ASSERT_TRUE(Reached());
  const auto all_said = [this](const std::string& what) {
    const std::vector<std::string> said = server_.said();
    return said.size() == 20 && std::all_of(said.begin(), said.end(), [&](const auto& one) {
             return one.find(what) != std::string::npos;
           });
  };
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return all_said("User-Agent: firedrill:"); }));
  // It goes on, and never ends.
  EXPECT_TRUE(Within(absl::Seconds(10), [&] { return all_said("X-Firedrill: slow\r\n"); }));
  for (const std::string& said : server_.said()) {
    EXPECT_THAT(said, AllOf(StartsWith("GET / HTTP/1.1\r\nHost: 127.0.0.1:"),
                            HasSubstr("\r\nUser-Agent: firedrill:r1a2b3:leak\r\n"),
                            Not(HasSubstr("\r\n\r\n"))));
  }
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return server_.open() == 0; }));
}

TEST_F(HoldHttpTest, DiesWithItsProcess) {
  const pid_t holder = SpawnHolder(
      {"protocol: PROTOCOL_HTTP profile: 'front' count: 20",
       "protocol: PROTOCOL_HTTP profile: 'front' count: 20 state: SESSION_STATE_ACTIVE"});
  EXPECT_TRUE(Within(absl::Seconds(10), [this] { return server_.open() == 40; }));
  Kill(holder);
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return server_.open() == 0; }));
}

TEST_F(HoldHttpTest, FillsNginxAndLetsItGo) {
  if (access(kNginx, X_OK) != 0) GTEST_SKIP() << "no " << kNginx << "; install nginx-light";
  const TempDir folder("fd-nginx");
  const int port = FreePort();
  // Of its 40 connections one listens.
  WriteFile(
      folder.path() + "/conf",
      absl::StrCat("daemon off; master_process off; worker_processes 1; pid ", folder.path(),
                   "/pid; error_log ", folder.path(),
                   "/errors; events { worker_connections 40; }\n"
                   "http { access_log off; client_header_timeout 60s;",
                   " client_body_temp_path ", folder.path(), "/a; proxy_temp_path ", folder.path(),
                   "/b; fastcgi_temp_path ", folder.path(), "/c; uwsgi_temp_path ", folder.path(),
                   "/d; scgi_temp_path ", folder.path(), "/e; server { listen 127.0.0.1:", port,
                   "; location / { return 200 'served'; } } }\n"));
  const auto nginx =
      Child::Start({.arguments = {kNginx, "-p", folder.path(), "-c", folder.path() + "/conf", "-e",
                                  folder.path() + "/errors"},
                    .log = folder.path() + "/log"});
  ASSERT_TRUE(nginx.ok()) << nginx.status();
  At(port);
  const auto serves = [port] {
    HttpRequest request;
    request.url = absl::StrCat("http://127.0.0.1:", port, "/");
    request.deadline = absl::Seconds(1);
    const auto answer = Fetch(request);
    return answer.ok() && answer->body == "served";
  };
  ASSERT_TRUE(Within(absl::Seconds(10), serves)) << ReadFile(folder.path() + "/errors");
  // Those that have not asked for anything yet it would give up for others.
  ASSERT_TRUE(ApplyHttp("count: 60 refill: true state: SESSION_STATE_ACTIVE").ok());
  // Not one that failed while the slots were being taken: again and again.
  EXPECT_TRUE(Within(absl::Seconds(20), [&] { return !serves() && !serves() && !serves(); }));
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_TRUE(Within(absl::Seconds(10), serves));
}

TEST_F(HoldHttpTest, RefusesWhatTheProtocolDoesNotHave) {
  const std::string mine = "protocol: PROTOCOL_HTTP profile: 'front' ";
  EXPECT_TRUE(Validate(mine + "count: 3 state: SESSION_STATE_ACTIVE").ok());
  EXPECT_THAT(
      std::string(Validate(mine + "count: 3 state: SESSION_STATE_IDLE_IN_TRANSACTION").message()),
      HasSubstr("HTTP has no transactions"));
  EXPECT_THAT(std::string(Validate(mine + "fill_to: 0.5").message()),
              HasSubstr("say `count` instead of `fillTo`"));
  EXPECT_THAT(std::string(Validate("protocol: PROTOCOL_HTTP profile: 'queue' count: 3").message()),
              HasSubstr("profile queue is no HTTP server"));
}

}  // namespace
}  // namespace firedrill
