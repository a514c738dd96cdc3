// The phases of a run from the gate's end on, remedies and loads, and how a run ends.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/time_proto.h"
#include "controller/run_turn.h"
#include "experiment/anchor.h"

namespace firedrill::turn {
namespace {

constexpr absl::Duration kRetryRemedy = absl::Milliseconds(500);
// How often an end looks whether steady state is back.
constexpr absl::Duration kLookAgain = absl::Seconds(1);
// Loads and probes end by themselves so long after the run's longest time, should nobody end them.
constexpr absl::Duration kStrayMargin = absl::Minutes(2);

v1::Command CommandFor(const v1::Plan& plan, const std::string& name, absl::string_view verb,
                       const std::string& node) {
  v1::Command command;
  v1::CommandId& id = *command.mutable_id();
  id.set_run(plan.run());
  id.set_name(name);
  id.set_verb(std::string(verb));
  id.set_attempt(1);
  id.set_node(node);
  return command;
}

// The endpoint that a load, a remedy or a probe names, empty where it names none.
v1::Endpoint EndpointOf(const v1::Plan& plan, const std::string& name) {
  for (const v1::Endpoint& endpoint : plan.endpoints()) {
    if (endpoint.name() == name) return endpoint;
  }
  return {};
}

std::string EndpointName(const v1::Probe& probe) {
  if (probe.has_http()) return probe.http().endpoint();
  if (probe.has_tcp()) return probe.tcp().endpoint();
  return "";
}

// Until when a load or a probe runs, should nobody end it.
google::protobuf::Duration Remaining(const v1::Plan& plan) {
  return ToProto(FromProto(plan.gate_timeout()) + FromProto(plan.longest()) + kStrayMargin);
}

void StartLoad(Turn& turn, const v1::PlannedLoad& load) {
  const v1::Plan& plan = turn.plan;
  Issue issue{CommandFor(plan, load.name(), "start", load.node())};
  issue.command.mutable_id()->set_attempt(1 + Restarts(turn.state, load.node()));
  v1::StartLoad& start = *issue.command.mutable_start_load();
  *start.mutable_load() = load;
  start.set_seed(plan.seed());
  *start.mutable_remaining() = Remaining(plan);
  *start.mutable_endpoint() = EndpointOf(plan, load.load().send_requests().endpoint());
  turn.Do(std::move(issue));
}

void StartProbe(Turn& turn, const v1::PlannedProbe& probe) {
  const v1::Plan& plan = turn.plan;
  Issue issue{CommandFor(plan, probe.id(), "start", probe.node())};
  issue.command.mutable_id()->set_attempt(1 + Restarts(turn.state, probe.node()));
  v1::StartProbe& start = *issue.command.mutable_start_probe();
  *start.mutable_probe() = probe;
  *start.mutable_remaining() = Remaining(plan);
  *start.mutable_endpoint() = EndpointOf(plan, EndpointName(probe.probe()));
  turn.Do(std::move(issue));
}

bool AnyRemedyRuns(const RunState& state) {
  return absl::c_any_of(state.remedies,
                        [](const auto& entry) { return entry.second == v1::REMEDY_STATE_RUNNING; });
}

// Ends those that are under way: each says then what it has left.
void StopRemedies(Turn& turn) {
  if (!AnyRemedyRuns(turn.state)) return;
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    const auto found = turn.state.remedies.find(RemedyKey(remedy));
    if (found == turn.state.remedies.end() || found->second != v1::REMEDY_STATE_RUNNING) continue;
    Issue issue{CommandFor(turn.plan, remedy.name(), "interrupt", remedy.node())};
    issue.command.mutable_stop_remedy()->set_remedy(remedy.name());
    turn.Do(std::move(issue));
  }
  turn.Do(SetTimer{"remedies", kRemedyPatience});
}

// Stops what asks and what loads, and lets go of what was prepared in vain. Once.
void StopEverything(Turn& turn) {
  RunState& state = turn.state;
  if (state.everything_stopped) return;
  state.everything_stopped = true;
  if (state.phase < v1::PHASE_GATE) return;  // Nothing was started.
  for (const v1::PlannedLoad& load : turn.plan.loads()) {
    Issue issue{CommandFor(turn.plan, load.name(), "stop", load.node())};
    issue.command.mutable_stop_load()->set_load(load.name());
    turn.Do(std::move(issue));
  }
  for (const v1::PlannedProbe& probe : turn.plan.probes()) {
    if (probe.node().empty()) continue;
    Issue issue{CommandFor(turn.plan, probe.id(), "stop", probe.node())};
    issue.command.mutable_stop_probe()->set_probe(probe.id());
    turn.Do(std::move(issue));
  }
  StopRemedies(turn);
  turn.Do(StopProbes{});
  ReleasePrepared(turn);
}

bool AnyLive(const RunState& state) {
  return std::any_of(state.faults.begin(), state.faults.end(),
                     [](const auto& entry) { return IsLive(entry.second); });
}

// Nothing is still to be applied, and whatever is on is on its way off.
bool FaultsAreOver(const RunState& state) {
  for (const auto& [key, fault] : state.faults) {
    if (IsLive(fault)) {
      const bool on_its_way = fault.revert_issued || fault.state == v1::FAULT_STATE_REVERTING ||
                              fault.planned.ending() == v1::ENDING_ONE_SHOT;
      if (!on_its_way) return false;
    } else if (!fault.apply_issued && fault.state != v1::FAULT_STATE_REFUSED && !state.time_is_up &&
               !state.stopping) {
      return false;
    }
  }
  return true;
}

bool UndoConfirmed(const RunState& state) {
  for (const auto& [key, fault] : state.faults) {
    if (fault.apply_issued && fault.state != v1::FAULT_STATE_REVERTED &&
        fault.state != v1::FAULT_STATE_REFUSED) {
      return false;
    }
  }
  return true;
}

// The latest time that an anchor stands for; with several nodes, the last of them.
std::optional<absl::Time> AnchorTime(const Turn& turn, const Anchor& anchor) {
  std::optional<absl::Time> latest;
  const auto take = [&latest](const std::optional<absl::Time>& time) {
    if (time.has_value()) latest = std::max(latest.value_or(*time), *time);
  };
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    auto done = turn.state.remedies_done.find(RemedyKey(remedy));
    if (anchor.point == AnchorPoint::kDone && remedy.name() == anchor.step &&
        done != turn.state.remedies_done.end()) {
      take(done->second);
    }
  }
  for (const auto& [key, fault] : turn.state.faults) {
    if (fault.planned.name() != anchor.step) continue;
    if (anchor.point == AnchorPoint::kStart) take(fault.started);
    if (anchor.point == AnchorPoint::kReached) take(fault.reached);
    if (anchor.point == AnchorPoint::kEnd) take(fault.ended);
  }
  return latest;
}

