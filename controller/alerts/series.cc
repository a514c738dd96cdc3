// Asks Prometheus whether what a rule reads exists.
#include "controller/alerts/series.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "experiment/promql.h"

namespace firedrill {
namespace {

absl::StatusOr<bool> Exists(const PrometheusClient& prometheus, const SeriesSelector& selector,
                            std::optional<absl::Time> at) {
  ASSIGN_OR_RETURN(const PrometheusAnswer answer,
                   prometheus.Query(absl::StrCat("count(", selector.Text(), ")"), at));
  return !answer.series.empty();
}

}  // namespace

absl::StatusOr<SeriesPresence> LookForSeries(const PrometheusClient& prometheus,
                                             absl::string_view query,
                                             const std::set<std::string>& target_labels,
                                             std::optional<absl::Time> at) {
  SeriesPresence presence;
  for (const SeriesSelector& selector : ExtractSelectors(query)) {
    ASSIGN_OR_RETURN(const bool exists, Exists(prometheus, selector, at));
    if (exists) continue;
    const SeriesSelector relaxed = selector.Relaxed(target_labels);
    bool answers = false;
    if (relaxed.Text() != selector.Text()) {
      ASSIGN_OR_RETURN(answers, Exists(prometheus, relaxed, at));
    }
    (answers ? presence.empty : presence.blind).push_back(selector.Text());
  }
  return presence;
}

std::set<std::string> LabelNames(const std::vector<ScrapeTarget>& targets) {
  std::set<std::string> names;
  for (const ScrapeTarget& target : targets) {
    for (const auto& [name, value] : target.labels) names.insert(name);
  }
  return names;
}

}  // namespace firedrill
