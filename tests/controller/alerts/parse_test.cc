// Real answers of Prometheus and Alertmanager, and webhook payloads, as they were captured in the
// lab.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/alerts/alertmanager.h"
#include "controller/alerts/prometheus.h"
#include "controller/alerts/webhook.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Capture(const std::string& name) {
  const std::string text =
      ReadFile(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/lab/captures/", name));
  EXPECT_FALSE(text.empty()) << name;
  return text;
}

absl::Time At(const std::string& text) {
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) << text;
  return time;
}

TEST(ParseRules, ReadsRulesWithTheirGroupsAndAlerts) {
  const auto rules = ParseRules(Capture("prom_rules.json"));
  ASSERT_TRUE(rules.ok()) << rules.status();
  const AlertingRule* slots = nullptr;
  for (const AlertingRule& rule : *rules) {
    if (rule.name == "PostgresConnectionsNearLimit") slots = &rule;
  }
  ASSERT_NE(slots, nullptr);
  EXPECT_EQ(slots->group, "postgresql");
  EXPECT_EQ(slots->hold, absl::Seconds(2));
  EXPECT_EQ(slots->interval, absl::Seconds(1));
  EXPECT_EQ(slots->health, "ok");
  EXPECT_EQ(slots->labels.at("severity"), "page");
  EXPECT_THAT(slots->query, HasSubstr("pg_settings_max_connections"));
  ASSERT_EQ(slots->alerts.size(), 1u);
  EXPECT_EQ(slots->alerts[0].state, v1::ALERT_STATE_FIRING);
  EXPECT_EQ(slots->alerts[0].active_at, At("2026-11-21T04:40:01.819411356Z"));
  EXPECT_EQ(slots->alerts[0].value, 0.95);
  EXPECT_GT(slots->last_evaluation, slots->alerts[0].active_at);
}

TEST(ParseRules, ReadsPartsOfSecondsAndRulesNeverEvaluated) {
  const auto rules =
      ParseRules(R"({"status":"success","data":{"groups":[{"name":"g","interval":0.25,
      "rules":[{"type":"recording","name":"r","query":"x"},
               {"type":"alerting","name":"A","query":"x","duration":0.5,"alerts":[],
                "health":"unknown","lastEvaluation":"0001-01-01T00:00:00Z"}]}]}})");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 1u);
  EXPECT_EQ((*rules)[0].interval, absl::Milliseconds(250));
  EXPECT_EQ((*rules)[0].hold, absl::Milliseconds(500));
  EXPECT_EQ((*rules)[0].last_evaluation, absl::InfinitePast());
}

TEST(ParseRules, SaysWhatIsWrong) {
  EXPECT_THAT(std::string(ParseRules("<html>").status().message()), HasSubstr("no JSON"));
  EXPECT_THAT(std::string(ParseRules("{}").status().message()), HasSubstr("not as expected"));
  EXPECT_THAT(
      std::string(
          ParseRules(R"({"status":"error","errorType":"x","error":"why"})").status().message()),
      HasSubstr("why"));
  EXPECT_FALSE(
      ParseRules(R"({"status":"success","data":{"groups":[{"rules":[{"type":"alerting"}]}]}})")
          .ok());
}

TEST(ParsePrometheusAlerts, ReadsPendingAndFiring) {
  const auto alerts = ParsePrometheusAlerts(Capture("prom_alerts.json"));
  ASSERT_TRUE(alerts.ok()) << alerts.status();
  ASSERT_EQ(alerts->size(), 2u);
  EXPECT_EQ((*alerts)[0].state, v1::ALERT_STATE_FIRING);
  EXPECT_EQ((*alerts)[1].name, "ApiErrorRateHigh");
  EXPECT_EQ((*alerts)[1].state, v1::ALERT_STATE_PENDING);
}

TEST(ParseBuild, ReadsTheVersion) {
  EXPECT_EQ(*ParseBuildVersion(Capture("prom_buildinfo.json")), "2.42.0+ds");
}

TEST(ParseExternalLabels, ReadsThemFromTheConfiguration) {
  const auto of = [](const std::string& yaml) {
    return ParseExternalLabels(
        absl::StrCat(R"({"status":"success","data":{"yaml":")", yaml, "\"}}"));
  };
  EXPECT_EQ(of("global:\\n  external_labels: {env: lab}").value(), (Labels{{"env", "lab"}}));
  EXPECT_EQ(of("global: {}").value(), Labels());
  EXPECT_EQ(of("scrape_configs: []").value(), Labels());
  EXPECT_FALSE(of("a: [").ok());
}

