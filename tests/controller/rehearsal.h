// Acts out what Advance() decides, without a conductor: keeps the history, the timers and a list of
// what was said, so that a test reads as the course of a run.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/run.h"

namespace firedrill {

// A leak of 40 s at 0 s and a one-shot cut at 12 s on db-1, restart-shop at 20 s on app-1, a load
// on load-1; the gate holds slots-free for 3 s, guardrails are shop-gone (3 s) and unexpected-page.
v1::Plan RehearsalPlan();

class Rehearsal {
 public:
  explicit Rehearsal(v1::Plan plan) : plan_(std::move(plan)) {}

  // One event, now, and all that follows from it at once.
  void Feed(v1::Event event);
  // Lets timers fire until so much time has passed.
  void Pass(absl::Duration time);

  // ---- events
  void Create(bool inject_anyway = false);
  void Find(v1::Finding::Kind kind, const std::string& message);
  void FinishPreflight();
  void Timer(const std::string& name);
  void Answer(const std::string& probe, double value, const std::string& field = "value");
  void NoAnswer(const std::string& probe, const std::string& why);
  void Report(const std::string& fault, v1::FaultState state, bool reached = false,
              const std::string& reason = "", const std::string& node = "db-1");
  void Remedy(v1::RemedyState state);
  void Node(const std::string& node, bool connected, bool restarted = false);
  // The node is gone for a moment, and comes back as another process.
  void Restart(const std::string& node);
  void LoadEnds(const std::string& reason);
  void Page(const std::string& alert, std::map<std::string, std::string> labels,
            absl::Duration began_ago = absl::ZeroDuration());
  void AskToStop(v1::StopRequested::Cause cause = v1::StopRequested::CAUSE_OPERATOR);

  // ---- shorter ways to a phase
  void ToGate();
  // Healthy answers each second for so long.
  void Healthy(absl::Duration time);
  void ToInject();

  // ---- what came of it
  const RunState& state() const { return state_; }
  const std::vector<v1::Event>& history() const { return history_; }
  // "apply leak db-1 #1", "enter revert", "announce stuck", "stop guardrail", "finish aborted", ...
  // since the last call.
  std::vector<std::string> Said();
  const std::vector<v1::Command>& commands() const { return commands_; }
  // What each event of the history led to.
  const std::vector<std::vector<Action>>& deeds() const { return deeds_; }
  bool TimerIsSet(const std::string& name) const { return timers_.count(name) > 0; }
  // From now.
  absl::Duration TimerIn(const std::string& name) const { return timers_.at(name) - now_; }
  const v1::RunFinished& finished() const { return *state_.finished; }
  bool is_finished() const { return state_.finished.has_value(); }
  absl::Time now() const { return now_; }
  const v1::Plan& plan() const { return plan_; }
  // The event of a decided stop is lost on its way to the history.
  void LoseStops() { lose_stops_ = true; }
  // A decided stop and a decided end are written down only when time has passed.
  void BeSluggish() { sluggish_ = true; }
  // Whatever is asked of an injector is done at once.
  void BeHonest() { honest_ = true; }

 private:
  void Do(const Action& action);
  void Write(v1::Event event);
  void AnswerCommand(const v1::Command& command);

  v1::Plan plan_;
  RunState state_;
  absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  std::vector<v1::Event> history_;
  std::deque<v1::Event> queue_;
  bool feeding_ = false;
  bool lose_stops_ = false;
  bool sluggish_ = false;
  bool honest_ = false;
  std::vector<v1::Event> unwritten_;
  std::map<std::string, absl::Time> timers_;
  std::vector<std::string> said_;
  std::vector<std::vector<Action>> deeds_;
  std::vector<v1::Command> commands_;
};

}  // namespace firedrill
