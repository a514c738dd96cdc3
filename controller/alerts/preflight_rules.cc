// Preflight's look at servers and rules.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/preflight_checks.h"

namespace firedrill {
namespace {

using Finding = v1::Finding;

class RuleChecks {
 public:
  RuleChecks(const v1::Plan& plan, const AlertingSnapshot& snapshot, std::vector<Finding>& findings)
      : plan_(plan), snapshot_(snapshot), findings_(findings) {}

  void Check(const NamedAlert& named) {
    const std::vector<const AlertingRule*> rules = snapshot_.RulesOf(named.alert);
    if (rules.empty()) return Missing(named);
    std::vector<const AlertingRule*> fitting = rules;
    if (named.expectation != nullptr) {
      const std::vector<Matcher> matchers = MatchersOf(*named.expectation);
      fitting.erase(std::remove_if(fitting.begin(), fitting.end(),
                                   [&](const AlertingRule* rule) {
                                     return !CanMatch(snapshot_, *rule, matchers);
                                   }),
                    fitting.end());
      if (fitting.empty()) return Contradicts(named, *rules.front());
    }
    Health(named, fitting);
    if (named.expectation != nullptr) Time(named, fitting);
    Series(named, fitting);
    if (named.role != AlertRole::kTolerated) State(named, fitting);
  }

 private:
  void Add(Finding::Kind kind, const std::string& code, const NamedAlert& named,
           const std::string& message, const std::string& mend) {
    findings_.push_back(MakeFinding(kind, code, named.subject(), message, mend));
  }
  // What is wrong with a rule that may fire or not does no harm.
  static Finding::Kind Worst(const NamedAlert& named) {
    return named.role == AlertRole::kTolerated ? Finding::KIND_NOTE : Finding::KIND_DEFECT;
  }
  static std::string Why(const NamedAlert& named) {
    switch (named.role) {
      case AlertRole::kExpected:
        return "it can never fire";
      case AlertRole::kBefore:
        return "that it does not fire first would prove nothing";
      case AlertRole::kForbidden:
        return "that it does not fire would prove nothing";
      case AlertRole::kTolerated:
        break;
    }
    return "it will not fire";
  }

  void Missing(const NamedAlert& named) {
    std::vector<std::string> names;
    for (const AlertingRule& rule : snapshot_.rules) names.push_back(rule.name);
    const std::string nearest = NearestOf(named.alert, names);
    Add(Worst(named), "rule-missing", named,
        absl::StrCat("Prometheus at ", snapshot_.prometheus_url, " has no alerting rule ",
                     named.alert, ": ", Why(named)),
        nearest.empty()
            ? absl::StrCat("load a rule ", named.alert, " (rule_files), or correct the name")
            : absl::StrCat("did you mean ", nearest, "? Otherwise load the rule"));
  }

  void Contradicts(const NamedAlert& named, const AlertingRule& rule) {
    std::vector<std::string> labels;
    for (const auto& [name, value] : rule.labels)
      labels.push_back(absl::StrCat(name, "=\"", value, "\""));
    Add(Finding::KIND_DEFECT, "matchers-contradict", named,
        absl::StrCat("the rule ", named.alert, " has the labels {", absl::StrJoin(labels, ", "),
                     "}, which never match ", absl::StrJoin(named.expectation->matchers(), ", ")),
        "correct the rule's labels, or the expectation's matchers");
  }

  void Health(const NamedAlert& named, const std::vector<const AlertingRule*>& rules) {
    for (const AlertingRule* rule : rules) {
      if (rule->health == "ok") continue;
      if (rule->health == "unknown") {
        Add(Finding::KIND_CIRCUMSTANCE, "rule-not-evaluated", named,
            absl::StrCat("the rule ", rule->name, " has not been evaluated yet"),
            absl::StrCat("wait for an evaluation: one every ",
                         firedrill::FormatDuration(rule->interval)));
        continue;
      }
      Add(Worst(named), "rule-unhealthy", named,
          absl::StrCat("the rule ", rule->name, " cannot be evaluated: ", rule->last_error),
          "correct its expression; Prometheus' page /rules shows the error");
    }
  }

