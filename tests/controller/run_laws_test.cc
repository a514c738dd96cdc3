// Laws that no course of events may break: thousands of random histories, sensible and senseless,
// each checked by looking only at what went in and what came out. A failure prints its seed and how
// to repeat it: RC_PARAMS="reproduce=..." (RC_PARAMS="seed=N max_success=100000" searches further).
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <stdlib.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/time_proto.h"
#include "controller/run.h"
#include "tests/controller/rehearsal.h"

namespace firedrill {
namespace {

// Read by rapidcheck before its first property; what the caller has set wins.
const int kParametersSet = setenv("RC_PARAMS", "max_success=1000 max_size=120", 0);

using Ops = std::vector<uint32_t>;

// The digits of a random number, each drawn once.
class Dice {
 public:
  explicit Dice(uint32_t number) : number_(number) {}
  uint32_t Below(uint32_t sides) {
    const uint32_t drawn = number_ % sides;
    number_ /= sides;
    return drawn;
  }
  const char* Of(const std::vector<const char*>& words) { return words[Below(words.size())]; }

 private:
  uint32_t number_;
};

const std::vector<const char*> kNodes = {"db-1", "db-1", "app-1", "load-1", "stranger"};
const std::vector<const char*> kFaults = {"leak", "cut", "stranger"};
const std::vector<const char*> kTimers = {"gate",
                                          "limit",
                                          "end",
                                          "apply/leak@db-1",
                                          "apply/cut@db-1",
                                          "revert/leak@db-1",
                                          "revert/cut@db-1",
                                          "again/leak@db-1",
                                          "again/cut@db-1",
                                          "expire/leak@db-1",
                                          "expire/cut@db-1",
                                          "lost/db-1",
                                          "lost/load-1",
                                          "remedies",
                                          "remedy/restart-shop@app-1",
                                          "apply/stranger@db-1",
                                          "nonsense"};

// What an honest injector says to the last command for a fault.
void AnswerLikeAnInjector(Rehearsal& run, bool reached) {
  for (auto command = run.commands().rbegin(); command != run.commands().rend(); ++command) {
    if (command->has_apply()) {
      return run.Report(command->id().name(), v1::FAULT_STATE_ACTIVE, reached);
    }
    if (command->has_revert()) return run.Report(command->id().name(), v1::FAULT_STATE_REVERTED);
    if (command->has_run_remedy()) return run.Remedy(v1::REMEDY_STATE_DONE);
  }
}

// Records of decisions that nobody took: a history that was tampered with, or of another version.
void Forge(Rehearsal& run, Dice& dice) {
  v1::Event event;
  if (dice.Below(2) == 0) {
    event.mutable_phase()->set_phase(static_cast<v1::Phase>(dice.Below(6)));
  } else {
    v1::Command& command = *event.mutable_command()->mutable_command();
    command.mutable_id()->set_name(dice.Of(kFaults));
    command.mutable_id()->set_node("db-1");
    command.mutable_apply()->mutable_fault()->set_name(command.id().name());
    command.mutable_apply()->mutable_fault()->set_node("db-1");
  }
  run.Feed(std::move(event));
}

void Play(Rehearsal& run, uint32_t op) {
  Dice dice(op);
  switch (dice.Below(17)) {
    case 0:
    case 1:
      return run.Pass(absl::Milliseconds(100) * (1 + dice.Below(120)));
    case 2:
    case 3:
      return run.Healthy(absl::Seconds(1 + dice.Below(5)));
    case 4:
      return run.Answer("steadyState/slots-free", dice.Below(3) == 0 ? 0.9 : 0.1);
    case 5:
      return dice.Below(2) == 0 ? run.Answer("guardrails/shop-gone", 500, "status")
                                : run.NoAnswer("guardrails/shop-gone", "timeout");
    case 6:
    case 7:
      return AnswerLikeAnInjector(run, dice.Below(2) == 0);
    case 8: {
      const char* fault = dice.Of(kFaults);
      const auto state = static_cast<v1::FaultState>(dice.Below(v1::FaultState_ARRAYSIZE));
      return run.Report(fault, state, dice.Below(2) == 0, "chance",
                        dice.Below(8) == 0 ? "stranger" : "db-1");
    }
    case 9: {
      const char* node = dice.Of(kNodes);
      const bool connected = dice.Below(2) == 0;
      return run.Node(node, connected, connected && dice.Below(2) == 0);
    }
    case 10:
      return run.Remedy(static_cast<v1::RemedyState>(dice.Below(v1::RemedyState_ARRAYSIZE)));
    case 11:
      return dice.Below(3) == 0 ? run.AskToStop() : run.Pass(absl::Seconds(1));
    case 12:
      return dice.Below(3) == 0 ? run.Page("HostMemoryHigh", {{"severity", "page"}})
                                : run.Page("SlotsPage", {{"severity", "page"}});
    case 13:
      return run.Timer(dice.Of(kTimers));
    case 14:
      if (dice.Below(3) == 0) return run.Create(dice.Below(2) == 0);
      return dice.Below(2) == 0 ? run.FinishPreflight()
                                : run.Find(v1::Finding::KIND_DEFECT, "chance");
    case 15: {
      v1::Event resumed;
      *resumed.mutable_resumed()->mutable_gap() = ToProto(absl::Seconds(dice.Below(60)));
      return dice.Below(3) == 0 ? run.Feed(std::move(resumed)) : run.Pass(absl::Seconds(1));
    }
    default:
      return Forge(run, dice);
  }
}

// Most histories begin as real ones do, so that chance does not spend itself before the gate; some
// end so.
Rehearsal Played(const Ops& ops, bool to_the_end) {
  Rehearsal run(RehearsalPlan());
  Dice dice(ops.empty() ? 0 : ops.front());
  const uint32_t begin = dice.Below(8);
  if (dice.Below(4) == 0) run.BeSluggish();
  if (dice.Below(3) == 0) run.BeHonest();
  if (begin == 0) run.Create();
  if (begin == 1) run.ToGate();
  if (begin > 2) run.ToInject();
  if (begin > 4) {
    run.Pass(absl::ZeroDuration());
    run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  }
  for (const uint32_t op : ops) Play(run, op);
  if (to_the_end && begin > 5) run.Healthy(absl::Seconds(90));
  if (to_the_end) run.Pass(absl::Hours(1));
  return run;
}

template <typename Visit>
void ForEachDeed(const Rehearsal& run, Visit visit) {
  for (size_t i = 0; i < run.deeds().size(); ++i) {
    for (const Action& action : run.deeds()[i]) visit(i, run.history()[i], action);
  }
}

bool IsApply(const Action& action) {
  const Issue* issue = std::get_if<Issue>(&action);
  return issue != nullptr && issue->command.has_apply();
}

bool BeginsSomething(const Action& action) {
  const Issue* issue = std::get_if<Issue>(&action);
  return issue != nullptr && !issue->command.has_revert() && !issue->command.has_stop_remedy() &&
         issue->command.id().verb() != "stop";
}

// Why a history breaks a law; empty where it does not.
using Law = std::string (*)(const Rehearsal&);

std::string PassesRevert(const Rehearsal& run) {
  bool applied = false;
  bool reverting = false;
  std::string broken;
  ForEachDeed(run, [&](size_t i, const v1::Event&, const Action& action) {
    if (IsApply(action)) applied = true;
    const EnterPhase* phase = std::get_if<EnterPhase>(&action);
    if (phase != nullptr && phase->phase == v1::PHASE_REVERT) reverting = true;
    if (std::holds_alternative<Finish>(action) && applied && !reverting) {
      broken = absl::StrCat("finished at event ", i + 1, " without reverting");
    }
  });
  return broken;
}

std::string PhasesGoForward(const Rehearsal& run) {
  v1::Phase last = v1::PHASE_UNSPECIFIED;
  std::string broken;
  ForEachDeed(run, [&](size_t i, const v1::Event&, const Action& action) {
    const EnterPhase* phase = std::get_if<EnterPhase>(&action);
    if (phase == nullptr) return;
    if (phase->phase <= last) broken = absl::StrCat("went back at event ", i + 1);
    last = phase->phase;
  });
  return broken;
}

// A guardrail's breach, a stop and a lost lease; each ends all beginnings.
std::string NothingBeginsAfterAStop(const Rehearsal& run) {
  bool created = false;
  bool stopped = false;
  std::set<std::string> silent;
  std::string broken;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_created()) created = true;
    if (event.has_stop()) stopped = true;
    // Before the run there is nothing to be silent about: its plan is made of nodes that are there.
    if (event.has_node() && !event.node().connected() && created) {
      silent.insert(event.node().node());
    }
    if (event.has_node() && event.node().connected()) silent.erase(event.node().node());
    for (const Action& action : run.deeds()[i]) {
      if (BeginsSomething(action)) {
        const v1::CommandId& id = std::get<Issue>(action).command.id();
        if (stopped) broken = absl::StrCat(id.verb(), " after the stop, at event ", i + 1);
        if (silent.count(id.node()) > 0) {
          broken = absl::StrCat(id.verb(), " on a silent node, at event ", i + 1);
        }
      }
      if (std::holds_alternative<Stop>(action)) stopped = true;
    }
  }
  return broken;
}

