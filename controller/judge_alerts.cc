// Judges the contract on each alert: that it fires in time, and is delivered.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/judge_contract.h"
#include "controller/words.h"
#include "experiment/matcher.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

const v1::AlertArithmetic* ArithmeticOf(const Case& run, const std::string& expectation) {
  for (const v1::AlertArithmetic& arithmetic : run.plan.arithmetic()) {
    if (arithmetic.expectation() == expectation) return &arithmetic;
  }
  return nullptr;
}

void Assign(const Case& run, Contract& contract) {
  std::vector<Matcher> matchers;
  for (const std::string& text : contract.expected.matchers()) {
    if (auto matcher = ParseMatcher(text); matcher.ok()) matchers.push_back(*std::move(matcher));
  }
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != contract.expected.alert()) continue;
    const bool was_there = WasActiveBefore(episode, contract.since->started);
    if (!episode.HasLabels(matchers)) {
      const bool first = contract.otherwise == nullptr;
      if (first && episode.firing.has_value() && !was_there) contract.otherwise = &episode;
      continue;
    }
    if (was_there) {
      contract.before.push_back(&episode);
      continue;
    }
    contract.credited.push_back(&episode);
    if (!episode.firing.has_value()) continue;
    if (contract.fired == nullptr || episode.firing->at < contract.fired->firing->at) {
      contract.fired = &episode;
    }
  }
  if (contract.fired != nullptr) contract.otherwise = nullptr;
}

std::string Arithmetic(const Contract& contract) {
  if (contract.arithmetic == nullptr) return "";
  return contract.arithmetic->explanation();
}

std::string Longer(const Contract& contract, const std::string& what) {
  const std::string sum = Arithmetic(contract);
  return absl::StrCat("allow more time in ", what, ", or make the rule quicker",
                      sum.empty() ? "" : absl::StrCat(" (", sum, ")"));
}

// ---- why it did not fire

// How often it was pending without firing, as one instance, and for how long at most.
struct Pendings {
  const AlertEpisode* first = nullptr;
  int times = 0;
  absl::Duration longest;
};

Pendings PendingsOf(const Case& run, const Contract& contract) {
  Pendings pendings;
  std::map<std::map<std::string, std::string>, int> times;
  for (const AlertEpisode* episode : contract.credited) {
    if (!episode->pending.has_value() || episode->firing.has_value()) continue;
    if (pendings.first == nullptr) pendings.first = episode;
    const absl::Time until = episode->ended.has_value() ? episode->ended->at : run.end;
    pendings.longest = std::max(pendings.longest, until - episode->pending->at);
    pendings.times = std::max(pendings.times, ++times[episode->labels]);
  }
  return pendings;
}

std::string LabelsText(const std::map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : labels) {
    if (name != "alertname") parts.push_back(absl::StrCat(name, "=\"", value, "\""));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

// The matchers that these labels do not fulfil.
std::string Unmatched(const v1::AlertExpectation& expected,
                      const std::map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const std::string& text : expected.matchers()) {
    const auto matcher = ParseMatcher(text);
    if (matcher.ok() && !Matches(*matcher, labels)) parts.push_back(text);
  }
  return absl::StrJoin(parts, ", ");
}

