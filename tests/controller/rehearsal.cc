// Acts out what Advance() decides.
#include "tests/controller/rehearsal.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

// Not a timer of the run: when a sluggish rehearsal writes down what was decided.
constexpr char kWrite[] = "write";

std::string Lower(absl::string_view name, absl::string_view prefix) {
  if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  return absl::AsciiStrToLower(name);
}

std::string CommandText(const v1::Command& command) {
  const v1::CommandId& id = command.id();
  return absl::StrCat(id.verb(), " ", id.name(), " ", id.node(), " #", id.attempt());
}

v1::PlannedFault Planned(const std::string& name, absl::Duration at, absl::Duration duration) {
  v1::PlannedFault fault;
  fault.set_name(name);
  fault.set_node("db-1");
  *fault.mutable_at() = ToProto(at);
  *fault.mutable_duration() = ToProto(duration);
  *fault.mutable_lease() = ToProto(absl::Seconds(5));
  fault.set_ending(duration > absl::ZeroDuration() ? v1::ENDING_DIES_WITH_PROCESS
                                                   : v1::ENDING_ONE_SHOT);
  return fault;
}

void Watch(v1::Plan& plan, const std::string& name, const std::string& since,
           absl::Duration lasting) {
  v1::PlannedWait& wait = *plan.add_waits();
  wait.set_expectation(name);
  wait.set_since(since);
  *wait.mutable_lasting() = ToProto(lasting);
}

v1::PlannedCheck Check(const std::string& name, const std::string& probe, const std::string& is,
                       absl::Duration hold) {
  v1::PlannedCheck check;
  check.set_name(name);
  check.set_probe(probe);
  check.set_is(is);
  *check.mutable_for_() = ToProto(hold);
  return check;
}

}  // namespace

v1::Plan RehearsalPlan() {
  v1::Plan plan;
  plan.set_run("r1");
  plan.set_seed(7);
  *plan.add_faults() = Planned("leak", absl::ZeroDuration(), absl::Seconds(40));
  *plan.add_faults() = Planned("cut", absl::Seconds(12), absl::ZeroDuration());
  v1::PlannedRemedy& remedy = *plan.add_remedies();
  remedy.set_name("restart-shop");
  remedy.set_node("app-1");
  *remedy.mutable_at() = ToProto(absl::Seconds(20));
  v1::PlannedLoad& load = *plan.add_loads();
  load.set_name("shoppers");
  load.set_node("load-1");
  load.mutable_load()->mutable_send_requests()->set_endpoint("shop");
  v1::Endpoint& endpoint = *plan.add_endpoints();
  endpoint.set_name("shop");
  endpoint.set_url("http://127.0.0.1:1");
  v1::PlannedProbe& probe = *plan.add_probes();
  probe.set_id("recovery/no-leftovers");
  probe.set_node("db-1");
  *plan.add_gate() = Check("slots-free", "steadyState/slots-free", "< 0.6", absl::Seconds(3));
  *plan.add_guardrails() =
      Check("shop-gone", "guardrails/shop-gone", "status == 200", absl::Seconds(3));
  v1::PlannedCheck& page = *plan.add_guardrails();
  page.set_name("unexpected-page");
  page.set_unexpected_page(true);
  *plan.mutable_gate_timeout() = ToProto(absl::Seconds(30));
  *plan.mutable_longest() = ToProto(absl::Seconds(120));
  *plan.mutable_max_duration() = ToProto(absl::Minutes(5));
  plan.add_known_alerts("SlotsPage");
  plan.add_page_matchers("severity=\"page\"");
  Watch(plan, "slots-page", "leak.reached", absl::Seconds(15));
  Watch(plan, "slots-page", "leak.end", absl::Seconds(30));
  Watch(plan, "restart-is-no-cure", "restart-shop.done", absl::Seconds(10));
  return plan;
}

