// Judges the contract on each alert: fires in time, is delivered, ends, and comes before its
// symptoms.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/words.h"
#include "experiment/matcher.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

// One expected alert on its way through the parts of its contract.
struct Contract {
  const v1::AlertExpectation& expected;
  std::string path;
  const v1::AlertArithmetic* arithmetic = nullptr;
  std::optional<Since> since;
  // Episodes that this run's fault may have caused, and those that were there before it.
  std::vector<const AlertEpisode*> credited;
  std::vector<const AlertEpisode*> before;
  // The first of the credited that fired.
  const AlertEpisode* fired = nullptr;
  v1::AlertTimes* times = nullptr;
};

const v1::AlertArithmetic* ArithmeticOf(const Case& run, const std::string& expectation) {
  for (const v1::AlertArithmetic& arithmetic : run.plan.arithmetic()) {
    if (arithmetic.expectation() == expectation) return &arithmetic;
  }
  return nullptr;
}

// True where it was active before the fault. Where the clocks cannot tell it is credited, and the
// comparison of its time with the budget is what counts.
bool WasActiveBefore(const AlertEpisode& episode, const Instant& started) {
  const Instant begin = episode.Begin();
  return begin.at + begin.error + started.error < started.at;
}

void Assign(const Case& run, Contract& contract) {
  std::vector<Matcher> matchers;
  for (const std::string& text : contract.expected.matchers()) {
    if (auto matcher = ParseMatcher(text); matcher.ok()) matchers.push_back(*std::move(matcher));
  }
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != contract.expected.alert() || !episode.HasLabels(matchers)) continue;
    if (WasActiveBefore(episode, contract.since->started)) {
      contract.before.push_back(&episode);
      continue;
    }
    contract.credited.push_back(&episode);
    if (!episode.firing.has_value()) continue;
    if (contract.fired == nullptr || episode.firing->at < contract.fired->firing->at) {
      contract.fired = &episode;
    }
  }
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

bool SawPending(const Contract& contract, const AlertEpisode** pending) {
  for (const AlertEpisode* episode : contract.credited) {
    if (episode->pending.has_value() && !episode->firing.has_value()) {
      *pending = episode;
      return true;
    }
  }
  return false;
}

// Other instances of the rule, whose labels were not asked for.
const AlertEpisode* OtherLabels(const Case& run, const Contract& contract) {
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != contract.expected.alert() || !episode.firing.has_value()) continue;
    if (WasActiveBefore(episode, contract.since->started)) continue;
    return &episode;
  }
  return nullptr;
}