// The end of each applied fault as its injector told it, by name.
std::map<std::string, v1::FaultState> LastWords(const Rehearsal& run) {
  std::map<std::string, v1::FaultState> words;
  std::set<std::string> applied;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_fault() && event.fault().node() == "db-1" &&
        applied.count(event.fault().fault()) > 0 &&
        (event.fault().state() == v1::FAULT_STATE_REVERTED ||
         event.fault().state() == v1::FAULT_STATE_REFUSED)) {
      words[event.fault().fault()] = event.fault().state();
    }
    for (const Action& action : run.deeds()[i]) {
      if (IsApply(action)) applied.insert(std::get<Issue>(action).command.id().name());
    }
  }
  for (const std::string& fault : applied) words.emplace(fault, v1::FAULT_STATE_UNSPECIFIED);
  return words;
}

std::string UndoIsNeverAssumed(const Rehearsal& run) {
  if (!run.is_finished() || !run.finished().undo_confirmed()) return "";
  for (const auto& [fault, word] : LastWords(run)) {
    if (word == v1::FAULT_STATE_UNSPECIFIED) {
      return absl::StrCat("the undo of ", fault, " was confirmed by nobody");
    }
  }
  return "";
}

// Nobody leaves while a fault may be on: each has ended by its injector's word, or its lease is
// over, or it was asked as often as is allowed.
std::string NoFaultIsLeftBehind(const Rehearsal& run) {
  std::set<std::string> live;
  std::map<std::string, uint32_t> asked;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_fault() && event.fault().node() == "db-1" &&
        event.fault().state() >= v1::FAULT_STATE_REVERTED &&
        event.fault().state() != v1::FAULT_STATE_UNKNOWN) {
      live.erase(event.fault().fault());
    }
    for (const std::string fault : {"leak", "cut"}) {
      const bool expired = event.timer().name() == absl::StrCat("expire/", fault, "@db-1");
      const bool given_up = event.timer().name() == absl::StrCat("again/", fault, "@db-1") &&
                            asked[fault] == kMostRevertAttempts;
      if (expired || given_up) live.erase(fault);
    }
    for (const Action& action : run.deeds()[i]) {
      if (std::holds_alternative<Finish>(action) && !live.empty()) {
        return absl::StrCat("left ", *live.begin(), " behind at event ", i + 1);
      }
      const Issue* issue = std::get_if<Issue>(&action);
      if (issue == nullptr) continue;
      if (issue->command.has_apply()) live.insert(issue->command.id().name());
      if (issue->command.has_revert()) ++asked[issue->command.id().name()];
    }
  }
  return "";
}

