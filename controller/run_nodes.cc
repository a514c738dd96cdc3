// Nodes that go silent: what they carry is unknown until its lease is over, and never assumed
// undone. Those that come back as another process: what ran in the old one is started again where
// that is no lie.
#include <set>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/run_turn.h"

namespace firedrill::turn {
namespace {

void WentSilent(Turn& turn, const std::string& node, const std::string& why,
                absl::Duration patience) {
  if (!turn.state.silent_nodes.emplace(node, RunState::Silence{why, patience}).second) return;
  turn.Do(SetTimer{absl::StrCat("lost/", node), patience});
  for (auto& [key, fault] : turn.state.faults) {
    if (fault.planned.node() != node || !IsLive(fault)) continue;
    fault.state = v1::FAULT_STATE_UNKNOWN;
    turn.Do(
        SetTimer{absl::StrCat("expire/", key), FromProto(fault.planned.lease()) + kLeaseMargin});
  }
}

void CameBack(Turn& turn, const std::string& node) {
  if (turn.state.silent_nodes.erase(node) == 0) return;
  turn.Do(CancelTimer{absl::StrCat("lost/", node)});
  for (auto& [key, fault] : turn.state.faults) {
    if (fault.planned.node() != node || fault.state != v1::FAULT_STATE_UNKNOWN) continue;
    turn.Do(CancelTimer{absl::StrCat("expire/", key)});
    fault.state = fault.revert_issued         ? v1::FAULT_STATE_REVERTING
                  : fault.started.has_value() ? v1::FAULT_STATE_ACTIVE
                                              : v1::FAULT_STATE_APPLYING;
  }
}

// Questions are asked again, and what was prepared is prepared again; a fault is never applied a
// second time. A load is started again only before anything was touched: afterwards its pause, and
// its new connections, would be part of what is measured.
void WasRestarted(Turn& turn, const std::string& node) {
  RunState& state = turn.state;
  if (state.phase < v1::PHASE_GATE || state.stopping) return;
  ++state.restarts[node];
  if (state.phase == v1::PHASE_GATE) {
    BeginGateAnew(turn, node);
  } else {
    for (const v1::PlannedLoad& load : turn.plan.loads()) {
      if (load.node() != node) continue;
      return SayStop(turn, v1::StopRequested::CAUSE_NODE_LOST, node,
                     absl::StrCat("the injector of ", node, " was started again, and its load ",
                                  load.name(), " was lost with the old one"));
    }
  }
  PrepareAgain(turn, node);
  StartAgain(turn, node);
}

}  // namespace

uint32_t Restarts(const RunState& state, const std::string& node) {
  const auto found = state.restarts.find(node);
  return found == state.restarts.end() ? 0 : found->second;
}

bool BelongsToRun(const v1::Plan& plan, const std::string& node) {
  if (node.empty()) return false;
  for (const auto& fault : plan.faults()) {
    if (fault.node() == node) return true;
  }
  for (const auto& remedy : plan.remedies()) {
    if (remedy.node() == node) return true;
  }
  for (const auto& load : plan.loads()) {
    if (load.node() == node) return true;
  }
  for (const auto& probe : plan.probes()) {
    if (probe.node() == node) return true;
  }
  return false;
}

void OnNodeReport(Turn& turn) {
  const v1::NodeReport& report = turn.event.node();
  if (turn.state.phase == v1::PHASE_UNSPECIFIED) return;
  if (!BelongsToRun(turn.plan, report.node())) return;
  if (report.connected()) {
    CameBack(turn, report.node());
    if (report.restarted()) WasRestarted(turn, report.node());
  } else {
    WentSilent(turn, report.node(), report.reason(), kReconnectGrace);
  }
}

void OnResumed(Turn& turn) {
  if (turn.state.phase == v1::PHASE_UNSPECIFIED) return;
  turn.state.away = {turn.now - FromProto(turn.event.resumed().gap()), turn.now};
  // Nobody saw whether it went on holding.
  if (turn.state.all_over.has_value()) AwaitSteadyState(turn);
  std::set<std::string> nodes;
  const auto add = [&nodes](const auto& steps) {
    for (const auto& step : steps) {
      if (!step.node().empty()) nodes.insert(step.node());
    }
  };
  add(turn.plan.faults());
  add(turn.plan.remedies());
  add(turn.plan.loads());
  add(turn.plan.probes());
  for (const std::string& node : nodes) {
    WentSilent(turn, node, "its controller was started again", kResumeGrace);
  }
}

void OnLostTimer(Turn& turn, const std::string& node) {
  const auto silent = turn.state.silent_nodes.find(node);
  if (silent == turn.state.silent_nodes.end()) return;
  const std::string reason = absl::StrCat(
      "node ", node, " has been silent for ", firedrill::FormatDuration(silent->second.patience),
      silent->second.why.empty() ? "" : absl::StrCat(": ", silent->second.why));
  switch (turn.state.phase) {
    case v1::PHASE_GATE:
      // Nothing has been touched: this is a circumstance, not an abort.
      if (!turn.state.stopping) SayFinish(turn, v1::OUTCOME_NOT_STARTED, reason);
      return;
    case v1::PHASE_INJECT:
    case v1::PHASE_REVERT:
      return SayStop(turn, v1::StopRequested::CAUSE_NODE_LOST, node, reason);
    default:
      return;  // Preflight looks when it ends; once all is undone a silent node is the judge's
               // matter.
  }
}

void OnExpireTimer(Turn& turn, const std::string& key) {
  auto found = turn.state.faults.find(key);
  if (found == turn.state.faults.end()) return;
  FaultProgress& fault = found->second;
  if (fault.state != v1::FAULT_STATE_UNKNOWN) return;
  // For an injector that comes back after all, still carrying it.
  RequestRevert(turn, key, "its lease is over");
  fault.state = v1::FAULT_STATE_EXPIRED;
  turn.Do(CancelTimer{absl::StrCat("again/", key)});
  turn.Do(CancelTimer{absl::StrCat("revert/", key)});
  SayStop(turn, v1::StopRequested::CAUSE_NODE_LOST, fault.planned.node(),
          absl::StrCat("nothing was heard of ", fault.planned.name(), " on ", fault.planned.node(),
                       " until its lease was over"));
}

}  // namespace firedrill::turn