  void Time(const NamedAlert& named, const std::vector<const AlertingRule*>& rules) {
    for (const v1::AlertArithmetic& sum : plan_.arithmetic()) {
      if (sum.expectation() == named.expectation->name()) return;
    }
    const absl::Duration limit = FromProto(named.expectation->firing_within());
    absl::Duration best = absl::InfiniteDuration();
    const AlertingRule* rule = rules.front();
    for (const AlertingRule* candidate : rules) {
      const absl::Duration hold = candidate->interval > absl::ZeroDuration()
                                      ? absl::Ceil(candidate->hold, candidate->interval)
                                      : candidate->hold;
      if (hold >= best) continue;
      best = hold;
      rule = candidate;
    }
    if (best <= limit) return;
    Add(Finding::KIND_DEFECT, "cannot-fire-in-time", named,
        absl::StrCat(rule->name, " fires ", firedrill::FormatDuration(best),
                     " after its cause at the earliest: ", firedrill::FormatDuration(rule->hold),
                     " `for`, evaluated every ", firedrill::FormatDuration(rule->interval),
                     "; the limit is ", firedrill::FormatDuration(limit)),
        "shorten the rule's `for` or its group's interval, or raise firingWithin");
  }

  void Series(const NamedAlert& named, const std::vector<const AlertingRule*>& rules) {
    for (const AlertingRule* rule : rules) {
      const auto series = snapshot_.series.find(rule->query);
      if (series == snapshot_.series.end()) continue;
      const SeriesPresence& presence = series->second.presence;
      if (!presence.blind.empty()) {
        Add(Worst(named), "selector-empty", named,
            absl::StrCat("the rule ", rule->name, " reads ", absl::StrJoin(presence.blind, " and "),
                         ", and Prometheus has no such series: ", Why(named), DownTargets()),
            "look whether the exporter is scraped (Prometheus' page /targets) and still sees what "
            "it "
            "exports, or correct the rule's expression");
      }
      if (!presence.empty.empty()) {
        Add(Finding::KIND_NOTE, "selector-narrow", named,
            absl::StrCat("the rule ", rule->name, " reads ", absl::StrJoin(presence.empty, " and "),
                         ", which has no series now; others of that name exist"),
            "nothing, where such series appear only once something happens");
      }
    }
  }

  std::string DownTargets() const {
    std::vector<std::string> down;
    for (const ScrapeTarget& target : snapshot_.targets) {
      if (target.health != "down") continue;
      const auto job = target.labels.find("job");
      const auto instance = target.labels.find("instance");
      down.push_back(absl::StrCat(job == target.labels.end() ? "?" : job->second, " at ",
                                  instance == target.labels.end() ? "?" : instance->second, " (",
                                  target.last_error, ")"));
    }
    if (down.empty()) return "";
    if (down.size() > 3) down.resize(3);
    return absl::StrCat("; these targets are down: ", JoinWords(down));
  }

  void State(const NamedAlert& named, const std::vector<const AlertingRule*>& rules) {
    std::vector<Matcher> matchers;
    if (named.expectation != nullptr) matchers = MatchersOf(*named.expectation);
    for (const AlertingRule* rule : rules) {
      for (const PrometheusAlert& alert : rule->alerts) {
        Labels labels = alert.labels;
        labels.insert(snapshot_.external_labels.begin(), snapshot_.external_labels.end());
        if (!MatchesAll(matchers, labels)) continue;
        const bool fires = alert.state == v1::ALERT_STATE_FIRING;
        const auto instance = labels.find("instance");
        Add(Finding::KIND_CIRCUMSTANCE, fires ? "already-firing" : "already-pending", named,
            absl::StrCat(rule->name,
                         instance == labels.end() ? "" : absl::StrCat(" of ", instance->second),
                         fires ? " is firing already, active for " : " is pending already, for ",
                         firedrill::FormatDuration(
                             absl::Floor(snapshot_.now - alert.active_at, absl::Seconds(1))),
                         ": what it does next is not this run's doing"),
            "wait until it is inactive, or mend its cause");
        return;  // One instance is enough to know.
      }
    }
  }

