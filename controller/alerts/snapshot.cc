// Asks Prometheus and Alertmanager everything that preflight wants to know.
#include "controller/alerts/snapshot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "experiment/promql.h"

namespace firedrill {
namespace {

// Prometheus under load still answers within this.
constexpr absl::Duration kAnswerWithin = absl::Seconds(3);
// Series of a selector whose labels are looked at.
constexpr int kSampledSeries = 20;

class Look {
 public:
  Look(const v1::Experiment& experiment, const v1::SiteSpec& site, absl::Duration deadline,
       const Clock& clock, std::stop_token stop)
      : named_(NamedAlerts(experiment)),
        site_(site),
        clock_(clock),
        end_(clock.Boot() + deadline),
        stop_(std::move(stop)) {}

  std::vector<AlertingSnapshot> Run() {
    LookAtAlertmanagers();
    std::vector<v1::MonitoringServer> servers = PrometheusReplicas(site_);
    if (servers.empty()) {
      snapshot_.prometheus = absl::NotFoundError("the site file names no Prometheus");
      return {std::move(snapshot_)};
    }
    const AlertingSnapshot begin = std::move(snapshot_);
    std::vector<AlertingSnapshot> looks;
    for (const v1::MonitoringServer& server : servers) {
      snapshot_ = begin;
      snapshot_.prometheus_url = server.url();
      snapshot_.prometheus = LookAtPrometheus(server);
      looks.push_back(std::move(snapshot_));
    }
    std::stable_sort(looks.begin(), looks.end(),
                     [](const AlertingSnapshot& a, const AlertingSnapshot& b) {
                       return a.prometheus.ok() && !b.prometheus.ok();
                     });
    return looks;
  }

 private:
  absl::Duration Patience() const { return std::min(kAnswerWithin, end_ - clock_.Boot()); }
  bool Late() {
    if (clock_.Boot() < end_ && !stop_.stop_requested()) return false;
    snapshot_.unfinished = true;
    return true;
  }

  void LookAtAlertmanagers() {
    for (const v1::MonitoringServer& server : site_.alertmanagers()) {
      if (Late()) return;
      AlertmanagerLook look;
      look.url = server.url();
      look.status = LookAtAlertmanager(server, look);
      snapshot_.alertmanagers.push_back(std::move(look));
    }
  }

  absl::Status LookAtAlertmanager(const v1::MonitoringServer& server, AlertmanagerLook& look) {
    ASSIGN_OR_RETURN(const AlertmanagerClient client,
                     AlertmanagerClient::Make(server, Patience(), stop_));
    ASSIGN_OR_RETURN(AlertmanagerStatus status, client.Status());
    look.config = std::move(status.config);
    ASSIGN_OR_RETURN(look.alerts, client.Alerts());
    ASSIGN_OR_RETURN(look.silences, client.Silences());
    return absl::OkStatus();
  }

