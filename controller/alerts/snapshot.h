// One look at everything that preflight judges: gathered first, judged afterwards, so that judging
// is pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "controller/alerts/alertmanager.h"
#include "controller/alerts/prometheus.h"
#include "controller/alerts/series.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Why an experiment names an alert; the strongest reason first.
enum class AlertRole { kExpected, kBefore, kForbidden, kTolerated };

struct NamedAlert {
  AlertRole role = AlertRole::kTolerated;
  std::string alert;
  // Set for expected ones; points into the experiment.
  const v1::AlertExpectation* expectation = nullptr;

  // What findings about it are about.
  const std::string& subject() const {
    return expectation != nullptr ? expectation->name() : alert;
  }
};

// Expected alerts once each expectation, all others once each name, by their strongest reason.
std::vector<NamedAlert> NamedAlerts(const v1::Experiment& experiment);

struct AlertmanagerLook {
  std::string url;
  // Why the rest is empty.
  absl::Status status;
  AlertmanagerConfig config;
  std::vector<AlertmanagerAlert> alerts;
  std::vector<Silence> silences;
};

struct AlertingSnapshot {
  std::string prometheus_url;
  // Not OK: the members up to `last_firing` are empty.
  absl::Status prometheus;
  // By Prometheus' clock.
  absl::Time now;
  std::vector<AlertingRule> rules;
  Labels external_labels;
  // Addresses to which Prometheus sends alerts; no value where it does not say.
  std::optional<std::vector<std::string>> alertmanager_urls;
  std::vector<ScrapeTarget> targets;
  // By the query of a rule: what it reads, which label names that has, and how often it is scraped.
  struct Series {
    SeriesPresence presence;
    std::set<std::string> labels;
    std::optional<absl::Duration> scrape;
  };
  std::map<std::string, Series> series;
  // By expectation: the last evaluation in which its alert fired, looking back over its
  // group_interval.
  std::map<std::string, absl::Time> last_firing;

  std::vector<AlertmanagerLook> alertmanagers;
  // The deadline came before everything had been asked.
  bool unfinished = false;

  std::vector<const AlertingRule*> RulesOf(const std::string& alert) const;
};

// One for each Prometheus, those that answer first; one without a Prometheus where there is none.
// Each has the same Alertmanagers. Blocks, at most until the deadline plus one answer.
std::vector<AlertingSnapshot> LookAtAlerting(const v1::Experiment& experiment,
                                             const v1::SiteSpec& site, absl::Duration deadline,
                                             const Clock& clock, std::stop_token stop);

// Where the alert of a rule goes, as far as its labels are known before it fires: the rule's, the
// external ones, and those that the expectation's matchers demand.
struct AlertRoute {
  Labels known;
  // Labels that it may have besides.
  std::set<std::string> open;
  RouteDecision decision;
};
AlertRoute RouteOf(const AlertingSnapshot& snapshot, const AlertmanagerLook& alertmanager,
                   const AlertingRule& rule, const v1::AlertExpectation& expectation);

// Matchers of an expectation that are valid (the reader refuses others).
std::vector<Matcher> MatchersOf(const v1::AlertExpectation& expectation);

// False where the rule's own labels contradict a matcher. Labels with templates may have any value.
bool CanMatch(const AlertingSnapshot& snapshot, const AlertingRule& rule,
              const std::vector<Matcher>& matchers);

}  // namespace firedrill
