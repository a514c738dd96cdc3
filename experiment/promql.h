// The series that a PromQL expression reads, found by a small scanner.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace firedrill {

struct SeriesSelector {
  // Empty for `{...}` alone.
  std::string metric;
  // Each matcher as it stands: `job="shop"`.
  std::vector<std::string> matchers;

  // As PromQL.
  std::string Text() const;
  // Only the metric's name and the matchers on labels of `kept`. The labels of a scrape target say
  // who is asked; others (a status code, a state) may come into being only once something happens.
  SeriesSelector Relaxed(const std::set<std::string>& kept) const;
};

// Each once, in order; ranges, offsets and @ are left out. Empty for `vector(1)`. What cannot be
// understood is passed over: Prometheus is the judge of expressions.
std::vector<SeriesSelector> ExtractSelectors(absl::string_view query);

// Whether it is true for want of series: `absent(up)`. That it ends says that they are there.
bool AsksForAbsence(absl::string_view query);

}  // namespace firedrill