// Whatever was applied and has not ended is asked to end by the event of the stop itself.
std::string AStopUndoesAtOnce(const Rehearsal& run) {
  std::set<std::string> waiting;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_fault() && event.fault().node() == "db-1" &&
        event.fault().state() >= v1::FAULT_STATE_REVERTED &&
        event.fault().state() != v1::FAULT_STATE_UNKNOWN) {
      waiting.erase(event.fault().fault());
    }
    for (const Action& action : run.deeds()[i]) {
      const Issue* issue = std::get_if<Issue>(&action);
      if (issue == nullptr) continue;
      if (issue->command.has_apply()) waiting.insert(issue->command.id().name());
      if (issue->command.has_revert()) waiting.erase(issue->command.id().name());
    }
    if (event.has_stop() && !waiting.empty()) {
      return absl::StrCat("the stop at event ", i + 1, " did not undo ", *waiting.begin());
    }
  }
  return "";
}

// What is asked again, of a process that was started again, has a number of its own.
std::string NoCommandIsGivenTwice(const Rehearsal& run) {
  std::set<std::string> given;
  std::string broken;
  ForEachDeed(run, [&](size_t, const v1::Event&, const Action& action) {
    const Issue* issue = std::get_if<Issue>(&action);
    if (issue == nullptr) return;
    const v1::CommandId& id = issue->command.id();
    if (!given.insert(id.ShortDebugString()).second) broken = id.ShortDebugString();
  });
  return broken;
}

