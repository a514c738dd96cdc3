// Starts experiments when their schedules are due.
#include "controller/scheduler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "controller/run_left.h"
#include "experiment/difference.h"

namespace firedrill {
namespace {

// Timers count boot time: a wall clock that is set, or a machine that has slept, is noticed so
// soon.
constexpr absl::Duration kLookAtLeastEvery = absl::Seconds(5);
// An injector that has lost its controller dials again within a second.
constexpr absl::Duration kForTheInjectors = absl::Seconds(3);
constexpr size_t kMostExperiments = 1000;
// Of slots that were due while nobody was there, the newest so many get a record of their own.
constexpr size_t kMostMissedAtOnce = 100;
constexpr absl::Duration kLookBack = absl::Hours(31 * 24);
constexpr uint32_t kMostSlotsListed = 1000;

// For whoever reads the controller's log; with the store's error where there is no record.
void SayMissed(const v1::Slot& slot, const absl::Status& kept) {
  spdlog::warn("the slot {} of {} was missed ({}): {}{}",
               firedrill::FormatTime(FromProto(slot.due())), slot.experiment(), slot.missed(),
               slot.reason(),
               kept.ok() ? "" : absl::StrCat("; it has no record: ", kept.message()));
}

const v1::Schedule& ScheduleOf(const v1::AppliedExperiment& applied) {
  return applied.experiment().spec().schedule();
}

// The reader has filled it in where it was left out.
absl::Duration DeadlineOf(const v1::AppliedExperiment& applied) {
  return FromProto(ScheduleOf(applied).starting_deadline());
}

}  // namespace

Scheduler::Scheduler(Executor& executor, Store& store, uint64_t epoch, Starting starting)
    : executor_(executor), store_(store), epoch_(epoch), starting_(std::move(starting)) {}

Scheduler::~Scheduler() {
  *alive_ = false;
  executor_.Cancel(timer_);
}

Scheduler::Entry Scheduler::EntryOf(const v1::AppliedExperiment& applied) {
  Entry entry;
  entry.applied = applied;
  entry.after = FromProto(applied.due_after());
  if (!applied.experiment().spec().has_schedule()) return entry;
  absl::StatusOr<Timetable> table = Timetable::Make(ScheduleOf(applied));
  if (!table.ok()) {
    entry.problem = std::string(table.status().message());
  } else if (!ScheduleOf(applied).not_on().while_alert().empty()) {
    // What is not looked at must not be taken for obeyed.
    entry.problem =
        "schedule.notOn.whileAlert is not looked at by this controller yet: leave it out";
  } else {
    entry.table = *std::move(table);
  }
  return entry;
}

absl::Status Scheduler::Begin() {
  absl::Status first;
  const absl::StatusOr<std::vector<v1::AppliedExperiment>> all = store_.Experiments();
  first.Update(all.status());
  absl::StatusOr<std::map<std::string, uint64_t>> missed = store_.MissedSlots();
  first.Update(missed.status());
  if (missed.ok()) missed_ = *std::move(missed);
  if (all.ok()) {
    for (const v1::AppliedExperiment& applied : *all) first.Update(Resume(applied));
  }
  timer_ = executor_.After(kForTheInjectors, [this, alive = alive_] {
    if (!*alive) return;
    idle_ = false;
    Look();
  });
  return first;
}

absl::Status Scheduler::Resume(const v1::AppliedExperiment& applied) {
  const std::string& name = applied.name();
  missed_[name];
  Entry entry = EntryOf(applied);
  const absl::StatusOr<std::vector<v1::Slot>> slots = store_.Slots(name, 1);
  if (!slots.ok()) {
    entry.table.reset();
    entry.problem = std::string(slots.status().message());
  } else if (!slots->empty()) {
    v1::Slot last = slots->front();
    entry.after = std::max(entry.after, FromProto(last.due()));
    entry.run = last.run();
    // Claimed by a controller that ended before its run had an id: nothing was begun.
    if (last.run().empty() && last.missed().empty() && last.epoch() != epoch_) {
      last.set_missed("cut-short");
      last.set_reason("the controller ended while it was starting the run");
      Settle(last, true);
    } else if (!last.run().empty() && last.missed().empty()) {
      // Whether it has started may not be decided yet, or nobody was there to write it down.
      const auto judged = Judged(std::make_shared<v1::Slot>(last));
      const bool going = starting_.watch(last.run(), judged);
      const absl::StatusOr<std::vector<v1::Event>> history =
          going ? std::vector<v1::Event>() : store_.Read(last.run(), 1);
      if (history.ok() && HasEnded(*history)) judged(Judge(*history));
    }
  }
  entry.next = NextOf(entry);
  const std::string problem = entry.problem;
  entries_[name] = std::move(entry);
  if (problem.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("going on with the schedule of ", name, ": ", problem));
}

void Scheduler::End() {
  idle_ = true;
  executor_.Cancel(timer_);
}

absl::StatusOr<v1::ApplyExperimentResponse> Scheduler::Apply(v1::AppliedExperiment applied) {
  // What is due by now is due by the old one.
  Look();
  const absl::Time now = executor_.clock().Now();
  const std::string& name = applied.experiment().metadata().name();
  v1::ApplyExperimentResponse response;
  response.set_name(name);
  const auto old = entries_.find(name);
  if (old == entries_.end() && entries_.size() >= kMostExperiments) {
    return absl::ResourceExhaustedError(
        absl::StrCat("applying ", name, ": there are ", entries_.size(),
                     " experiments; delete one with: firedrill delete experiment NAME"));
  }
  applied.set_name(name);
  applied.set_version(1);
  *applied.mutable_applied() = ToProto(now);
  *applied.mutable_due_after() = ToProto(now);
  response.set_change(v1::ApplyExperimentResponse::CHANGE_CREATED);
  if (old != entries_.end()) {
    const v1::AppliedExperiment& before = old->second.applied;
    for (std::string& line : Differences(before.experiment(), applied.experiment()))
      response.add_differences(std::move(line));
    const bool same = response.differences().empty();
    response.set_change(same ? v1::ApplyExperimentResponse::CHANGE_UNCHANGED
                             : v1::ApplyExperimentResponse::CHANGE_CHANGED);
    applied.set_version(before.version() + (same ? 0 : 1));
    // Comments and the file's name are kept up to date; who is responsible for it is as before.
    if (same) {
      applied.set_applied_by(before.applied_by());
      *applied.mutable_applied() = before.applied();
      *applied.mutable_due_after() = before.due_after();
    }
  }
  response.set_version(applied.version());
  Entry entry = EntryOf(applied);
  if (!entry.problem.empty())
    return absl::InvalidArgumentError(absl::StrCat("applying ", name, ": ", entry.problem));
  RETURN_IF_ERROR(store_.PutExperiment(applied));
  if (old != entries_.end()) {
    entry.after = std::max(entry.after, old->second.after);
    entry.run = old->second.run;
    entry.starting = old->second.starting;
  }
  entry.next = NextOf(entry);
  if (entry.table.has_value()) *response.mutable_next_slot() = ToProto(entry.next);
  missed_[name];
  entries_[name] = std::move(entry);
  Look();
  return response;
}

absl::Status Scheduler::Delete(const std::string& name) {
  ASSIGN_OR_RETURN(const bool deleted, store_.DeleteExperiment(name));
  entries_.erase(name);
  if (deleted) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("deleting experiment ", name,
                                          ": there is none; `firedrill get experiments` lists "
                                          "what was applied"));
}