TEST(ParseAlertmanagerAlerts, ReadsActiveAndSilenced) {
  const auto active = ParseAlertmanagerAlerts(Capture("am_alerts.json"));
  ASSERT_TRUE(active.ok()) << active.status();
  ASSERT_EQ(active->size(), 1u);
  EXPECT_EQ((*active)[0].name, "PostgresConnectionsNearLimit");
  EXPECT_EQ((*active)[0].labels.at("env"), "lab");
  EXPECT_EQ((*active)[0].starts_at, At("2026-11-21T04:40:03.819Z"));
  EXPECT_FALSE((*active)[0].suppressed);
  EXPECT_THAT((*active)[0].receivers, ElementsAre("oncall"));
  const auto silenced = ParseAlertmanagerAlerts(Capture("am_alerts_silenced.json"));
  ASSERT_TRUE(silenced.ok()) << silenced.status();
  EXPECT_TRUE((*silenced)[0].suppressed);
  EXPECT_EQ((*silenced)[0].silenced_by.size(), 1u);
}

TEST(ParseSilences, ReadsMatchers) {
  EXPECT_TRUE(ParseSilences(Capture("am_silences_none.json"))->empty());
  const auto silences = ParseSilences(Capture("am_silences_silenced.json"));
  ASSERT_TRUE(silences.ok()) << silences.status();
  ASSERT_EQ(silences->size(), 1u);
  EXPECT_EQ((*silences)[0].state, "active");
  ASSERT_EQ((*silences)[0].matchers.size(), 1u);
  EXPECT_EQ(MatcherText((*silences)[0].matchers[0]), "alertname=\"PostgresConnectionsNearLimit\"");
}

TEST(ParseWebhook, ReadsEveryAlertOfAMixedPayload) {
  const absl::Time now = absl::UnixEpoch() + absl::Seconds(5);
  const auto deliveries = ParseWebhookPayload(Capture("webhook_mixed.json"), now);
  ASSERT_TRUE(deliveries.ok()) << deliveries.status();
  ASSERT_EQ(deliveries->size(), 2u);
  // The group says "firing", and one of its alerts is resolved.
  EXPECT_EQ((*deliveries)[0].status, "resolved");
  EXPECT_EQ((*deliveries)[0].ends_at, At("2026-11-21T04:41:14Z"));
  EXPECT_EQ((*deliveries)[1].status, "firing");
  EXPECT_FALSE((*deliveries)[1].ends_at.has_value());
  EXPECT_EQ((*deliveries)[1].receiver, "oncall");
  EXPECT_EQ((*deliveries)[1].fingerprint, "4c2a23852977ed25");
  EXPECT_EQ((*deliveries)[1].received_at, now);
  EXPECT_FALSE(IsCanary((*deliveries)[0]));
}

TEST(ParseWebhook, AnEventSaysWhoWasToldWhat) {
  const auto deliveries = ParseWebhookPayload(Capture("webhook_resolved.json"), absl::UnixEpoch());
  const v1::Event event = DeliveryEvent(deliveries->at(0));
  EXPECT_EQ(event.source(), "webhook/oncall");
  EXPECT_EQ(event.alert().source(), v1::ALERT_SOURCE_WEBHOOK);
  EXPECT_EQ(event.alert().alert(), "PostgresConnectionsNearLimit");
  EXPECT_EQ(event.alert().state(), v1::ALERT_STATE_RESOLVED);
  EXPECT_EQ(event.alert().receiver(), "oncall");
  EXPECT_EQ(FromProto(event.alert().active_at()), At("2026-11-21T04:40:03.819Z"));
  EXPECT_EQ(FromProto(event.alert().ends_at()), At("2026-11-21T04:40:38.819Z"));
}

TEST(ParseWebhook, KnowsACanary) {
  const auto deliveries = ParseWebhookPayload(Capture("webhook_canary.json"), absl::UnixEpoch());
  EXPECT_TRUE(IsCanary(deliveries->at(0)));
}

// It stands in the history for ever, and is shown on terminals.
TEST(ParseWebhook, KeepsWhatTheAlertSaysInShortAndPrintable) {
  const std::string payload = absl::StrCat(
      R"({"receiver":"oncall","alerts":[{"status":"firing","labels":{"alertname":"A"},)",
      R"("annotations":{"summary":"two\nlines and \u001b[31mred","description":")",
      std::string(5000, 'x'), R"("},"startsAt":"2026-11-21T04:41:14Z"}]})");
  const auto deliveries = ParseWebhookPayload(payload, absl::UnixEpoch());
  ASSERT_TRUE(deliveries.ok()) << deliveries.status();
  const v1::Event event = DeliveryEvent(deliveries->at(0));
  EXPECT_EQ(event.alert().annotations().at("summary"), "two lines and ?[31mred");
  EXPECT_EQ(event.alert().annotations().at("description"), std::string(400, 'x'));
}

TEST(ParseWebhook, RefusesWhatIsNoPayload) {
  for (const char* text :
       {"", "[]", "{}", R"({"receiver":"r","alerts":[{"status":"odd","labels":{}}]})",
        R"({"receiver":"r","alerts":[{"labels":{}}]})"}) {
    EXPECT_FALSE(ParseWebhookPayload(text, absl::UnixEpoch()).ok()) << text;
  }
}

}  // namespace
}  // namespace firedrill