void JudgeNotFired(Case& run, Contract& contract, Result& result) {
  const v1::AlertExpectation& expected = contract.expected;
  const std::string& alert = expected.alert();
  const absl::Time anchor = contract.since->at.at;
  const absl::Time deadline = anchor + FromProto(expected.firing_within());
  result.set_observed("never fired");
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap = BlindIn(run, {"prometheus"}, contract.since->started.at, deadline)) {
    return Doubt(result, "blind", absl::StrCat(GapText(run, *gap), ", while it should have fired"),
                 "make Prometheus answer during the fault, or run again");
  }
  if (const ImpactSeen* impact = MissingImpact(run, *contract.since)) {
    return Doubt(result, "no-impact",
                 absl::StrCat("impact ", impact->name,
                              " was not reached, so that there was less to alert about"),
                 absl::StrCat("first make sure that impact ", impact->name, " is reached"));
  }
  if (!contract.before.empty()) {
    const AlertEpisode& early = *contract.before.back();
    result.set_observed(absl::StrCat(early.firing.has_value() ? "firing" : "pending", " since ",
                                     run.At(early.Begin().at), ", before the fault began"));
    // Still on while the fault was: it could not begin a second time.
    const bool in_the_way =
        !early.ended.has_value() || early.ended->at > contract.since->started.at;
    if (in_the_way) {
      return Doubt(result, "already-active",
                   absl::StrCat(alert,
                                " was active before the fault, so that the fault cannot have "
                                "caused it"),
                   "wait until it has resolved and stayed so, and run again");
    }
  }
  const Pendings pendings = PendingsOf(run, contract);
  if (pendings.times > 0) {
    const std::string longest = Short(pendings.longest);
    const std::string begun = After(pendings.first->pending->at - anchor, expected.since());
    const std::string hold =
        contract.arithmetic != nullptr
            ? absl::StrCat(" of ", Short(FromProto(contract.arithmetic->hold())))
            : std::string();
    const std::string why =
        absl::StrCat(", and did not last for the whole of the rule's `for`", hold);
    if (pendings.times == 1) {
      result.set_observed(absl::StrCat("pending ", begun, ", for ", longest, ", and never fired"));
      return Fail(result, "only-pending", absl::StrCat("its condition was true for ", longest, why),
                  absl::StrCat("shorten `for` of ", alert, ", or let the fault last longer"));
    }
    result.set_observed(absl::StrCat("pending ", pendings.times, " times, first ", begun,
                                     ", never longer than ", longest, ", and never fired"));
    return Fail(
        result, "only-pending",
        absl::StrCat("its condition came and went ", pendings.times, " times, never longer than ",
                     longest, why),
        absl::StrCat("let the condition of ", alert,
                     " look at a longer time, so that it stays true, or shorten its `for`"));
  }
  if (const AlertEpisode* other = contract.otherwise) {
    const auto& labels = other->outer_labels.empty() ? other->labels : other->outer_labels;
    result.set_observed(
        absl::StrCat("firing ", After(other->firing->at - anchor, expected.since())));
    return Fail(result, "other-labels",
                absl::StrCat("it fired with labels that are not asked for: ", LabelsText(labels),
                             ", and not ", Unmatched(expected, labels)),
                "change the rule's labels, or the matchers here");
  }
  for (const AlertEpisode* episode : contract.credited) {
    if (!episode->vanished.has_value()) continue;
    return Doubt(
        result, "blind",
        absl::StrCat(alert, episode->unwatched
                                ? " was pending when the controller went away, and nobody watched"
                                : "'s series went away while it was pending"),
        "see why the exporter stopped answering");
  }
  Fail(result, "never-fired",
       absl::StrCat("the condition of ", alert, " never became true, not even pending"),
       absl::StrCat("compare the expression and threshold of ", alert,
                    " with what the fault did to its series"));
}

void JudgeFiring(Case& run, Contract& contract) {
  const v1::AlertExpectation& expected = contract.expected;
  const absl::Duration budget = FromProto(expected.firing_within());
  Result& result = run.Add(Result::KIND_ALERT_FIRING, expected.name(), contract.path);
  result.set_expected(
      absl::StrCat(expected.alert(), " firing within ", Short(budget), " of ", expected.since()));
  *result.mutable_budget() = expected.firing_within();
  contract.since = Anchored(run, expected.since(), result);
  if (!contract.since.has_value()) return;
  Assign(run, contract);
  *contract.times->mutable_anchor() = ToProto(contract.since->at.at);
  for (const AlertEpisode* episode : contract.credited) {
    if (contract.fired != nullptr && episode != contract.fired) continue;
    if (episode->pending.has_value())
      *contract.times->mutable_pending() = ToProto(episode->pending->at);
    break;
  }
  if (contract.fired == nullptr) {
    return JudgeNotFired(run, contract, result);
  }
  const Instant& firing = *contract.fired->firing;
  *contract.times->mutable_firing() = ToProto(firing.at);
  if (contract.fired->pending.has_value()) {
    *contract.times->mutable_pending() = ToProto(contract.fired->pending->at);
  }
  const absl::Duration measured = firing.at - contract.since->at.at;
  const absl::Duration error = firing.error + contract.since->at.error;
  *result.mutable_measured() = ToProto(measured);
  result.set_observed(absl::StrCat("firing ", After(measured, expected.since())));
  switch (Compare(measured, budget, error)) {
    case Fit::kWithin:
      if (!DidNotStay(run, contract, result)) Pass(result, result.observed());
      return;
    case Fit::kTooCloseToCall:
      return Doubt(result, "clock",
                   absl::StrCat("the clocks are known to ", Short(error),
                                ", which is more than what is between this and the limit"),
                   "synchronise the clocks, or leave more room in firingWithin");
    case Fit::kBeyond:
      break;
  }
  const absl::Time deadline = contract.since->at.at + budget;
  if (CutShort(run, deadline, result)) return;
  if (BlindIn(run, {"prometheus"}, contract.since->started.at, firing.at) ||
      AwayIn(run, contract.since->started.at, firing.at)) {
    return Doubt(
        result, "blind",
        "Prometheus told nothing fresh for a while before it was seen, so that it may have "
        "fired in time");
  }
  if (const ImpactSeen* impact = MissingImpact(run, *contract.since)) {
    return Doubt(result, "no-impact", absl::StrCat("impact ", impact->name, " was not reached"));
  }
  const absl::Time anchor = contract.since->at.at;
  std::string where;
  if (contract.fired->pending.has_value()) {
    const absl::Time pending = contract.fired->pending->at;
    where = absl::StrCat(": ", Short(pending - anchor), " until it was pending, ",
                         Short(firing.at - pending), " of `for`; limit ", Short(budget));
  }
  Fail(result, "late", absl::StrCat("it fired ", Short(measured - budget), " too late", where),
       Longer(contract, "firingWithin"));
}