  absl::Status LookAtPrometheus(const v1::MonitoringServer& server) {
    if (Late()) return absl::DeadlineExceededError("no time left to ask it");
    ASSIGN_OR_RETURN(const PrometheusClient client,
                     PrometheusClient::Make(server, Patience(), stop_));
    ASSIGN_OR_RETURN(const ClockOffset offset, client.MeasureClock(clock_));
    snapshot_.now = clock_.Now() + offset.offset;
    ASSIGN_OR_RETURN(snapshot_.rules, client.Rules());
    ASSIGN_OR_RETURN(snapshot_.targets, client.Targets());
    // Both are missing in what only speaks Prometheus' language, and nothing depends on them alone.
    if (auto labels = client.ExternalLabels(); labels.ok()) snapshot_.external_labels = *labels;
    if (auto urls = client.ActiveAlertmanagers(); urls.ok()) snapshot_.alertmanager_urls = *urls;
    for (const NamedAlert& named : named_) {
      for (const AlertingRule* rule : snapshot_.RulesOf(named.alert)) {
        if (Late()) return absl::OkStatus();
        if (snapshot_.series.count(rule->query) > 0) continue;
        ASSIGN_OR_RETURN(snapshot_.series[rule->query], LookAtSeries(client, rule->query));
      }
    }
    for (const NamedAlert& named : named_) {
      if (named.expectation == nullptr || Late()) continue;
      RETURN_IF_ERROR(LookBack(client, *named.expectation));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<AlertingSnapshot::Series> LookAtSeries(const PrometheusClient& client,
                                                        const std::string& query) {
    AlertingSnapshot::Series found;
    const std::set<std::string> target_labels = LabelNames(snapshot_.targets);
    ASSIGN_OR_RETURN(found.presence, LookForSeries(client, query, target_labels));
    for (const SeriesSelector& selector : ExtractSelectors(query)) {
      const SeriesSelector wide = selector.Relaxed(target_labels);
      ASSIGN_OR_RETURN(const PrometheusAnswer sample,
                       client.Query(absl::StrCat("topk(", kSampledSeries, ", ", wide.Text(), ")")));
      for (const PrometheusSeries& series : sample.series) {
        for (const auto& [name, value] : series.labels) {
          if (name != "__name__") found.labels.insert(name);
        }
      }
      ASSIGN_OR_RETURN(const PrometheusAnswer sources,
                       client.Query(absl::StrCat("count by (job, instance) (", wide.Text(), ")")));
      for (const PrometheusSeries& source : sources.series) AddScrape(source.labels, found.scrape);
    }
    return found;
  }

  // Series of recording rules and of exporters that set their own labels belong to no target:
  // unknown.
  void AddScrape(const Labels& source, std::optional<absl::Duration>& scrape) const {
    const auto same = [&](const ScrapeTarget& target, const char* name) {
      const auto a = target.labels.find(name);
      const auto b = source.find(name);
      return a != target.labels.end() && b != source.end() && a->second == b->second;
    };
    for (const ScrapeTarget& target : snapshot_.targets) {
      if (!same(target, "job") || !same(target, "instance")) continue;
      if (target.interval <= absl::ZeroDuration()) continue;
      scrape = std::max(scrape.value_or(absl::ZeroDuration()), target.interval);
    }
  }

  // When the alert last fired, over the longest time that Alertmanager may remember it.
  absl::Status LookBack(const PrometheusClient& client, const v1::AlertExpectation& expectation) {
    absl::Duration back;
    for (const AlertmanagerLook& alertmanager : snapshot_.alertmanagers) {
      for (const AlertingRule* rule : snapshot_.RulesOf(expectation.alert())) {
        const AlertRoute route = RouteOf(snapshot_, alertmanager, *rule, expectation);
        for (const RouteHit& hit : route.decision.hits) back = std::max(back, hit.group_interval);
        for (const RouteHit& hit : route.decision.possible)
          back = std::max(back, hit.group_interval);
      }
    }
    if (back <= absl::ZeroDuration()) return absl::OkStatus();
    back += absl::Seconds(60);
    const int64_t range = absl::ToInt64Seconds(back);
    std::vector<std::string> matchers = {absl::StrCat("alertname=\"", expectation.alert(), "\""),
                                         "alertstate=\"firing\""};
    for (const Matcher& matcher : MatchersOf(expectation)) {
      if (snapshot_.external_labels.count(matcher.label) == 0)
        matchers.push_back(MatcherText(matcher));
    }
    const std::string query =
        absl::StrCat("max(max_over_time(timestamp(ALERTS{", absl::StrJoin(matchers, ","), "})[",
                     range, "s:", std::max<int64_t>(1, range / 400), "s]))");
    ASSIGN_OR_RETURN(const PrometheusAnswer answer, client.Query(query));
    if (answer.series.size() == 1 && !std::isnan(answer.series[0].value)) {
      snapshot_.last_firing[expectation.name()] =
          absl::UnixEpoch() + absl::Seconds(answer.series[0].value);
    }
    return absl::OkStatus();
  }

  const std::vector<NamedAlert> named_;
  const v1::SiteSpec& site_;
  const Clock& clock_;
  const absl::Duration end_;
  const std::stop_token stop_;
  AlertingSnapshot snapshot_;
};

bool IsTemplate(const std::string& value) { return absl::StrContains(value, "{{"); }

}  // namespace

std::vector<NamedAlert> NamedAlerts(const v1::Experiment& experiment) {
  const v1::Expectations& expect = experiment.spec().expect();
  std::vector<NamedAlert> named;
  std::set<std::string> seen;
  for (const v1::AlertExpectation& alert : expect.alerts()) {
    named.push_back({AlertRole::kExpected, alert.alert(), &alert});
    seen.insert(alert.alert());
  }
  const auto add = [&](AlertRole role, const std::string& alert) {
    if (seen.insert(alert).second) named.push_back({role, alert, nullptr});
  };
  for (const v1::AlertExpectation& alert : expect.alerts()) {
    for (const std::string& later : alert.before()) add(AlertRole::kBefore, later);
  }
  for (const std::string& alert : expect.must_not_fire()) add(AlertRole::kForbidden, alert);
  for (const std::string& alert : expect.may_fire()) add(AlertRole::kTolerated, alert);
  return named;
}

std::vector<const AlertingRule*> AlertingSnapshot::RulesOf(const std::string& alert) const {
  std::vector<const AlertingRule*> found;
  for (const AlertingRule& rule : rules) {
    if (rule.name == alert) found.push_back(&rule);
  }
  return found;
}

std::vector<AlertingSnapshot> LookAtAlerting(const v1::Experiment& experiment,
                                             const v1::SiteSpec& site, absl::Duration deadline,
                                             const Clock& clock, std::stop_token stop) {
  return Look(experiment, site, deadline, clock, std::move(stop)).Run();
}

std::vector<Matcher> MatchersOf(const v1::AlertExpectation& expectation) {
  std::vector<Matcher> matchers;
  for (const std::string& text : expectation.matchers()) {
    absl::StatusOr<Matcher> matcher = ParseMatcher(text);
    if (matcher.ok()) matchers.push_back(*std::move(matcher));
  }
  return matchers;
}

AlertRoute RouteOf(const AlertingSnapshot& snapshot, const AlertmanagerLook& alertmanager,
                   const AlertingRule& rule, const v1::AlertExpectation& expectation) {
  AlertRoute route;
  // A rule's labels win over those of its series; external ones only fill what is missing.
  std::set<std::string> open;
  const auto series = snapshot.series.find(rule.query);
  if (series != snapshot.series.end()) open = series->second.labels;
  for (const auto& [name, value] : rule.labels) {
    if (IsTemplate(value)) {
      open.insert(name);
    } else if (!value.empty()) {
      route.known[name] = value;
    }
  }
  for (const Matcher& matcher : MatchersOf(expectation)) {
    if (matcher.kind == MatchKind::kEqual && !matcher.value.empty()) {
      route.known.emplace(matcher.label, matcher.value);
    }
  }
  for (const auto& [name, value] : snapshot.external_labels) {
    if (open.count(name) == 0) route.known.emplace(name, value);
  }
  route.known["alertname"] = rule.name;
  for (const auto& [name, value] : route.known) open.erase(name);
  route.open = std::move(open);
  route.decision = DecideRoutes(alertmanager.config.root, route.known, route.open);
  return route;
}

bool CanMatch(const AlertingSnapshot& snapshot, const AlertingRule& rule,
              const std::vector<Matcher>& matchers) {
  for (const Matcher& matcher : matchers) {
    if (matcher.label == "alertname") {
      if (!MatchesValue(matcher, rule.name)) return false;
      continue;
    }
    const auto label = rule.labels.find(matcher.label);
    if (label != rule.labels.end()) {
      if (!IsTemplate(label->second) && !MatchesValue(matcher, label->second)) return false;
      continue;
    }
    // From the series, from outside, or absent.
    const auto series = snapshot.series.find(rule.query);
    // Nobody knows the labels of series that are not there.
    const bool from_series = series == snapshot.series.end() ||
                             !series->second.presence.blind.empty() ||
                             series->second.labels.count(matcher.label) > 0;
    if (from_series) continue;
    if (!Matches(matcher, snapshot.external_labels)) return false;
  }
  return true;
}

}  // namespace firedrill
