// Could this run tell the truth? Asks Prometheus and Alertmanager before anything is broken.
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "controller/plan.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

struct PreflightInput {
  v1::Experiment experiment;
  v1::SiteSpec site;
  v1::Plan plan;
  // For all of it; what was not asked by then is a circumstance.
  absl::Duration deadline = absl::Seconds(30);
  // How long the canary may take.
  absl::Duration canary_within = absl::Seconds(10);
  // Blocks until our webhook received the canary of this run (when, by our clock), at most so long;
  // see CanaryInbox::Wait. Not set where no webhook server runs: the canary is not sent.
  std::function<std::optional<absl::Time>(absl::Duration at_most)> wait_for_canary;
};

struct PreflightResult {
  // Codes of defects: rule-missing, matchers-contradict, rule-unhealthy, cannot-fire-in-time,
  // selector-empty, silenced, no-alertmanager-wired, route-elsewhere, receiver-missing,
  // receiver-not-wired, canary-lost. Of circumstances: monitor-unreachable, no-prometheus,
  // no-alertmanager, no-webhook, rule-not-evaluated, already-firing, already-pending, live-group,
  // not-finished. Of notes: rule-missing (mayFire), selector-empty (mayFire), selector-narrow,
  // maybe-silenced, silenced-later, route-undecided, receiver-hidden, resolve-not-sent,
  // prometheus-unreachable and alertmanager-unreachable (one of several), page-firing. Their
  // subject is the expectation's name; for other alerts the alert's, for servers the URL.
  std::vector<v1::Finding> findings;
  // Only where it was sent.
  std::optional<v1::CanaryReport> canary;
};

// Blocks, at most until the deadline plus a little. Never touches the system under test; the only
// thing sent is the canary alert.
PreflightResult RunPreflight(const PreflightInput& input, const Clock& clock,
                             std::stop_token stop = {});

// What MakePlan() wants to know. Blocks; members stay empty where nobody answers.
AlertingFacts GatherFacts(const v1::Experiment& experiment, const v1::SiteSpec& site,
                          absl::Duration deadline, std::stop_token stop = {});

}  // namespace firedrill
