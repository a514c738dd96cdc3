// Runs that have ended and have left something that nobody has seen undone.
#include "controller/aftermath.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "controller/replay.h"

namespace firedrill {
namespace {

constexpr uint32_t kMostRecalled = 10000;
// A node's last word of a run may come in the moment in which the run ends, and be heard by nobody.
constexpr absl::Duration kLookEvery = absl::Seconds(10);
constexpr absl::Duration kWriteEvery = absl::Seconds(1);
constexpr size_t kLongestReason = 1000;

template <typename Things>
auto Find(const Things& things, const std::string& run, const std::string& fault) {
  return absl::c_find_if(
      things, [&](const auto& thing) { return thing.run() == run && thing.fault() == fault; });
}

template <typename Things>
bool Has(const Things& things, const std::string& run, const std::string& fault) {
  return Find(things, run, fault) != things.end();
}

LeftRunFaults LeftOf(const std::vector<v1::Event>& history) {
  LeftRunFaults left;
  const v1::RunCreated& created = history.front().created();
  left.run = created.plan().run();
  left.experiment = created.experiment().metadata().name();
  left.owner = created.owner();
  left.faults = LeftBy(history);
  for (const v1::Event& event : history) left.memories.Take(event);
  left.is_private = IsPrivate(history);
  left.next_seq = history.back().seq() + 1;
  left.last = FromProto(history.back().at());
  left.settled = !SettledWords(history).empty();
  return left;
}

}  // namespace

Aftermath::Aftermath(Executor& executor, Store& store, Fleet& fleet, Subjects& subjects)
    : executor_(executor), store_(store), fleet_(fleet), subjects_(subjects) {}

Aftermath::~Aftermath() {
  *alive_ = false;
  executor_.Cancel(look_timer_);
  executor_.Cancel(write_timer_);
}

void Aftermath::Later(std::function<void()> task) {
  executor_.Post([alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

absl::Status Aftermath::Recall() {
  ASSIGN_OR_RETURN(const std::vector<v1::RunSummary> runs, store_.List(kMostRecalled));
  for (const v1::RunSummary& run : runs) {
    if (run.phase() != v1::PHASE_FINISHED || run.undo_confirmed()) continue;
    ASSIGN_OR_RETURN(const std::vector<v1::Event> history, store_.Read(run.run(), 1));
    if (!HasEnded(history)) continue;
    const v1::RunCreated& created = history.front().created();
    // Of a private one no node would ever tell us that it is undone.
    if (!IsPrivate(history)) {
      subjects_.Take(created.plan(), {created.plan().run(), created.experiment().metadata().name(),
                                      created.owner(), FromProto(history.front().at())});
    }
    Begin(run.run(), history);
  }
  return absl::OkStatus();
}

void Aftermath::Begin(const std::string& run, const std::vector<v1::Event>& history) {
  const bool confirmed = absl::c_any_of(history, [](const v1::Event& event) {
    return event.has_finished() && event.finished().undo_confirmed();
  });
  if (confirmed || !HasEnded(history)) return subjects_.Settle(run, {});
  left_[run] = LeftOf(history);
  if (!left_[run].is_private) Watch(run);
  Tidy(run);
}

void Aftermath::Tidy(const std::string& run) {
  const auto found = left_.find(run);
  if (found == left_.end()) return;
  subjects_.Settle(run, found->second.faults);
  if (!found->second.faults.empty()) return LookLater();
  // Also of one whose news were written, and this was not.
  const absl::Status noted = store_.NoteUndone(run, found->second.settled);
  if (!noted.ok()) spdlog::error("run {}: {}", run, noted);
  left_.erase(found);
  Unwatch(run);
}

// -------------------------------------------------------------------- what the store did not take

void Aftermath::KeepUnwritten(const std::string& run, UnwrittenEvents unwritten) {
  unwritten_[run] = std::move(unwritten);
  WriteUnwrittenLater();
}

void Aftermath::AddUnwritten(const std::string& run, std::vector<v1::Event>& history) const {
  const auto found = unwritten_.find(run);
  if (found == unwritten_.end()) return;
  for (const v1::Event& event : found->second.events) {
    if (history.empty() || event.seq() > history.back().seq()) history.push_back(event);
  }
}

void Aftermath::AddUnwritten(v1::RunSummary& summary) const {
  const auto found = unwritten_.find(summary.run());
  if (found == unwritten_.end() || !found->second.events.back().has_finished()) return;
  const v1::RunFinished& finished = found->second.events.back().finished();
  summary.set_phase(v1::PHASE_FINISHED);
  summary.set_outcome(finished.outcome());
  summary.set_undo_confirmed(finished.undo_confirmed());
}

void Aftermath::WriteUnwrittenLater() {
  executor_.Cancel(write_timer_);
  write_timer_ = executor_.After(kWriteEvery, [this, alive = alive_] {
    if (!*alive) return;
    std::vector<std::string> runs;
    for (const auto& [run, unwritten] : unwritten_) runs.push_back(run);
    for (const std::string& run : runs) (void)WriteUnwritten(run);
    if (!unwritten_.empty()) WriteUnwrittenLater();
  });
}

absl::Status Aftermath::WriteUnwritten(const std::string& run) {
  const auto found = unwritten_.find(run);
  if (found == unwritten_.end()) return absl::OkStatus();
  const std::vector<v1::Event>& events = found->second.events;
  const absl::Status appended =
      store_.Append(run, events.front().seq(), events.front().epoch(), events);
  if (appended.ok()) {
    spdlog::info("run {}: its end is in the history now", run);
    const absl::StatusOr<std::vector<v1::Event>> history = store_.Read(run, 1);
    if (history.ok()) (void)store_.NoteVerdict(run, Judge(*history).verdict());
  } else if (absl::IsAborted(appended)) {
    spdlog::error("run {}: its end does not come into the history any more: {}", run, appended);
  } else {
    found->second.why = appended;
    return appended;
  }
  unwritten_.erase(found);
  return absl::OkStatus();
}

// -------------------------------------------------------------------- what nodes say

void Aftermath::Watch(const std::string& run) {
  FleetListener listener;
  // The fleet is telling its listeners at the moment.
  listener.report = [this, run](const v1::Event& event) { return Hear(run, event); };
  listener.node = [this](const v1::NodeReport& report) {
    if (report.connected()) Later([this] { LookAtNodes(); });
  };
  fleet_.Subscribe(run, std::move(listener));
}

void Aftermath::Unwatch(const std::string& run) {
  Later([this, run] {
    if (left_.count(run) == 0) fleet_.Unsubscribe(run);
  });
}

bool Aftermath::Hear(const std::string& run, const v1::Event& event) {
  const auto found = left_.find(run);
  if (found == left_.end() || !event.has_fault()) return true;
  LeftRunFaults& left = found->second;
  const v1::FaultReport& report = event.fault();
  const std::string key = absl::StrCat(report.fault(), "@", report.node());
  const auto fault = left.faults.find(key);
  if (fault == left.faults.end() || fault->second.state == report.state()) return true;
  switch (report.state()) {
    case v1::FAULT_STATE_REVERTED:
    case v1::FAULT_STATE_SUPERSEDED:
      if (!left.memories.Knows(fleet_.MemoryOf(report.node()), key)) return true;
      break;
    case v1::FAULT_STATE_STUCK:
      break;
    default:
      return true;
  }
  const absl::Status written = Write(left, event);
  if (!written.ok()) spdlog::error("run {}: {}", run, written);
  Tidy(run);
  return written.ok();
}

void Aftermath::LookLater() {
  executor_.Cancel(look_timer_);
  look_timer_ = executor_.After(kLookEvery, [this, alive = alive_] {
    if (*alive) LookAtNodes();
  });
}

void Aftermath::LookAtNodes() {
  const std::vector<v1::Registration> connected = fleet_.Connected();
  std::vector<std::string> runs;
  for (const auto& [run, left] : left_) runs.push_back(run);
  for (const std::string& run : runs) {
    LeftRunFaults& left = left_.at(run);
    if (left.is_private) continue;
    for (const v1::Registration& node : connected) LookAtNode(left, node);
    Tidy(run);
  }
}

void Aftermath::LookAtNode(LeftRunFaults& left, const v1::Registration& node) {
  const std::map<std::string, LeftFault> faults = left.faults;
  for (const auto& [key, fault] : faults) {
    // What somebody else has changed was left as it is.
    if (fault.planned.node() != node.node() || fault.state == v1::FAULT_STATE_SUPERSEDED) continue;
    const std::string& name = fault.planned.name();
    v1::Event event;
    event.set_source("controller");
    v1::FaultReport& report = *event.mutable_fault();
    report.set_fault(name);
    report.set_node(node.node());
    const auto leftover = Find(node.leftovers(), left.run, name);
    if (leftover != node.leftovers().end()) {
      if (fault.state == v1::FAULT_STATE_STUCK) continue;
      report.set_state(v1::FAULT_STATE_STUCK);
      report.set_reason(leftover->reason());
      report.set_undo_by_hand(leftover->undo_by_hand());
    } else if (Has(node.active(), left.run, name)) {
      continue;  // It says more of it when it ends.
    } else if (!left.memories.Knows(node.memory(), key)) {
      continue;
    } else {
      report.set_state(v1::FAULT_STATE_REVERTED);
      report.set_reason("its node is back, and carries nothing of it");
    }
    const absl::Status written = Write(left, std::move(event));
    if (!written.ok()) spdlog::error("run {}: {}", left.run, written);
  }
}

// -------------------------------------------------------------------- what people say

absl::StatusOr<std::vector<std::string>> Aftermath::Settle(const std::string& run,
                                                           const std::string& node,
                                                           const std::string& by,
                                                           const std::string& reason) {
  const std::string doing = absl::StrCat("settling run ", run);
  if (reason.empty() || reason.size() > kLongestReason) {
    return absl::InvalidArgumentError(
        absl::StrCat(doing, ": say in 1 to ", kLongestReason, " characters why with --reason"));
  }
  const auto found = left_.find(run);
  if (found == left_.end()) {
    ASSIGN_OR_RETURN(const std::vector<v1::Event> history, store_.Read(run, 1));
    const std::string settled = SettledWords(history);
    return absl::FailedPreconditionError(absl::StrCat(
        doing, ": ",
        !HasEnded(history)
            ? absl::StrCat("it is going on; end it first: firedrill stop ", run, " --reason WHY")
        : settled.empty() ? "there is nothing to settle, every fault of it is undone"
                          : absl::StrCat("it is settled already, by ", settled)));
  }
  LeftRunFaults& left = found->second;
  std::vector<v1::PlannedFault> meant;
  std::vector<std::string> nodes;
  const std::vector<v1::Registration> connected = fleet_.Connected();
  for (const auto& [key, fault] : left.faults) {
    const std::string& on = fault.planned.node();
    nodes.push_back(on);
    if (!node.empty() && on != node) continue;
    meant.push_back(fault.planned);
    const auto there =
        absl::c_find_if(connected, [&](const v1::Registration& each) { return each.node() == on; });
    if (there == connected.end()) continue;
    const auto leftover = Find(there->leftovers(), run, fault.planned.name());
    const bool is_leftover = leftover != there->leftovers().end();
    if (!is_leftover && !Has(there->active(), run, fault.planned.name())) continue;
    const std::string by_hand = is_leftover ? leftover->undo_by_hand() : fault.undo_by_hand;
    return absl::FailedPreconditionError(absl::StrCat(
        doing, ": ", on, " is connected, and says that it carries ", fault.planned.name(),
        " still: undo it there, and the run is settled by itself",
        by_hand.empty() ? "; firedrill leftovers on it says how"
                        : absl::StrCat(" (", by_hand, ")")));
  }
  if (meant.empty()) {
    return absl::NotFoundError(absl::StrCat(doing, ": it has left nothing on ", node,
                                            ", but on: ", absl::StrJoin(nodes, ", ")));
  }
  std::vector<std::string> keys;
  for (const v1::PlannedFault& planned : meant) {
    RETURN_IF_ERROR(Write(left, Settlement(planned, by, reason)));
    fleet_.ForgetFault(planned.node(), run, planned.name());
    keys.push_back(FaultKey(planned));
  }
  spdlog::warn("{} has settled run {} ({}): {}", by, run, absl::StrJoin(keys, ", "), reason);
  Tidy(run);
  return keys;
}

absl::Status Aftermath::Write(LeftRunFaults& left, v1::Event event) {
  RETURN_IF_ERROR(WriteUnwritten(left.run));
  event.set_run(left.run);
  event.set_seq(left.next_seq);
  event.set_epoch(fleet_.options().epoch);
  // The clock may have been set back since.
  left.last = std::max(left.last, executor_.clock().Now());
  *event.mutable_at() = ToProto(left.last);
  const absl::Status appended = store_.Append(left.run, left.next_seq, event.epoch(), {event});
  // The store has lost a part of this run, or another controller writes it: it is never to be had.
  if (absl::IsAborted(appended)) {
    spdlog::error("run {}: {}", left.run, appended);
  } else {
    RETURN_IF_ERROR(appended);
  }
  ++left.next_seq;
  const v1::FaultReport& report = event.fault();
  const auto fault = left.faults.find(absl::StrCat(report.fault(), "@", report.node()));
  if (IsSettlement(event) || report.state() == v1::FAULT_STATE_REVERTED) {
    left.settled = left.settled || IsSettlement(event);
    if (fault != left.faults.end()) left.faults.erase(fault);
  } else if (fault != left.faults.end()) {
    fault->second.state = report.state();
    fault->second.reason = report.reason();
    fault->second.undo_by_hand = report.undo_by_hand();
  }
  return absl::OkStatus();
}

// -------------------------------------------------------------------- what is told of it

std::vector<v1::InjectorSummary> Aftermath::Complete(std::vector<v1::InjectorSummary> seen) const {
  for (const auto& [run, left] : left_) {
    if (left.is_private) continue;
    for (const auto& [key, fault] : left.faults) {
      const std::string& node = fault.planned.node();
      auto found = absl::c_find_if(seen, [&](const v1::InjectorSummary& each) {
        return each.registration().node() == node;
      });
      if (found == seen.end()) {
        seen.emplace_back().mutable_registration()->set_node(node);
        found = std::prev(seen.end());
        *found->mutable_last_seen() = ToProto(fault.heard);
      }
      v1::ActiveFault& carried = *found->add_unconfirmed();
      carried.set_run(run);
      carried.set_fault(fault.planned.name());
      carried.set_state(fault.state);
    }
  }
  absl::c_sort(seen, [](const v1::InjectorSummary& a, const v1::InjectorSummary& b) {
    return a.registration().node() < b.registration().node();
  });
  return seen;
}

}  // namespace firedrill
