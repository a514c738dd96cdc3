// The http, tcp and prometheus probes, and the registry.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "probes/address.h"
#include "probes/probe.h"
#include "tests/testing/child.h"
#include "tests/testing/http_server.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ProbeSite SiteWith(const std::string& name, const std::string& url) {
  ProbeSite site;
  site.run = "r1";
  site.endpoints[name].set_name(name);
  site.endpoints[name].set_url(url);
  return site;
}

absl::StatusOr<ProbeValues> Ask(const v1::Probe& probe, const ProbeSite& site,
                                absl::Duration deadline = absl::Seconds(5)) {
  auto made = MakeProbe(probe, site);
  if (!made.ok()) return made.status();
  const absl::Status valid = (*made)->Validate();
  if (!valid.ok()) return valid;
  return (*made)->Read({RealClock(), deadline, {}});
}

std::string Message(const absl::StatusOr<ProbeValues>& values) {
  return std::string(values.status().message());
}

v1::Probe HttpTo(const std::string& endpoint, const std::string& path) {
  v1::Probe probe;
  probe.mutable_http()->set_endpoint(endpoint);
  probe.mutable_http()->set_path(path);
  return probe;
}

TEST(HttpProbe, ReadsStatusLatencyAndSize) {
  HttpServer server([](const ServerRequest&) {
    return ServerAnswer{.status = 404, .body = "gone!", .delay = absl::Milliseconds(60)};
  });
  const auto values = Ask(HttpTo("shop", "/a?b=c"), SiteWith("shop", server.url() + "/base/"));
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(values->at("status"), 404);
  EXPECT_EQ(values->at("size"), 5);
  EXPECT_GE(values->at("latency"), 0.06);
  EXPECT_EQ(server.seen()[0].target, "/base/a?b=c");
}

TEST(HttpProbe, SendsTheEndpointsToken) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{}; });
  TempDir dir("firedrill-probe");
  WriteFile(dir.path() + "/token", "s3cret\n");
  chmod((dir.path() + "/token").c_str(), 0600);
  ProbeSite site = SiteWith("shop", server.url());
  site.endpoints["shop"].mutable_token()->set_file(dir.path() + "/token");
  ASSERT_TRUE(Ask(HttpTo("shop", "/"), site).ok());
  EXPECT_EQ(server.seen()[0].headers.at("authorization"), "Bearer s3cret");
}

TEST(HttpProbe, SilenceIsUnknown) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{.delay = absl::Seconds(5)}; });
  const auto values =
      Ask(HttpTo("shop", "/"), SiteWith("shop", server.url()), absl::Milliseconds(100));
  EXPECT_EQ(values.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(HttpProbe, OnlyEndpointsOfTheSite) {
  EXPECT_THAT(Message(Ask(HttpTo("shup", "/"), SiteWith("shop", "http://127.0.0.1:1"))),
              AllOf(HasSubstr("no endpoint 'shup'"), HasSubstr("did you mean 'shop'?")));
}

TEST(HttpProbe, RefusesLinkLocalAndOtherSchemes) {
  EXPECT_THAT(Message(Ask(HttpTo("shop", "/"), SiteWith("shop", "http://169.254.169.254"))),
              AllOf(HasSubstr("endpoint 'shop'"), HasSubstr("link-local")));
  EXPECT_THAT(Message(Ask(HttpTo("shop", "/"), SiteWith("shop", "tcp://127.0.0.1:1"))),
              HasSubstr("needs http:// or https://"));
}

v1::Probe TcpTo(const std::string& endpoint) {
  v1::Probe probe;
  probe.mutable_tcp()->set_endpoint(endpoint);
  return probe;
}

TEST(TcpProbe, ConnectsToOneWhoListens) {
  HttpServer server([](const ServerRequest&) { return ServerAnswer{}; });
  for (const std::string host : {"127.0.0.1", "localhost"}) {
    const auto values =
        Ask(TcpTo("db"), SiteWith("db", absl::StrCat("tcp://", host, ":", server.port())));
    ASSERT_TRUE(values.ok()) << values.status();
    EXPECT_EQ(values->at("connected"), 1) << host;
    EXPECT_GT(values->at("latency"), 0);
  }
}

TEST(TcpProbe, ARefusalIsAnAnswer) {
  const auto values =
      Ask(TcpTo("db"), SiteWith("db", absl::StrCat("tcp://127.0.0.1:", FreePort())));
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(values->at("connected"), 0);
}

TEST(TcpProbe, ANameWithoutAddressIsUnknown) {
  EXPECT_THAT(Message(Ask(TcpTo("db"), SiteWith("db", "tcp://no-such-host.invalid:1"))),
              HasSubstr("resolving the name no-such-host.invalid"));
}

TEST(TcpProbe, SilenceIsUnknown) {
  // A full queue of connections drops further ones silently.
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener.get(), 0), 0);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
  std::vector<UniqueFd> fill;
  for (int i = 0; i < 4; ++i) {
    fill.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)connect(fill.back().get(), reinterpret_cast<sockaddr*>(&address), size);
  }
  const auto values =
      Ask(TcpTo("db"), SiteWith("db", absl::StrCat("tcp://127.0.0.1:", ntohs(address.sin_port))),
          absl::Milliseconds(200));
  EXPECT_EQ(values.status().code(), absl::StatusCode::kDeadlineExceeded) << values.status();
}