// When the last expectation that can be decided is decided.
absl::Time DecidedAt(const Turn& turn) {
  absl::Time latest = turn.now;
  for (const v1::PlannedWait& wait : turn.plan.waits()) {
    const auto anchor = ParseAnchor(wait.since());
    if (!anchor.ok()) continue;
    const std::optional<absl::Time> since = AnchorTime(turn, *anchor);
    if (since.has_value()) latest = std::max(latest, *since + FromProto(wait.lasting()));
  }
  return latest;
}

}  // namespace

std::string RemedyKey(const v1::PlannedRemedy& remedy) {
  return absl::StrCat(remedy.name(), "@", remedy.node());
}

bool RemediesOver(const Turn& turn) {
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    auto found = turn.state.remedies.find(RemedyKey(remedy));
    if (found == turn.state.remedies.end() || found->second == v1::REMEDY_STATE_RUNNING) {
      return false;
    }
  }
  return true;
}

void StartLoadsAndProbes(Turn& turn) {
  for (const v1::PlannedLoad& load : turn.plan.loads()) StartLoad(turn, load);
  for (const v1::PlannedProbe& probe : turn.plan.probes()) {
    if (!probe.node().empty()) StartProbe(turn, probe);
  }
}

void StartAgain(Turn& turn, const std::string& node) {
  for (const v1::PlannedLoad& load : turn.plan.loads()) {
    if (load.node() == node) StartLoad(turn, load);
  }
  for (const v1::PlannedProbe& probe : turn.plan.probes()) {
    if (probe.node() == node) StartProbe(turn, probe);
  }
}

