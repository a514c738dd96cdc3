// Owns every fault of this node: takes its commands. How faults go off, what they tell, and what is
// reported of them is in warden_ends.cc, warden_news.cc and warden_reports.cc.
#include "injector/warden.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "injector/policy.h"
#include "injector/warden_parts.h"

namespace firedrill {
namespace {

// Faults of one node at once.
constexpr size_t kMostFaults = 64;
// The absolute end of a one-shot fault for which none was given.
constexpr absl::Duration kOneShotBound = absl::Minutes(1);

}  // namespace

Warden::Warden(Executor& executor, const v1::NodeSpec& node, Disk& disk, Epochs& epochs,
               RunningFaultFactory factory, Sink report, Options options)
    : executor_(executor),
      node_(node),
      disk_(disk),
      epochs_(epochs),
      factory_(std::move(factory)),
      report_(std::move(report)),
      options_(std::move(options)) {
  watch_timer_ = executor_.After(warden::kWatchEvery, [this, alive = alive_] {
    if (*alive) OnWatch();
  });
}

Warden::~Warden() {
  *alive_ = false;
  executor_.Cancel(watch_timer_);
  for (auto& [key, entry] : entries_) {
    executor_.Cancel(entry.due_timer);
    executor_.Cancel(entry.patience_timer);
  }
}

// ------------------------------------------------------------------ commands

absl::Status Warden::Handle(const v1::Command& command) {
  const v1::CommandId& id = command.id();
  if (id.node() != node_.name()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a command for the node ", id.node(), " came to ", node_.name()));
  }
  absl::Status admitted = epochs_.Admit(id.group(), id.epoch());
  if (absl::IsFailedPrecondition(admitted)) return admitted;
  if (AnswerAgain(id)) return absl::OkStatus();
  switch (command.action_case()) {
    case v1::Command::kPrepare:
      Prepare(id, command.prepare(), admitted);
      break;
    case v1::Command::kApply:
      Apply(id, command.apply(), admitted);
      break;
    case v1::Command::kRevert:
      // A full disk is no reason not to undo.
      Revert(id, command.revert());
      break;
    default:
      return absl::InvalidArgumentError("this is no command about a fault");
  }
  return absl::OkStatus();
}

std::string Warden::StoppedByFile() const {
  const std::string file = options_.stop_file ? options_.stop_file()
                           : disk_.Exists(kStopFile)
                               ? absl::StrCat(kStopFile, " in its state folder")
                               : "";
  if (file.empty()) return "";
  return absl::StrCat("the node ", node_.name(), " is stopped by the file ", file,
                      "; find out who put it there, and remove it to go on");
}

std::string Warden::Stopped() const {
  const std::string file = StoppedByFile();
  if (!file.empty() || !halted_.has_value()) return file;
  return absl::StrCat("the controller's emergency lever is pulled (", *halted_,
                      "); firedrill unlock releases it");
}

absl::Status Warden::MayBegin(const std::string& run) const {
  if (closed_.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("nothing begins here any more: ", *closed_));
  }
  if (const std::string stopped = Stopped(); !stopped.empty()) {
    return absl::FailedPreconditionError(stopped);
  }
  const auto stopped = stopped_runs_.find(run);
  if (stopped == stopped_runs_.end()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("nothing of the run ", run, " begins here any more: ", stopped->second));
}

absl::Status Warden::MayGoOn(const v1::CommandId& id, const v1::PlannedFault& planned) const {
  RETURN_IF_ERROR(MayBegin(id.run()));
  const auto fence = fences_.find(Key(id.run(), planned.name()));
  if (fence != fences_.end() && Fence(id.epoch(), id.attempt()) <= fence->second) {
    return absl::FailedPreconditionError("it was reverted before this command came");
  }
  return PermitsFault(node_, planned, executor_.clock().Now());
}

absl::StatusOr<Warden::Entry*> Warden::NewEntry(const Key& key, const v1::PlannedFault& planned,
                                                const std::string& group) {
  if (entries_.size() >= kMostFaults) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the node ", node_.name(), " carries ", kMostFaults, " faults already"));
  }
  const absl::Duration smallest = SmallestLease();
  const uint64_t serial = next_serial_++;
  ASSIGN_OR_RETURN(std::unique_ptr<RunningFault> running,
                   factory_(key.first, planned, NewsFor(key, serial)));
  Entry& entry = entries_[key];
  entry.serial = serial;
  entry.key = key;
  entry.planned = planned;
  entry.group = group;
  entry.running = std::move(running);
  entry.lease = planned.has_lease() && FromProto(planned.lease()) > absl::ZeroDuration()
                    ? FromProto(planned.lease())
                    : options_.lease;
  entry.lease = std::clamp(entry.lease, options_.shortest_lease, options_.longest_lease);
  entry.lease_until = executor_.clock().Boot() + entry.lease - warden::kForTheRevert;
  if (entry.lease < smallest && options_.lease_shortened) options_.lease_shortened();
  return &entry;
}

