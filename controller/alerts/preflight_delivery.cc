// Preflight's look at the way from Prometheus to our webhook.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/preflight_checks.h"
#include "experiment/address.h"

namespace firedrill {
namespace {

using Finding = v1::Finding;

// Alertmanager drops an empty group at the next of its rounds.
constexpr absl::Duration kGroupRounds = absl::Seconds(30);

std::string LabelsText(const Labels& labels) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : labels) parts.push_back(absl::StrCat(name, "=\"", value, "\""));
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

std::string ReceiversText(const std::vector<RouteHit>& hits) {
  std::vector<std::string> names;
  for (const RouteHit& hit : hits) {
    names.push_back(hit.path.empty() ? absl::StrCat(hit.receiver, " (the default route)")
                                     : absl::StrCat(hit.receiver, " (", hit.path, ")"));
  }
  return names.empty() ? "nobody" : JoinWords(names);
}

bool Reaches(const std::vector<RouteHit>& hits, const std::string& receiver) {
  return std::any_of(hits.begin(), hits.end(),
                     [&](const RouteHit& hit) { return hit.receiver == receiver; });
}

// Whether an address in a receiver's webhook_config is ours. One that is not on loopback leads
// through a proxy that we cannot see: then the path decides.
bool IsOurUrl(const std::string& url, const Address& listen, const std::string& path) {
  const absl::StatusOr<Address> there = ParseUrl(url);
  if (!there.ok()) return false;
  if (there->path != path) return false;
  const int port = there->port != 0 ? there->port : there->scheme == "https" ? 443 : 80;
  return !IsLoopback(*there) || port == listen.port;
}

class DeliveryChecks {
 public:
  DeliveryChecks(const v1::SiteSpec& site, const v1::Plan& plan, const AlertingSnapshot& snapshot,
                 std::vector<Finding>& findings)
      : site_(site), plan_(plan), snapshot_(snapshot), findings_(findings) {}

  void Check(const v1::AlertExpectation& expectation) {
    expectation_ = &expectation;
    const std::vector<Matcher> matchers = MatchersOf(expectation);
    for (const AlertmanagerLook& alertmanager : snapshot_.alertmanagers) {
      if (!alertmanager.status.ok()) continue;
      bool first = true;
      for (const AlertingRule* rule : snapshot_.RulesOf(expectation.alert())) {
        if (!CanMatch(snapshot_, *rule, matchers)) continue;
        const AlertRoute route = RouteOf(snapshot_, alertmanager, *rule, expectation);
        Silences(alertmanager, route);
        LiveGroup(alertmanager, *rule, route, matchers);
        if (first && expectation.has_notification()) Routes(alertmanager, route);
        first = false;
      }
      if (expectation.has_notification()) Receiver(alertmanager);
    }
    if (expectation.has_notification() && snapshot_.prometheus.ok() &&
        snapshot_.alertmanager_urls.has_value() && snapshot_.alertmanager_urls->empty()) {
      Add(Finding::KIND_DEFECT, "no-alertmanager-wired",
          absl::StrCat("Prometheus at ", snapshot_.prometheus_url, " sends its alerts to nobody"),
          "add `alerting.alertmanagers` to Prometheus' configuration");
    }
  }

 private:
  // Each thing once, however many rules or Alertmanagers say it.
  void Add(Finding::Kind kind, const std::string& code, const std::string& message,
           const std::string& mend) {
    for (const Finding& known : findings_) {
      if (known.code() == code && known.subject() == expectation_->name()) return;
    }
    findings_.push_back(MakeFinding(kind, code, expectation_->name(), message, mend));
  }