void OnLoadReport(Turn& turn) {
  const v1::LoadReport& report = turn.event.load_report();
  // The end that it was told to come to has no reason.
  if (report.running() || report.reason().empty() || turn.state.stopping) return;
  const bool ours = absl::c_any_of(turn.plan.loads(), [&](const v1::PlannedLoad& load) {
    return load.name() == report.load() && load.node() == report.node();
  });
  if (!ours || turn.state.phase < v1::PHASE_GATE) return;
  const std::string what = absl::StrCat("load ", report.load(), " on ", report.node(),
                                        " ended by itself: ", report.reason());
  if (turn.state.phase == v1::PHASE_GATE) return SayFinish(turn, v1::OUTCOME_NOT_STARTED, what);
  // Also when every fault has ended: a system that comes back once nobody asks it anything proves
  // nothing.
  SayStop(turn, v1::StopRequested::CAUSE_NODE_LOST, report.node(), what);
}

void OnRemedyTimer(Turn& turn, const std::string& key) {
  RunState& state = turn.state;
  if (!state.gate_passed.has_value() || state.stopping || state.time_is_up) return;
  if (state.remedies.count(key) > 0) return;
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    if (RemedyKey(remedy) != key) continue;
    if (state.silent_nodes.count(remedy.node()) > 0) {
      turn.Do(SetTimer{absl::StrCat("remedy/", key), kRetryRemedy});
      return;
    }
    state.remedies[key] = v1::REMEDY_STATE_RUNNING;
    Issue issue{CommandFor(turn.plan, remedy.name(), "run", remedy.node())};
    v1::RunRemedy& run = *issue.command.mutable_run_remedy();
    *run.mutable_remedy() = remedy;
    if (remedy.remedy().has_call_url()) {
      *run.mutable_endpoint() = EndpointOf(turn.plan, remedy.remedy().call_url().endpoint());
    }
    turn.Do(std::move(issue));
    return;
  }
}

void OnRemedyReport(Turn& turn) {
  const v1::RemedyReport& report = turn.event.remedy();
  const std::string key = absl::StrCat(report.remedy(), "@", report.node());
  auto found = turn.state.remedies.find(key);
  if (found == turn.state.remedies.end() || found->second != v1::REMEDY_STATE_RUNNING) return;
  if (report.state() == v1::REMEDY_STATE_DONE) turn.state.remedies_done[key] = turn.now;
  if (report.state() != v1::REMEDY_STATE_UNSPECIFIED) found->second = report.state();
}

void OnRemediesTimer(Turn& turn) { turn.state.remedies_left = true; }

void OnLimitTimer(Turn& turn) {
  RunState& state = turn.state;
  if (state.phase != v1::PHASE_INJECT && state.phase != v1::PHASE_REVERT) return;
  state.time_is_up = true;
  for (const auto& [key, fault] : state.faults) {
    RequestRevert(turn, key, "limits.maxDuration is over");
  }
}

void OnEndTimer(Turn& turn) {
  RunState& state = turn.state;
  if (state.stopping) return;
  if (state.phase == v1::PHASE_RECOVER) {
    // What they saw while their controller was away comes when they have dialled in.
    if (state.away.has_value() && !state.silent_nodes.empty() &&
        turn.now < state.away->to + kResumeGrace) {
      return turn.Do(SetTimer{"end", kRetryRemedy});
    }
    // It gets as long as the gate gave it.
    if (state.all_over.has_value() && !SteadyStateIsBack(turn) &&
        turn.now < *state.all_over + FromProto(turn.plan.gate_timeout())) {
      return turn.Do(SetTimer{"end", kLookAgain});
    }
    return SayFinish(turn, v1::OUTCOME_COMPLETED,
                     state.all_over.has_value() ? "" : "the plan's longest time is over");
  }
  if (state.phase != v1::PHASE_INJECT && state.phase != v1::PHASE_REVERT) return;
  state.time_is_up = true;
  for (const auto& [key, fault] : state.faults) {
    RequestRevert(turn, key, "the plan's longest time is over");
  }
}

