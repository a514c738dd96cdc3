// Alertmanager's routing tree: which receivers an alert reaches, and when. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/prometheus.h"
#include "experiment/matcher.h"

namespace firedrill {

// A node of the tree, with what it inherits from its parents filled in.
struct Route {
  std::string receiver;
  // Of `matchers`, `match` and `match_re` together; all must match.
  std::vector<Matcher> matchers;
  // "..." groups by all labels.
  std::vector<std::string> group_by;
  absl::Duration group_wait = absl::Seconds(30);
  absl::Duration group_interval = absl::Minutes(5);
  absl::Duration repeat_interval = absl::Hours(4);
  // Siblings after this one are tried too.
  bool goes_on = false;
  std::vector<Route> routes;
};

struct ReceiverWebhook {
  // "<secret>" where Alertmanager does not show it (0.26 and later).
  std::string url;
  bool send_resolved = true;
};

struct AlertmanagerConfig {
  Route root;
  // By receiver name; a receiver without webhooks is there too.
  std::map<std::string, std::vector<ReceiverWebhook>> receivers;
};

// `config.original` of /api/v2/status, or an alertmanager.yml.
absl::StatusOr<AlertmanagerConfig> ParseAlertmanagerConfig(absl::string_view yaml);

struct RouteHit {
  std::string receiver;
  std::vector<std::string> group_by;
  absl::Duration group_wait;
  absl::Duration group_interval;
  absl::Duration repeat_interval;
  // The matchers from the root to the route: `severity="page"`; empty for the root.
  std::string path;
};

struct RouteDecision {
  // Reached for certain.
  std::vector<RouteHit> hits;
  // Reached or not, depending on the values of `open` labels.
  std::vector<RouteHit> possible;
};

// Where an alert with the labels `known` goes. `open` are labels that it may have besides, with
// values that are not known; every other label it does not have.
RouteDecision DecideRoutes(const Route& root, const Labels& known,
                           const std::set<std::string>& open = {});

}  // namespace firedrill
