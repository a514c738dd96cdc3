// Alertmanager's API v2.
#include "controller/alerts/alertmanager.h"

#include "base/status_macros.h"
#include "base/text.h"
#include "controller/alerts/json.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

// Errors are a JSON string, or an object with `message`.
std::string ErrorText(const std::string& body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object() && json.contains("message") && json["message"].is_string()) {
    return json["message"].get<std::string>();
  }
  return body.substr(0, 200);
}

Silence ReadSilence(const Json& json) {
  Silence silence;
  json.at("id").get_to(silence.id);
  json.at("status").at("state").get_to(silence.state);
  silence.starts_at = ReadTime(json, "startsAt");
  silence.ends_at = ReadTime(json, "endsAt");
  silence.created_by = json.value("createdBy", "");
  silence.comment = json.value("comment", "");
  for (const Json& element : json.at("matchers")) {
    Matcher matcher;
    element.at("name").get_to(matcher.label);
    element.at("value").get_to(matcher.value);
    const bool regex = element.value("isRegex", false);
    const bool equal = element.value("isEqual", true);
    matcher.kind = regex ? (equal ? MatchKind::kRegex : MatchKind::kNotRegex)
                         : (equal ? MatchKind::kEqual : MatchKind::kNotEqual);
    if (regex) {
      // As text, so that the expression is anchored and limited as everywhere.
      absl::StatusOr<Matcher> parsed = ParseMatcher(MatcherText(matcher));
      if (parsed.ok()) matcher = *std::move(parsed);
    }
    silence.matchers.push_back(std::move(matcher));
  }
  return silence;
}

}  // namespace

absl::StatusOr<std::vector<AlertmanagerAlert>> ParseAlertmanagerAlerts(absl::string_view text) {
  return ReadJson(text, "Alertmanager's list of alerts",
                  [](const Json& json) -> absl::StatusOr<std::vector<AlertmanagerAlert>> {
                    std::vector<AlertmanagerAlert> alerts;
                    for (const Json& element : json) {
                      AlertmanagerAlert alert;
                      element.at("labels").get_to(alert.labels);
                      alert.name = alert.labels["alertname"];
                      element.at("fingerprint").get_to(alert.fingerprint);
                      alert.starts_at = ReadTime(element, "startsAt");
                      alert.ends_at = ReadTime(element, "endsAt");
                      alert.updated_at = ReadTime(element, "updatedAt");
                      const Json& status = element.at("status");
                      alert.suppressed = status.at("state") == "suppressed";
                      status.at("silencedBy").get_to(alert.silenced_by);
                      status.at("inhibitedBy").get_to(alert.inhibited_by);
                      for (const Json& receiver : element.at("receivers")) {
                        alert.receivers.push_back(receiver.at("name").get<std::string>());
                      }
                      alerts.push_back(std::move(alert));
                    }
                    return alerts;
                  });
}

absl::StatusOr<std::vector<Silence>> ParseSilences(absl::string_view text) {
  return ReadJson(text, "Alertmanager's list of silences",
                  [](const Json& json) -> absl::StatusOr<std::vector<Silence>> {
                    std::vector<Silence> silences;
                    for (const Json& element : json) silences.push_back(ReadSilence(element));
                    return silences;
                  });
}

absl::StatusOr<AlertmanagerStatus> ParseAlertmanagerStatus(absl::string_view text) {
  return ReadJson(
      text, "Alertmanager's status", [](const Json& json) -> absl::StatusOr<AlertmanagerStatus> {
        AlertmanagerStatus status;
        status.version = json.at("versionInfo").value("version", "");
        ASSIGN_OR_RETURN(status.config, ParseAlertmanagerConfig(
                                            json.at("config").at("original").get<std::string>()));
        return status;
      });
}

absl::StatusOr<AlertmanagerClient> AlertmanagerClient::Make(const v1::MonitoringServer& server,
                                                            absl::Duration deadline,
                                                            std::stop_token stop) {
  ASSIGN_OR_RETURN(MonitoringServer made, MonitoringServer::Make("Alertmanager", server));
  return AlertmanagerClient(std::move(made), deadline, std::move(stop));
}

absl::StatusOr<std::string> AlertmanagerClient::Ask(const std::string& method,
                                                    absl::string_view path,
                                                    const std::string& body) const {
  ASSIGN_OR_RETURN(HttpResponse response, server_.Ask(method, path, body, deadline_, stop_));
  if (response.status / 100 == 2) return std::move(response.body);
  return absl::UnavailableError(absl::StrCat("Alertmanager at ", url(), " answers ",
                                             response.status, " to ", method, " ", path, ": ",
                                             ErrorText(response.body)));
}

absl::StatusOr<std::vector<AlertmanagerAlert>> AlertmanagerClient::Alerts() const {
  ASSIGN_OR_RETURN(const std::string body, Ask("GET", "/api/v2/alerts", ""));
  return ParseAlertmanagerAlerts(body);
}

absl::StatusOr<std::vector<Silence>> AlertmanagerClient::Silences() const {
  ASSIGN_OR_RETURN(const std::string body, Ask("GET", "/api/v2/silences", ""));
  return ParseSilences(body);
}

absl::StatusOr<AlertmanagerStatus> AlertmanagerClient::Status() const {
  ASSIGN_OR_RETURN(const std::string body, Ask("GET", "/api/v2/status", ""));
  return ParseAlertmanagerStatus(body);
}

absl::Status AlertmanagerClient::PostAlerts(const std::vector<PostedAlert>& alerts) const {
  Json json = Json::array();
  for (const PostedAlert& alert : alerts) {
    json.push_back({{"labels", alert.labels},
                    {"annotations", alert.annotations},
                    {"startsAt", firedrill::FormatTime(alert.starts_at)},
                    {"endsAt", firedrill::FormatTime(alert.ends_at)}});
  }
  return Ask("POST", "/api/v2/alerts", json.dump()).status();
}

}  // namespace firedrill
