// Preflight against a real Prometheus and a real Alertmanager: each planted defect is found by its
// name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/http.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/preflight.h"
#include "controller/alerts/webhook.h"
#include "tests/testing/monitoring.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using ::testing::UnorderedElementsAre;

constexpr char kRules[] = R"(
groups:
  - name: app
    rules:
      - {alert: TooMany, expr: 'load_sessions{job="app"} > 10', for: 500ms,
         labels: {severity: page}}
      - {alert: Errors, expr: 'rate(requests_total{code="500"}[1m]) > 1', labels: {severity: page}}
      - {alert: Misleading, expr: 'memory_bytes > 99', labels: {severity: page}}
)";
constexpr char kAlertmanager[] = R"(
route:
  receiver: tickets
  group_by: [alertname]
  group_wait: 0s
  group_interval: 500ms
  routes:
    - {receiver: firedrill-canary, matchers: ['firedrill_canary=~".+"']}
    - {receiver: oncall, matchers: [severity="page"]}
receivers:
  - name: tickets
  - name: oncall
    webhook_configs: [{url: 'http://localhost:PORT/oncall'}]
  - name: firedrill-canary
    webhook_configs: [{url: 'http://127.0.0.1:PORT/canary'}]
)";

class PreflightLive : public ::testing::Test {
 protected:
  PreflightLive() {
    v1::Webhook webhook;
    webhook.set_listen("127.0.0.1:0");
    for (const char* name : {"oncall", "canary"}) {
      webhook.add_receivers()->set_name(name);
      webhook.mutable_receivers()->rbegin()->set_path(absl::StrCat("/", name));
    }
    auto server =
        WebhookServer::Start(webhook, RealClock(), [this](const WebhookDelivery& delivery) {
          canaries_.Saw(delivery);
          return true;
        });
    EXPECT_TRUE(server.ok()) << server.status();
    webhook_ = *std::move(server);
    webhook.set_listen(absl::StrCat("127.0.0.1:", webhook_->port()));
    *input_.site.mutable_webhook() = webhook;
    input_.plan.set_run("run-1");
    *input_.plan.mutable_longest() = ToProto(absl::Minutes(1));
    input_.wait_for_canary = [this](absl::Duration at_most) {
      return canaries_.Wait("run-1", at_most);
    };
    v1::Expectations& expect = *input_.experiment.mutable_spec()->mutable_expect();
    v1::AlertExpectation& slots = *expect.add_alerts();
    slots.set_name("slots");
    slots.set_alert("TooMany");
    slots.add_matchers("severity=\"page\"");
    *slots.mutable_firing_within() = ToProto(absl::Seconds(10));
    slots.mutable_notification()->set_receiver("oncall");
    *slots.mutable_notification()->mutable_within() = ToProto(absl::Seconds(15));
    expect.add_must_not_fire("Misleading");
    expect.add_may_fire("Errors");
  }

  void Start(std::string rules = kRules, std::string alertmanager = kAlertmanager,
             bool wired = true) {
    auto monitoring =
        Monitoring::Start({.rules = std::move(rules),
                           .alertmanager = absl::StrReplaceAll(
                               alertmanager, {{"PORT", absl::StrCat(webhook_->port())}}),
                           .wired = wired});
    ASSERT_TRUE(monitoring.ok()) << monitoring.status();
    monitoring_ = *std::move(monitoring);
    input_.site.MergeFrom(monitoring_->Site());
    monitoring_->Set("load_sessions", 1);
    monitoring_->Set("memory_bytes", 1);
    monitoring_->Set("requests_total{code=\"200\"}", 1);
    ASSERT_TRUE(Eventually([&] { return Healthy("memory_bytes"); }));
    // Every rule is evaluated after that.
    absl::SleepFor(absl::Milliseconds(300));
  }

  bool Healthy(const std::string& metric) {
    const auto response =
        Fetch({.url = monitoring_->prometheus_url() + "/api/v1/query?query=" + metric});
    return response.ok() && absl::StrContains(response->body, metric);
  }

