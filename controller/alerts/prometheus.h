// What Prometheus says about its alerting rules, its alerts, its targets and its clock.
#pragma once

#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/prometheus.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct PrometheusAlert {
  std::string name;
  // With `alertname` and the rule's labels, without external labels.
  Labels labels;
  // Pending or firing.
  v1::AlertState state = v1::ALERT_STATE_UNSPECIFIED;
  // The evaluation in which it became pending.
  absl::Time active_at;
  double value = 0;
  // As filled in at its last evaluation.
  Labels annotations;
};

// An alerting rule; recording rules are left out.
struct AlertingRule {
  std::string name;
  std::string group;
  std::string query;
  // The rule's `for`, and how often its group is evaluated.
  absl::Duration hold;
  absl::Duration interval;
  Labels labels;
  // "ok", "err", "unknown" (not evaluated yet), and why.
  std::string health;
  std::string last_error;
  // InfinitePast where it was never evaluated.
  absl::Time last_evaluation = absl::InfinitePast();
  std::vector<PrometheusAlert> alerts;
};

struct ScrapeTarget {
  Labels labels;
  absl::Duration interval;
  // "up", "down", "unknown".
  std::string health;
  std::string last_error;
};

// Prometheus' clock - ours, and the bound on its error.
struct ClockOffset {
  absl::Duration offset;
  absl::Duration error;
};

// Pure: the answers of /api/v1/rules, /alerts, /targets, /alertmanagers, /status/config,
// /status/buildinfo.
absl::StatusOr<std::vector<AlertingRule>> ParseRules(absl::string_view json);
absl::StatusOr<std::vector<PrometheusAlert>> ParsePrometheusAlerts(absl::string_view json);
absl::StatusOr<std::vector<ScrapeTarget>> ParseTargets(absl::string_view json);
// The addresses to which Prometheus sends its alerts.
absl::StatusOr<std::vector<std::string>> ParseActiveAlertmanagers(absl::string_view json);
absl::StatusOr<Labels> ParseExternalLabels(absl::string_view json);
absl::StatusOr<std::string> ParseBuildVersion(absl::string_view json);

// Blocking calls, each with the deadline given at Make(). Any thread.
class PrometheusClient {
 public:
  static absl::StatusOr<PrometheusClient> Make(const v1::MonitoringServer& server,
                                               absl::Duration deadline, std::stop_token stop = {});

  absl::StatusOr<std::vector<AlertingRule>> Rules() const;
  absl::StatusOr<std::vector<PrometheusAlert>> Alerts() const;
  absl::StatusOr<std::vector<ScrapeTarget>> Targets() const;
  absl::StatusOr<std::vector<std::string>> ActiveAlertmanagers() const;
  absl::StatusOr<Labels> ExternalLabels() const;
  absl::StatusOr<std::string> BuildVersion() const;
  // Now, or as of `at` by Prometheus' clock.
  absl::StatusOr<PrometheusAnswer> Query(absl::string_view query,
                                         std::optional<absl::Time> at = std::nullopt) const;
  absl::StatusOr<ClockOffset> MeasureClock(const Clock& clock) const;
  const std::string& url() const { return api_.url(); }

 private:
  PrometheusClient(PrometheusApi api, absl::Duration deadline, std::stop_token stop)
      : api_(std::move(api)), deadline_(deadline), stop_(std::move(stop)) {}
  PrometheusApi api_;
  absl::Duration deadline_;
  std::stop_token stop_;
};

}  // namespace firedrill
