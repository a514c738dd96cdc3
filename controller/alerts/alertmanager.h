// What Alertmanager (API v2) says about its alerts, silences and configuration.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/monitoring_server.h"
#include "controller/alerts/routing.h"
#include "experiment/matcher.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

struct AlertmanagerAlert {
  std::string name;
  // With external labels.
  Labels labels;
  std::string fingerprint;
  // The start of firing.
  absl::Time starts_at;
  absl::Time ends_at;
  absl::Time updated_at;
  bool suppressed = false;
  std::vector<std::string> silenced_by;
  std::vector<std::string> inhibited_by;
  std::vector<std::string> receivers;
};

struct Silence {
  std::string id;
  // "active", "pending" or "expired".
  std::string state;
  std::vector<Matcher> matchers;
  absl::Time starts_at;
  absl::Time ends_at;
  std::string created_by;
  std::string comment;
};

struct AlertmanagerStatus {
  std::string version;
  AlertmanagerConfig config;
};

// An alert as it is posted.
struct PostedAlert {
  Labels labels;
  Labels annotations;
  absl::Time starts_at;
  absl::Time ends_at;
};

// Pure: the answers of /api/v2/alerts, /silences and /status.
absl::StatusOr<std::vector<AlertmanagerAlert>> ParseAlertmanagerAlerts(absl::string_view json);
absl::StatusOr<std::vector<Silence>> ParseSilences(absl::string_view json);
absl::StatusOr<AlertmanagerStatus> ParseAlertmanagerStatus(absl::string_view json);

// Blocking calls, each with the deadline given at Make(). Any thread.
class AlertmanagerClient {
 public:
  static absl::StatusOr<AlertmanagerClient> Make(const v1::MonitoringServer& server,
                                                 absl::Duration deadline,
                                                 std::stop_token stop = {});

  // Active, silenced and inhibited ones.
  absl::StatusOr<std::vector<AlertmanagerAlert>> Alerts() const;
  absl::StatusOr<std::vector<Silence>> Silences() const;
  absl::StatusOr<AlertmanagerStatus> Status() const;
  absl::Status PostAlerts(const std::vector<PostedAlert>& alerts) const;
  const std::string& url() const { return server_.url(); }

 private:
  AlertmanagerClient(MonitoringServer server, absl::Duration deadline, std::stop_token stop)
      : server_(std::move(server)), deadline_(deadline), stop_(std::move(stop)) {}
  absl::StatusOr<std::string> Ask(const std::string& method, absl::string_view path,
                                  const std::string& body) const;
  MonitoringServer server_;
  absl::Duration deadline_;
  std::stop_token stop_;
};

}  // namespace firedrill
