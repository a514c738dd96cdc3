// Compares two looks. Prometheus evaluates a group at instants that lie whole intervals apart, and
// `activeAt` is one of them; `lastEvaluation` is a little later than its instant. So the instants
// can be had exactly, and two rules of one group that change in one evaluation get the same one.
#include "controller/alerts/fold.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/alerts/webhook.h"

namespace firedrill {
namespace {

void SetLabels(const Labels& labels, v1::AlertTransition& transition) {
  for (const auto& [name, value] : labels) (*transition.mutable_labels())[name] = value;
}

// Identity of an instance within one source.
std::string KeyOf(const std::string& group, const Labels& labels) {
  std::string key = group;
  for (const auto& [name, value] : labels) absl::StrAppend(&key, "\1", name, "\2", value);
  return key;
}

// The last instant not after `time`.
absl::Time InstantBefore(absl::Time time, absl::Time some_instant, absl::Duration interval) {
  if (time == absl::InfinitePast() || interval <= absl::ZeroDuration()) return some_instant;
  return some_instant + absl::Floor(time - some_instant, interval);
}

// When an instance that is firing now began to. `seen_pending`: the last instant at which it was
// not.
absl::Time BeganToFire(const AlertingRule& rule, const PrometheusAlert& alert,
                       absl::Time seen_pending) {
  const absl::Time earliest =
      alert.active_at +
      (rule.interval > absl::ZeroDuration() ? absl::Ceil(rule.hold, rule.interval) : rule.hold);
  return seen_pending == absl::InfinitePast() ? earliest
                                              : std::max(earliest, seen_pending + rule.interval);
}

}  // namespace

AlertChanges AlertFold::FeedPrometheus(const std::vector<AlertingRule>& rules) {
  AlertChanges changes;
  std::map<std::string, Known> now;
  std::map<std::string, const AlertingRule*> by_group_and_name;
  for (const AlertingRule& rule : rules) {
    by_group_and_name[absl::StrCat(rule.group, "\1", rule.name)] = &rule;
    for (const PrometheusAlert& alert : rule.alerts) {
      if (alert.labels.count(kCanaryLabel) > 0) continue;
      const std::string key = KeyOf(rule.group, alert.labels);
      const auto before = known_.find(key);
      const bool same_life = before != known_.end() &&
                             FromProto(before->second.transition.active_at()) == alert.active_at;
      Known known;
      known.group = rule.group;
      known.instant = InstantBefore(rule.last_evaluation, alert.active_at, rule.interval);
      known.interval = rule.interval;
      v1::AlertTransition& transition = known.transition;
      transition.set_source(v1::ALERT_SOURCE_PROMETHEUS);
      transition.set_alert(rule.name);
      SetLabels(alert.labels, transition);
      transition.set_state(alert.state);
      *transition.mutable_active_at() = ToProto(alert.active_at);
      transition.set_value(alert.value);
      SetAnnotations(alert.annotations, transition);
      if (same_life && before->second.transition.state() == alert.state) {
        *transition.mutable_evaluated_at() = before->second.transition.evaluated_at();
      } else {
        const bool fires = alert.state == v1::ALERT_STATE_FIRING;
        *transition.mutable_evaluated_at() =
            ToProto(fires ? BeganToFire(rule, alert,
                                        same_life ? before->second.instant : absl::InfinitePast())
                          : alert.active_at);
        changes.begun.push_back(transition);
      }
      now[key] = std::move(known);
    }
  }
  for (auto& [key, known] : known_) {
    if (now.count(key) > 0) continue;
    EndedAlert ended{known.transition};
    ended.transition.set_state(v1::ALERT_STATE_INACTIVE);
    const auto rule =
        by_group_and_name.find(absl::StrCat(known.group, "\1", known.transition.alert()));
    if (rule == by_group_and_name.end()) {
      // The rule is gone, and with it whoever could have said that it ended.
      ended.rule_gone = true;
      *ended.transition.mutable_evaluated_at() = ToProto(known.instant + known.interval);
    } else {
      const absl::Time instant =
          InstantBefore(rule->second->last_evaluation, FromProto(known.transition.active_at()),
                        rule->second->interval);
      *ended.transition.mutable_evaluated_at() =
          ToProto(std::max(instant, known.instant + known.interval));
    }
    *ended.transition.mutable_ends_at() = ended.transition.evaluated_at();
    changes.ended.push_back(std::move(ended));
  }
  known_ = std::move(now);
  return changes;
}

AlertChanges AlertFold::FeedAlertmanager(const std::vector<AlertmanagerAlert>& alerts,
                                         absl::Time observed) {
  AlertChanges changes;
  std::map<std::string, Known> now;
  for (const AlertmanagerAlert& alert : alerts) {
    if (alert.labels.count(kCanaryLabel) > 0) continue;
    Known known;
    v1::AlertTransition& transition = known.transition;
    transition.set_source(v1::ALERT_SOURCE_ALERTMANAGER);
    transition.set_alert(alert.name);
    SetLabels(alert.labels, transition);
    transition.set_state(v1::ALERT_STATE_FIRING);
    *transition.mutable_active_at() = ToProto(alert.starts_at);
    *transition.mutable_evaluated_at() = ToProto(observed);
    transition.set_fingerprint(alert.fingerprint);
    transition.set_suppressed(alert.suppressed);
    const auto before = known_.find(alert.fingerprint);
    const bool same = before != known_.end() &&
                      FromProto(before->second.transition.active_at()) == alert.starts_at &&
                      before->second.transition.suppressed() == alert.suppressed;
    if (!same) changes.begun.push_back(transition);
    now[alert.fingerprint] = std::move(known);
  }
  for (auto& [fingerprint, known] : known_) {
    if (now.count(fingerprint) > 0) continue;
    EndedAlert ended{known.transition};
    ended.transition.set_state(v1::ALERT_STATE_RESOLVED);
    *ended.transition.mutable_evaluated_at() = ToProto(observed);
    *ended.transition.mutable_ends_at() = ToProto(observed);
    changes.ended.push_back(std::move(ended));
  }
  known_ = std::move(now);
  return changes;
}

v1::AlertTransition Settle(const EndedAlert& ended, bool series_present) {
  v1::AlertTransition transition = ended.transition;
  const bool known = series_present && !ended.rule_gone;
  transition.set_series_present(known);
  if (!known) transition.set_state(v1::ALERT_STATE_UNKNOWN);
  return transition;
}

}  // namespace firedrill
