// Instant queries to Prometheus: what a probe, the preflight and the alert watch all ask.
#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/monitoring_server.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

using Labels = std::map<std::string, std::string>;

struct PrometheusSeries {
  Labels labels;
  double value = 0;
  // When the query was evaluated, by Prometheus' clock.
  absl::Time at;
};

struct PrometheusAnswer {
  // "vector", "scalar", "string" or "matrix"; only the first two have series here.
  std::string type;
  std::vector<PrometheusSeries> series;
  std::vector<std::string> warnings;
};

// The answer of /api/v1/query. An error answer becomes INVALID_ARGUMENT (a query that is wrong) or
// UNAVAILABLE, with Prometheus' own words. Pure.
absl::StatusOr<PrometheusAnswer> ParsePrometheusAnswer(absl::string_view json);

// The only value: of a scalar, or of a vector's only series. An error for none, several, NaN,
// infinities are values, and for an answer with warnings, since a part may be missing. Pure.
absl::StatusOr<double> OnlyValue(const PrometheusAnswer& answer);

// One server. Copies are cheap; any thread.
class PrometheusApi {
 public:
  // Reads the secrets.
  static absl::StatusOr<PrometheusApi> Make(const v1::MonitoringServer& server);

  // The body of a GET of "/api/v1/...", whatever the HTTP status says, as long as it is JSON.
  absl::StatusOr<std::string> Get(absl::string_view path, absl::Duration deadline,
                                  std::stop_token stop = {}) const;
  // Evaluated now, or as of `at` by Prometheus' clock.
  absl::StatusOr<PrometheusAnswer> Query(absl::string_view query, absl::Duration deadline,
                                         std::stop_token stop = {},
                                         std::optional<absl::Time> at = std::nullopt) const;
  const std::string& url() const { return server_.url(); }

 private:
  explicit PrometheusApi(MonitoringServer server) : server_(std::move(server)) {}
  MonitoringServer server_;
};

// `prometheus` and its replicas; empty where the site names none.
std::vector<v1::MonitoringServer> PrometheusReplicas(const v1::SiteSpec& site);

// For a query string or a form.
std::string UrlEncode(absl::string_view text);

}  // namespace firedrill