  const v1::Plan& plan_;
  const AlertingSnapshot& snapshot_;
  std::vector<Finding>& findings_;
};

void CheckPages(const v1::Experiment& experiment, const v1::SiteSpec& site,
                const AlertingSnapshot& snapshot, std::vector<Finding>& findings) {
  std::set<std::string> named;
  for (const NamedAlert& alert : NamedAlerts(experiment)) named.insert(alert.alert);
  std::vector<Matcher> pages;
  for (const std::string& text : site.pages()) {
    absl::StatusOr<Matcher> matcher = ParseMatcher(text);
    if (matcher.ok()) pages.push_back(*std::move(matcher));
  }
  std::set<std::string> firing;
  for (const AlertingRule& rule : snapshot.rules) {
    if (named.count(rule.name) > 0) continue;
    for (const PrometheusAlert& alert : rule.alerts) {
      const bool page = std::any_of(pages.begin(), pages.end(), [&](const Matcher& matcher) {
        return Matches(matcher, alert.labels);
      });
      if (page && alert.state == v1::ALERT_STATE_FIRING) firing.insert(rule.name);
    }
  }
  for (const std::string& alert : firing) {
    findings.push_back(MakeFinding(Finding::KIND_NOTE, "page-firing", alert,
                                   absl::StrCat(alert, " pages already, before anything is broken"),
                                   "look whether this is a good moment for a drill"));
  }
}

// What to do about a server that cannot be asked.
std::string Mend(const absl::Status& why, const std::string& key, const std::string& url) {
  // A refusal says itself which keys are wrong.
  if (IsRefusal(why)) return absl::StrCat("correct `", key, "` in the site file, then try again");
  return absl::StrCat("start it, or correct `", key, "` in the site file; try: curl ", url);
}

}  // namespace

v1::Finding MakeFinding(v1::Finding::Kind kind, const std::string& code, const std::string& subject,
                        const std::string& message, const std::string& mend) {
  v1::Finding finding;
  finding.set_kind(kind);
  finding.set_code(code);
  finding.set_subject(subject);
  finding.set_message(message);
  finding.set_mend(mend);
  return finding;
}

bool ExpectsNotification(const v1::Experiment& experiment) {
  const auto& alerts = experiment.spec().expect().alerts();
  return std::any_of(alerts.begin(), alerts.end(),
                     [](const v1::AlertExpectation& alert) { return alert.has_notification(); });
}

void CheckServers(const v1::Experiment& experiment, const v1::SiteSpec& site,
                  const std::vector<AlertingSnapshot>& looks, std::vector<v1::Finding>& findings) {
  const AlertingSnapshot& snapshot = looks.front();
  const bool alerts = !NamedAlerts(experiment).empty();
  if (!site.has_prometheus() && alerts) {
    findings.push_back(MakeFinding(Finding::KIND_CIRCUMSTANCE, "no-prometheus", "prometheus",
                                   "the experiment names alerts, and the site file no Prometheus",
                                   "add `prometheus: {url: ...}` to the site file"));
  }
  for (const AlertingSnapshot& look : looks) {
    if (!site.has_prometheus() || look.prometheus.ok()) continue;
    const bool another = snapshot.prometheus.ok();
    findings.push_back(MakeFinding(
        another ? Finding::KIND_NOTE : Finding::KIND_CIRCUMSTANCE,
        another ? "prometheus-unreachable" : "monitor-unreachable", look.prometheus_url,
        absl::StrCat("Prometheus at ", look.prometheus_url,
                     " cannot be asked: ", std::string(look.prometheus.message())),
        Mend(look.prometheus,
             look.prometheus_url == site.prometheus().url() ? "prometheus" : "prometheusReplicas",
             look.prometheus_url + "/api/v1/rules")));
  }
  size_t answering = 0;
  for (const AlertmanagerLook& look : snapshot.alertmanagers) answering += look.status.ok() ? 1 : 0;
  for (const AlertmanagerLook& look : snapshot.alertmanagers) {
    if (look.status.ok()) continue;
    findings.push_back(
        MakeFinding(answering > 0 ? Finding::KIND_NOTE : Finding::KIND_CIRCUMSTANCE,
                    answering > 0 ? "alertmanager-unreachable" : "monitor-unreachable", look.url,
                    absl::StrCat("Alertmanager at ", look.url,
                                 " cannot be asked: ", std::string(look.status.message())),
                    Mend(look.status, "alertmanagers", look.url + "/api/v2/status")));
  }
  if (snapshot.unfinished) {
    findings.push_back(
        MakeFinding(Finding::KIND_CIRCUMSTANCE, "not-finished", "preflight",
                    "the monitoring answers so slowly that not everything could be asked",
                    "look at the load of Prometheus and Alertmanager, then try again"));
  }
}

void CheckRules(const v1::Experiment& experiment, const v1::SiteSpec& site, const v1::Plan& plan,
                const AlertingSnapshot& snapshot, std::vector<v1::Finding>& findings) {
  if (!snapshot.prometheus.ok()) return;
  RuleChecks checks(plan, snapshot, findings);
  for (const NamedAlert& named : NamedAlerts(experiment)) checks.Check(named);
  CheckPages(experiment, site, snapshot, findings);
}

}  // namespace firedrill
