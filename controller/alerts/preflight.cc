// Looks, judges, and sends the canary.
#include "controller/alerts/preflight.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/preflight_checks.h"
#include "controller/alerts/snapshot.h"
#include "controller/alerts/webhook.h"

namespace firedrill {
namespace {

constexpr absl::Duration kAnswerWithin = absl::Seconds(3);
// The canary ends by itself.
constexpr absl::Duration kCanaryLives = absl::Seconds(30);

Labels CanaryLabels(const std::string& run) {
  return {{"alertname", "FiredrillCanary"}, {kCanaryLabel, run}};
}

// Where Alertmanager's own configuration sends the canary, for the message when it gets lost.
std::string CanaryWay(const AlertingSnapshot& snapshot, const std::string& run) {
  for (const AlertmanagerLook& look : snapshot.alertmanagers) {
    if (!look.status.ok()) continue;
    const RouteDecision decision = DecideRoutes(look.config.root, CanaryLabels(run));
    std::vector<std::string> names;
    for (const RouteHit& hit : decision.hits) names.push_back(hit.receiver);
    return absl::StrCat("its route leads to ", JoinWords(names));
  }
  return "its route is not known";
}

absl::Duration CanaryGroupWait(const AlertingSnapshot& snapshot, const std::string& run) {
  absl::Duration longest;
  for (const AlertmanagerLook& look : snapshot.alertmanagers) {
    for (const RouteHit& hit : DecideRoutes(look.config.root, CanaryLabels(run)).hits) {
      if (look.status.ok()) longest = std::max(longest, hit.group_wait);
    }
  }
  return longest;
}

void SendCanary(const PreflightInput& input, const AlertingSnapshot& snapshot, const Clock& clock,
                std::stop_token stop, PreflightResult& result) {
  const std::string& run = input.plan.run();
  const absl::Time now = clock.Now();
  const absl::Duration begin = clock.Boot();
  std::vector<std::string> troubles;
  bool posted = false;
  for (int i = 0; i < input.site.alertmanagers_size(); ++i) {
    const auto client = AlertmanagerClient::Make(input.site.alertmanagers(i), kAnswerWithin, stop);
    const absl::Status status =
        client.ok() ? client->PostAlerts({{CanaryLabels(run),
                                           {{"summary", "a firedrill run proves its alert path"}},
                                           now,
                                           now + kCanaryLives}})
                    : client.status();
    if (!status.ok()) troubles.emplace_back(status.message());
    posted = posted || status.ok();
  }
  v1::CanaryReport report;
  const absl::Duration patience = input.canary_within + CanaryGroupWait(snapshot, run);
  if (posted && input.wait_for_canary(patience).has_value()) {
    report.set_delivered(true);
    *report.mutable_took() = ToProto(clock.Boot() - begin);
  } else if (!stop.stop_requested()) {
    report.set_reason(
        posted ? absl::StrCat("not at our webhook ", input.site.webhook().listen(), " within ",
                              firedrill::FormatDuration(patience), "; ", CanaryWay(snapshot, run))
               : absl::StrCat("no Alertmanager took it: ", absl::StrJoin(troubles, "; ")));
    result.findings.push_back(MakeFinding(
        v1::Finding::KIND_DEFECT, "canary-lost", "canary",
        absl::StrCat("the canary alert was lost: ", report.reason()),
        absl::StrCat(
            "give Alertmanager a first route with matchers [", kCanaryLabel,
            "=~\".+\"] and group_wait 0s to a receiver whose webhook_config is ours, with its "
            "bearer token; its log names failed deliveries")));
  }
  result.canary = std::move(report);
}

// What one replica has been found to have is not said again of the next; what only another one has
// says which.
void AddNew(std::vector<v1::Finding> found, const std::string& url,
            std::vector<v1::Finding>& findings) {
  for (v1::Finding& finding : found) {
    const bool known = std::any_of(findings.begin(), findings.end(), [&](const v1::Finding& other) {
      return other.code() == finding.code() && other.subject() == finding.subject();
    });
    if (known) continue;
    if (!url.empty() && !absl::StrContains(finding.message(), url)) {
      finding.set_message(absl::StrCat(finding.message(), " (seen at ", url, ")"));
    }
    findings.push_back(std::move(finding));
  }
}

}  // namespace

PreflightResult RunPreflight(const PreflightInput& input, const Clock& clock,
                             std::stop_token stop) {
  PreflightResult result;
  const std::vector<AlertingSnapshot> looks =
      LookAtAlerting(input.experiment, input.site, input.deadline, clock, stop);
  const AlertingSnapshot& snapshot = looks.front();
  CheckServers(input.experiment, input.site, looks, result.findings);
  // Each replica must be able to fire: tomorrow it may be the only one.
  for (const AlertingSnapshot& look : looks) {
    std::vector<v1::Finding> findings;
    CheckRules(input.experiment, input.site, input.plan, look, findings);
    CheckDelivery(input.experiment, input.site, input.plan, look, findings);
    AddNew(std::move(findings), looks.size() > 1 ? look.prometheus_url : "", result.findings);
    if (!look.prometheus.ok()) break;  // Nor do those that follow.
  }
  const bool answers = std::any_of(snapshot.alertmanagers.begin(), snapshot.alertmanagers.end(),
                                   [](const AlertmanagerLook& look) { return look.status.ok(); });
  // A run that cannot start needs no proof of its alert path.
  const bool not_now = std::any_of(
      result.findings.begin(), result.findings.end(),
      [](const v1::Finding& finding) { return finding.kind() == v1::Finding::KIND_CIRCUMSTANCE; });
  if (answers && !not_now && input.wait_for_canary != nullptr &&
      ExpectsNotification(input.experiment) && !stop.stop_requested()) {
    SendCanary(input, snapshot, clock, stop, result);
  }
  return result;
}

AlertingFacts GatherFacts(const v1::Experiment& experiment, const v1::SiteSpec& site,
                          absl::Duration deadline, std::stop_token stop) {
  const std::vector<AlertingSnapshot> looks =
      LookAtAlerting(experiment, site, deadline, RealClock(), std::move(stop));
  const AlertingSnapshot& snapshot = looks.front();
  AlertingFacts facts;
  for (const v1::AlertExpectation& expectation : experiment.spec().expect().alerts()) {
    const std::vector<Matcher> matchers = MatchersOf(expectation);
    for (const AlertingRule* rule : snapshot.RulesOf(expectation.alert())) {
      if (!CanMatch(snapshot, *rule, matchers)) continue;
      AlertingFacts::Rule fact;
      fact.alert = rule->name;
      fact.group = rule->group;
      fact.hold = rule->hold;
      fact.evaluation = rule->interval;
      const auto series = snapshot.series.find(rule->query);
      if (series != snapshot.series.end()) fact.scrape = series->second.scrape;
      facts.rules.push_back(std::move(fact));
      for (const AlertmanagerLook& look : snapshot.alertmanagers) {
        if (!look.status.ok()) continue;
        const AlertRoute route = RouteOf(snapshot, look, *rule, expectation);
        for (const auto* hits : {&route.decision.hits, &route.decision.possible}) {
          for (const RouteHit& hit : *hits) {
            if (hit.receiver == expectation.notification().receiver()) {
              facts.group_wait.emplace(rule->name, hit.group_wait);
            }
          }
        }
      }
    }
  }
  return facts;
}

}  // namespace firedrill
