// From two looks at the alerts of one source to what changed between them. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/alerts/alertmanager.h"
#include "controller/alerts/prometheus.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// An alert that ended, before anyone looked whether its series are still there.
struct EndedAlert {
  // State INACTIVE (Prometheus) or RESOLVED (Alertmanager); becomes UNKNOWN where the series are
  // gone.
  v1::AlertTransition transition;
  // The rule is not loaded any more.
  bool rule_gone = false;
};

struct AlertChanges {
  std::vector<v1::AlertTransition> begun;  // Pending, firing, and changes of suppression.
  std::vector<EndedAlert> ended;
};

// One source. Canary alerts are passed over. The first look reports everything that is active
// already.
class AlertFold {
 public:
  AlertChanges FeedPrometheus(const std::vector<AlertingRule>& rules);
  // `observed`: by our clock.
  AlertChanges FeedAlertmanager(const std::vector<AlertmanagerAlert>& alerts, absl::Time observed);

 private:
  struct Known {
    v1::AlertTransition transition;
    // Prometheus: the rule's group, how often it is evaluated, and the last evaluation that was
    // seen.
    std::string group;
    absl::Duration interval;
    absl::Time instant = absl::InfinitePast();
  };
  std::map<std::string, Known> known_;
};

// The transition with what was learnt about its series: UNKNOWN where they are gone.
v1::AlertTransition Settle(const EndedAlert& ended, bool series_present);

}  // namespace firedrill