  // "kind code subject", without notes of no interest.
  std::vector<std::string> Run() {
    result_ = RunPreflight(input_, RealClock());
    std::vector<std::string> found;
    for (const v1::Finding& finding : result_.findings) {
      EXPECT_FALSE(finding.message().empty());
      EXPECT_FALSE(finding.mend().empty()) << finding.code();
      const char* kind = finding.kind() == v1::Finding::KIND_DEFECT         ? "defect"
                         : finding.kind() == v1::Finding::KIND_CIRCUMSTANCE ? "circumstance"
                                                                            : "note";
      found.push_back(absl::StrCat(kind, " ", finding.code(), " ", finding.subject()));
    }
    return found;
  }
  std::string Message(const std::string& code) {
    for (const v1::Finding& finding : result_.findings) {
      if (finding.code() == code) return finding.message();
    }
    return "";
  }

  PreflightInput input_;
  PreflightResult result_;
  CanaryInbox canaries_;
  std::unique_ptr<WebhookServer> webhook_;
  std::unique_ptr<Monitoring> monitoring_;
};

TEST_F(PreflightLive, AHealthySiteHasNothingButTheNoteThatNothingHasFailedYet) {
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_THAT(Run(), UnorderedElementsAre("note selector-narrow Errors"));
  ASSERT_TRUE(result_.canary.has_value());
  EXPECT_TRUE(result_.canary->delivered()) << result_.canary->reason();
  EXPECT_LT(FromProto(result_.canary->took()), absl::Seconds(10));

  const AlertingFacts facts = GatherFacts(input_.experiment, input_.site, absl::Seconds(10));
  ASSERT_EQ(facts.rules.size(), 1u);
  EXPECT_EQ(facts.rules[0].alert, "TooMany");
  EXPECT_EQ(facts.rules[0].hold, absl::Milliseconds(500));
  EXPECT_EQ(facts.rules[0].evaluation, absl::Milliseconds(250));
  EXPECT_EQ(facts.rules[0].scrape, absl::Milliseconds(250));
  EXPECT_EQ(facts.group_wait.at("TooMany"), absl::ZeroDuration());

  // A silence is found, and so is an alert that is active, and one that was until just now.
  const auto silence = Fetch(
      {.method = "POST",
       .url = monitoring_->alertmanager_url() + "/api/v2/silences",
       .headers = {{"Content-Type", "application/json"}},
       .body = absl::StrCat(
           R"({"matchers":[{"name":"alertname","value":"TooM.*","isRegex":true,"isEqual":true}],
               "createdBy":"eve","comment":"c","startsAt":")",
           firedrill::FormatTime(absl::Now()), R"(","endsAt":")",
           firedrill::FormatTime(absl::Now() + absl::Hours(1)), "\"}")});
  ASSERT_TRUE(silence.ok() && silence->status == 200) << silence->body;
  EXPECT_THAT(Run(), UnorderedElementsAre("note selector-narrow Errors", "defect silenced slots"));
  EXPECT_THAT(Message("silenced"), AllOf(HasSubstr("of eve"), HasSubstr("alertname=~\"TooM.*\"")));

  monitoring_->Set("load_sessions", 99);
  const auto has = [&](const std::string& text) {
    return Eventually([&] { return ::testing::Value(Run(), ::testing::Contains(text)); });
  };
  EXPECT_TRUE(has("circumstance already-firing slots"));
  EXPECT_TRUE(has("circumstance live-group slots"));
  monitoring_->Set("load_sessions", 1);
  EXPECT_TRUE(Eventually([&] {
    return !::testing::Value(Run(), ::testing::Contains("circumstance already-firing slots"));
  }));
  EXPECT_TRUE(Eventually([&] {
    return !::testing::Value(Run(), ::testing::Contains("circumstance live-group slots"));
  }));
}