  void Silences(const AlertmanagerLook& alertmanager, const AlertRoute& route) {
    for (const Silence& silence : alertmanager.silences) {
      if (silence.state == "expired") continue;
      bool certain = true;
      bool possible = true;
      for (const Matcher& matcher : silence.matchers) {
        if (route.open.count(matcher.label) > 0) {
          certain = false;
        } else {
          possible = possible && Matches(matcher, route.known);
        }
      }
      if (!possible || silence.matchers.empty()) continue;
      std::vector<std::string> texts;
      for (const Matcher& matcher : silence.matchers) texts.push_back(MatcherText(matcher));
      const std::string what = absl::StrCat("the silence ", silence.id, " of ", silence.created_by,
                                            " (", absl::StrJoin(texts, ", "), ") until ",
                                            firedrill::FormatTime(silence.ends_at));
      const std::string mend = absl::StrCat("expire it: amtool silence expire ", silence.id,
                                            " --alertmanager.url=", alertmanager.url);
      const absl::Time end = snapshot_.now + FromProto(plan_.longest());
      if (!certain) {
        Add(Finding::KIND_NOTE, "maybe-silenced",
            absl::StrCat(what, " may cover ", expectation_->alert()), mend);
      } else if (silence.state == "active" || silence.starts_at <= end) {
        Add(Finding::KIND_DEFECT, "silenced",
            absl::StrCat(expectation_->alert(), " is silenced: ", what, " keeps it from everybody"),
            mend);
      } else {
        Add(Finding::KIND_NOTE, "silenced-later",
            absl::StrCat(expectation_->alert(), " will be silenced: ", what), mend);
      }
    }
  }

  // An alert that Alertmanager still remembers is notified late or not at all when it fires again.
  void LiveGroup(const AlertmanagerLook& alertmanager, const AlertingRule& rule,
                 const AlertRoute& route, const std::vector<Matcher>& matchers) {
    for (const AlertmanagerAlert& alert : alertmanager.alerts) {
      if (alert.name != expectation_->alert() || !MatchesAll(matchers, alert.labels)) continue;
      Add(Finding::KIND_CIRCUMSTANCE, "live-group",
          absl::StrCat("Alertmanager at ", alertmanager.url, " holds ", alert.name,
                       " already, since ", firedrill::FormatTime(alert.starts_at)),
          "wait until it is resolved there; `amtool alert` shows it");
    }
    const auto last = snapshot_.last_firing.find(expectation_->name());
    if (last == snapshot_.last_firing.end()) return;
    for (const RouteHit& hit : route.decision.hits) {
      absl::Duration memory = rule.interval + hit.group_interval + absl::Seconds(1);
      // Its group is empty by then, and makes a new alert wait up to another group_interval.
      const bool waits = expectation_->has_notification() &&
                         FromProto(expectation_->notification().within()) < hit.group_interval;
      if (waits) memory += kGroupRounds;
      const absl::Duration left = last->second + memory - snapshot_.now;
      if (left <= absl::ZeroDuration()) continue;
      Add(Finding::KIND_CIRCUMSTANCE, "live-group",
          absl::StrCat(
              expectation_->alert(), " fired until ",
              firedrill::FormatDuration(absl::Ceil(snapshot_.now - last->second, absl::Seconds(1))),
              " ago, and Alertmanager remembers its group (group_interval ",
              firedrill::FormatDuration(hit.group_interval),
              "): fired again now, it would be notified late or never"),
          absl::StrCat("wait ", firedrill::FormatDuration(absl::Ceil(left, absl::Seconds(1))),
                       ", then try again"));
    }
  }

  void Routes(const AlertmanagerLook& alertmanager, const AlertRoute& route) {
    const std::string& receiver = expectation_->notification().receiver();
    if (alertmanager.config.receivers.count(receiver) == 0) {
      std::vector<std::string> names;
      for (const auto& [name, webhooks] : alertmanager.config.receivers) names.push_back(name);
      const std::string nearest = NearestOf(receiver, names);
      return Add(Finding::KIND_DEFECT, "receiver-missing",
                 absl::StrCat("Alertmanager at ", alertmanager.url, " has no receiver ", receiver,
                              "; there is ", JoinWords(names)),
                 nearest.empty() ? "add the receiver, or correct notification.receiver"
                                 : absl::StrCat("did you mean ", nearest, "?"));
    }
    if (Reaches(route.decision.hits, receiver)) return;
    if (Reaches(route.decision.possible, receiver)) {
      return Add(Finding::KIND_NOTE, "route-undecided",
                 absl::StrCat("whether ", expectation_->alert(), " reaches ", receiver,
                              " depends on labels of its series"),
                 "nothing, where the series have the labels that the route wants");
    }
    Add(Finding::KIND_DEFECT, "route-elsewhere",
        absl::StrCat(expectation_->alert(), " with ", LabelsText(route.known), " goes to ",
                     ReceiversText(route.decision.hits.empty() ? route.decision.possible
                                                               : route.decision.hits),
                     ", not to ", receiver),
        absl::StrCat("add a route to ", receiver,
                     " for these labels, or correct the rule's labels; try: "
                     "amtool config routes test --alertmanager.url=",
                     alertmanager.url));
  }

