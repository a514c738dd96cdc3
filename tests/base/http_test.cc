// What Fetch() promises, against a server that misbehaves on purpose.
#include "base/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/testing/child.h"
#include "tests/testing/http_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

TEST(Http, GivesStatusBodyAndHeadersOfAnyAnswer) {
  HttpServer server([](const ServerRequest&) {
    return ServerAnswer{.status = 503, .body = "busy", .headers = {{"Retry-After", "7"}}};
  });
  const auto response = Fetch({.url = server.url() + "/x?y=1"});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 503);
  EXPECT_EQ(response->body, "busy");
  EXPECT_EQ(response->headers.at("retry-after"), "7");
  EXPECT_GT(response->took, absl::ZeroDuration());
  EXPECT_EQ(server.seen()[0].target, "/x?y=1");
}

TEST(Http, SendsMethodHeadersAndBody) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{}; });
  const auto response = Fetch({.method = "POST",
                               .url = server.url(),
                               .headers = {{"Authorization", "Bearer t0k"}},
                               .body = std::string(100'000, 'x')});
  ASSERT_TRUE(response.ok()) << response.status();
  const ServerRequest seen = server.seen()[0];
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.headers.at("authorization"), "Bearer t0k");
  EXPECT_EQ(seen.body.size(), 100'000u);
}

TEST(Http, NeverFollowsARedirect) {
  HttpServer other([](const ServerRequest&) { return ServerAnswer{}; });
  HttpServer server([&](const ServerRequest&) {
    return ServerAnswer{.status = 302, .headers = {{"Location", other.url()}}};
  });
  const auto response = Fetch({.url = server.url()});
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->status, 302);
  EXPECT_TRUE(other.seen().empty());
}

TEST(Http, IgnoresProxySettings) {
  HttpServer proxy([](const ServerRequest&) { return ServerAnswer{.status = 299}; });
  HttpServer server([](const ServerRequest&) { return ServerAnswer{}; });
  setenv("http_proxy", proxy.url().c_str(), 1);
  const auto response = Fetch({.url = server.url()});
  unsetenv("http_proxy");
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->status, 200);
  EXPECT_TRUE(proxy.seen().empty());
}

TEST(Http, GivesUpAtTheDeadline) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{.delay = absl::Seconds(5)}; });
  const absl::Time begin = absl::Now();
  const auto response = Fetch({.url = server.url(), .deadline = absl::Milliseconds(150)});
  EXPECT_EQ(response.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(response.status().message()), HasSubstr("no answer within 150ms"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
}

TEST(Http, AStopEndsItAtOnce) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{.delay = absl::Seconds(5)}; });
  std::stop_source stop;
  std::thread stopper([&] {
    absl::SleepFor(absl::Milliseconds(100));
    stop.request_stop();
  });
  const absl::Time begin = absl::Now();
  const auto response =
      Fetch({.url = server.url(), .deadline = absl::Seconds(5)}, stop.get_token());
  stopper.join();
  EXPECT_EQ(response.status().code(), absl::StatusCode::kCancelled);
  // Without the wake-up it would take libcurl's poll of a second.
  EXPECT_LT(absl::Now() - begin, absl::Milliseconds(900));
}

TEST(Http, NobodyListensIsUnavailable) {
  const auto response = Fetch({.url = "http://127.0.0.1:" + std::to_string(FreePort()) + "/x"});
  EXPECT_EQ(response.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(response.status().message()), HasSubstr("GET http://127.0.0.1:"));
}

TEST(Http, AServerThatHangsUpIsUnavailable) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{.hang_up = true}; });
  EXPECT_EQ(Fetch({.url = server.url()}).status().code(), absl::StatusCode::kUnavailable);
}

TEST(Http, ALongerAnswerIsRefused) {
  HttpServer server(
      [](const ServerRequest&) { return ServerAnswer{.body = std::string(2000, 'x')}; });
  EXPECT_TRUE(Fetch({.url = server.url(), .max_body = 2000}).ok());
  EXPECT_EQ(Fetch({.url = server.url(), .max_body = 1999}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(Http, OnlyHttpAndHttps) {
  for (const char* url : {"file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"}) {
    EXPECT_EQ(Fetch({.url = url}).status().code(), absl::StatusCode::kInvalidArgument) << url;
  }
}

TEST(Http, LinkLocalAddressesAreRefused) {
  for (const char* url : {"http://169.254.169.254/latest", "http://[fe80::1]/",
                          "http://[::ffff:169.254.169.254]/", "http://2852039166/"}) {
    const auto response = Fetch({.url = url, .deadline = absl::Milliseconds(300)});
    EXPECT_EQ(response.status().code(), absl::StatusCode::kPermissionDenied)
        << url << " " << response.status();
  }
}

TEST(Http, MessagesShowNoCredentials) {
  const auto response =
      Fetch({.url = "http://user:hunter2@127.0.0.1:" + std::to_string(FreePort()) + "/?k=s3cr3t"});
  EXPECT_THAT(std::string(response.status().message()), ::testing::Not(HasSubstr("hunter2")));
  EXPECT_THAT(std::string(response.status().message()), ::testing::Not(HasSubstr("s3cr3t")));
}

TEST(Http, AHeaderCannotSmuggleAnother) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{}; });
  EXPECT_EQ(Fetch({.url = server.url(), .headers = {{"A", "b\r\nC: d"}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(server.seen().empty());
}

TEST(Http, ManyThreadsFetchAtOnce) {
  HttpServer server(
      [](const ServerRequest& request) { return ServerAnswer{.body = request.target}; });
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 10; ++j) {
        const std::string path = "/" + std::to_string(i * 100 + j);
        const auto response = Fetch({.url = server.url() + path, .deadline = absl::Seconds(10)});
        if (response.ok() && response->body == path) ++right;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 80);
}

}  // namespace
}  // namespace firedrill
