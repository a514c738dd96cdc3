// Whether the series that a rule reads are there. A rule can be healthy and unable to fire, because
// what it reads does not exist; and an alert can end because nobody measures any more.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/alerts/prometheus.h"

namespace firedrill {

struct SeriesPresence {
  // Selectors that return nothing even without the matchers on labels that no scrape target has: no
  // exporter says anything about this.
  std::vector<std::string> blind;
  // Selectors that return nothing, though the exporter answers: maybe nothing has happened yet.
  std::vector<std::string> empty;
  bool present() const { return blind.empty(); }
};

// Asks for each selector of `query`, now or as of `at` by Prometheus' clock. `target_labels`: the
// names of the labels that scrape targets have.
absl::StatusOr<SeriesPresence> LookForSeries(const PrometheusClient& prometheus,
                                             absl::string_view query,
                                             const std::set<std::string>& target_labels,
                                             std::optional<absl::Time> at = std::nullopt);

// The names of all labels of all targets.
std::set<std::string> LabelNames(const std::vector<ScrapeTarget>& targets);

}  // namespace firedrill