// Probes always; a load before anything was touched, and afterwards the run is stopped for it.
std::string WhatARestartEndedIsStartedAgainOrTheRunEnds(const Rehearsal& run) {
  v1::Phase phase = v1::PHASE_UNSPECIFIED;
  bool stopped = false;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_stop() || event.has_finished()) stopped = true;
    std::set<std::string> started;
    const bool at_gate = phase == v1::PHASE_GATE;
    const bool due = !stopped && phase >= v1::PHASE_GATE && event.node().restarted();
    for (const Action& action : run.deeds()[i]) {
      const Issue* issue = std::get_if<Issue>(&action);
      if (issue != nullptr && issue->command.id().verb() == "start") {
        started.insert(issue->command.id().node());
        if (issue->command.has_start_load() && phase > v1::PHASE_GATE) {
          return absl::StrCat("a load after the gate, at event ", i + 1);
        }
      }
      const EnterPhase* enter = std::get_if<EnterPhase>(&action);
      if (enter != nullptr) phase = enter->phase;
      if (std::holds_alternative<Stop>(action) || std::holds_alternative<Finish>(action)) {
        stopped = true;
      }
    }
    const std::string& node = event.node().node();
    if (!due || (node != "db-1" && node != "load-1") || started.count(node) > 0) continue;
    if (at_gate || node == "db-1" || !stopped) {
      return absl::StrCat("nothing was started again on ", node, " at event ", i + 1);
    }
  }
  return "";
}

// The load is what the gate's steady state is a state under.
std::string SteadyStateHoldsAfterTheLastRestart(const Rehearsal& run) {
  absl::Time restarted = absl::InfinitePast();
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.node().restarted() && event.node().node() == "load-1") {
      restarted = FromProto(event.at());
    }
    for (const Action& action : run.deeds()[i]) {
      const EnterPhase* phase = std::get_if<EnterPhase>(&action);
      if (phase == nullptr || phase->phase != v1::PHASE_INJECT) continue;
      if (FromProto(event.at()) - restarted < absl::Seconds(3)) {
        return absl::StrCat("the gate was passed at event ", i + 1);
      }
    }
  }
  return "";
}

std::string NoSecondApplyAndFewReverts(const Rehearsal& run) {
  std::map<std::string, uint32_t> count;
  std::string broken;
  ForEachDeed(run, [&](size_t, const v1::Event&, const Action& action) {
    const Issue* issue = std::get_if<Issue>(&action);
    if (issue == nullptr) return;
    const v1::CommandId& id = issue->command.id();
    if (issue->command.has_prepare() || id.verb() == "start") return;
    const uint32_t most = issue->command.has_revert() ? kMostRevertAttempts : 1;
    if (++count[absl::StrCat(id.verb(), " ", id.name())] > most) {
      broken = absl::StrCat(id.verb(), " ", id.name(), " was sent too often");
    }
  });
  return broken;
}

