// The course of a run: a pure fold. An event goes in; a new state and what is to be done about it come out.
// The conductor appends every event before it is folded, so the state can be had again from the history.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "controller/truth.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// What the conductor must do. Each becomes an event before it is done, where it changes anything.
struct StartPreflight {};
// The controller's own probes and the alert sources; probes on nodes are commands.
struct StartProbes {};
struct StopProbes {};
// Fires TimerFired{name} after `delay`; a timer of the same name is replaced.
struct SetTimer {
  std::string name;
  absl::Duration delay;
};
struct CancelTimer {
  std::string name;
};
// To be written as CommandIssued, then sent. The conductor fills group and epoch of the id.
struct Issue {
  v1::Command command;
};
struct EnterPhase {
  v1::Phase phase;
  std::string reason;
};
// "start", "fault on", "fault off", "end", "abort", "stuck".
struct Announce {
  std::string what;
  std::string detail;
};
// Nothing follows: to be written as RunFinished.
struct Finish {
  v1::RunFinished finished;
};

using Action = std::variant<StartPreflight, StartProbes, StopProbes, SetTimer, CancelTimer, Issue,
                            EnterPhase, Announce, Finish>;

// One fault on one node, as the run knows it.
struct FaultProgress {
  v1::PlannedFault planned;
  v1::FaultState state = v1::FAULT_STATE_UNSPECIFIED;
  bool apply_issued = false;
  bool revert_issued = false;
  std::optional<absl::Time> started;
  std::optional<absl::Time> reached;
  std::optional<absl::Time> ended;
  uint32_t attempts = 0;
};

struct RunState {
  v1::Phase phase = v1::PHASE_UNSPECIFIED;
  // By "fault@node".
  std::map<std::string, FaultProgress> faults;
  std::map<std::string, v1::RemedyState> remedies;
  std::set<std::string> loads_running;
  std::optional<absl::Time> gate_passed;
  std::optional<v1::StopRequested> stop;
  bool inject_anyway = false;
  uint32_t defects = 0;
  uint32_t circumstances = 0;
  // Gate: since when each check holds. Guardrails: since when each is broken.
  std::map<std::string, absl::Time> holding_since;
  std::map<std::string, absl::Time> broken_since;
  std::map<std::string, TruthTracker> trackers;
  std::set<std::string> silent_nodes;
  std::optional<v1::RunFinished> finished;
};

struct Step {
  RunState state;
  std::vector<Action> actions;
};

// Pure, total, and bounded: at most kMostActions(plan) actions an event. Events after the end change nothing.
Step Advance(const v1::Plan& plan, RunState state, const v1::Event& event);

// The state after a whole history (the first event holds the plan).
RunState Fold(const std::vector<v1::Event>& history);

// A bound on the actions of one step.
size_t MostActions(const v1::Plan& plan);

}  // namespace firedrill