absl::StatusOr<v1::ListExperimentsResponse> Scheduler::List(
    const v1::ListExperimentsRequest& request) const {
  v1::ListExperimentsResponse response;
  const uint32_t slots = std::clamp(request.slots(), 1u, kMostSlotsListed);
  for (const auto& [name, entry] : entries_) {
    if (!request.name().empty() && request.name() != name) continue;
    v1::ExperimentSummary& summary = *response.add_experiments();
    const v1::AppliedExperiment& applied = entry.applied;
    summary.set_name(name);
    summary.set_version(applied.version());
    summary.set_applied_by(applied.applied_by());
    *summary.mutable_applied() = applied.applied();
    summary.set_file(applied.file());
    summary.set_problem(entry.problem);
    if (request.texts()) summary.set_text(applied.text());
    summary.set_cron(ScheduleOf(applied).cron());
    summary.set_time_zone(ScheduleOf(applied).time_zone());
    if (entry.table.has_value()) *summary.mutable_next_slot() = ToProto(entry.next);
    ASSIGN_OR_RETURN(const std::vector<v1::Slot> last, store_.Slots(name, slots));
    for (const v1::Slot& slot : last) *summary.add_slots() = slot;
  }
  if (!request.name().empty() && response.experiments().empty()) {
    return absl::NotFoundError(absl::StrCat("experiment ", request.name(),
                                            ": there is none; `firedrill get experiments` lists "
                                            "what was applied"));
  }
  return response;
}

absl::Time Scheduler::NextOf(const Entry& entry) {
  return entry.table.has_value() ? entry.table->Next(entry.after) : absl::InfiniteFuture();
}

void Scheduler::Look() {
  if (idle_) return;
  executor_.Cancel(timer_);
  const absl::Time now = executor_.clock().Now();
  absl::Duration pause = kLookAtLeastEvery;
  for (auto& [name, entry] : entries_) {
    if (now >= entry.next) Decide(entry, now);
    pause = std::min(pause, entry.next - now);
  }
  timer_ = executor_.After(std::max(pause, absl::Milliseconds(1)), [this, alive = alive_] {
    if (*alive) Look();
  });
}