  void Receiver(const AlertmanagerLook& alertmanager) {
    const std::string& name = expectation_->notification().receiver();
    const auto receiver = alertmanager.config.receivers.find(name);
    if (receiver == alertmanager.config.receivers.end()) return;
    const v1::WebhookReceiver* ours = nullptr;
    for (const v1::WebhookReceiver& known : site_.webhook().receivers()) {
      if (known.name() == name) ours = &known;
    }
    if (ours == nullptr) return;  // Said already.
    const absl::StatusOr<Address> listen = ParseListenAddress(site_.webhook().listen());
    if (!listen.ok()) return;
    std::vector<std::string> urls;
    bool hidden = false;
    for (const ReceiverWebhook& webhook : receiver->second) {
      urls.push_back(webhook.url);
      hidden = hidden || absl::StartsWith(webhook.url, "<");
      if (!IsOurUrl(webhook.url, *listen, ours->path())) continue;
      if (!webhook.send_resolved && expectation_->has_resolved()) {
        Add(Finding::KIND_NOTE, "resolve-not-sent",
            absl::StrCat("the receiver ", name, " does not send resolved alerts to our webhook"),
            "set send_resolved: true to have the delivery of the resolve timed");
      }
      return;
    }
    if (hidden) {
      return Add(Finding::KIND_NOTE, "receiver-hidden",
                 absl::StrCat("Alertmanager does not show the webhook addresses of ", name,
                              ": whether ours is among them only a delivery can show"),
                 "nothing");
    }
    Add(Finding::KIND_DEFECT, "receiver-not-wired",
        absl::StrCat("the receiver ", name, " of Alertmanager at ", alertmanager.url, " has ",
                     urls.empty() ? std::string("no webhook")
                                  : absl::StrCat("the webhooks ", JoinWords(urls)),
                     ", none of which is http://", site_.webhook().listen(), ours->path()),
        absl::StrCat("add to the receiver ", name, ": webhook_configs: [{url: 'http://",
                     site_.webhook().listen(), ours->path(), "'}]"));
  }

  const v1::SiteSpec& site_;
  const v1::Plan& plan_;
  const AlertingSnapshot& snapshot_;
  std::vector<Finding>& findings_;
  const v1::AlertExpectation* expectation_ = nullptr;
};

}  // namespace

void CheckDelivery(const v1::Experiment& experiment, const v1::SiteSpec& site, const v1::Plan& plan,
                   const AlertingSnapshot& snapshot, std::vector<v1::Finding>& findings) {
  DeliveryChecks checks(site, plan, snapshot, findings);
  for (const v1::AlertExpectation& expectation : experiment.spec().expect().alerts()) {
    if (expectation.has_notification()) {
      const std::string& receiver = expectation.notification().receiver();
      if (site.alertmanagers().empty()) {
        findings.push_back(
            MakeFinding(Finding::KIND_CIRCUMSTANCE, "no-alertmanager", expectation.name(),
                        "a notification is expected, and the site file names no Alertmanager",
                        "add `alertmanagers: [{url: ...}]` to the site file"));
      }
      const auto& receivers = site.webhook().receivers();
      if (std::none_of(receivers.begin(), receivers.end(),
                       [&](const v1::WebhookReceiver& ours) { return ours.name() == receiver; })) {
        findings.push_back(MakeFinding(
            Finding::KIND_CIRCUMSTANCE, "no-webhook", expectation.name(),
            absl::StrCat("a notification of ", receiver,
                         " is expected, and `webhook.receivers` of the site file does not name it"),
            absl::StrCat("add it to the site file, and its address to the receiver ", receiver,
                         " of Alertmanager")));
      }
    }
    checks.Check(expectation);
  }
}

}  // namespace firedrill