TEST_F(PreflightLive, DefectsOfRulesAreNamed) {
  std::string rules = absl::StrReplaceAll(
      kRules, {{"alert: TooMany", "alert: TooManySessions"}, {"memory_bytes", "no_such_metric"}});
  ASSERT_NO_FATAL_FAILURE(Start(rules));
  input_.experiment.mutable_spec()->mutable_expect()->add_may_fire("Errrors");
  EXPECT_THAT(Run(),
              UnorderedElementsAre("defect rule-missing slots", "defect selector-empty Misleading",
                                   "note rule-missing Errrors", "note selector-narrow Errors"));
  EXPECT_THAT(Message("rule-missing"), HasSubstr("no alerting rule TooMany"));
  EXPECT_THAT(Message("selector-empty"), HasSubstr("no_such_metric"));

  // The rule that is there would match by name, not by what is expected of it.
  v1::AlertExpectation& slots =
      *input_.experiment.mutable_spec()->mutable_expect()->mutable_alerts(0);
  slots.set_alert("TooManySessions");
  slots.set_matchers(0, "severity=\"ticket\"");
  EXPECT_THAT(Run(), ::testing::Contains("defect matchers-contradict slots"));
  slots.set_matchers(0, "severity=\"page\"");
  // Which labels its series have can be told only where there are some.
  slots.add_matchers("table=\"users\"");
  EXPECT_THAT(Run(), ::testing::Contains("defect matchers-contradict slots"));
  slots.set_alert("Misleading");
  EXPECT_THAT(Run(),
              AllOf(::testing::Contains("defect selector-empty slots"),
                    ::testing::Not(::testing::Contains("defect matchers-contradict slots"))));
  slots.set_alert("TooManySessions");
  slots.mutable_matchers()->RemoveLast();
  *slots.mutable_firing_within() = ToProto(absl::Milliseconds(400));
  EXPECT_THAT(Run(), ::testing::Contains("defect cannot-fire-in-time slots"));
  EXPECT_THAT(Message("cannot-fire-in-time"), HasSubstr("500ms `for`"));
}

TEST_F(PreflightLive, DefectsOfTheWayAreNamed) {
  std::string alertmanager =
      absl::StrReplaceAll(kAlertmanager, {{"severity=\"page\"", "severity=\"critical\""},
                                          {"localhost:PORT/oncall", "localhost:PORT/other"},
                                          {"PORT/canary", "PORT/nowhere"}});
  ASSERT_NO_FATAL_FAILURE(Start(kRules, alertmanager, /*wired=*/false));
  input_.canary_within = absl::Seconds(1);
  EXPECT_THAT(
      Run(), UnorderedElementsAre("defect route-elsewhere slots", "defect receiver-not-wired slots",
                                  "defect no-alertmanager-wired slots", "defect canary-lost canary",
                                  "note selector-narrow Errors"));
  EXPECT_THAT(Message("route-elsewhere"),
              AllOf(HasSubstr("tickets (the default route)"), HasSubstr("severity=\"page\"")));
  EXPECT_THAT(Message("receiver-not-wired"), HasSubstr("/other"));
  EXPECT_THAT(Message("canary-lost"), HasSubstr("firedrill-canary"));
  EXPECT_FALSE(result_.canary->delivered());

  // An unknown receiver, and servers that are not there.
  input_.experiment.mutable_spec()
      ->mutable_expect()
      ->mutable_alerts(0)
      ->mutable_notification()
      ->set_receiver("onkall");
  EXPECT_THAT(Run(), ::testing::Contains("defect receiver-missing slots"));
  input_.wait_for_canary = nullptr;
  monitoring_->prometheus().Stop(SIGKILL);
  monitoring_->alertmanager().Stop(SIGKILL);
  EXPECT_THAT(
      Run(),
      ::testing::IsSupersetOf(
          {absl::StrCat("circumstance monitor-unreachable ", monitoring_->prometheus_url()),
           absl::StrCat("circumstance monitor-unreachable ", monitoring_->alertmanager_url())}));
  EXPECT_THAT(Message("monitor-unreachable"), HasSubstr(monitoring_->prometheus_url()));
}

}  // namespace
}  // namespace firedrill
