// Instant queries to Prometheus.
#include "base/prometheus.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

absl::StatusOr<PrometheusSeries> ParsePoint(const Json& point) {
  PrometheusSeries series;
  series.at = absl::UnixEpoch() + absl::Seconds(point.at(0).get<double>());
  const std::string text = point.at(1).get<std::string>();
  // SimpleAtod knows NaN, +Inf and -Inf as Prometheus writes them.
  if (!absl::SimpleAtod(text, &series.value)) {
    return absl::DataLossError(absl::StrCat("Prometheus' answer has no number but '", text, "'"));
  }
  return series;
}

absl::StatusOr<PrometheusAnswer> ParseSuccess(const Json& json) {
  PrometheusAnswer answer;
  const Json& data = json.at("data");
  data.at("resultType").get_to(answer.type);
  if (json.contains("warnings")) json.at("warnings").get_to(answer.warnings);
  const Json& result = data.at("result");
  if (answer.type == "scalar") {
    ASSIGN_OR_RETURN(PrometheusSeries point, ParsePoint(result));
    answer.series.push_back(std::move(point));
  } else if (answer.type == "vector") {
    for (const Json& element : result) {
      ASSIGN_OR_RETURN(PrometheusSeries series, ParsePoint(element.at("value")));
      element.at("metric").get_to(series.labels);
      answer.series.push_back(std::move(series));
    }
  }
  return answer;
}

}  // namespace

absl::StatusOr<PrometheusAnswer> ParsePrometheusAnswer(absl::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  try {
    if (json.at("status") == "success") return ParseSuccess(json);
    const std::string type = json.value("errorType", "");
    const std::string message = absl::StrCat("Prometheus: ", type, ": ", json.value("error", ""));
    if (type == "bad_data" || type == "execution") return absl::InvalidArgumentError(message);
    return absl::UnavailableError(message);
  } catch (const Json::exception&) {
    return absl::DataLossError("the answer is not that of Prometheus' query API; check the URL");
  }
}

absl::StatusOr<double> OnlyValue(const PrometheusAnswer& answer) {
  if (!answer.warnings.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("Prometheus warns that the answer may be incomplete: ", answer.warnings[0]));
  }
  if (answer.type != "scalar" && answer.type != "vector") {
    return absl::FailedPreconditionError(
        absl::StrCat("the query returns a ", answer.type, ", not one number"));
  }
  if (answer.series.empty()) return absl::NotFoundError("the query returns no series");
  if (answer.series.size() > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("the query returns ", answer.series.size(),
                     " series, not one; aggregate them with sum() or max()"));
  }
  const double value = answer.series.front().value;
  if (std::isnan(value)) return absl::NotFoundError("the query returns NaN");
  return value;
}

absl::StatusOr<PrometheusApi> PrometheusApi::Make(const v1::MonitoringServer& server) {
  ASSIGN_OR_RETURN(MonitoringServer made, MonitoringServer::Make("Prometheus", server));
  return PrometheusApi(std::move(made));
}

absl::StatusOr<std::string> PrometheusApi::Get(absl::string_view path, absl::Duration deadline,
                                               std::stop_token stop) const {
  ASSIGN_OR_RETURN(HttpResponse response, server_.Ask("GET", path, "", deadline, std::move(stop)));
  // Its own errors are JSON with 400, 422 or 503.
  if (absl::string_view body = absl::StripLeadingAsciiWhitespace(response.body);
      !absl::StartsWith(body, "{")) {
    return absl::UnavailableError(absl::StrCat("Prometheus at ", url(), " answers ",
                                               response.status,
                                               " and no JSON; check `url` in the site file"));
  }
  return std::move(response.body);
}

std::vector<v1::MonitoringServer> PrometheusReplicas(const v1::SiteSpec& site) {
  std::vector<v1::MonitoringServer> servers;
  if (!site.has_prometheus()) return servers;
  servers.push_back(site.prometheus());
  servers.insert(servers.end(), site.prometheus_replicas().begin(),
                 site.prometheus_replicas().end());
  return servers;
}

absl::StatusOr<PrometheusAnswer> PrometheusApi::Query(absl::string_view query,
                                                      absl::Duration deadline, std::stop_token stop,
                                                      std::optional<absl::Time> at) const {
  std::string path = absl::StrCat(
      "/api/v1/query?query=", UrlEncode(query),
      // Prometheus gives up by itself too, and does not go on computing what nobody waits for.
      "&timeout=", std::max<int64_t>(1, absl::ToInt64Milliseconds(deadline)), "ms");
  if (at.has_value()) {
    absl::StrAppendFormat(&path, "&time=%.3f", absl::ToDoubleSeconds(*at - absl::UnixEpoch()));
  }
  ASSIGN_OR_RETURN(const std::string body, Get(path, deadline, std::move(stop)));
  return ParsePrometheusAnswer(body);
}

std::string UrlEncode(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') {
      encoded.push_back(c);
    } else {
      absl::StrAppendFormat(&encoded, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace firedrill