// ---- delivered

std::optional<absl::Time> FirstDelivery(const Contract& contract, const std::string& receiver) {
  std::optional<absl::Time> first;
  for (const AlertEpisode* episode : contract.credited) {
    auto delivery = episode->deliveries.find(receiver);
    if (delivery == episode->deliveries.end() || !delivery->second.firing.has_value()) continue;
    first = std::min(first.value_or(*delivery->second.firing), *delivery->second.firing);
  }
  return first;
}

// Which other receivers were told.
std::vector<std::string> OtherReceivers(const Contract& contract, const std::string& receiver) {
  std::vector<std::string> others;
  for (const AlertEpisode* episode : contract.credited) {
    for (const auto& [name, delivery] : episode->deliveries) {
      if (name != receiver && delivery.firing.has_value()) others.push_back(name);
    }
  }
  return others;
}

// What Alertmanager has under the same name, and Prometheus does not: its labels were changed on
// the way.
const AlertEpisode* Relabelled(const Case& run, const Contract& contract) {
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != contract.expected.alert() || !episode.labels.empty()) continue;
    if (!episode.firing.has_value() || WasActiveBefore(episode, contract.since->started)) continue;
    return &episode;
  }
  return nullptr;
}

// Those that Alertmanager does not have, or has otherwise.
std::string LostLabels(const AlertEpisode& sent, const AlertEpisode& got) {
  std::vector<std::string> lost;
  for (const auto& [name, value] : sent.labels) {
    const auto found = got.outer_labels.find(name);
    if (found == got.outer_labels.end()) {
      lost.push_back(absl::StrCat("without ", name, "=\"", value, "\""));
    } else if (found->second != value) {
      lost.push_back(
          absl::StrCat("with ", name, "=\"", found->second, "\" and not \"", value, "\""));
    }
  }
  return lost.empty() ? "with other labels" : JoinWords(lost);
}

void JudgeNotDelivered(Case& run, const Contract& contract, Result& result) {
  const std::string& receiver = contract.expected.notification().receiver();
  const absl::Time deadline =
      contract.since->at.at + FromProto(contract.expected.notification().within());
  result.set_observed("never delivered");
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap = BlindIn(run, {"webhook", "alertmanager", "prometheus"},
                               contract.since->at.at, deadline)) {
    return Doubt(result, "blind", GapText(run, *gap));
  }
  if (contract.fired->suppressed) {
    return Fail(result, "silenced",
                absl::StrCat(contract.expected.alert(),
                             " was silenced or inhibited at Alertmanager, so that nobody was told"),
                "remove the silence or the inhibition rule");
  }
  if (!run.created.site().spec().alertmanagers().empty() &&
      !contract.fired->reached_alertmanager.has_value()) {
    if (const AlertEpisode* got = Relabelled(run, contract)) {
      return Fail(result, "relabelled",
                  absl::StrCat("it reached Alertmanager ", LostLabels(*contract.fired, *got),
                               ", and nobody was told at ", receiver),
                  "see `alert_relabel_configs` under `alerting:` in Prometheus' configuration");
    }
    return Fail(result, "not-at-alertmanager",
                absl::StrCat("it fired in Prometheus and never reached Alertmanager"),
                "see `alerting:` in Prometheus' configuration");
  }
  const std::vector<std::string> others = OtherReceivers(contract, receiver);
  if (!others.empty()) {
    return Fail(result, "wrong-receiver",
                absl::StrCat("it was delivered to ", JoinWords(others), " and not to ", receiver),
                absl::StrCat("route ", contract.expected.alert(), " to ", receiver,
                             " in Alertmanager's configuration"));
  }
  Fail(result, "not-delivered",
       absl::StrCat("it fired, and receiver ", receiver, " was never told"),
       absl::StrCat("see that the alert's route leads to ", receiver,
                    ", that this receiver has our webhook, and that neither a time at which the "
                    "route is muted nor the `group_interval` of a group that fired before holds "
                    "it back"));
}

