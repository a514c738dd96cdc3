// The parts of Advance(), divided by meaning. Nobody but run*.cc includes this.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/run.h"

namespace firedrill::turn {

// One event on its way through the state.
struct Turn {
  const v1::Plan& plan;
  RunState& state;
  const v1::Event& event;
  absl::Time now;
  std::vector<Action>& actions;

  void Do(Action action) { actions.push_back(std::move(action)); }
  void Enter(v1::Phase phase, std::string reason) {
    state.phase = phase;
    Do(EnterPhase{phase, std::move(reason)});
  }
};

// ---- run_gate.cc: until faults may begin.
void OnCreated(Turn& turn);
void OnFinding(Turn& turn);
void OnPreflightFinished(Turn& turn);
void OnGateTimer(Turn& turn);
// Feeds the event to steady state's conditions, and passes the gate when all hold.
void WatchGate(Turn& turn);
// Everything is over: what holds, holds from now on.
void AwaitSteadyState(Turn& turn);
// Since then every check has held for its `for`, and still does.
bool SteadyStateIsBack(const Turn& turn);
// A node was started again: what was seen through it, or while it carried load, must hold anew.
void BeginGateAnew(Turn& turn, const std::string& node);

// ---- run_guards.cc: what ends the run early. Called for every event.
void WatchGuardrails(Turn& turn);
// The condition's progress, fed with the event. What was so before `from` does not count.
void FeedCheck(Turn& turn, CheckProgress& check, absl::Duration blind_after,
               absl::Time from = absl::InfinitePast());
CheckProgress NewCheck(const v1::PlannedCheck& check);

// ---- run_faults.cc: a fault's way on and off.
void PrepareFaults(Turn& turn);
// What a node that was started again had prepared; never what was applied there.
void PrepareAgain(Turn& turn, const std::string& node);
void OnApplyTimer(Turn& turn, const std::string& key);
void OnFaultReport(Turn& turn);
// Asks for the revert, where the fault may be on and that was not asked yet.
void RequestRevert(Turn& turn, const std::string& key, absl::string_view reason);
// The fault has been reverting for long enough without an answer.
void OnAgainTimer(Turn& turn, const std::string& key);
// Lets go of what was prepared for faults that were never applied; nobody waits for the answer.
void ReleasePrepared(Turn& turn);

// ---- run_nodes.cc: nodes that go silent, or are started again.
void OnNodeReport(Turn& turn);
// Its controller was away: what the nodes carry is unknown until they have dialled in.
void OnResumed(Turn& turn);
void OnLostTimer(Turn& turn, const std::string& node);
void OnExpireTimer(Turn& turn, const std::string& key);
bool BelongsToRun(const v1::Plan& plan, const std::string& node);
// How often its injector was started again: what is asked of the new one has a number of its own.
uint32_t Restarts(const RunState& state, const std::string& node);

// ---- run_course.cc: remedies, loads, phases and the end.
void OnRemedyTimer(Turn& turn, const std::string& key);
void OnRemedyReport(Turn& turn);
// Every remedy has been tried.
bool RemediesOver(const Turn& turn);
// They had their time to say what became of them.
void OnRemediesTimer(Turn& turn);
void OnLimitTimer(Turn& turn);
void OnEndTimer(Turn& turn);
void OnStopRequested(Turn& turn);
void StartLoadsAndProbes(Turn& turn);
// The same of one node, whose injector was started again.
void StartAgain(Turn& turn, const std::string& node);
// A load that nobody told to end.
void OnLoadReport(Turn& turn);
// Decides to stop: from here on nothing is applied. Once.
void SayStop(Turn& turn, v1::StopRequested::Cause cause, absl::string_view by,
             absl::string_view reason);
// The run goes no further than this; nothing follows.
void SayFinish(Turn& turn, v1::Outcome outcome, std::string reason);
// Enters the phases that the state of the faults and remedies calls for. After every event.
void Progress(Turn& turn);

std::string RemedyKey(const v1::PlannedRemedy& remedy);

}  // namespace firedrill::turn