void Rehearsal::Feed(v1::Event event) {
  queue_.push_back(std::move(event));
  if (feeding_) return;
  feeding_ = true;
  while (!queue_.empty()) {
    v1::Event next = std::move(queue_.front());
    queue_.pop_front();
    next.set_run(plan_.run());
    next.set_seq(history_.size() + 1);
    *next.mutable_at() = ToProto(now_);
    history_.push_back(next);
    Step step = Advance(plan_, std::move(state_), next);
    state_ = std::move(step.state);
    EXPECT_LE(step.actions.size(), MostActions(plan_)) << next.ShortDebugString();
    for (const Action& action : step.actions) Do(action);
    deeds_.push_back(std::move(step.actions));
    if (is_finished()) {
      timers_.clear();
      queue_.clear();
    }
  }
  feeding_ = false;
}

void Rehearsal::Do(const Action& action) {
  v1::Event event;
  std::visit(
      Overloaded{[&](const StartPreflight&) { said_.push_back("start preflight"); },
                 [&](const StartProbes&) { said_.push_back("start probes"); },
                 [&](const StopProbes&) { said_.push_back("stop probes"); },
                 [&](const SetTimer& timer) { timers_[timer.name] = now_ + timer.delay; },
                 [&](const CancelTimer& timer) { timers_.erase(timer.name); },
                 [&](const Issue& issue) {
                   commands_.push_back(issue.command);
                   said_.push_back(CommandText(issue.command));
                   *event.mutable_command()->mutable_command() = issue.command;
                 },
                 [&](const EnterPhase& phase) {
                   event.mutable_phase()->set_phase(phase.phase);
                   event.mutable_phase()->set_reason(phase.reason);
                   said_.push_back(
                       absl::StrCat("enter ", Lower(v1::Phase_Name(phase.phase), "PHASE_")));
                 },
                 [&](const Announce& announce) {
                   said_.push_back(absl::StrCat("announce ", announce.what));
                 },
                 [&](const Stop& stop) {
                   if (!lose_stops_) *event.mutable_stop() = stop.stop;
                   said_.push_back(absl::StrCat(
                       "stop ", Lower(v1::StopRequested::Cause_Name(stop.stop.cause()), "CAUSE_")));
                 },
                 [&](const Finish& finish) {
                   *event.mutable_finished() = finish.finished;
                   said_.push_back(absl::StrCat(
                       "finish ", Lower(v1::Outcome_Name(finish.finished.outcome()), "OUTCOME_")));
                 }},
      action);
  if (event.body_case() != v1::Event::BODY_NOT_SET) Write(std::move(event));
  const Issue* issue = std::get_if<Issue>(&action);
  if (honest_ && issue != nullptr) AnswerCommand(issue->command);
}

void Rehearsal::Write(v1::Event event) {
  if (sluggish_ && (event.has_stop() || event.has_finished())) {
    unwritten_.push_back(std::move(event));
    timers_[kWrite] = now_ + absl::Milliseconds(200);
  } else {
    queue_.push_back(std::move(event));
  }
}

void Rehearsal::AnswerCommand(const v1::Command& command) {
  const std::string& name = command.id().name();
  if (command.has_apply()) {
    Report(name, v1::FAULT_STATE_ACTIVE, true);
    if (command.apply().fault().ending() == v1::ENDING_ONE_SHOT) {
      Report(name, v1::FAULT_STATE_REVERTED, true);
    }
  }
  if (command.has_revert()) Report(name, v1::FAULT_STATE_REVERTED);
  if (command.has_run_remedy()) Remedy(v1::REMEDY_STATE_DONE);
}