// A node that carries a fault and is not back within its grace: the run goes back.
std::string ALostNodeYieldsRevert(const Rehearsal& run) {
  std::set<std::string> silent;
  std::set<std::string> live;
  bool stopped = false;
  bool created = false;
  for (size_t i = 0; i < run.history().size(); ++i) {
    const v1::Event& event = run.history()[i];
    if (event.has_finished()) return "";
    if (event.has_stop()) stopped = true;
    if (event.has_node() && created) {
      if (event.node().connected()) {
        silent.erase(event.node().node());
      } else {
        silent.insert(event.node().node());
      }
    }
    if (event.has_created()) created = true;
    if (event.has_fault() && event.fault().state() >= v1::FAULT_STATE_REVERTED &&
        event.fault().node() == "db-1" && event.fault().state() != v1::FAULT_STATE_UNKNOWN) {
      live.erase(event.fault().fault());
    }
    for (const Action& action : run.deeds()[i]) {
      if (IsApply(action)) live.insert(std::get<Issue>(action).command.id().name());
      if (std::holds_alternative<Stop>(action)) stopped = true;
    }
    if (event.has_timer() && event.timer().name() == "lost/db-1" && silent.count("db-1") > 0 &&
        !live.empty() && !stopped) {
      return absl::StrCat("a lost node was not noticed at event ", i + 1);
    }
  }
  return "";
}

std::string ActionsAreBounded(const Rehearsal& run) {
  for (size_t i = 0; i < run.deeds().size(); ++i) {
    if (run.deeds()[i].size() > MostActions(run.plan())) {
      return absl::StrCat(run.deeds()[i].size(), " actions at event ", i + 1);
    }
  }
  return "";
}

std::string NothingFollowsFinish(const Rehearsal& run) {
  bool finished = false;
  std::string broken;
  ForEachDeed(run, [&](size_t i, const v1::Event&, const Action& action) {
    if (finished) broken = absl::StrCat("an action after the end, at event ", i + 1);
    if (std::holds_alternative<Finish>(action)) finished = true;
  });
  return broken;
}

// Nothing is called completed while steady state could still come back: either it has, or it had as
// long as the gate.
std::string SteadyStateIsWaitedFor(const Rehearsal& run) {
  if (!run.is_finished() || run.finished().outcome() != v1::OUTCOME_COMPLETED) return "";
  if (run.finished().reason() == "the plan's longest time is over") return "";
  // When it was decided how long the run goes on: everything was over then.
  std::optional<absl::Time> over;
  absl::Time away = absl::InfinitePast();
  bool recovering = false;
  ForEachDeed(run, [&](size_t, const v1::Event& event, const Action& action) {
    const EnterPhase* phase = std::get_if<EnterPhase>(&action);
    if (phase != nullptr && phase->phase == v1::PHASE_RECOVER) recovering = true;
    const SetTimer* timer = std::get_if<SetTimer>(&action);
    const bool end = timer != nullptr && timer->name == "end";
    if (recovering && end && !over.has_value()) over = FromProto(event.at());
  });
  for (const v1::Event& event : run.history()) {
    if (event.has_resumed()) away = FromProto(event.at());
  }
  if (!over.has_value()) return "finished before everything was over";
  const v1::PlannedCheck& check = run.plan().gate(0);
  const absl::Time finished = FromProto(run.history().back().at());
  if (finished - *over >= FromProto(run.plan().gate_timeout())) return "";
  // Looked at from the last moment in which it was broken, or could not be known, on.
  std::optional<absl::Time> begin;
  absl::Time end;
  for (const TruthPoint& point : TruthOf(check, run.history())) {
    if (point.at < std::max(*over, away) || point.truth == Truth::kUnknown) continue;
    const bool blind = begin.has_value() && point.at - end > absl::Seconds(3);
    if (point.truth == Truth::kFalse || blind) begin.reset();
    if (point.truth == Truth::kTrue && !begin.has_value()) begin = point.at;
    end = point.at;
  }
  if (!begin.has_value()) return "finished while it was broken";
  if (end - *begin < FromProto(check.for_()) || finished - end > absl::Seconds(3)) {
    return absl::StrCat("finished when it had held for ", absl::FormatDuration(end - *begin));
  }
  return "";
}