void OnStopRequested(Turn& turn) {
  RunState& state = turn.state;
  if (state.stop.has_value()) return;
  state.stop = turn.event.stop();
  state.stopping = true;
  for (const char* timer : {"gate", "limit", "end"}) turn.Do(CancelTimer{timer});
  for (auto& [key, fault] : state.faults) {
    if (!fault.apply_issued) turn.Do(CancelTimer{absl::StrCat("apply/", key)});
  }
  for (const v1::PlannedRemedy& remedy : turn.plan.remedies()) {
    turn.Do(CancelTimer{absl::StrCat("remedy/", RemedyKey(remedy))});
  }
  // The faults first: everything else can wait.
  for (const auto& [key, fault] : state.faults) RequestRevert(turn, key, state.stop->reason());
  if (state.phase >= v1::PHASE_GATE) turn.Do(Announce{"abort", state.stop->reason()});
  if (state.phase == v1::PHASE_INJECT) turn.Enter(v1::PHASE_REVERT, state.stop->reason());
  StopEverything(turn);
}

void SayStop(Turn& turn, v1::StopRequested::Cause cause, absl::string_view by,
             absl::string_view reason) {
  if (turn.state.stopping || turn.state.finishing) return;
  turn.state.stopping = true;
  Stop stop;
  stop.stop.set_cause(cause);
  stop.stop.set_by(std::string(by));
  stop.stop.set_reason(std::string(reason));
  turn.Do(std::move(stop));
}

void SayFinish(Turn& turn, v1::Outcome outcome, std::string reason) {
  RunState& state = turn.state;
  if (state.finishing) return;
  StopEverything(turn);
  state.finishing = true;
  if (state.phase >= v1::PHASE_GATE) {
    turn.Do(Announce{"end", reason.empty() ? "completed" : reason});
  }
  Finish finish;
  finish.finished.set_outcome(outcome);
  finish.finished.set_reason(std::move(reason));
  finish.finished.set_undo_confirmed(UndoConfirmed(state));
  if (state.stop.has_value()) finish.finished.set_cause(state.stop->cause());
  turn.Do(std::move(finish));
}

// Why nothing is on any more, by the event that was the last to say so.
std::string WhyOver(const Turn& turn) {
  constexpr char kTime[] = "the last fault's time is over";
  if (turn.state.time_is_up) return "the run's longest time is over";
  if (turn.event.has_timer()) {
    absl::string_view timer = turn.event.timer().name();
    if (absl::StartsWith(timer, "revert/")) return kTime;
    // One that acts once has no time that could be over.
    if (absl::ConsumePrefix(&timer, "apply/")) {
      return absl::StrCat(timer, " acts once, and is the last");
    }
    if (absl::ConsumePrefix(&timer, "expire/")) {
      return absl::StrCat("the lease of ", timer, " is over");
    }
  }
  if (!turn.event.has_fault()) return "every fault is over";
  const v1::FaultReport& report = turn.event.fault();
  const auto found = turn.state.faults.find(absl::StrCat(report.fault(), "@", report.node()));
  if (found == turn.state.faults.end()) return kTime;
  const std::string who = absl::StrCat(report.fault(), " on ", report.node());
  const std::string why = report.reason().empty() ? "" : absl::StrCat(": ", report.reason());
  if (report.state() == v1::FAULT_STATE_REFUSED) return absl::StrCat(who, " was refused", why);
  if (found->second.planned.ending() == v1::ENDING_ONE_SHOT) return "the last fault has acted";
  // A node that keeps the time itself may be the first to say so.
  if (found->second.revert_issued || why == ": its time is over") return kTime;
  return absl::StrCat(who, " was ended before its time", why);
}

void Progress(Turn& turn) {
  RunState& state = turn.state;
  if (state.finishing || state.phase == v1::PHASE_UNSPECIFIED) return;
  if (state.phase == v1::PHASE_INJECT && FaultsAreOver(state) && !state.stopping) {
    turn.Enter(v1::PHASE_REVERT, WhyOver(turn));
  }
  if (AnyLive(state)) return;
  if (state.stop.has_value()) {
    // What they have left is part of what the run has to say.
    if (AnyRemedyRuns(state) && !state.remedies_left) return;
    return SayFinish(turn, v1::OUTCOME_ABORTED, state.stop->reason());
  }
  if (state.stopping) return;  // Its event is on the way.
  if (state.phase == v1::PHASE_REVERT) {
    turn.Do(CancelTimer{"limit"});
    turn.Enter(v1::PHASE_RECOVER, "every fault has ended");
  }
  if (state.phase == v1::PHASE_RECOVER && !state.all_over.has_value() && RemediesOver(turn)) {
    AwaitSteadyState(turn);
    turn.Do(SetTimer{"end", DecidedAt(turn) - turn.now + kLateAnswers});
  }
}

}  // namespace firedrill::turn
