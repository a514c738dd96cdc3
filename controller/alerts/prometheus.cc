// Prometheus' rules, alerts, targets and clock.
#include "controller/alerts/prometheus.h"

#include <yaml-cpp/yaml.h>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "controller/alerts/json.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

// `data` of an answer, or Prometheus' own words.
absl::StatusOr<const Json*> Data(const Json& json) {
  if (json.at("status") == "success") return &json.at("data");
  return absl::UnavailableError(
      absl::StrCat("Prometheus: ", json.value("errorType", ""), ": ", json.value("error", "")));
}

absl::StatusOr<PrometheusAlert> ReadAlert(const Json& json) {
  PrometheusAlert alert;
  json.at("labels").get_to(alert.labels);
  alert.name = alert.labels["alertname"];
  const std::string state = json.at("state").get<std::string>();
  if (state != "firing" && state != "pending") {
    return absl::DataLossError(absl::StrCat("an alert in the unknown state '", state, "'"));
  }
  alert.state = state == "firing" ? v1::ALERT_STATE_FIRING : v1::ALERT_STATE_PENDING;
  alert.active_at = ReadTime(json, "activeAt");
  if (!absl::SimpleAtod(json.value("value", "0"), &alert.value)) alert.value = 0;
  if (json.contains("annotations")) json.at("annotations").get_to(alert.annotations);
  return alert;
}

absl::StatusOr<AlertingRule> ReadRule(const Json& json, const Json& group) {
  AlertingRule rule;
  json.at("name").get_to(rule.name);
  group.at("name").get_to(rule.group);
  json.at("query").get_to(rule.query);
  rule.hold = absl::Seconds(json.at("duration").get<double>());
  rule.interval = absl::Seconds(group.at("interval").get<double>());
  if (json.contains("labels")) json.at("labels").get_to(rule.labels);
  rule.health = json.value("health", "unknown");
  rule.last_error = json.value("lastError", "");
  rule.last_evaluation = ReadTime(json, "lastEvaluation");
  for (const Json& element : json.at("alerts")) {
    ASSIGN_OR_RETURN(PrometheusAlert alert, ReadAlert(element));
    rule.alerts.push_back(std::move(alert));
  }
  return rule;
}

}  // namespace

absl::StatusOr<std::vector<AlertingRule>> ParseRules(absl::string_view text) {
  return ReadJson(text, "Prometheus' list of rules",
                  [](const Json& json) -> absl::StatusOr<std::vector<AlertingRule>> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    std::vector<AlertingRule> rules;
                    for (const Json& group : data->at("groups")) {
                      for (const Json& element : group.at("rules")) {
                        if (element.value("type", "") != "alerting") continue;
                        ASSIGN_OR_RETURN(AlertingRule rule, ReadRule(element, group));
                        rules.push_back(std::move(rule));
                      }
                    }
                    return rules;
                  });
}

absl::StatusOr<std::vector<PrometheusAlert>> ParsePrometheusAlerts(absl::string_view text) {
  return ReadJson(text, "Prometheus' list of alerts",
                  [](const Json& json) -> absl::StatusOr<std::vector<PrometheusAlert>> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    std::vector<PrometheusAlert> alerts;
                    for (const Json& element : data->at("alerts")) {
                      ASSIGN_OR_RETURN(PrometheusAlert alert, ReadAlert(element));
                      alerts.push_back(std::move(alert));
                    }
                    return alerts;
                  });
}

absl::StatusOr<std::vector<ScrapeTarget>> ParseTargets(absl::string_view text) {
  return ReadJson(text, "Prometheus' list of targets",
                  [](const Json& json) -> absl::StatusOr<std::vector<ScrapeTarget>> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    std::vector<ScrapeTarget> targets;
                    for (const Json& element : data->at("activeTargets")) {
                      ScrapeTarget target;
                      element.at("labels").get_to(target.labels);
                      const auto interval = ParseDuration(element.value("scrapeInterval", ""));
                      target.interval = interval.ok() ? *interval : absl::ZeroDuration();
                      target.health = element.value("health", "unknown");
                      target.last_error = element.value("lastError", "");
                      targets.push_back(std::move(target));
                    }
                    return targets;
                  });
}

