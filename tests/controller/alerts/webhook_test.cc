// Our receiver over real connections.
#include "controller/alerts/webhook.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <mutex>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/http.h"
#include "tests/testing/child.h"
#include "tests/testing/http_server.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Capture(const std::string& name) {
  return ReadFile(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/lab/captures/", name));
}

class Webhook : public ::testing::Test {
 protected:
  Webhook() : dir_("firedrill-webhook") {
    WriteFile(dir_.path() + "/token", "t0k\n");
    chmod((dir_.path() + "/token").c_str(), 0600);
    webhook_.set_listen("127.0.0.1:0");
    v1::WebhookReceiver& oncall = *webhook_.add_receivers();
    oncall.set_name("oncall");
    oncall.set_path("/oncall");
    oncall.mutable_token()->set_file(dir_.path() + "/token");
    v1::WebhookReceiver& open = *webhook_.add_receivers();
    open.set_name("open");
    open.set_path("/open");
  }

  void Start() {
    auto server =
        WebhookServer::Start(webhook_, RealClock(), [this](const WebhookDelivery& delivery) {
          const std::lock_guard lock(mutex_);
          deliveries_.push_back(delivery);
          return keeps_.load();
        });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  int Ask(const std::string& method, const std::string& path, const std::string& body,
          const std::string& authorization = "Bearer t0k") {
    HttpRequest request;
    request.method = method;
    request.url = absl::StrCat("http://127.0.0.1:", server_->port(), path);
    request.body = body;
    if (!authorization.empty()) request.headers["Authorization"] = authorization;
    const auto response = Fetch(request);
    return response.ok() ? response->status : -1;
  }

  size_t Seen() {
    const std::lock_guard lock(mutex_);
    return deliveries_.size();
  }

  int Connect() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(server_->port());
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  TempDir dir_;
  v1::Webhook webhook_;
  std::mutex mutex_;
  std::vector<WebhookDelivery> deliveries_;
  std::atomic<bool> keeps_ = true;
  std::unique_ptr<WebhookServer> server_;
};

TEST_F(Webhook, TakesEveryAlertOfAPayload) {
  Start();
  EXPECT_EQ(Ask("POST", "/oncall", Capture("webhook_mixed.json")), 200);
  ASSERT_EQ(Seen(), 2u);
  EXPECT_EQ(deliveries_[0].status, "resolved");
  EXPECT_EQ(deliveries_[1].status, "firing");
  EXPECT_LT(absl::AbsDuration(absl::Now() - deliveries_[0].received_at), absl::Seconds(5));
}

TEST_F(Webhook, RefusesEverythingElse) {
  Start();
  const std::string good = Capture("webhook_firing.json");
  EXPECT_EQ(Ask("POST", "/oncall", good, ""), 401);
  EXPECT_EQ(Ask("POST", "/oncall", good, "Bearer t0"), 401);
  EXPECT_EQ(Ask("POST", "/oncall", good, "Bearer t0kk"), 401);
  EXPECT_EQ(Ask("POST", "/elsewhere", good), 404);
  EXPECT_EQ(Ask("POST", "/oncall/x", good), 404);
  EXPECT_EQ(Ask("GET", "/oncall", ""), 405);
  EXPECT_EQ(Ask("POST", "/oncall", std::string((1 << 20) + 1, 'x')), 413);
  EXPECT_EQ(Ask("POST", "/oncall", "{}"), 400);
  EXPECT_EQ(Ask("POST", "/oncall", std::string(1000, '[')), 400);
  EXPECT_EQ(Seen(), 0u);
  EXPECT_EQ(Ask("POST", "/open", good, ""), 200);
  EXPECT_EQ(Seen(), 1u);
}

TEST_F(Webhook, WhatWasNotKeptIsSentAgain) {
  Start();
  keeps_ = false;
  EXPECT_EQ(Ask("POST", "/oncall", Capture("webhook_firing.json")), 503);
}

TEST_F(Webhook, ListensOnLoopbackOnly) {
  for (const char* listen : {"0.0.0.0:0", "192.0.2.1:9", ":9", "[::]:0"}) {
    webhook_.set_listen(listen);
    const auto server =
        WebhookServer::Start(webhook_, RealClock(), [](const auto&) { return true; });
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_THAT(std::string(server.status().message()),
                AllOf(HasSubstr(listen), HasSubstr("loopback")));
  }
}

TEST_F(Webhook, ATakenPortIsSaid) {
  Start();
  webhook_.set_listen(absl::StrCat("127.0.0.1:", server_->port()));
  const auto second = WebhookServer::Start(webhook_, RealClock(), [](const auto&) { return true; });
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()),
              AllOf(HasSubstr(webhook_.listen()), HasSubstr("is taken"), HasSubstr("ss -ltnp")));
  // And free again at once, though connections are in TIME_WAIT.
  EXPECT_EQ(Ask("POST", "/open", Capture("webhook_firing.json")), 200);
  server_.reset();
  EXPECT_TRUE(WebhookServer::Start(webhook_, RealClock(), [](const auto&) { return true; }).ok());
}

TEST_F(Webhook, ATokenThatCannotBeReadIsSaid) {
  webhook_.mutable_receivers(0)->mutable_token()->set_file(dir_.path() + "/none");
  const auto server = WebhookServer::Start(webhook_, RealClock(), [](const auto&) { return true; });
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("webhook receiver oncall"));
}

TEST_F(Webhook, SilentConnectionsKeepNobodyOut) {
  Start();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 40; ++i) silent.emplace_back(Connect());
  EXPECT_EQ(Ask("POST", "/open", Capture("webhook_firing.json")), 200);
  // More than the server keeps: the surplus is closed, and the server lives.
  for (int i = 0; i < 60; ++i) silent.emplace_back(Connect());
  absl::SleepFor(absl::Milliseconds(100));
  silent.clear();
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(Ask("POST", "/open", Capture("webhook_firing.json")), 200);
}

TEST_F(Webhook, GarbageAndBrokenConnectionsDoNoHarm) {
  Start();
  for (const char* text : {"\r\n\r\n", "GET", "POST /open HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
                           "\x16\x03\x01\x02", "POST /open HTTP/9.9\r\n\r\n"}) {
    const UniqueFd fd(Connect());
    (void)send(fd.get(), text, strlen(text), MSG_NOSIGNAL);
  }
  EXPECT_EQ(Ask("POST", "/open", Capture("webhook_firing.json")), 200);
}

TEST_F(Webhook, EndsWhileConnectionsAreOpen) {
  Start();
  const UniqueFd fd(Connect());
  const absl::Time begin = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
}

TEST(CanaryInboxTest, WaitsForItsOwnRun) {
  CanaryInbox inbox;
  WebhookDelivery canary;
  canary.status = "firing";
  canary.labels = {{kCanaryLabel, "r1"}};
  canary.received_at = absl::UnixEpoch() + absl::Seconds(9);
  EXPECT_EQ(inbox.Wait("r1", absl::Milliseconds(20)), std::nullopt);
  std::thread later([&] {
    absl::SleepFor(absl::Milliseconds(50));
    inbox.Saw(canary);
  });
  EXPECT_EQ(inbox.Wait("r1", absl::Seconds(10)), canary.received_at);
  later.join();
  EXPECT_EQ(inbox.Wait("r2", absl::Milliseconds(20)), std::nullopt);
}

}  // namespace
}  // namespace firedrill
