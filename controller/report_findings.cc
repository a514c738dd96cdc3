// From facts to sentences: what a person would say of the run, the most important first. Every
// sentence says only what was measured, and of what.
#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report_parts.h"
#include "controller/report_teller.h"
#include "controller/words.h"

namespace firedrill::reporting {
namespace {

using Result = v1::ExpectationResult;

// So many of one kind are told each by itself, the others by their names.
constexpr size_t kMostAlike = 3;
constexpr char kFalseResolve[] = "false-resolve";

// ---- what must be known before anything else is believed

void TellTheEnd(const Teller& tell) {
  const v1::Judgement& judgement = tell.judgement;
  const bool ended = judgement.outcome() != v1::OUTCOME_UNSPECIFIED;
  if (!ended) {
    tell.Add("unfinished", absl::StrCat("The run has no end yet: this is how it stands at ",
                                        tell.At(tell.facts.end), "."));
  }
  if (judgement.outcome() != v1::OUTCOME_ABORTED) return;
  absl::Time at = tell.facts.end;
  for (const v1::Event& event : tell.history) {
    if (!event.has_stop()) continue;
    at = FromProto(event.at());
    break;
  }
  tell.Add("aborted",
           absl::StrCat("The run was stopped at ", tell.At(at), " by ",
                        StopWords(judgement.cause(), judgement.reason()),
                        "; what would have come later is not known."),
           "", false);
}

void TellWhatDidNotBite(const Teller& tell) {
  for (const Result& result : tell.judgement.results()) {
    if (result.verdict() == v1::VERDICT_PASSED) continue;
    if (result.kind() == Result::KIND_EFFICACY && result.code() == "not-in-force") {
      tell.Add("fault-without-effect",
               absl::StrCat("Fault ", result.name(), " was never in force (", result.reason(),
                            "): what is seen below was not caused by it."),
               "", false);
    } else if (result.kind() == Result::KIND_EFFICACY && result.code() != "open" &&
               result.code() != "cut-short") {
      tell.Add("fault-in-doubt", absl::StrCat("Fault ", result.name(), ": ", result.reason(), "."),
               "", false);
    }
    if (result.kind() == Result::KIND_IMPACT && result.code() == "no-impact") {
      tell.Add("no-impact",
               absl::StrCat("It did not hurt as much as was meant: ", result.name(), " expected ",
                            result.expected(), "; seen: ", result.observed(), "."),
               "", false);
    }
  }
}

// On-call was told that it is over while it was not.
void TellEarlyAllClear(const Teller& tell) {
  for (const AlertSeen& alert : tell.facts.alerts) {
    if (alert.role != AlertRole::kExpected || !alert.end_told.has_value()) continue;
    const absl::Time told = *alert.end_told;
    std::vector<std::string> broken;
    for (const Fate& fate : tell.facts.fates) {
      // What was known last when they were told, whether it was seen broken after that, too, and
      // when it was well again.
      Truth then = Truth::kUnknown;
      bool still = false;
      std::optional<absl::Time> again;
      for (const TruthPoint& point : fate.points) {
        if (point.truth == Truth::kUnknown || again.has_value()) continue;
        if (point.at <= told) {
          then = point.truth;
        } else if (point.truth == Truth::kTrue) {
          again = point.at;
        } else {
          still = true;
        }
      }
      if (then != Truth::kFalse || !still) continue;
      // It looks back for so long: all that was asked since then was answered well.
      if (again.has_value() && *again - FromProto(fate.check.over()) <= told) continue;
      broken.push_back(
          again.has_value()
              ? absl::StrCat(fate.name, " held again only ", Short(*again - told), " later")
              : absl::StrCat(fate.name, " had not held again by the end"));
    }
    if (broken.empty()) continue;
    tell.Add("early-all-clear",
             absl::StrCat("On-call was told at ", tell.At(told), " that ", alert.alert,
                          " is over, while the system was not well: ", JoinWords(broken), "."));
  }
}

// ---- what became of the routes

void TellRoutes(const Teller& tell) {
  std::vector<std::string> held, unknown;
  for (const Fate& fate : tell.facts.fates) {
    if (fate.kind == Fate::Kind::kHeld) held.push_back(fate.name);
    if (fate.kind == Fate::Kind::kUnknown) unknown.push_back(fate.name);
  }
  for (const Fate& fate : tell.facts.fates) {
    const std::string often =
        fate.times > 1 ? absl::StrCat(" (", fate.times, " times)") : std::string();
    if (fate.kind == Fate::Kind::kBack) {
      tell.Add("route-back",
               absl::StrCat(fate.name, " was broken from ", tell.At(*fate.broke), " to ",
                            tell.At(*fate.back), often, SinceEdge(tell.facts, *fate.back), "."));
    } else if (fate.kind == Fate::Kind::kStillBroken) {
      tell.Add("route-not-back",
               absl::StrCat(fate.name, " was broken from ", tell.At(*fate.broke), often,
                            " and had not come back by the end (", tell.At(tell.facts.end), ")."));
    }
  }
  if (!held.empty()) {
    tell.Add("route-unharmed", absl::StrCat(JoinWords(held), " held all the time."));
  }
  if (!unknown.empty()) {
    tell.Add("route-unknown", absl::StrCat("Nothing is known of ", JoinWords(unknown), "."));
  }
}

// What a recovery asked by itself, and not of steady state, is in no lane of a route.
void TellFailedQuestions(const Teller& tell) {
  for (const v1::RecoveryExpectation& asked : tell.spec.expect().recovery()) {
    const auto kind = asked.probe().question_case();
    if (kind == v1::Probe::kProbe || kind == v1::Probe::kLoad) continue;
    for (const Result& result : tell.judgement.results()) {
      if (result.kind() != Result::KIND_RECOVERY || result.name() != asked.name()) continue;
      if (result.verdict() != v1::VERDICT_FAILED) continue;
      tell.Add("recovery-failed",
               absl::StrCat(asked.name(), " (", result.expected(), "): ", result.reason(), "."), "",
               false);
    }
  }
}

// ---- what preflight and judgement noted besides

void TellNoted(const Teller& tell, bool during) {
  size_t vanished = 0;
  std::vector<std::string> others;
  for (const v1::Finding& finding : tell.judgement.findings()) {
    if ((finding.kind() == v1::Finding::KIND_OBSERVATION) != during) continue;
    if (finding.code() == kFalseResolve && ++vanished > kMostAlike) {
      others.push_back(finding.subject());
      continue;
    }
    const char* kind = finding.kind() == v1::Finding::KIND_DEFECT         ? "Defect: "
                       : finding.kind() == v1::Finding::KIND_CIRCUMSTANCE ? "Not now: "
                                                                          : "";
    tell.Add(finding.code(), absl::StrCat(kind, finding.message(), "."),
             finding.mend().empty() ? "" : absl::StrCat("Mend: ", finding.mend(), "."),
             during || finding.kind() == v1::Finding::KIND_CIRCUMSTANCE);
  }
  if (others.empty()) return;
  const char* const their = others.size() == 1 ? "its" : "their";
  tell.Add(kFalseResolve,
           absl::StrCat(JoinWords(others), " went away with ", their, " series, too."),
           absl::StrCat("Mend: alert on the absence of ", their, " series as well."));
}

}  // namespace

// "3.8s after lost off": of the last edge that was done by then.
std::string SinceEdge(const RunFacts& facts, absl::Time time) {
  const Edge* last = nullptr;
  for (const Edge& edge : facts.edges) {
    if (edge.to <= time) last = &edge;
  }
  return last == nullptr ? "" : absl::StrCat(", ", Short(time - last->to), " after ", last->event);
}

std::vector<RunFinding> FindingsOf(const RunFacts& facts, const std::vector<v1::Event>& history,
                                   const v1::Judgement& judgement) {
  std::vector<RunFinding> findings;
  const Teller tell{facts, history, judgement, history.front().created().experiment().spec(),
                    findings};
  if (facts.injected) {
    TellTheEnd(tell);
    TellWhatDidNotBite(tell);
    TellPages(tell);
    TellRemedies(tell);
    TellRoutes(tell);
    TellFailedQuestions(tell);
    TellEarlyAllClear(tell);
  }
  TellNoted(tell, true);
  TellNoted(tell, false);
  return findings;
}

RunFacts FactsOf(const std::vector<v1::Event>& history, const v1::Judgement& judgement) {
  RunFacts facts;
  const RunSteps steps(history);
  facts.zero = FromProto(history.front().at());
  facts.end = LastWord(history);
  absl::Time gate = facts.zero;
  for (const v1::Event& event : history) {
    if (event.has_phase() && event.phase().phase() == v1::PHASE_GATE) gate = FromProto(event.at());
    if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT && !facts.injected) {
      facts.injected = true;
      facts.zero = FromProto(event.at());
    }
  }
  facts.edges = EdgesOf(steps);
  facts.stretches = StretchesOf(facts.edges, std::min(gate, facts.zero), facts.end);
  facts.routes = RoutesOf(history);
  for (const Stretch& stretch : facts.stretches) {
    std::vector<Settled> row;
    for (const Route& route : facts.routes) row.push_back(SettledOf(history, route, stretch));
    facts.settled.push_back(std::move(row));
  }
  facts.fates = FatesOf(history, facts.edges);
  std::optional<Instant> started = steps.FirstStart();
  if (!facts.edges.empty() && (!started.has_value() || facts.edges.front().from < started->at)) {
    started = Instant{facts.edges.front().from, absl::ZeroDuration()};
  }
  facts.alerts = AlertsOf(history, started);
  facts.breakdowns = BreakdownsOf(history, judgement);
  facts.remedies = RemediesOf(facts, steps);
  return facts;
}

}  // namespace firedrill::reporting