std::string EveryRunEnds(const Rehearsal& run) {
  // Before that, it waits for preflight, which others bound.
  if (run.state().phase < v1::PHASE_GATE) return "";
  return run.is_finished() ? "" : absl::StrCat("still in ", v1::Phase_Name(run.state().phase));
}

void Hold(const std::string& name, Law law) {
  EXPECT_TRUE(rc::check(name, [law](const Ops& ops) {
    const Rehearsal run = Played(ops, /*to_the_end=*/true);
    const std::string broken = law(run);
    if (broken.empty()) return;
    std::string story;
    for (const v1::Event& event : run.history()) {
      absl::StrAppend(&story, event.seq(), " ", event.ShortDebugString(), "\n");
    }
    RC_LOG() << story << broken << "\n";
    RC_FAIL("the law is broken");
  }));
}

TEST(RunLawsTest, EveryWayToTheEndAfterAnApplyPassesRevert) {
  Hold("every way to the end after an apply passes revert", PassesRevert);
}
TEST(RunLawsTest, PhasesGoForward) { Hold("phases go forward", PhasesGoForward); }
TEST(RunLawsTest, NothingBeginsAfterAStop) {
  Hold("nothing begins after a breach, a stop or a lost lease", NothingBeginsAfterAStop);
}
TEST(RunLawsTest, UndoIsNeverAssumed) { Hold("undo is never assumed", UndoIsNeverAssumed); }
TEST(RunLawsTest, NoFaultIsLeftBehind) { Hold("no fault is left behind", NoFaultIsLeftBehind); }
TEST(RunLawsTest, AStopUndoesAtOnce) { Hold("a stop undoes at once", AStopUndoesAtOnce); }
TEST(RunLawsTest, NoSecondApplyAndFewReverts) {
  Hold("no second apply, and few reverts", NoSecondApplyAndFewReverts);
}
TEST(RunLawsTest, NoCommandIsGivenTwice) {
  Hold("no command is given twice", NoCommandIsGivenTwice);
}
TEST(RunLawsTest, WhatARestartEndedIsStartedAgainOrTheRunEnds) {
  Hold("what a restart ended is started again, or the run ends",
       WhatARestartEndedIsStartedAgainOrTheRunEnds);
}
TEST(RunLawsTest, SteadyStateHoldsAfterTheLastRestart) {
  Hold("steady state holds after the last restart", SteadyStateHoldsAfterTheLastRestart);
}
TEST(RunLawsTest, ALostNodeYieldsRevert) {
  Hold("a session not resumed within its grace yields revert", ALostNodeYieldsRevert);
}
TEST(RunLawsTest, ActionsAreBounded) { Hold("actions are bounded", ActionsAreBounded); }
TEST(RunLawsTest, NothingFollowsFinish) { Hold("nothing follows the end", NothingFollowsFinish); }
TEST(RunLawsTest, SteadyStateIsWaitedFor) {
  Hold("steady state is waited for", SteadyStateIsWaitedFor);
}
TEST(RunLawsTest, EveryRunEnds) { Hold("every run ends", EveryRunEnds); }

// ---- the state is in the history

std::string Text(const std::optional<absl::Time>& time) {
  return time.has_value() ? absl::FormatTime(*time) : "-";
}

std::string Text(const std::map<std::string, CheckProgress>& checks) {
  std::string text;
  for (const auto& [name, check] : checks) {
    absl::StrAppend(&text, name, " ", Text(check.holding_since), " ", Text(check.holding_until),
                    " ", Text(check.broken_since), " ", Text(check.known), " ", check.observed,
                    "\n");
  }
  return text;
}