void Warden::Prepare(const v1::CommandId& id, const v1::PrepareFault& prepare,
                     const absl::Status& kept) {
  const Key key(id.run(), prepare.fault().name());
  Remember(id, {key, std::nullopt});
  if (entries_.count(key) > 0) return;
  if (!kept.ok()) return Refuse(id, key, kept);
  const absl::Status may = MayGoOn(id, prepare.fault());
  if (!may.ok()) return Refuse(id, key, may);
  const absl::StatusOr<Entry*> made = NewEntry(key, prepare.fault(), id.group());
  if (!made.ok()) return Refuse(id, key, made.status());
  Entry& entry = **made;
  entry.applied_by = id;
  const absl::Duration remaining = FromProto(prepare.remaining());
  if (remaining > absl::ZeroDuration()) entry.ends_at = executor_.clock().Boot() + remaining;
  ArmDue(entry);
  entry.running->Prepare();
}

void Warden::Apply(const v1::CommandId& id, const v1::ApplyFault& apply, const absl::Status& kept) {
  const v1::PlannedFault& planned = apply.fault();
  const Key key(id.run(), planned.name());
  auto found = entries_.find(key);
  if (found != entries_.end() && found->second.state != v1::FAULT_STATE_UNSPECIFIED) {
    // It is on already: to call this a refusal would say that it is off.
    Remember(id, {key, std::nullopt});
    return SendOnly(key, ReportOf(found->second), &id);
  }
  // What was prepared for it is let go: nobody reverts what was refused.
  const auto refuse = [&](const absl::Status& why) {
    Refuse(id, key, why);
    if (found != entries_.end()) BeginRevert(found->second, "", /*stop_run=*/false);
  };
  if (!kept.ok()) return refuse(kept);
  absl::Duration remaining = FromProto(apply.remaining());
  if (warden::IsOneShot(planned) && !apply.has_remaining()) remaining = kOneShotBound;
  absl::Status may = MayGoOn(id, planned);
  if (may.ok() && remaining <= absl::ZeroDuration()) {
    may = absl::DeadlineExceededError("its time was over before the command came");
  }
  if (may.ok() && found != entries_.end() &&
      !google::protobuf::util::MessageDifferencer::Equals(found->second.planned, planned)) {
    may = absl::FailedPreconditionError("another fault was prepared under this name");
  }
  if (may.ok() && found == entries_.end()) may = NewEntry(key, planned, id.group()).status();
  if (!may.ok()) return refuse(may);
  Entry& entry = entries_.at(key);
  Remember(id, {key, std::nullopt});
  const absl::Duration now = executor_.clock().Boot();
  // While it was only prepared its lease may have run out in this very moment.
  if (LeaseIsOver(entry)) return ExpireLease(entry);
  entry.applied_by = id;
  entry.group = id.group();
  entry.touched = true;
  entry.lease_until = now + entry.lease - warden::kForTheRevert;
  entry.ends_at = now + std::min(remaining, LongestFault(node_.policy()));
  entry.state = v1::FAULT_STATE_APPLYING;
  ArmDue(entry);
  Send(key, ReportOf(entry), &id);
  entry.running->Apply(entry.ends_at);
}

void Warden::Revert(const v1::CommandId& id, const v1::RevertFault& revert) {
  const Key key(id.run(), revert.fault().empty() ? id.name() : revert.fault());
  Remember(id, {key, std::nullopt});
  const Fence fence(id.epoch(), id.attempt());
  const auto known = fences_.find(key);
  if (known == fences_.end()) {
    fences_[key] = fence;
    warden::Bound(fences_, fences_order_, key);
  } else {
    known->second = std::max(known->second, fence);
  }
  auto found = entries_.find(key);
  if (found != entries_.end()) {
    Entry& entry = found->second;
    entry.reverted_by = id;
    if (entry.state == v1::FAULT_STATE_STUCK) return entry.running->Revert();
    return BeginRevert(entry, revert.reason(), /*stop_run=*/false);
  }
  v1::FaultReport report;
  report.set_fault(key.second);
  report.set_node(node_.name());
  report.set_state(v1::FAULT_STATE_REVERTED);
  for (const v1::Leftover& leftover : leftovers_) {
    if (leftover.run() != key.first || leftover.fault() != key.second) continue;
    report.set_state(v1::FAULT_STATE_STUCK);
    report.set_reason(leftover.reason());
    report.set_undo_by_hand(leftover.undo_by_hand());
  }
  const auto last = last_.find(key);
  if (last != last_.end() && (last->second.state() == v1::FAULT_STATE_REVERTED ||
                              last->second.state() == v1::FAULT_STATE_SUPERSEDED)) {
    report = last->second;
  }
  Send(key, report, &id);
}

}  // namespace firedrill