void JudgeDelivered(Case& run, const Contract& contract) {
  const v1::AlertExpectation& expected = contract.expected;
  if (!expected.has_notification()) return;
  const v1::NotificationExpectation& wanted = expected.notification();
  const absl::Duration budget = FromProto(wanted.within());
  Result& result =
      run.Add(Result::KIND_ALERT_DELIVERED, absl::StrCat(expected.name(), "/delivered"),
              contract.path, "notification");
  result.set_expected(absl::StrCat("delivered to ", wanted.receiver(), " within ", Short(budget),
                                   " of ", expected.since()));
  *result.mutable_budget() = wanted.within();
  if (!Anchored(run, expected.since(), result).has_value()) return;
  if (contract.fired == nullptr) {
    result.set_observed("never delivered");
    return Doubt(result, "never-fired",
                 contract.otherwise != nullptr
                     ? "it fired with labels that are not asked for, which is nothing to deliver"
                     : "it did not fire, so that there was nothing to deliver");
  }
  const std::optional<absl::Time> delivered = FirstDelivery(contract, wanted.receiver());
  if (!delivered.has_value()) return JudgeNotDelivered(run, contract, result);
  *contract.times->mutable_notified() = ToProto(*delivered);
  const absl::Duration measured = *delivered - contract.since->at.at;
  *result.mutable_measured() = ToProto(measured);
  result.set_observed(absl::StrCat("delivered ", After(measured, expected.since())));
  switch (Compare(measured, budget, contract.since->at.error)) {
    case Fit::kWithin:
      return Pass(result, result.observed());
    case Fit::kTooCloseToCall:
      return Doubt(result, "clock", "the clocks do not tell whether that was in time");
    case Fit::kBeyond:
      break;
  }
  if (CutShort(run, contract.since->at.at + budget, result)) return;
  if (const ImpactSeen* impact = MissingImpact(run, *contract.since)) {
    return Doubt(result, "no-impact", absl::StrCat("impact ", impact->name, " was not reached"));
  }
  if (const Gap* gap = AwayIn(run, contract.since->at.at, *delivered)) {
    return Doubt(result, "blind",
                 absl::StrCat(GapText(run, *gap), ", so that it may have been sent in time"));
  }
  const absl::Duration grouped = *delivered - contract.fired->firing->at;
  Fail(result, "late",
       absl::StrCat("it was delivered ", Short(measured - budget), " too late, ", Short(grouped),
                    " after it fired"),
       grouped > budget / 2 ? "shorten `group_wait` of its route"
                            : Longer(contract, "notification.within"));
}

}  // namespace

bool WasActiveBefore(const AlertEpisode& episode, const Instant& started) {
  const Instant begin = episode.Begin();
  return begin.at + begin.error + started.error < started.at;
}

void JudgeAlerts(Case& run) {
  for (int i = 0; i < run.spec.expect().alerts_size(); ++i) {
    const v1::AlertExpectation& expected = run.spec.expect().alerts(i);
    Contract contract{expected, absl::StrCat("expect.alerts[", i, "]"),
                      ArithmeticOf(run, expected.name())};
    contract.times = run.out->add_alerts();
    contract.times->set_expectation(expected.name());
    contract.times->set_alert(expected.alert());
    JudgeFiring(run, contract);
    JudgeDelivered(run, contract);
    JudgeResolved(run, contract);
    for (const std::string& symptom : expected.before()) JudgeOrder(run, contract, symptom);
  }
}

}  // namespace firedrill::judging