std::string Text(const RunState& state) {
  std::string text = absl::StrCat(
      "phase ", state.phase, " gate ", Text(state.gate_passed), " ", state.stopping,
      state.time_is_up, state.limit_set, " over ", Text(state.all_over), " ",
      state.everything_stopped, state.inject_anyway, state.finishing, " ", state.defects, " ",
      state.circumstances, " ", state.first_defect, " ", state.first_circumstance, "\n");
  if (state.stop.has_value()) absl::StrAppend(&text, state.stop->ShortDebugString(), "\n");
  if (state.finished.has_value()) absl::StrAppend(&text, state.finished->ShortDebugString(), "\n");
  for (const auto& [key, fault] : state.faults) {
    absl::StrAppend(&text, key, " ", fault.state, " ", fault.prepared, fault.apply_issued,
                    fault.revert_issued, " ", Text(fault.started), " ", Text(fault.reached), " ",
                    Text(fault.ended), " ", Text(fault.due), " ", fault.attempts, "\n");
  }
  for (const auto& [key, remedy] : state.remedies) absl::StrAppend(&text, key, " ", remedy, "\n");
  for (const auto& [key, done] : state.remedies_done) absl::StrAppend(&text, key, Text(done), "\n");
  for (const auto& [node, restarts] : state.restarts) absl::StrAppend(&text, node, restarts, "\n");
  for (const auto& [node, silence] : state.silent_nodes) {
    absl::StrAppend(&text, node, "=", silence.why, absl::FormatDuration(silence.patience), "\n");
  }
  absl::StrAppend(&text, Text(state.gate), Text(state.guardrails));
  return text;
}

TEST(RunLawsTest, TheHistoryHoldsTheWholeState) {
  EXPECT_TRUE(rc::check("folding a part and going on equals folding the whole", [](const Ops& ops) {
    const Rehearsal run = Played(ops, /*to_the_end=*/false);
    const std::vector<v1::Event>& history = run.history();
    // A history that begins otherwise holds no plan. (RC_PRE captures the operands of an && before
    // it looks at either.)
    const bool holds_plan = !history.empty() && history.front().has_created();
    RC_PRE(holds_plan);
    const size_t cut = (ops.empty() ? 0 : ops.back()) % history.size() + 1;
    RunState state = Fold({history.begin(), history.begin() + cut});
    for (size_t i = cut; i < history.size(); ++i) {
      Step step = Advance(run.plan(), std::move(state), history[i]);
      RC_ASSERT(step.actions.size() == run.deeds()[i].size());
      state = std::move(step.state);
    }
    RC_ASSERT(Text(state) == Text(Fold(history)));
    RC_ASSERT(Text(state) == Text(run.state()));
  }));
}

TEST(RunLawsTest, FinishedIsFinal) {
  EXPECT_TRUE(rc::check("finished is final", [](const Ops& ops, const Ops& more) {
    Rehearsal run = Played(ops, /*to_the_end=*/true);
    RC_PRE(run.is_finished());
    const std::string before = Text(run.state());
    for (const uint32_t op : more) Play(run, op);
    RC_ASSERT(Text(run.state()) == before);
  }));
}

// A law that no history ever puts to the test proves nothing.
TEST(RunLawsTest, TheHistoriesReachEveryCorner) {
  std::map<std::string, int> seen;
  rc::check("corners", [&seen](Ops ops) {
    // The rarest comes about three times in a thousand: so many that it never stays away.
    for (int more = 0; more < 3; ++more) {
      Rehearsal run = Played(ops, /*to_the_end=*/true);
      for (const std::string& said : run.Said()) ++seen[said];
      for (uint32_t& op : ops) op += 0x9e3779b9;
      if (!run.is_finished()) continue;
      ++seen[run.finished().undo_confirmed() ? "undo confirmed" : "undo not confirmed"];
    }
  });
  for (const char* corner :
       {"apply leak db-1 #1", "apply cut db-1 #1", "run restart-shop app-1 #1", "stop guardrail",
        "stop node_lost", "stop fault_refused", "stop fault_stuck", "announce stuck",
        "enter recover", "finish completed", "finish aborted", "finish not_started",
        "revert leak db-1 #5", "prepare leak db-1 #2", "start shoppers load-1 #2",
        "start recovery/no-leftovers db-1 #2", "undo confirmed", "undo not confirmed"}) {
    EXPECT_GT(seen[corner], 0) << corner;
  }
}

}  // namespace
}  // namespace firedrill