void Rehearsal::Pass(absl::Duration time) {
  const absl::Time until = now_ + time;
  while (!timers_.empty()) {
    const auto next =
        std::min_element(timers_.begin(), timers_.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (next->second > until) break;
    now_ = std::max(now_, next->second);
    const std::string name = next->first;
    timers_.erase(next);
    if (name == kWrite) {
      for (v1::Event& event : std::exchange(unwritten_, {})) Feed(std::move(event));
    } else {
      Timer(name);
    }
  }
  now_ = until;
}

std::vector<std::string> Rehearsal::Said() { return std::exchange(said_, {}); }

void Rehearsal::Create(bool inject_anyway) {
  v1::Event event;
  *event.mutable_created()->mutable_plan() = plan_;
  event.mutable_created()->set_inject_anyway(inject_anyway);
  Feed(std::move(event));
}

void Rehearsal::Find(v1::Finding::Kind kind, const std::string& message) {
  v1::Event event;
  event.mutable_finding()->set_kind(kind);
  event.mutable_finding()->set_message(message);
  Feed(std::move(event));
}

void Rehearsal::FinishPreflight() {
  v1::Event event;
  event.mutable_preflight_finished();
  Feed(std::move(event));
}

void Rehearsal::Timer(const std::string& name) {
  v1::Event event;
  event.mutable_timer()->set_name(name);
  Feed(std::move(event));
}

void Rehearsal::Answer(const std::string& probe, double value, const std::string& field) {
  v1::Event event;
  event.mutable_sample()->set_probe(probe);
  (*event.mutable_sample()->mutable_values())[field] = value;
  *event.mutable_sample()->mutable_asked() = ToProto(now_);
  Feed(std::move(event));
}

void Rehearsal::NoAnswer(const std::string& probe, const std::string& why) {
  v1::Event event;
  event.mutable_sample()->set_probe(probe);
  event.mutable_sample()->set_unknown(why);
  *event.mutable_sample()->mutable_asked() = ToProto(now_);
  Feed(std::move(event));
}

void Rehearsal::Report(const std::string& fault, v1::FaultState state, bool reached,
                       const std::string& reason, const std::string& node) {
  v1::Event event;
  event.mutable_fault()->set_fault(fault);
  event.mutable_fault()->set_node(node);
  event.mutable_fault()->set_state(state);
  event.mutable_fault()->set_reason(reason);
  if (state == v1::FAULT_STATE_ACTIVE || state == v1::FAULT_STATE_REVERTED) {
    event.mutable_fault()->mutable_observation()->set_reached(reached);
  }
  Feed(std::move(event));
}

void Rehearsal::Remedy(v1::RemedyState state) {
  v1::Event event;
  event.mutable_remedy()->set_remedy("restart-shop");
  event.mutable_remedy()->set_node("app-1");
  event.mutable_remedy()->set_state(state);
  Feed(std::move(event));
}

void Rehearsal::Node(const std::string& node, bool connected, bool restarted) {
  v1::Event event;
  event.mutable_node()->set_node(node);
  event.mutable_node()->set_connected(connected);
  event.mutable_node()->set_restarted(restarted);
  Feed(std::move(event));
}

void Rehearsal::Restart(const std::string& node) {
  Node(node, false);
  Pass(absl::Milliseconds(500));
  Node(node, true, true);
}

void Rehearsal::LoadEnds(const std::string& reason) {
  v1::Event event;
  event.mutable_load_report()->set_load("shoppers");
  event.mutable_load_report()->set_node("load-1");
  event.mutable_load_report()->set_reason(reason);
  Feed(std::move(event));
}

void Rehearsal::Page(const std::string& alert, std::map<std::string, std::string> labels,
                     absl::Duration began_ago) {
  v1::Event event;
  v1::AlertTransition& transition = *event.mutable_alert();
  transition.set_source(v1::ALERT_SOURCE_WEBHOOK);
  transition.set_alert(alert);
  transition.set_state(v1::ALERT_STATE_FIRING);
  for (const auto& [name, value] : labels) (*transition.mutable_labels())[name] = value;
  *transition.mutable_active_at() = ToProto(now_ - began_ago);
  Feed(std::move(event));
}

void Rehearsal::AskToStop(v1::StopRequested::Cause cause) {
  v1::Event event;
  event.mutable_stop()->set_cause(cause);
  event.mutable_stop()->set_by("someone");
  event.mutable_stop()->set_reason("enough seen");
  Feed(std::move(event));
}

void Rehearsal::ToGate() {
  Create();
  FinishPreflight();
}

void Rehearsal::Healthy(absl::Duration time) {
  for (absl::Duration passed; passed < time; passed += absl::Seconds(1)) {
    Answer("steadyState/slots-free", 0.2);
    Answer("guardrails/shop-gone", 200, "status");
    Pass(absl::Seconds(1));
  }
}

void Rehearsal::ToInject() {
  ToGate();
  Healthy(absl::Seconds(3));
  Answer("guardrails/shop-gone", 200, "status");
  Answer("steadyState/slots-free", 0.2);
  EXPECT_EQ(state_.phase, v1::PHASE_INJECT);
}

}  // namespace firedrill
