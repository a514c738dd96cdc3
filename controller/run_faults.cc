// A fault's way on and off, as far as the run decides it.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/run_steps.h"
#include "controller/run_turn.h"
#include "controller/words.h"

namespace firedrill::turn {
namespace {

// A node that went silent a moment ago may be back before the run is stopped for it.
constexpr absl::Duration kRetryApply = absl::Milliseconds(500);

v1::Command CommandFor(const v1::Plan& plan, const v1::PlannedFault& planned,
                       absl::string_view verb, uint32_t attempt) {
  v1::Command command;
  v1::CommandId& id = *command.mutable_id();
  id.set_run(plan.run());
  id.set_name(planned.name());
  id.set_verb(std::string(verb));
  id.set_attempt(attempt);
  id.set_node(planned.node());
  return command;
}

bool IsOneShot(const v1::PlannedFault& planned) { return planned.ending() == v1::ENDING_ONE_SHOT; }

std::optional<absl::Time> FirstStart(const RunState& state) {
  std::optional<absl::Time> first;
  for (const auto& [key, fault] : state.faults) {
    if (!fault.started.has_value()) continue;
    first = std::min(first.value_or(*fault.started), *fault.started);
  }
  return first;
}

// From now to the fault's absolute end, were it applied now.
absl::Duration Remaining(const Turn& turn, const v1::PlannedFault& planned) {
  absl::Duration remaining = FromProto(planned.duration());
  if (IsOneShot(planned) || remaining <= absl::ZeroDuration()) remaining = kOneShotBound;
  const absl::Duration most = FromProto(turn.plan.max_duration());
  const std::optional<absl::Time> first = FirstStart(turn.state);
  if (most > absl::ZeroDuration()) {
    remaining = std::min(remaining, first.has_value() ? *first + most - turn.now : most);
  }
  return remaining;
}

void IssueRevert(Turn& turn, const std::string& key, FaultProgress& fault,
                 absl::string_view reason) {
  ++fault.attempts;
  Issue issue{CommandFor(turn.plan, fault.planned, "revert", fault.attempts)};
  issue.command.mutable_revert()->set_fault(fault.planned.name());
  issue.command.mutable_revert()->set_reason(std::string(reason));
  turn.Do(std::move(issue));
  turn.Do(SetTimer{absl::StrCat("again/", key), kRevertPatience});
}

std::string OnNode(const v1::PlannedFault& planned) {
  return absl::StrCat(planned.name(), " on ", planned.node());
}

// What the report says about when the fault began and when it was in full force.
void NoteEffect(Turn& turn, const std::string& key, FaultProgress& fault,
                const v1::FaultReport& report) {
  if (!fault.started.has_value()) {
    fault.started = turn.now;
    if (!IsOneShot(fault.planned) && !fault.revert_issued) {
      const absl::Duration lasting = std::max(Remaining(turn, fault.planned), absl::ZeroDuration());
      fault.due = turn.now + lasting;
      turn.Do(SetTimer{absl::StrCat("revert/", key), lasting});
    }
    if (!turn.state.limit_set && turn.plan.has_max_duration()) {
      turn.state.limit_set = true;
      turn.Do(SetTimer{"limit", FromProto(turn.plan.max_duration())});
    }
  }
  if (report.observation().reached() && !fault.reached.has_value()) fault.reached = turn.now;
}

void Prepare(Turn& turn, FaultProgress& fault) {
  fault.prepared = true;
  Issue issue{CommandFor(turn.plan, fault.planned, "prepare",
                         1 + Restarts(turn.state, fault.planned.node()))};
  *issue.command.mutable_prepare()->mutable_fault() = fault.planned;
  *issue.command.mutable_prepare()->mutable_remaining() =
      ToProto(FromProto(turn.plan.gate_timeout()) + FromProto(turn.plan.longest()));
  turn.Do(std::move(issue));
}

void CancelTimers(Turn& turn, const std::string& key) {
  for (const char* timer : {"revert/", "again/", "expire/"}) {
    turn.Do(CancelTimer{absl::StrCat(timer, key)});
  }
}

void Settle(Turn& turn, const std::string& key, FaultProgress& fault, v1::FaultState state) {
  fault.state = state;
  fault.ended = turn.now;
  CancelTimers(turn, key);
}

void Stuck(Turn& turn, const std::string& key, FaultProgress& fault, const std::string& why) {
  Settle(turn, key, fault, v1::FAULT_STATE_STUCK);
  fault.ended.reset();
  const std::string what = absl::StrCat(OnNode(fault.planned), " could not be undone: ", why);
  turn.Do(Announce{"stuck", what});
  SayStop(turn, v1::StopRequested::CAUSE_FAULT_STUCK, fault.planned.node(), what);
}

// While its controller was away its node has ended it before its time, as it must: this is not the
// experiment that was asked for any more. Empty where that is not so.
std::string HealedMeanwhile(const Turn& turn, const FaultProgress& fault,
                            const v1::FaultReport& report) {
  const std::optional<RunState::Away>& away = turn.state.away;
  if (!away.has_value() || IsOneShot(fault.planned)) return "";
  const absl::Time off = InstantOf(turn.event).at;
  if (off < away->from || off >= away->to) return "";
  if (fault.due.has_value() && off >= *fault.due - kRetryApply) return "";
  return absl::StrCat(OnNode(fault.planned),
                      " was ended by its node while the controller was away (",
                      Short(away->to - away->from), "), ", Short(off - away->from),
                      " after it was last heard: ", report.reason());
}

void OnReverted(Turn& turn, const std::string& key, FaultProgress& fault,
                const v1::FaultReport& report) {
  if (IsOneShot(fault.planned) && report.has_observation()) NoteEffect(turn, key, fault, report);
  const std::string healed = HealedMeanwhile(turn, fault, report);
  Settle(turn, key, fault, v1::FAULT_STATE_REVERTED);
  turn.Do(Announce{"fault off", OnNode(fault.planned)});
  if (healed.empty()) return;
  SayStop(turn, v1::StopRequested::CAUSE_CONTROLLER_LOST, fault.planned.node(), healed);
}

void OnRefused(Turn& turn, const std::string& key, FaultProgress& fault,
               const v1::FaultReport& report) {
  const bool before_inject =
      turn.state.phase == v1::PHASE_GATE || turn.state.phase == v1::PHASE_PREFLIGHT;
  fault.state = v1::FAULT_STATE_REFUSED;
  CancelTimers(turn, key);
  const std::string what =
      absl::StrCat(fault.planned.node(), " refuses ", fault.planned.name(), ": ",
                   report.reason().empty() ? "no reason given" : report.reason());
  if (before_inject && !turn.state.stopping) {
    return SayFinish(turn, v1::OUTCOME_NOT_STARTED, what);
  }
  SayStop(turn, v1::StopRequested::CAUSE_FAULT_REFUSED, fault.planned.node(), what);
}

}  // namespace

void PrepareFaults(Turn& turn) {
  for (auto& [key, fault] : turn.state.faults) Prepare(turn, fault);
}

void PrepareAgain(Turn& turn, const std::string& node) {
  const RunState& state = turn.state;
  if (state.phase > v1::PHASE_INJECT || state.time_is_up) return;
  for (auto& [key, fault] : turn.state.faults) {
    if (fault.planned.node() != node || !fault.prepared || fault.apply_issued) continue;
    if (fault.state != v1::FAULT_STATE_REFUSED) Prepare(turn, fault);
  }
}

void ReleasePrepared(Turn& turn) {
  for (auto& [key, fault] : turn.state.faults) {
    if (!fault.prepared || fault.apply_issued || fault.revert_issued) continue;
    fault.revert_issued = true;
    Issue issue{CommandFor(turn.plan, fault.planned, "revert", 1)};
    issue.command.mutable_revert()->set_fault(fault.planned.name());
    issue.command.mutable_revert()->set_reason("it will not be applied");
    turn.Do(std::move(issue));
  }
}

void OnApplyTimer(Turn& turn, const std::string& key) {
  RunState& state = turn.state;
  auto found = state.faults.find(key);
  if (found == state.faults.end()) return;
  FaultProgress& fault = found->second;
  if (state.phase != v1::PHASE_INJECT || state.stopping || state.time_is_up) return;
  if (fault.apply_issued || fault.state == v1::FAULT_STATE_REFUSED) return;
  if (state.silent_nodes.count(fault.planned.node()) > 0) {
    turn.Do(SetTimer{absl::StrCat("apply/", key), kRetryApply});
    return;
  }
  const absl::Duration remaining = Remaining(turn, fault.planned);
  if (remaining <= absl::ZeroDuration()) return OnLimitTimer(turn);
  fault.apply_issued = true;
  fault.state = v1::FAULT_STATE_APPLYING;
  turn.Do(Announce{"fault on", OnNode(fault.planned)});
  Issue issue{CommandFor(turn.plan, fault.planned, "apply", 1)};
  *issue.command.mutable_apply()->mutable_fault() = fault.planned;
  *issue.command.mutable_apply()->mutable_remaining() = ToProto(remaining);
  turn.Do(std::move(issue));
  // Set again at its start; this one is for an apply that is never answered.
  turn.Do(SetTimer{absl::StrCat("revert/", key), remaining});
}

void OnFaultReport(Turn& turn) {
  const v1::FaultReport& report = turn.event.fault();
  const std::string key = absl::StrCat(report.fault(), "@", report.node());
  auto found = turn.state.faults.find(key);
  if (found == turn.state.faults.end()) return;
  FaultProgress& fault = found->second;
  if (!fault.apply_issued) {
    // Prepared only: all that can come of it is a refusal.
    if (report.state() == v1::FAULT_STATE_REFUSED && fault.prepared &&
        fault.state != v1::FAULT_STATE_REFUSED) {
      OnRefused(turn, key, fault, report);
    }
    return;
  }
  if (!IsLive(fault)) {
    // It was given up, and turns out to be undone after all. Anything else comes too late.
    const bool given_up =
        fault.state == v1::FAULT_STATE_EXPIRED || fault.state == v1::FAULT_STATE_STUCK;
    if (given_up && report.state() == v1::FAULT_STATE_REVERTED) {
      OnReverted(turn, key, fault, report);
    }
    return;
  }
  const bool silent = fault.state == v1::FAULT_STATE_UNKNOWN;
  switch (report.state()) {
    case v1::FAULT_STATE_ACTIVE:
      NoteEffect(turn, key, fault, report);
      if (fault.state == v1::FAULT_STATE_APPLYING) fault.state = v1::FAULT_STATE_ACTIVE;
      return;
    case v1::FAULT_STATE_REVERTING:
      if (!silent) fault.state = v1::FAULT_STATE_REVERTING;
      if (!fault.revert_issued) turn.Do(SetTimer{absl::StrCat("again/", key), kRevertPatience});
      return;
    case v1::FAULT_STATE_REVERTED:
      return OnReverted(turn, key, fault, report);
    case v1::FAULT_STATE_REFUSED:
      return OnRefused(turn, key, fault, report);
    case v1::FAULT_STATE_STUCK:
      return Stuck(turn, key, fault,
                   report.undo_by_hand().empty()
                       ? report.reason()
                       : absl::StrCat(report.reason(), "; undo it: ", report.undo_by_hand()));
    case v1::FAULT_STATE_SUPERSEDED:
      return Settle(turn, key, fault, v1::FAULT_STATE_SUPERSEDED);
    case v1::FAULT_STATE_EXPIRED:
      Settle(turn, key, fault, v1::FAULT_STATE_EXPIRED);
      fault.ended.reset();
      return SayStop(turn, v1::StopRequested::CAUSE_NODE_LOST, report.node(),
                     absl::StrCat(OnNode(fault.planned), " outlived its lease"));
    default:
      return;
  }
}

void RequestRevert(Turn& turn, const std::string& key, absl::string_view reason) {
  auto found = turn.state.faults.find(key);
  if (found == turn.state.faults.end()) return;
  FaultProgress& fault = found->second;
  if (!IsLive(fault) || fault.revert_issued) return;
  fault.revert_issued = true;
  if (fault.state != v1::FAULT_STATE_UNKNOWN) fault.state = v1::FAULT_STATE_REVERTING;
  turn.Do(CancelTimer{absl::StrCat("revert/", key)});
  IssueRevert(turn, key, fault, reason);
}

void OnAgainTimer(Turn& turn, const std::string& key) {
  auto found = turn.state.faults.find(key);
  if (found == turn.state.faults.end()) return;
  FaultProgress& fault = found->second;
  if (!IsLive(fault)) return;
  if (!fault.revert_issued) return RequestRevert(turn, key, "the injector began and did not end");
  if (fault.state == v1::FAULT_STATE_UNKNOWN) {
    // Nobody is there to answer: its lease ends this, not our patience.
    turn.Do(SetTimer{absl::StrCat("again/", key), kRevertPatience});
    return;
  }
  if (fault.attempts < kMostRevertAttempts) {
    return IssueRevert(turn, key, fault, "the last revert was not answered");
  }
  Stuck(turn, key, fault,
        absl::StrCat("the injector did not answer ", fault.attempts, " reverts within ",
                     firedrill::FormatDuration(kMostRevertAttempts * kRevertPatience)));
}

}  // namespace firedrill::turn
