// Owns every fault of this node.
#include "injector/warden.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/policy.h"

namespace firedrill {
namespace {

// Faults of one node at once.
constexpr size_t kMostFaults = 64;
// Of a lease: when it is over everything is to be off, not only begun to be.
constexpr absl::Duration kForTheRevert = absl::Milliseconds(50);
// What is remembered of commands, ended faults and stopped runs.
constexpr size_t kMostRemembered = 4096;
constexpr absl::Duration kReportEvery = absl::Seconds(1);
constexpr absl::Duration kWatchEvery = absl::Milliseconds(500);
// A one-shot fault whose effect does not show is ended all the same.
constexpr absl::Duration kOneShotLooksFor = absl::Seconds(2);
// The absolute end of a one-shot fault for which none was given.
constexpr absl::Duration kOneShotBound = absl::Minutes(1);

std::string IdKey(const v1::CommandId& id) {
  return absl::StrCat(id.group(), "\n", id.epoch(), "\n", id.run(), "\n", id.name(), "\n",
                      id.verb(), "\n", id.attempt());
}

bool IsOneShot(const v1::PlannedFault& planned) { return planned.ending() == v1::ENDING_ONE_SHOT; }

template <typename Map, typename Name>
void Bound(Map& map, std::deque<Name>& order, const Name& added, size_t most) {
  order.push_back(added);
  while (order.size() > most) {
    map.erase(order.front());
    order.pop_front();
  }
}

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
  watch_timer_ = executor_.After(kWatchEvery, [this, alive = alive_] {
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
  const absl::Status admitted = epochs_.Admit(id.group(), id.epoch());
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

absl::Status Warden::MayBegin(const std::string& run) const {
  if (closed_.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("nothing begins here any more: ", *closed_));
  }
  if (disk_.Exists(kStopFile)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node ", node_.name(), " is stopped by the file ", kStopFile,
                     " in its state folder; find out who put it there, and remove it to go on"));
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
  entry.lease_until = executor_.clock().Boot() + entry.lease - kForTheRevert;
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
  if (IsOneShot(planned) && !apply.has_remaining()) remaining = kOneShotBound;
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
  entry.lease_until = now + entry.lease - kForTheRevert;
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
    Bound(fences_, fences_order_, key, kMostRemembered);
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

// -------------------------------------------------------------------- leases

void Warden::ArmDue(Entry& entry) {
  executor_.Cancel(entry.due_timer);
  const absl::Duration due = std::min(entry.lease_until, entry.ends_at);
  entry.due_timer = executor_.After(due - executor_.clock().Boot(),
                                    [this, alive = alive_, key = entry.key, serial = entry.serial] {
                                      if (*alive) OnDue(key, serial);
                                    });
}

void Warden::OnDue(const Key& key, uint64_t serial) {
  Entry* entry = Find(key, serial);
  if (entry == nullptr) return;
  const bool going = entry->state == v1::FAULT_STATE_UNSPECIFIED ||
                     entry->state == v1::FAULT_STATE_APPLYING ||
                     entry->state == v1::FAULT_STATE_ACTIVE;
  if (!going) return;
  if (executor_.clock().Boot() >= entry->ends_at) {
    return BeginRevert(*entry, "its time is over", /*stop_run=*/false);
  }
  if (LeaseIsOver(*entry)) return ExpireLease(*entry);
  ArmDue(*entry);
}

bool Warden::LeaseIsOver(const Entry& entry) const {
  return executor_.clock().Boot() >= entry.lease_until;
}

void Warden::ExpireLease(Entry& entry) {
  BeginRevert(entry,
              absl::StrCat("nobody renewed its lease of ", firedrill::FormatDuration(entry.lease)),
              /*stop_run=*/true);
}

void Warden::Renew(const std::string& group, uint64_t epoch) {
  if (!epochs_.Admit(group, epoch).ok() && epoch < epochs_.Highest(group)) return;
  const absl::Duration now = executor_.clock().Boot();
  for (auto& [key, entry] : entries_) {
    // Another life of the controller does not conduct the runs of the one before.
    if (entry.group != group || entry.applied_by.epoch() != epoch) continue;
    const bool going = entry.state == v1::FAULT_STATE_UNSPECIFIED ||
                       entry.state == v1::FAULT_STATE_APPLYING ||
                       entry.state == v1::FAULT_STATE_ACTIVE;
    if (!going) continue;
    // After a hang a ping may be read before the timer that is long due: what is over stays over.
    if (LeaseIsOver(entry)) {
      ExpireLease(entry);
    } else {
      entry.lease_until = now + entry.lease - kForTheRevert;
    }
  }
}

void Warden::ControllerLost() {
  for (auto& [key, entry] : entries_) {
    if (entry.touched && entry.planned.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE) {
      continue;
    }
    BeginRevert(entry, "the connection to its controller was lost", /*stop_run=*/true);
  }
}

void Warden::StopRun(const std::string& run, const std::string& reason) {
  if (!stopped_runs_.emplace(run, reason).second) return;
  Bound(stopped_runs_, stopped_order_, run, kMostRemembered);
}

void Warden::OnWatch() {
  watch_timer_ = executor_.After(kWatchEvery, [this, alive = alive_] {
    if (*alive) OnWatch();
  });
  if (entries_.empty() || !disk_.Exists(kStopFile)) return;
  for (auto& [key, entry] : entries_) {
    BeginRevert(entry,
                absl::StrCat("the file ", kStopFile, " was put into the node's state folder"),
                /*stop_run=*/true);
  }
}

absl::Duration Warden::SmallestLease() const {
  absl::Duration smallest = options_.lease;
  for (const auto& [key, entry] : entries_) {
    smallest = std::min(smallest, entry.lease);
  }
  return smallest;
}

// ------------------------------------------------------------------- reverts

void Warden::BeginRevert(Entry& entry, const std::string& reason, bool stop_run) {
  if (stop_run) StopRun(entry.key.first, reason);
  if (entry.state == v1::FAULT_STATE_REVERTING || entry.state == v1::FAULT_STATE_STUCK) return;
  executor_.Cancel(entry.due_timer);
  entry.state = v1::FAULT_STATE_REVERTING;
  entry.reason = reason;
  entry.reverting_since = executor_.clock().Boot();
  entry.patience_timer = executor_.After(
      options_.give_up_after, [this, alive = alive_, key = entry.key, serial = entry.serial] {
        if (*alive) OnImpatient(key, serial);
      });
  const bool quiet = !entry.touched || (IsOneShot(entry.planned) && !entry.reverted_by.has_value());
  if (!quiet) {
    Send(entry.key, ReportOf(entry), entry.reverted_by.has_value() ? &*entry.reverted_by : nullptr);
  }
  entry.running->Revert();
}

void Warden::OnImpatient(const Key& key, uint64_t serial) {
  Entry* entry = Find(key, serial);
  if (entry == nullptr || entry->state != v1::FAULT_STATE_REVERTING) return;
  const std::string why =
      absl::StrCat("the fault ", key.second, " of the run ", key.first, " did not go off within ",
                   firedrill::FormatDuration(options_.give_up_after));
  v1::FaultReport report = ReportOf(*entry);
  report.set_state(v1::FAULT_STATE_STUCK);
  report.set_reason(absl::StrCat(why, "; its injector ends itself, which ends what it holds"));
  Send(key, report, nullptr);
  if (options_.give_up) options_.give_up(why);
}

void Warden::Close(const std::string& reason, std::function<void(bool)> done) {
  closed_ = reason;
  closed_done_ = std::move(done);
  for (auto& [key, entry] : entries_) BeginRevert(entry, reason, /*stop_run=*/true);
  TellClosed();
}

void Warden::TellClosed() {
  if (!closed_done_) return;
  const bool clean = entries_.empty();
  const bool hopeless = std::all_of(entries_.begin(), entries_.end(), [](const auto& item) {
    return item.second.state == v1::FAULT_STATE_STUCK;
  });
  if (!hopeless) return;
  // Moved out first: it may be the end of everything.
  const std::function<void(bool)> done = std::exchange(closed_done_, nullptr);
  done(clean);
}

// ---------------------------------------------------------------------- news

Warden::Entry* Warden::Find(const Key& key, uint64_t serial) {
  const auto found = entries_.find(key);
  return found == entries_.end() || found->second.serial != serial ? nullptr : &found->second;
}

FaultNews Warden::NewsFor(const Key& key, uint64_t serial) {
  const auto find = [this, alive = alive_, key, serial]() -> Entry* {
    return *alive ? Find(key, serial) : nullptr;
  };
  return {
      .prepared =
          [this, find](absl::Status status) {
            if (Entry* entry = find()) OnPrepared(*entry, status);
          },
      .applied =
          [this, find](absl::Status status, absl::Time at) {
            if (Entry* entry = find()) OnApplied(*entry, status, at);
          },
      .observed =
          [this, find](absl::StatusOr<v1::Observation> seen, absl::Time at) {
            if (Entry* entry = find()) OnObserved(*entry, seen, at);
          },
      .ended =
          [this, find](FaultEnd end) {
            if (Entry* entry = find()) OnEnded(*entry, end);
          },
  };
}

void Warden::OnPrepared(Entry& entry, const absl::Status& status) {
  if (status.ok() || entry.state != v1::FAULT_STATE_UNSPECIFIED) return;
  Refuse(entry.applied_by, entry.key, status);
  BeginRevert(entry, "", /*stop_run=*/false);
}

void Warden::OnApplied(Entry& entry, const absl::Status& status, absl::Time at) {
  if (entry.state != v1::FAULT_STATE_APPLYING) return;
  if (!status.ok()) {
    // The report comes when what it did is undone.
    entry.refused = status;
    executor_.Cancel(entry.due_timer);
    entry.state = v1::FAULT_STATE_REVERTING;
    return;
  }
  entry.state = v1::FAULT_STATE_ACTIVE;
  entry.active_since = entry.reported_at = executor_.clock().Boot();
  Send(entry.key, ReportOf(entry), &entry.applied_by, at);
}

void Warden::OnObserved(Entry& entry, const absl::StatusOr<v1::Observation>& seen, absl::Time at) {
  if (entry.state != v1::FAULT_STATE_ACTIVE) return;
  const absl::Duration now = executor_.clock().Boot();
  bool news = now - entry.reported_at >= kReportEvery;
  v1::FaultReport report = ReportOf(entry);
  if (seen.ok()) {
    news = news || !entry.observation.has_value() || entry.observation->real() != seen->real() ||
           entry.observation->reached() != seen->reached();
    entry.observation = *seen;
    report = ReportOf(entry);
  } else {
    // An old observation must not look like a new one.
    report.clear_observation();
    report.set_reason(absl::StrCat("it could not be measured: ", seen.status().message()));
  }
  if (news) {
    entry.reported_at = now;
    Send(entry.key, report, nullptr, at);
  }
  if (!IsOneShot(entry.planned)) return;
  if ((seen.ok() && seen->reached()) || now - entry.active_since >= kOneShotLooksFor) {
    BeginRevert(entry, "", /*stop_run=*/false);
  }
}

void Warden::OnEnded(Entry& entry, const FaultEnd& end) {
  executor_.Cancel(entry.due_timer);
  executor_.Cancel(entry.patience_timer);
  const Key key = entry.key;
  const v1::CommandId* answers = entry.reverted_by.has_value()
                                     ? &*entry.reverted_by
                                     : (entry.refused.has_value() ? &entry.applied_by : nullptr);
  v1::FaultReport report = ReportOf(entry);
  report.clear_observation();
  if (end.how == FaultEnd::How::kStuck) {
    const bool news = entry.state != v1::FAULT_STATE_STUCK || entry.reverted_by.has_value();
    entry.state = v1::FAULT_STATE_STUCK;
    entry.reason = end.reason;
    report.set_state(entry.state);
    report.set_reason(end.reason);
    report.set_undo_by_hand(end.undo_by_hand);
    if (news) Send(key, report, answers);
    entry.reverted_by.reset();
    executor_.After(options_.retry_stuck, [this, alive = alive_, key, serial = entry.serial] {
      Entry* stuck = *alive ? Find(key, serial) : nullptr;
      if (stuck != nullptr) stuck->running->Revert();
    });
    return TellClosed();
  }
  if (end.how == FaultEnd::How::kSuperseded) {
    report.set_state(v1::FAULT_STATE_SUPERSEDED);
    report.set_reason(end.reason);
  } else if (entry.refused.has_value() && !entry.reverted_by.has_value()) {
    report.set_state(v1::FAULT_STATE_REFUSED);
    report.set_reason(std::string(entry.refused->message()));
  } else {
    report.set_state(v1::FAULT_STATE_REVERTED);
    report.set_reason(entry.state == v1::FAULT_STATE_STUCK       ? "it went off after all"
                      : entry.state == v1::FAULT_STATE_REVERTING ? entry.reason
                                                                 : "its time is over");
    if (IsOneShot(entry.planned) && entry.observation.has_value()) {
      *report.mutable_observation() = *entry.observation;
    }
  }
  // What was only prepared was never on: there is nothing to say, unless somebody asked.
  if (entry.touched || entry.reverted_by.has_value()) Send(key, report, answers);
  Forget(key);
  TellClosed();
}

void Warden::Forget(const Key& key) { entries_.erase(key); }

// ------------------------------------------------------------ predecessors

std::vector<v1::Leftover> Warden::Adopt(const std::vector<Journal::Begun>& begun) {
  std::vector<v1::Leftover> left;
  for (const Journal::Begun& record : begun) {
    const Key key(record.run, record.fault);
    v1::PlannedFault planned;
    google::protobuf::util::JsonParseOptions lenient;
    lenient.ignore_unknown_fields = true;
    absl::Status made = absl::OkStatus();
    if (!google::protobuf::util::JsonStringToMessage(record.planned, &planned, lenient).ok()) {
      made = absl::DataLossError("its record in the journal cannot be read");
    } else if (entries_.count(key) == 0) {
      made = NewEntry(key, planned, "").status();
    }
    if (!made.ok()) {
      v1::Leftover& leftover = left.emplace_back();
      leftover.set_run(record.run);
      leftover.set_fault(record.fault);
      leftover.set_reason(
          absl::StrCat("its injector has ended, and nobody can look for it: ", made.message()));
      continue;
    }
    Entry& entry = entries_.at(key);
    if (entry.state != v1::FAULT_STATE_UNSPECIFIED) continue;
    entry.touched = true;
    entry.running->Adopt();
    BeginRevert(entry, "its injector had ended; it was looked for, and is gone", /*stop_run=*/true);
  }
  return left;
}

void Warden::AddLeftovers(std::vector<v1::Leftover> leftovers) {
  for (v1::Leftover& leftover : leftovers) leftovers_.push_back(std::move(leftover));
}

std::vector<v1::ActiveFault> Warden::active() const {
  std::vector<v1::ActiveFault> all;
  for (const auto& [key, entry] : entries_) {
    if (!entry.touched) continue;
    v1::ActiveFault& fault = all.emplace_back();
    fault.set_run(key.first);
    fault.set_fault(key.second);
    fault.set_state(entry.state);
  }
  return all;
}

// ------------------------------------------------------------------- reports

v1::FaultReport Warden::ReportOf(const Entry& entry) const {
  v1::FaultReport report;
  report.set_fault(entry.key.second);
  report.set_node(node_.name());
  report.set_state(entry.state);
  report.set_reason(entry.reason);
  if (entry.observation.has_value() && entry.state == v1::FAULT_STATE_ACTIVE) {
    *report.mutable_observation() = *entry.observation;
  }
  return report;
}

void Warden::Send(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
                  std::optional<absl::Time> at) {
  if (last_.emplace(key, report).second) {
    last_order_.push_back(key);
    // What is on is never forgotten: there are far fewer faults than memories.
    for (size_t tries = last_order_.size(); last_order_.size() > kMostRemembered && tries > 0;
         --tries) {
      const Key oldest = last_order_.front();
      last_order_.pop_front();
      if (entries_.count(oldest) > 0) {
        last_order_.push_back(oldest);
      } else {
        last_.erase(oldest);
      }
    }
  } else {
    last_[key] = report;
  }
  SendOnly(key, report, answers, at);
}

void Warden::SendOnly(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
                      std::optional<absl::Time> at) {
  v1::Report out;
  v1::Event& event = *out.mutable_event();
  event.set_run(key.first);
  *event.mutable_source_time() = ToProto(at.value_or(executor_.clock().Now()));
  *event.mutable_fault() = report;
  if (answers != nullptr) *out.mutable_answers() = *answers;
  report_(std::move(out));
}

void Warden::Refuse(const v1::CommandId& id, const Key& key, const absl::Status& why) {
  v1::FaultReport report;
  report.set_fault(key.second);
  report.set_node(node_.name());
  report.set_state(v1::FAULT_STATE_REFUSED);
  report.set_reason(std::string(why.message()));
  Remember(id, {key, report});
  SendOnly(key, report, &id);
}

void Warden::Remember(const v1::CommandId& id, Answered answered) {
  const std::string key = IdKey(id);
  const bool known = answered_.count(key) > 0;
  answered_[key] = std::move(answered);
  if (!known) Bound(answered_, answered_order_, key, kMostRemembered);
}

bool Warden::AnswerAgain(const v1::CommandId& id) {
  const auto found = answered_.find(IdKey(id));
  if (found == answered_.end()) return false;
  const Answered& answered = found->second;
  if (answered.refusal.has_value()) {
    SendOnly(answered.key, *answered.refusal, &id);
    return true;
  }
  const auto last = last_.find(answered.key);
  // A fault that was prepared is answered for only when it was refused.
  if (id.verb() != "prepare" && last != last_.end()) SendOnly(answered.key, last->second, &id);
  return true;
}

}  // namespace firedrill
