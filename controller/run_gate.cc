// Until faults may begin: preflight's findings are counted, and steady state must hold. The same
// checks tell when it is back.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/run_turn.h"

namespace firedrill::turn {
namespace {

bool Holds(const Turn& turn, const v1::PlannedCheck& check) {
  auto found = turn.state.gate.find(check.name());
  if (found == turn.state.gate.end() || !found->second.holding_since.has_value()) return false;
  const CheckProgress& progress = found->second;
  return *progress.holding_until - *progress.holding_since >= FromProto(check.for_()) &&
         turn.now - *progress.holding_until <= BlindAfter(turn.plan, check);
}

std::string And(uint32_t more) {
  return more > 1 ? absl::StrCat(" (and ", more - 1, " more)") : std::string();
}

void PassGate(Turn& turn) {
  RunState& state = turn.state;
  state.gate_passed = turn.now;
  turn.Do(CancelTimer{"gate"});
  turn.Enter(v1::PHASE_INJECT, "steady state holds");
  for (const v1::PlannedFault& fault : turn.plan.faults()) {
    turn.Do(SetTimer{absl::StrCat("apply/", FaultKey(fault)), FromProto(fault.at())});
  }
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    turn.Do(SetTimer{absl::StrCat("remedy/", RemedyKey(remedy)), FromProto(remedy.at())});
  }
  turn.Do(SetTimer{"end", FromProto(turn.plan.longest())});
}

void EnterGate(Turn& turn) {
  turn.Enter(v1::PHASE_GATE, "preflight found nothing that forbids it");
  turn.Do(Announce{"start", absl::StrCat("run ", turn.plan.run(), " begins")});
  for (const v1::PlannedCheck& check : turn.plan.gate()) {
    turn.state.gate.emplace(check.name(), NewCheck(check));
  }
  for (const v1::PlannedCheck& check : turn.plan.guardrails()) {
    turn.state.guardrails.emplace(check.name(), NewCheck(check));
  }
  turn.Do(StartProbes{});
  PrepareFaults(turn);
  StartLoadsAndProbes(turn);
  turn.Do(SetTimer{"gate", FromProto(turn.plan.gate_timeout())});
}

}  // namespace

void OnCreated(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase != v1::PHASE_UNSPECIFIED) return;
  state.inject_anyway = turn.event.created().inject_anyway();
  for (const v1::PlannedFault& planned : turn.plan.faults()) {
    state.faults[FaultKey(planned)].planned = planned;
  }
  turn.Enter(v1::PHASE_PREFLIGHT, "");
  turn.Do(StartPreflight{});
}

void OnFinding(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase != v1::PHASE_PREFLIGHT) return;
  const v1::Finding& finding = turn.event.finding();
  if (finding.kind() == v1::Finding::KIND_DEFECT) {
    if (state.defects++ == 0) state.first_defect = finding.message();
  } else if (finding.kind() == v1::Finding::KIND_CIRCUMSTANCE) {
    if (state.circumstances++ == 0) state.first_circumstance = finding.message();
  }
}

void OnPreflightFinished(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase != v1::PHASE_PREFLIGHT || state.stopping) return;
  const v1::PreflightFinished& found = turn.event.preflight_finished();
  state.defects = std::max(state.defects, found.defects());
  state.circumstances = std::max(state.circumstances, found.circumstances());
  for (const v1::Finding& finding : turn.plan.findings()) {
    // Whoever runs preflight repeats the plan's findings; where that was forgotten they still
    // count.
    if (finding.kind() != v1::Finding::KIND_CIRCUMSTANCE || state.circumstances > 0) continue;
    state.circumstances = 1;
    state.first_circumstance = finding.message();
  }
  if (state.circumstances > 0) {
    return SayFinish(turn, v1::OUTCOME_NOT_STARTED,
                     absl::StrCat(state.first_circumstance, And(state.circumstances)));
  }
  if (state.defects > 0 && !state.inject_anyway) {
    return SayFinish(turn, v1::OUTCOME_NOT_STARTED,
                     absl::StrCat("defects of the alerting under test: ", state.first_defect,
                                  And(state.defects)));
  }
  if (!state.silent_nodes.empty()) {
    return SayFinish(
        turn, v1::OUTCOME_NOT_STARTED,
        absl::StrCat("node ", state.silent_nodes.begin()->first, " went silent during preflight"));
  }
  EnterGate(turn);
}

void OnGateTimer(Turn& turn) {
  if (turn.state.phase != v1::PHASE_GATE || turn.state.stopping) return;
  std::vector<std::string> missing;
  for (const v1::PlannedCheck& check : turn.plan.gate()) {
    if (Holds(turn, check)) continue;
    missing.push_back(absl::StrCat(check.name(), " must be ", check.is(), " for ",
                                   firedrill::FormatDuration(FromProto(check.for_())),
                                   ", last observed: ", turn.state.gate[check.name()].observed));
  }
  for (const auto& [name, progress] : turn.state.guardrails) {
    if (!progress.broken_since.has_value()) continue;
    missing.push_back(absl::StrCat("guardrail ", name, " is broken: ", progress.observed));
  }
  for (const auto& [node, silence] : turn.state.silent_nodes) {
    missing.push_back(absl::StrCat("node ", node, " is silent"));
  }
  SayFinish(turn, v1::OUTCOME_NOT_STARTED,
            absl::StrCat("steady state did not hold within ",
                         firedrill::FormatDuration(FromProto(turn.plan.gate_timeout())), ": ",
                         absl::StrJoin(missing, "; ")));
}

void BeginGateAnew(Turn& turn, const std::string& node) {
  const v1::Plan& plan = turn.plan;
  const auto on_node = [&node](const auto& planned) { return planned.node() == node; };
  // Without its load a system is in a steady state of another kind.
  const bool loaded = absl::c_any_of(plan.loads(), on_node);
  for (const v1::PlannedCheck& check : plan.gate()) {
    const bool asked = absl::c_any_of(plan.probes(), [&](const v1::PlannedProbe& probe) {
      return on_node(probe) && probe.id() == check.probe();
    });
    if (!loaded && !asked) continue;
    turn.state.gate[check.name()] = NewCheck(check);
    turn.state.gate[check.name()].observed =
        absl::StrCat("nothing since node ", node, " was started again");
  }
}

void WatchGate(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase < v1::PHASE_GATE || state.stopping || state.finishing) return;
  const absl::Time from = state.all_over.value_or(absl::InfinitePast());
  for (const v1::PlannedCheck& check : turn.plan.gate()) {
    FeedCheck(turn, state.gate[check.name()], BlindAfter(turn.plan, check), from);
  }
  if (state.phase != v1::PHASE_GATE) return;
  // Passing now would be undone at the next answer: a guardrail is already broken, or a node is
  // gone.
  for (const auto& [name, progress] : state.guardrails) {
    if (progress.broken_since.has_value()) return;
  }
  if (!state.silent_nodes.empty()) return;
  for (const v1::PlannedCheck& check : turn.plan.gate()) {
    if (!Holds(turn, check)) return;
  }
  PassGate(turn);
}

void AwaitSteadyState(Turn& turn) {
  if (!turn.state.all_over.has_value()) turn.state.all_over = turn.now;
  for (auto& [name, progress] : turn.state.gate) {
    progress.holding_since.reset();
    progress.holding_until.reset();
  }
}

bool SteadyStateIsBack(const Turn& turn) {
  return absl::c_all_of(turn.plan.gate(),
                        [&](const v1::PlannedCheck& check) { return Holds(turn, check); });
}

}  // namespace firedrill::turn