absl::StatusOr<std::vector<std::string>> ParseActiveAlertmanagers(absl::string_view text) {
  return ReadJson(text, "Prometheus' list of Alertmanagers",
                  [](const Json& json) -> absl::StatusOr<std::vector<std::string>> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    std::vector<std::string> urls;
                    for (const Json& element : data->at("activeAlertmanagers")) {
                      urls.push_back(element.at("url").get<std::string>());
                    }
                    return urls;
                  });
}

absl::StatusOr<Labels> ParseExternalLabels(absl::string_view text) {
  return ReadJson(text, "Prometheus' configuration",
                  [](const Json& json) -> absl::StatusOr<Labels> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    try {
                      const YAML::Node config = YAML::Load(data->at("yaml").get<std::string>());
                      Labels labels;
                      const YAML::Node global = config["global"];
                      if (!global.IsDefined() || !global["external_labels"].IsDefined())
                        return labels;
                      for (const auto& label : global["external_labels"]) {
                        labels[label.first.as<std::string>()] = label.second.as<std::string>();
                      }
                      return labels;
                    } catch (const YAML::Exception& e) {
                      return absl::DataLossError(
                          absl::StrCat("Prometheus' configuration cannot be read: ", e.what()));
                    }
                  });
}

absl::StatusOr<std::string> ParseBuildVersion(absl::string_view text) {
  return ReadJson(text, "Prometheus' build information",
                  [](const Json& json) -> absl::StatusOr<std::string> {
                    ASSIGN_OR_RETURN(const Json* data, Data(json));
                    return data->at("version").get<std::string>();
                  });
}

absl::StatusOr<PrometheusClient> PrometheusClient::Make(const v1::MonitoringServer& server,
                                                        absl::Duration deadline,
                                                        std::stop_token stop) {
  ASSIGN_OR_RETURN(PrometheusApi api, PrometheusApi::Make(server));
  return PrometheusClient(std::move(api), deadline, std::move(stop));
}

absl::StatusOr<std::vector<AlertingRule>> PrometheusClient::Rules() const {
  ASSIGN_OR_RETURN(const std::string body, api_.Get("/api/v1/rules?type=alert", deadline_, stop_));
  return ParseRules(body);
}

absl::StatusOr<std::vector<PrometheusAlert>> PrometheusClient::Alerts() const {
  ASSIGN_OR_RETURN(const std::string body, api_.Get("/api/v1/alerts", deadline_, stop_));
  return ParsePrometheusAlerts(body);
}

absl::StatusOr<std::vector<ScrapeTarget>> PrometheusClient::Targets() const {
  ASSIGN_OR_RETURN(const std::string body,
                   api_.Get("/api/v1/targets?state=active", deadline_, stop_));
  return ParseTargets(body);
}

absl::StatusOr<std::vector<std::string>> PrometheusClient::ActiveAlertmanagers() const {
  ASSIGN_OR_RETURN(const std::string body, api_.Get("/api/v1/alertmanagers", deadline_, stop_));
  return ParseActiveAlertmanagers(body);
}

absl::StatusOr<Labels> PrometheusClient::ExternalLabels() const {
  ASSIGN_OR_RETURN(const std::string body, api_.Get("/api/v1/status/config", deadline_, stop_));
  return ParseExternalLabels(body);
}

absl::StatusOr<std::string> PrometheusClient::BuildVersion() const {
  ASSIGN_OR_RETURN(const std::string body, api_.Get("/api/v1/status/buildinfo", deadline_, stop_));
  return ParseBuildVersion(body);
}

absl::StatusOr<PrometheusAnswer> PrometheusClient::Query(absl::string_view query,
                                                         std::optional<absl::Time> at) const {
  return api_.Query(query, deadline_, stop_, at);
}

absl::StatusOr<ClockOffset> PrometheusClient::MeasureClock(const Clock& clock) const {
  const absl::Time asked = clock.Now();
  const absl::Duration begin = clock.Boot();
  ASSIGN_OR_RETURN(const PrometheusAnswer answer, Query("time()"));
  const absl::Duration took = clock.Boot() - begin;
  ASSIGN_OR_RETURN(const double seconds, OnlyValue(answer));
  ClockOffset offset;
  offset.offset = absl::UnixEpoch() + absl::Seconds(seconds) - (asked + took / 2);
  // The answer was computed at some moment of the exchange, and has milliseconds.
  offset.error = took / 2 + absl::Milliseconds(1);
  return offset;
}

}  // namespace firedrill
