// Which alerts a person would have seen, what they say, and where the time of the expected ones
// went.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/report_facts.h"
#include "controller/words.h"
#include "experiment/matcher.h"

namespace firedrill::reporting {
namespace {

constexpr char kMeasured[] = "measured";
constexpr char kConfigured[] = "configured";
constexpr char kUnknown[] = "not measured apart";

template <typename Names>
bool Has(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool HasLabels(const AlertEpisode& episode, const v1::AlertExpectation& expected) {
  std::vector<Matcher> matchers;
  for (const std::string& text : expected.matchers()) {
    if (auto matcher = ParseMatcher(text); matcher.ok()) matchers.push_back(*std::move(matcher));
  }
  return episode.HasLabels(matchers);
}

AlertRole RoleOf(const v1::Expectations& expect, const AlertEpisode& episode,
                 std::string* expectation) {
  bool symptom = false;
  for (const v1::AlertExpectation& expected : expect.alerts()) {
    if (expected.alert() == episode.alert && HasLabels(episode, expected)) {
      *expectation = expected.name();
      return AlertRole::kExpected;
    }
    symptom = symptom || Has(expected.before(), episode.alert);
  }
  if (Has(expect.must_not_fire(), episode.alert)) return AlertRole::kMisleading;
  if (symptom) return AlertRole::kSymptom;
  return Has(expect.may_fire(), episode.alert) ? AlertRole::kKnown : AlertRole::kUnnamed;
}

std::string Annotation(const AlertEpisode& episode, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = episode.annotations.find(name);
    if (found != episode.annotations.end() && !found->second.empty()) return found->second;
  }
  return "";
}

AlertSeen SeenOf(const v1::RunCreated& created, const AlertEpisode& episode) {
  AlertSeen seen;
  seen.alert = episode.alert;
  seen.role = RoleOf(created.experiment().spec().expect(), episode, &seen.expectation);
  seen.pages = MeansPage(created.site(), episode);
  if (episode.pending.has_value()) seen.pending = episode.pending->at;
  if (episode.firing.has_value()) seen.firing = episode.firing->at;
  if (const auto resolved = episode.Resolved()) seen.ended = resolved->at;
  for (const auto& [receiver, delivery] : episode.deliveries) {
    if (!delivery.firing.has_value()) continue;
    if (seen.delivered.has_value() && *seen.delivered <= *delivery.firing) continue;
    seen.delivered = delivery.firing;
    seen.end_told = delivery.resolved;
    seen.receiver = receiver;
  }
  seen.ends = {seen.ended};
  seen.ends_told = {seen.end_told};
  seen.says = Annotation(episode, {"summary", "description", "message", "title"});
  seen.runbook = Annotation(episode, {"runbook", "runbook_url"});
  return seen;
}

std::string UpTo(absl::Duration duration) { return absl::StrCat("up to ", Short(duration)); }

const v1::AlertArithmetic* ArithmeticOf(const v1::Plan& plan, const std::string& expectation) {
  for (const v1::AlertArithmetic& arithmetic : plan.arithmetic()) {
    if (arithmetic.expectation() == expectation) return &arithmetic;
  }
  return nullptr;
}

// From the anchor until an evaluation found the condition true.
void AddUntilPending(const v1::AlertTimes& times, const v1::AlertArithmetic* configured,
                     std::vector<AlertPart>& parts) {
  const absl::Duration took = FromProto(times.pending()) - FromProto(times.anchor());
  parts.push_back({"until its rule saw the failure (pending)", took, kMeasured, false, ""});
  if (configured == nullptr) {
    parts.push_back(
        {"scrape, evaluation, the condition itself", std::nullopt, kUnknown, true, "unknown"});
    return;
  }
  const absl::Duration scrape = FromProto(configured->scrape());
  const absl::Duration evaluation = FromProto(configured->evaluation());
  parts.push_back({"wait for the scrape", std::nullopt, kConfigured, true, UpTo(scrape)});
  parts.push_back({"wait for the evaluation", std::nullopt, kConfigured, true, UpTo(evaluation)});
  // The condition may take its time to come true: a rate's window must fill, a pool run empty.
  const absl::Duration least = std::max(absl::ZeroDuration(), took - scrape - evaluation);
  const absl::Duration most = std::max(absl::ZeroDuration(), took);
  parts.push_back({"until its condition was true", std::nullopt, kUnknown, true,
                   least > absl::ZeroDuration() ? absl::StrCat(Short(least), " to ", Short(most))
                                                : UpTo(most)});
}

void AddDelivery(const v1::AlertTimes& times, const AlertEpisode* episode,
                 const v1::AlertArithmetic* configured, std::vector<AlertPart>& parts) {
  const absl::Duration took = FromProto(times.notified()) - FromProto(times.firing());
  parts.push_back({"from firing until it was delivered", took, kMeasured, false, ""});
  if (episode != nullptr && episode->reached_alertmanager.has_value()) {
    const absl::Duration seen = episode->reached_alertmanager->at - FromProto(times.firing());
    // Alertmanager is asked every half second: it may have had the alert for that long.
    if (seen > absl::ZeroDuration() && seen < took) {
      parts.push_back(
          {"on its way to Alertmanager", std::nullopt, "measured, by asking it", true, UpTo(seen)});
    }
  }
  if (configured == nullptr || !configured->has_group_wait()) {
    parts.push_back({"grouping and sending", std::nullopt, kUnknown, true, "unknown"});
    return;
  }
  const absl::Duration group_wait = FromProto(configured->group_wait());
  parts.push_back({"grouping (group_wait)", std::nullopt, kConfigured, true, Short(group_wait)});
  if (took >= group_wait) {
    parts.push_back(
        {"sending", std::nullopt, "what is left of the measured", true, Short(took - group_wait)});
  } else {
    parts.push_back({"sending", std::nullopt, "unknown: its group did not wait", true, "unknown"});
  }
}

const AlertEpisode* EpisodeOf(const std::vector<AlertEpisode>& episodes,
                              const v1::AlertTimes& times) {
  for (const AlertEpisode& episode : episodes) {
    if (episode.alert != times.alert() || !episode.firing.has_value()) continue;
    if (ToProto(episode.firing->at).nanos() == times.firing().nanos() &&
        ToProto(episode.firing->at).seconds() == times.firing().seconds()) {
      return &episode;
    }
  }
  return nullptr;
}

std::string WhatRuleAsks(const v1::AlertArithmetic* configured) {
  return configured == nullptr ? "the rule's `for`"
                               : absl::StrCat("the rule's `for` (",
                                              Short(FromProto(configured->hold())), " configured)");
}

AlertBreakdown BreakdownOf(const v1::AlertTimes& times, const v1::AlertExpectation& expected,
                           const v1::AlertArithmetic* configured,
                           const std::vector<AlertEpisode>& episodes) {
  AlertBreakdown breakdown{times.expectation(), times.alert(), expected.since(), {}, {}};
  std::vector<AlertPart>& parts = breakdown.parts;
  if (!times.has_anchor()) return breakdown;
  const absl::Time anchor = FromProto(times.anchor());
  const auto total = [&](absl::string_view what, const google::protobuf::Timestamp& until) {
    breakdown.total = AlertPart{std::string(what), FromProto(until) - anchor, "the sum", false, ""};
  };
  if (!times.has_pending() && !times.has_firing()) return breakdown;
  if (times.has_pending()) {
    const absl::Duration before = anchor - FromProto(times.pending());
    if (before > absl::ZeroDuration() && times.has_firing()) {
      // The condition was true before the anchor: a part of its `for` was over by then.
      parts.push_back({absl::StrCat("what was left of ", WhatRuleAsks(configured)),
                       FromProto(times.firing()) - anchor, kMeasured, false, ""});
      parts.push_back({absl::StrCat("pending before ", expected.since()), std::nullopt, kMeasured,
                       true, Short(before)});
    } else {
      AddUntilPending(times, configured, parts);
    }
    if (!times.has_firing()) {
      parts.push_back({absl::StrCat(WhatRuleAsks(configured), ": it ended before"), std::nullopt,
                       "never fired", false, "-"});
      return breakdown;
    }
    if (before <= absl::ZeroDuration()) {
      parts.push_back({WhatRuleAsks(configured),
                       FromProto(times.firing()) - FromProto(times.pending()), kMeasured, false,
                       ""});
    }
  } else {
    // Only Alertmanager saw it, which does not know when it was pending.
    parts.push_back({"scrape, evaluation and `for`", FromProto(times.firing()) - anchor,
                     "measured together", false, ""});
  }
  total("until it fired", times.firing());
  if (times.has_notified()) {
    AddDelivery(times, EpisodeOf(episodes, times), configured, parts);
    total(absl::StrCat("until ", expected.notification().receiver(), " was told"),
          times.notified());
  } else if (expected.has_notification()) {
    parts.push_back({absl::StrCat(expected.notification().receiver(), " was not told"),
                     std::nullopt, "never delivered", false, "-"});
  }
  return breakdown;
}

}  // namespace

std::vector<AlertSeen> AlertsOf(const std::vector<v1::Event>& history,
                                const std::optional<Instant>& started) {
  const v1::RunCreated& created = history.front().created();
  std::vector<AlertSeen> alerts;
  for (const AlertEpisode& episode : AlertEpisodes(history)) {
    if (!started.has_value()) break;
    // What was there before is nobody's answer to this run.
    const Instant begin = episode.Begin();
    if (begin.at + begin.error + started->error < started->at) continue;
    AlertSeen seen = SeenOf(created, episode);
    const auto known = std::find_if(alerts.begin(), alerts.end(), [&](const AlertSeen& other) {
      return other.alert == seen.alert && other.role == seen.role;
    });
    if (known == alerts.end()) {
      alerts.push_back(std::move(seen));
      continue;
    }
    if (known->firing.has_value() && !seen.firing.has_value()) continue;
    if (known->firing.has_value() == seen.firing.has_value()) {
      seen.ends.insert(seen.ends.begin(), known->ends.begin(), known->ends.end());
      seen.ends_told.insert(seen.ends_told.begin(), known->ends_told.begin(),
                            known->ends_told.end());
    }
    known->ends = seen.ends;
    known->ends_told = seen.ends_told;
    const bool first =
        seen.firing.has_value() && (!known->firing.has_value() || seen.Known() < known->Known());
    if (first) *known = std::move(seen);
  }
  std::stable_sort(alerts.begin(), alerts.end(), [](const AlertSeen& a, const AlertSeen& b) {
    if (a.firing.has_value() != b.firing.has_value()) return a.firing.has_value();
    return a.firing.has_value() ? a.Known() < b.Known() : *a.pending < *b.pending;
  });
  return alerts;
}

std::vector<AlertBreakdown> BreakdownsOf(const std::vector<v1::Event>& history,
                                         const v1::Judgement& judgement) {
  const v1::RunCreated& created = history.front().created();
  const v1::Expectations& expect = created.experiment().spec().expect();
  const std::vector<AlertEpisode> episodes = AlertEpisodes(history);
  std::vector<AlertBreakdown> breakdowns;
  for (const v1::AlertTimes& times : judgement.alerts()) {
    for (const v1::AlertExpectation& expected : expect.alerts()) {
      if (expected.name() != times.expectation()) continue;
      breakdowns.push_back(BreakdownOf(
          times, expected, ArithmeticOf(created.plan(), times.expectation()), episodes));
    }
  }
  return breakdowns;
}

}  // namespace firedrill::reporting
