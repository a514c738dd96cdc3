// The series that a PromQL expression reads, found by a small scanner; and whether they are there. A rule can
// be healthy and unable to fire, because what it reads does not exist.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "controller/alerts/prometheus.h"

namespace firedrill {

struct SeriesSelector {
  // Empty for `{...}` alone.
  std::string metric;
  // Each matcher as it stands: `job="shop"`.
  std::vector<std::string> matchers;

  // As PromQL.
  std::string Text() const;
  // Only the matchers on labels of `kept`, and on the metric's name: the labels of a scrape target say who
  // is asked; the others (a status code, a state) may come into being only once something happens.
  SeriesSelector Relaxed(const std::set<std::string>& kept) const;
};

// Each once, in order. Ranges, offsets and @ are left out. Empty for `vector(1)`. Pure; never fails: what
// cannot be understood is passed over.
std::vector<SeriesSelector> ExtractSelectors(absl::string_view query);

struct SeriesPresence {
  // Selectors that return nothing even when relaxed: no exporter says anything about this.
  std::vector<std::string> blind;
  // Selectors that return nothing, though the exporter answers: maybe nothing has happened yet.
  std::vector<std::string> empty;
  bool present() const { return blind.empty(); }
};

// Asks for each selector of `query`. `target_labels`: the names of labels that scrape targets have.
absl::StatusOr<SeriesPresence> LookForSeries(const PrometheusClient& prometheus,
                                             absl::string_view query,
                                             const std::set<std::string>& target_labels);

std::set<std::string> LabelNames(const std::vector<ScrapeTarget>& targets);

}  // namespace firedrill