TEST(Address, KnowsTheUsualPorts) {
  const auto of = [](const std::string& url) {
    v1::Endpoint endpoint;
    endpoint.set_url(url);
    return HostPortOf(endpoint);
  };
  EXPECT_EQ(of("http://shop/x")->port, 80);
  EXPECT_EQ(of("https://shop")->port, 443);
  EXPECT_EQ(of("tcp://[::1]:5432")->host, "::1");
  EXPECT_FALSE(of("tcp://db").ok());
  EXPECT_FALSE(of("db:1").ok());
}

// A Prometheus that answers every instant query with `body`, and ages with `age` seconds.
struct FakePrometheus {
  explicit FakePrometheus(std::string body, double age = 1)
      : server([body, age](const ServerRequest& request) -> ServerAnswer {
          if (absl::StartsWith(request.target, "/api/v1/targets")) {
            return {.body = R"({"status":"success","data":{"activeTargets":[
                     {"scrapeInterval":"500ms"},{"scrapeInterval":"1s"}]}})"};
          }
          if (absl::StrContains(request.target, "timestamp")) {
            return {.body = absl::StrCat(
                        R"({"status":"success","data":{"resultType":"vector","result":[
                           {"metric":{},"value":[1,")",
                        age, "\"]}]}}")};
          }
          return {.status = absl::StrContains(body, "error") ? 400 : 200, .body = body};
        }) {}
  absl::StatusOr<ProbeValues> Ask(const std::string& query) {
    v1::Probe probe;
    probe.mutable_prometheus()->set_query(query);
    ProbeSite site;
    site.prometheus.emplace_back().set_url(server.url() + "/");
    return firedrill::Ask(probe, site);
  }
  HttpServer server;
};

std::string Capture(const std::string& name) {
  return ReadFile(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/lab/captures/", name));
}

TEST(PrometheusProbe, OneSeriesOrAScalarIsTheValue) {
  const auto one = FakePrometheus(Capture("prom_query_one.json")).Ask("sum(up)");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->at("value"), 0.95);
  const auto scalar = FakePrometheus(Capture("prom_query_scalar.json")).Ask("time()");
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_GT(scalar->at("value"), 1.7e9);
}

TEST(PrometheusProbe, AnythingElseIsUnknown) {
  const std::pair<const char*, const char*> cases[] = {
      {"prom_query_none.json", "no series"},  {"prom_query_many.json", "5 series, not one"},
      {"prom_query_nan.json", "NaN"},         {"prom_query_string.json", "string"},
      {"prom_query_bad.json", "parse error"},
  };
  for (const auto& [file, text] : cases) {
    EXPECT_THAT(Message(FakePrometheus(Capture(file)).Ask("sum(up)")), HasSubstr(text)) << file;
  }
  EXPECT_THAT(Message(FakePrometheus("<html>").Ask("up")), HasSubstr("no JSON"));
  EXPECT_THAT(Message(FakePrometheus("{}").Ask("up")), HasSubstr("check the URL"));
}

TEST(PrometheusProbe, OfReplicasTheOneThatAnswersIsAsked) {
  FakePrometheus good(Capture("prom_query_scalar.json"));
  FakePrometheus bad(Capture("prom_query_none.json"));
  v1::Probe probe;
  probe.mutable_prometheus()->set_query("time()");
  ProbeSite site;
  site.prometheus.emplace_back().set_url("http://127.0.0.1:1");
  site.prometheus.emplace_back().set_url(bad.server.url());
  EXPECT_THAT(Message(firedrill::Ask(probe, site)), HasSubstr("127.0.0.1:1"));
  site.prometheus.emplace_back().set_url(good.server.url());
  const auto value = firedrill::Ask(probe, site);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_GT(value->at("value"), 1.7e9);
}

TEST(PrometheusProbe, AWarningIsUnknown) {
  EXPECT_THAT(Message(FakePrometheus(R"({"status":"success","warnings":["a store is down"],
                 "data":{"resultType":"scalar","result":[1,"1"]}})")
                          .Ask("time()")),
              HasSubstr("a store is down"));
}

TEST(PrometheusProbe, StaleSamplesAreUnknown) {
  // Three scrapes of 1 s and 2 s of slack.
  EXPECT_TRUE(FakePrometheus(Capture("prom_query_one.json"), 4.9).Ask("sum(up)").ok());
  EXPECT_THAT(Message(FakePrometheus(Capture("prom_query_one.json"), 5.1).Ask("sum(up)")),
              HasSubstr("stale: 5.1s old, more than 5s"));
}

TEST(PrometheusProbe, NeedsASite) {
  v1::Probe probe;
  probe.mutable_prometheus()->set_query("up");
  EXPECT_THAT(Message(Ask(probe, ProbeSite())), HasSubstr("prometheus.url"));
}

TEST(Registry, HasEveryKindThatIsAskedAndNoOther) {
  const auto* oneof = v1::Probe::descriptor()->FindOneofByName("question");
  for (int i = 0; i < oneof->field_count(); ++i) {
    v1::Probe probe;
    const auto* field = oneof->field(i);
    const bool asked = field->message_type() != nullptr;
    if (asked) {
      probe.GetReflection()->MutableMessage(&probe, field);
    } else {
      probe.GetReflection()->SetString(&probe, field, "x");
    }
    EXPECT_EQ(MakeProbe(probe, ProbeSite()).status().code() == absl::StatusCode::kUnimplemented,
              !asked)
        << field->name();
  }
}

}  // namespace
}  // namespace firedrill
