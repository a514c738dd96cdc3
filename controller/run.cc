// The course of a run: where each kind of event goes.
#include "controller/run.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/time_proto.h"
#include "controller/run_turn.h"

namespace firedrill {
namespace {

using turn::Turn;

void OnTimer(Turn& turn, absl::string_view name) {
  if (name == "gate") return turn::OnGateTimer(turn);
  if (name == "remedies") return turn::OnRemediesTimer(turn);
  if (name == "limit") return turn::OnLimitTimer(turn);
  if (name == "end") return turn::OnEndTimer(turn);
  if (absl::ConsumePrefix(&name, "apply/")) return turn::OnApplyTimer(turn, std::string(name));
  if (absl::ConsumePrefix(&name, "remedy/")) return turn::OnRemedyTimer(turn, std::string(name));
  if (absl::ConsumePrefix(&name, "revert/")) {
    return turn::RequestRevert(turn, std::string(name), "its time is over");
  }
  if (absl::ConsumePrefix(&name, "again/")) return turn::OnAgainTimer(turn, std::string(name));
  if (absl::ConsumePrefix(&name, "expire/")) return turn::OnExpireTimer(turn, std::string(name));
  if (absl::ConsumePrefix(&name, "lost/")) return turn::OnLostTimer(turn, std::string(name));
}

void Dispatch(Turn& turn) {
  const v1::Event& event = turn.event;
  switch (event.body_case()) {
    case v1::Event::kCreated:
      return turn::OnCreated(turn);
    case v1::Event::kFinding:
      return turn::OnFinding(turn);
    case v1::Event::kPreflightFinished:
      return turn::OnPreflightFinished(turn);
    case v1::Event::kTimer:
      return OnTimer(turn, event.timer().name());
    case v1::Event::kFault:
      return turn::OnFaultReport(turn);
    case v1::Event::kRemedy:
      return turn::OnRemedyReport(turn);
    case v1::Event::kStop:
      return turn::OnStopRequested(turn);
    case v1::Event::kNode:
      return turn::OnNodeReport(turn);
    case v1::Event::kLoadReport:
      return turn::OnLoadReport(turn);
    case v1::Event::kResumed:
      return turn::OnResumed(turn);
    default:
      return;  // Samples, load windows and alerts are watched below; the rest is for readers.
  }
}

}  // namespace

bool IsLive(const FaultProgress& fault) {
  if (!fault.apply_issued) return false;
  switch (fault.state) {
    case v1::FAULT_STATE_REVERTED:
    case v1::FAULT_STATE_EXPIRED:
    case v1::FAULT_STATE_SUPERSEDED:
    case v1::FAULT_STATE_STUCK:
    case v1::FAULT_STATE_REFUSED:
      return false;
    default:
      return true;
  }
}

bool EndsSomething(const v1::Command& command) {
  return command.has_revert() || command.has_stop_load() || command.has_stop_probe() ||
         command.has_stop_remedy();
}

std::string FaultKey(const v1::PlannedFault& planned) {
  return absl::StrCat(planned.name(), "@", planned.node());
}

Step Advance(const v1::Plan& plan, RunState state, const v1::Event& event) {
  Step step{std::move(state), {}};
  if (step.state.finished.has_value()) return step;
  if (event.has_finished()) {
    step.state.finished = event.finished();
    step.state.finishing = true;
    step.state.phase = v1::PHASE_FINISHED;
    return step;
  }
  if (step.state.finishing) return step;
  Turn turn{plan, step.state, event, FromProto(event.at()), step.actions};
  Dispatch(turn);
  turn::WatchGate(turn);
  turn::WatchGuardrails(turn);
  turn::Progress(turn);
  return step;
}

RunState Fold(const std::vector<v1::Event>& history) {
  RunState state;
  if (history.empty()) return state;
  const v1::Plan& plan = history.front().created().plan();
  for (const v1::Event& event : history) state = Advance(plan, std::move(state), event).state;
  return state;
}

size_t MostActions(const v1::Plan& plan) {
  // A fault: cancel its four timers, send its revert, set one timer. A remedy: one timer. A load or
  // a probe: one command. And a dozen for phases, announcements, the run's own timers and the end.
  return 16 + 8 * plan.faults_size() + 2 * plan.remedies_size() + 2 * plan.loads_size() +
         2 * plan.probes_size();
}

}  // namespace firedrill