void Scheduler::Decide(Entry& entry, absl::Time now) {
  std::vector<absl::Time> due = entry.table->Between(std::max(entry.after, now - kLookBack), now);
  // Of those further back the first is enough.
  if (due.empty() || due.front() > entry.next) due.insert(due.begin(), entry.next);
  const size_t first = due.size() > kMostMissedAtOnce ? due.size() - kMostMissedAtOnce : 0;
  for (size_t i = first; i < due.size(); ++i) {
    const absl::Duration late = now - due[i];
    if (const std::string why = entry.table->PassedOver(due[i]); !why.empty()) {
      Miss(entry, due[i], "passed-over", why);
    } else if (late > DeadlineOf(entry.applied)) {
      Miss(entry, due[i], "down",
           absl::StrCat("no controller was there to start it: ", firedrill::FormatDuration(late),
                        " late, the startingDeadline is ",
                        firedrill::FormatDuration(DeadlineOf(entry.applied)),
                        i == first && first > 0
                            ? absl::StrCat("; as were ", first, " slots and more before it")
                            : ""));
    } else if (i + 1 < due.size()) {
      Miss(entry, due[i], "overlap", "a later slot is due by now, and is started in its place");
    } else if (entry.starting || (!entry.run.empty() && starting_.going(entry.run))) {
      Miss(entry, due[i], "overlap",
           entry.starting ? "the run of the slot before it is still being started"
                          : absl::StrCat("run ", entry.run, " of this schedule is still going on"));
    } else {
      Fire(entry, due[i]);
    }
  }
  entry.after = due.back();
  entry.next = NextOf(entry);
}

v1::Slot Scheduler::SlotOf(const Entry& entry, absl::Time due) const {
  v1::Slot slot;
  slot.set_experiment(entry.applied.name());
  *slot.mutable_due() = ToProto(due);
  *slot.mutable_decided() = ToProto(executor_.clock().Now());
  slot.set_epoch(epoch_);
  return slot;
}

void Scheduler::Miss(const Entry& entry, absl::Time due, const std::string& missed,
                     const std::string& reason) {
  v1::Slot slot = SlotOf(entry, due);
  slot.set_missed(missed);
  slot.set_reason(reason);
  const absl::StatusOr<bool> claimed = store_.ClaimSlot(slot);
  // Somebody else has decided it.
  if (claimed.ok() && !*claimed) return;
  // One that could not be written down was missed all the same.
  ++missed_[slot.experiment()];
  SayMissed(slot, claimed.status());
}

void Scheduler::Settle(v1::Slot slot, bool was_missed) {
  *slot.mutable_decided() = ToProto(executor_.clock().Now());
  const absl::Status kept = store_.SettleSlot(slot);
  if (was_missed) {
    ++missed_[slot.experiment()];
    SayMissed(slot, kept);
  } else if (!kept.ok()) {
    spdlog::error("run {} of the slot {} of {} is not in its record: {}", slot.run(),
                  firedrill::FormatTime(FromProto(slot.due())), slot.experiment(), kept);
  }
}

void Scheduler::Fire(Entry& entry, absl::Time due) {
  v1::Slot slot = SlotOf(entry, due);
  const absl::StatusOr<bool> claimed = store_.ClaimSlot(slot);
  // Without a row nobody could tell later that it was fired: nothing starts.
  if (!claimed.ok()) {
    ++missed_[slot.experiment()];
    slot.set_missed("refused");
    slot.set_reason("the store cannot be written, so nothing was started");
    SayMissed(slot, claimed.status());
  }
  if (!claimed.ok() || !*claimed) return;
  v1::StartRun start;
  *start.mutable_experiment() = entry.applied.experiment();
  start.set_file(entry.applied.file());
  *start.mutable_positions() = entry.applied.positions();
  start.set_owner(absl::StrCat("schedule:", entry.applied.name()));
  start.set_detach(true);
  entry.starting = true;
  const auto fired = std::make_shared<v1::Slot>(slot);
  starting_.start(
      start,
      [this, alive = alive_, fired](absl::StatusOr<std::string> run) {
        if (!*alive) return;
        if (auto found = entries_.find(fired->experiment()); found != entries_.end()) {
          found->second.starting = false;
          if (run.ok()) found->second.run = *run;
        }
        if (run.ok()) {
          fired->set_run(*run);
        } else {
          fired->set_missed("refused");
          fired->set_reason(std::string(run.status().message()));
        }
        Settle(*fired, !run.ok());
      },
      Judged(fired));
}

std::function<void(const v1::Judgement&)> Scheduler::Judged(std::shared_ptr<v1::Slot> fired) {
  return [this, alive = alive_, fired = std::move(fired)](const v1::Judgement& judgement) {
    if (!*alive || judgement.outcome() != v1::OUTCOME_NOT_STARTED) return;
    fired->set_missed("not-started");
    fired->set_reason(judgement.reason().empty() ? "see the report of the run"
                                                 : judgement.reason());
    Settle(*fired, true);
  };
}

}  // namespace firedrill