std::string LabelsText(const std::map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : labels) {
    if (name != "alertname") parts.push_back(absl::StrCat(name, "=\"", value, "\""));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

void JudgeNotFired(Case& run, Contract& contract, Result& result) {
  const v1::AlertExpectation& expected = contract.expected;
  const std::string& alert = expected.alert();
  const absl::Time anchor = contract.since->at.at;
  const absl::Time deadline = anchor + FromProto(expected.firing_within());
  result.set_observed("never fired");
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap = BlindIn(run, {"prometheus"}, contract.since->started.at, deadline)) {
    return Doubt(result, "blind",
                 absl::StrCat("Prometheus told nothing fresh from ", run.At(gap->from), " to ",
                              run.At(gap->to), ", while it should have fired"),
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
  const AlertEpisode* pending = nullptr;
  if (SawPending(contract, &pending)) {
    const absl::Time until = pending->ended.has_value() ? pending->ended->at : run.end;
    result.set_observed(
        absl::StrCat("pending ", After(pending->pending->at - anchor, expected.since()), ", for ",
                     Short(until - pending->pending->at), ", and never fired"));
    const std::string hold =
        contract.arithmetic != nullptr
            ? absl::StrCat(" of ", Short(FromProto(contract.arithmetic->hold())))
            : std::string();
    return Fail(result, "only-pending",
                absl::StrCat("its condition was true for ", Short(until - pending->pending->at),
                             ", which is shorter than the rule's `for`", hold),
                absl::StrCat("shorten `for` of ", alert, ", or let the fault last longer"));
  }
  if (const AlertEpisode* other = OtherLabels(run, contract)) {
    const auto& labels = other->outer_labels.empty() ? other->labels : other->outer_labels;
    result.set_observed(absl::StrCat("fired only with other labels: ", LabelsText(labels)));
    return Fail(result, "other-labels",
                absl::StrCat(alert, " fired, but no instance has ",
                             absl::StrJoin(expected.matchers(), ", ")),
                "change the rule's labels, or the matchers here");
  }
  for (const AlertEpisode* episode : contract.credited) {
    if (!episode->vanished.has_value()) continue;
    return Doubt(result, "blind", absl::StrCat(alert, "'s series went away while it was pending"),
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
      return Pass(result, result.observed());
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
  if (BlindIn(run, {"prometheus"}, contract.since->started.at, firing.at)) {
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

void JudgeNotDelivered(Case& run, const Contract& contract, Result& result) {
  const std::string& receiver = contract.expected.notification().receiver();
  const absl::Time deadline =
      contract.since->at.at + FromProto(contract.expected.notification().within());
  result.set_observed("never delivered");
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap = BlindIn(run, {"webhook", "alertmanager", "prometheus"},
                               contract.since->at.at, deadline)) {
    return Doubt(result, "blind",
                 absl::StrCat(gap->source, " told nothing from ", run.At(gap->from), " to ",
                              run.At(gap->to)));
  }
  if (contract.fired->suppressed) {
    return Fail(result, "silenced",
                absl::StrCat(contract.expected.alert(),
                             " was silenced or inhibited at Alertmanager, so that nobody was told"),
                "remove the silence or the inhibition rule");
  }
  if (!run.created.site().spec().alertmanagers().empty() &&
      !contract.fired->reached_alertmanager.has_value()) {
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
                    " and that this receiver has our webhook"));
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
    return Doubt(result, "never-fired", "it did not fire, so that there was nothing to deliver");
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
  const absl::Duration grouped = *delivered - contract.fired->firing->at;
  Fail(result, "late",
       absl::StrCat("it was delivered ", Short(measured - budget), " too late, ", Short(grouped),
                    " after it fired"),
       grouped > budget / 2 ? "shorten `group_wait` of its route"
                            : Longer(contract, "notification.within"));
}

// ---- resolved

void JudgeNotResolved(Case& run, const Contract& contract, absl::Time deadline,
                      const AlertEpisode& open, Result& result) {
  result.set_observed(absl::StrCat("still ", open.ended.has_value() ? "at Alertmanager" : "firing",
                                   " at the run's end"));
  // What stays unknown is no matter of time, and no failure either.
  const bool only_alertmanager = !open.pending.has_value() && !open.ended.has_value();
  if (open.vanished.has_value() || (only_alertmanager && open.left_alertmanager.has_value())) {
    result.set_observed(absl::StrCat(
        "went away ",
        run.At(open.vanished.has_value() ? open.vanished->at : open.left_alertmanager->at),
        " without its series"));
    return Doubt(result, "blind-resolve",
                 absl::StrCat(contract.expected.alert(),
                              " went away while its series were absent: that is blindness, not the "
                              "end of what it was about"),
                 "see why the exporter stopped answering");
  }
  if (CutShort(run, deadline, result)) return;
  if (const Gap* gap =
          BlindIn(run, {"prometheus", "alertmanager"}, contract.since->started.at, deadline)) {
    return Doubt(result, "blind",
                 absl::StrCat(gap->source, " told nothing fresh from ", run.At(gap->from), " to ",
                              run.At(gap->to)));
  }
  Fail(result, "not-resolved",
       absl::StrCat(contract.expected.alert(), " was still active when the run ended"),
       "see what keeps its condition true after the fault's end, or allow more time");
}

// The same instance began again after it had gone out of sight: then that is how it went on.
bool WentOn(const Contract& contract, const AlertEpisode& episode) {
  return episode.vanished.has_value() &&
         std::any_of(contract.credited.begin(), contract.credited.end(), [&](const auto* later) {
           return later->labels == episode.labels && later->Begin().at > episode.Begin().at;
         });
}

void JudgeResolved(Case& run, Contract& contract) {
  const v1::AlertExpectation& expected = contract.expected;
  if (!expected.has_resolved()) return;
  const v1::ResolvedExpectation& wanted = expected.resolved();
  const absl::Duration budget = FromProto(wanted.within());
  Result& result = run.Add(Result::KIND_ALERT_RESOLVED, absl::StrCat(expected.name(), "/resolved"),
                           contract.path, "resolved");
  result.set_expected(absl::StrCat("resolved within ", Short(budget), " of ", wanted.since()));
  *result.mutable_budget() = wanted.within();
  const std::optional<Since> since = Anchored(run, wanted.since(), result);
  if (!since.has_value()) return;
  if (contract.fired == nullptr) {
    result.set_observed("never fired");
    return Doubt(result, "never-fired", "it did not fire, so that there was nothing to resolve");
  }
  std::optional<Instant> last;
  const absl::Time deadline = since->at.at + budget;
  std::optional<absl::Time> told;
  for (const AlertEpisode* episode : contract.credited) {
    if (!episode->firing.has_value() || WentOn(contract, *episode)) continue;
    const std::optional<Instant> resolved = episode->Resolved();
    if (!resolved.has_value()) return JudgeNotResolved(run, contract, deadline, *episode, result);
    if (!last.has_value() || resolved->at > last->at) last = resolved;
    for (const auto& [receiver, delivery] : episode->deliveries) {
      if (expected.has_notification() && receiver != expected.notification().receiver()) continue;
      if (!delivery.resolved.has_value()) continue;
      told = std::max(told.value_or(*delivery.resolved), *delivery.resolved);
    }
  }
  if (!last.has_value()) {
    return Doubt(result, "blind-resolve", "it went out of sight before it fired again");
  }
  *contract.times->mutable_resolved() = ToProto(last->at);
  if (told.has_value()) *contract.times->mutable_resolve_notified() = ToProto(*told);
  const absl::Duration measured = last->at - since->at.at;
  const absl::Duration error = last->error + since->at.error;
  *result.mutable_measured() = ToProto(measured);
  result.set_observed(absl::StrCat("resolved ", After(measured, wanted.since())));
  const Fit fit = Compare(measured, budget, error);
  if (fit == Fit::kWithin) {
    if (measured + error < absl::ZeroDuration()) {
      run.Note("resolved-early", expected.name(),
               absl::StrCat(expected.alert(), " resolved ", Short(-measured), " before ",
                            wanted.since()),
               "see whether its condition really ended, or only went out of sight");
    }
    return Pass(result, result.observed());
  }
  if (fit == Fit::kTooCloseToCall) {
    return Doubt(result, "clock", "the clocks do not tell whether that was in time");
  }
  if (CutShort(run, deadline, result)) return;
  if (BlindIn(run, {"prometheus", "alertmanager"}, since->at.at, last->at)) {
    return Doubt(result, "blind",
                 "a source told nothing fresh, so that it may have resolved in time");
  }
  Fail(result, "late", absl::StrCat("it resolved ", Short(measured - budget), " too late"),
       "allow more time in resolved.within, or shorten the window that its expression looks back "
       "on");
}

// ---- order

// The first evaluation in which `alert` fired because of this run.
const AlertEpisode* FirstFiring(const Case& run, const std::string& alert, const Since& since) {
  const AlertEpisode* first = nullptr;
  for (const AlertEpisode& episode : run.episodes) {
    if (episode.alert != alert || !episode.firing_raw.has_value()) continue;
    if (WasActiveBefore(episode, since.started)) continue;
    if (first == nullptr || *episode.firing_raw < *first->firing_raw) first = &episode;
  }
  return first;
}

void JudgeOrder(Case& run, const Contract& contract, const std::string& symptom) {
  const v1::AlertExpectation& expected = contract.expected;
  Result& result =
      run.Add(Result::KIND_ALERT_ORDER, absl::StrCat(expected.name(), "/before/", symptom),
              contract.path, "before");
  result.set_expected(absl::StrCat(expected.alert(), " firing before ", symptom));
  if (!Anchored(run, expected.since(), result).has_value()) return;
  const AlertEpisode* other = FirstFiring(run, symptom, *contract.since);
  const AlertEpisode* first = contract.fired;
  const auto blind = [&] {
    return BlindIn(run, {"prometheus"}, contract.since->started.at,
                   contract.since->at.at + FromProto(expected.firing_within())) != nullptr;
  };
  if (other == nullptr) {
    result.set_observed(absl::StrCat(symptom, " never fired"));
    if (first == nullptr) {
      return Doubt(result, "never-fired", "neither of them fired, so that there is no order");
    }
    if (blind()) return Doubt(result, "blind", "Prometheus told nothing fresh for a while");
    if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
    return Pass(result, result.observed());
  }
  const std::string other_at = run.At(other->firing->at);
  if (first != nullptr && *first->firing_raw < *other->firing_raw) {
    return Pass(result,
                absl::StrCat(Short(*other->firing_raw - *first->firing_raw), " before ", symptom));
  }
  if (!run.finished.has_value()) return Doubt(result, "open", "the run has not finished");
  if (first != nullptr && *first->firing_raw == *other->firing_raw) {
    result.set_observed(absl::StrCat("both in the evaluation at ", other_at));
    run.Note("tie", result.name(),
             absl::StrCat(expected.alert(), " and ", symptom,
                          " fired in the same evaluation: neither was first"),
             "evaluate more often, or put them into different groups");
    return Doubt(result, "tie", "both fired in the same evaluation");
  }
  result.set_observed(
      first == nullptr
          ? absl::StrCat(symptom, " fired at ", other_at, ", ", expected.alert(), " never")
          : absl::StrCat(symptom, " fired ", Short(*first->firing_raw - *other->firing_raw),
                         " before it"));
  if (blind()) return Doubt(result, "blind", "Prometheus told nothing fresh for a while");
  Fail(result, "wrong-order",
       absl::StrCat("the symptom (", symptom, ") was named before the cause (", expected.alert(),
                    ")"),
       absl::StrCat("make ", expected.alert(), " quicker, or ", symptom, " slower"));
}

}  // namespace

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

void JudgeForbidden(Case& run) {
  for (int i = 0; i < run.spec.expect().must_not_fire_size(); ++i) {
    const std::string& alert = run.spec.expect().must_not_fire(i);
    Result& result =
        run.Add(Result::KIND_FORBIDDEN_ALERT, alert, absl::StrCat("expect.mustNotFire[", i, "]"));
    result.set_expected(absl::StrCat(alert, " does not fire"));
    const AlertEpisode* fired = nullptr;
    const AlertEpisode* pending = nullptr;
    for (const AlertEpisode& episode : run.episodes) {
      if (episode.alert != alert) continue;
      // By when it was seen: what is learnt later must not take back what was said.
      if (!episode.seen_firing.has_value()) {
        pending = &episode;
      } else if (episode.seen_firing->at >= *run.gate_passed && fired == nullptr) {
        fired = &episode;
      }
    }
    if (fired != nullptr) {
      result.set_observed(absl::StrCat("fired at ", run.At(fired->firing->at)));
      *result.mutable_measured() = ToProto(fired->firing->at - *run.gate_passed);
      Fail(result, "forbidden-fired",
           absl::StrCat(alert, " fired during the run, and would have sent someone the wrong way"),
           absl::StrCat("make ", alert, " tell this failure from the one it is meant for"));
      continue;
    }
    const std::string observed =
        pending == nullptr
            ? "never fired"
            : absl::StrCat("pending at ", run.At(pending->Begin().at), ", never fired");
    result.set_observed(observed);
    if (!run.finished.has_value()) {
      Doubt(result, "open", "the run has not finished");
    } else if (run.stop.has_value()) {
      Doubt(result, "cut-short", "the run was stopped, and it might have fired later");
    } else if (const Gap* gap = BlindIn(run, {"prometheus"}, *run.gate_passed, run.end)) {
      Doubt(result, "blind",
            absl::StrCat("Prometheus told nothing fresh from ", run.At(gap->from), " to ",
                         run.At(gap->to), ", and it may have fired then"));
    } else {
      Pass(result, observed);
    }
  }
}

}  // namespace firedrill::judging
