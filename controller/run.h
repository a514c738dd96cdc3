// The course of a run: a pure fold. An event goes in; a new state and what is to be done about it
// come out. The conductor appends every event before it is folded, so the state can be had again
// from the history.
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
// To be written as StopRequested; folding that event is what undoes everything.
struct Stop {
  v1::StopRequested stop;
};
// Nothing follows: to be written as RunFinished.
struct Finish {
  v1::RunFinished finished;
};

using Action = std::variant<StartPreflight, StartProbes, StopProbes, SetTimer, CancelTimer, Issue,
                            EnterPhase, Announce, Stop, Finish>;

// How long a silent node may take to come back before the run is stopped for it.
inline constexpr absl::Duration kReconnectGrace = absl::Seconds(2);
// The same, when it was the controller that was away.
inline constexpr absl::Duration kResumeGrace = absl::Seconds(10);
// How long after its lease a silent injector's fault is given up as expired.
inline constexpr absl::Duration kLeaseMargin = absl::Seconds(1);
// A revert that is not answered for so long is sent again, at most so many times in all.
inline constexpr absl::Duration kRevertPatience = absl::Seconds(10);
inline constexpr uint32_t kMostRevertAttempts = 5;
// A one-shot fault has no duration; it must have acted within this time.
inline constexpr absl::Duration kOneShotBound = absl::Seconds(30);
// How long a remedy may take to say what became of it, once it was told to stop.
inline constexpr absl::Duration kRemedyPatience = absl::Seconds(8);
// How long the run goes on after the last expectation is due, for late answers and deliveries.
inline constexpr absl::Duration kLateAnswers = absl::Seconds(2);

// One fault on one node, as the run knows it.
struct FaultProgress {
  v1::PlannedFault planned;
  v1::FaultState state = v1::FAULT_STATE_UNSPECIFIED;
  bool prepared = false;
  bool apply_issued = false;
  bool revert_issued = false;
  std::optional<absl::Time> started;
  std::optional<absl::Time> reached;
  std::optional<absl::Time> ended;
  // When it is to go off, once it has started.
  std::optional<absl::Time> due;
  // How often its revert was sent.
  uint32_t attempts = 0;
};

// May this fault be on? From the decision to apply it until it has ended, in whatever way.
bool IsLive(const FaultProgress& fault);
// Such commands do no harm when they come twice, or late.
bool EndsSomething(const v1::Command& command);
// "leak@db-1": the key in RunState::faults and the end of its timers' names.
std::string FaultKey(const v1::PlannedFault& planned);

// One condition of the gate or of a guardrail.
struct CheckProgress {
  // Not set where the condition cannot be read.
  std::optional<TruthTracker> tracker;
  // The unbroken stretch in which it was true, as far as its last true answer.
  std::optional<absl::Time> holding_since;
  std::optional<absl::Time> holding_until;
  // Since when it is false; unknown answers neither end nor begin that.
  std::optional<absl::Time> broken_since;
  // The last answer that was true or false.
  std::optional<absl::Time> known;
  std::string observed = "nothing yet";
};

struct RunState {
  v1::Phase phase = v1::PHASE_UNSPECIFIED;
  // By FaultKey().
  std::map<std::string, FaultProgress> faults;
  // By "remedy@node"; those not started are absent.
  std::map<std::string, v1::RemedyState> remedies;
  std::map<std::string, absl::Time> remedies_done;
  std::optional<absl::Time> gate_passed;
  // Since when no fault is on and no remedy is to come: from here on steady state must come back.
  std::optional<absl::Time> all_over;
  // A stop was decided or asked for: nothing is applied any more.
  bool stopping = false;
  // It is in the history, and everything is being undone.
  std::optional<v1::StopRequested> stop;
  // The time for faults is over: nothing new begins.
  bool time_is_up = false;
  bool limit_set = false;
  bool everything_stopped = false;
  // Remedies that were told to stop are not waited for any more.
  bool remedies_left = false;
  bool inject_anyway = false;
  uint32_t defects = 0;
  uint32_t circumstances = 0;
  std::string first_defect;
  std::string first_circumstance;
  // By name.
  std::map<std::string, CheckProgress> gate;
  std::map<std::string, CheckProgress> guardrails;
  // Node → why it is gone, as far as that is known, and how long it may take to come back.
  struct Silence {
    std::string why;
    absl::Duration patience;
  };
  std::map<std::string, Silence> silent_nodes;
  // By node: how often its injector was started again since the gate began.
  std::map<std::string, uint32_t> restarts;
  // Its controller was started again: nobody watched from the last event before that to this one.
  // The last time, where there were several.
  struct Away {
    absl::Time from;
    absl::Time to;
  };
  std::optional<Away> away;
  // The end was decided; only its event is awaited.
  bool finishing = false;
  std::optional<v1::RunFinished> finished;
};

struct Step {
  RunState state;
  std::vector<Action> actions;
};

// Pure, total, and bounded: at most MostActions(plan) actions an event. Events after the end change
// nothing. What is decided is in the state at once; the events that record a decision
// (PhaseEntered, CommandIssued) change nothing when they are folded, except StopRequested, which
// undoes, and RunFinished, which ends.
Step Advance(const v1::Plan& plan, RunState state, const v1::Event& event);

// The state after a whole history (the first event holds the plan).
RunState Fold(const std::vector<v1::Event>& history);

// A bound on the actions of one step.
size_t MostActions(const v1::Plan& plan);

}  // namespace firedrill
