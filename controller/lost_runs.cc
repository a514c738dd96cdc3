// Runs whose controller has died before their end.
#include "controller/lost_runs.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/epoch_lock.h"
#include "controller/going_marks.h"
#include "controller/run.h"

namespace firedrill {
namespace {

constexpr char kSource[] = "controller";

bool IsOpen(const v1::RunSummary& run) {
  return run.outcome() == v1::OUTCOME_UNSPECIFIED && run.phase() != v1::PHASE_FINISHED;
}

// The events that end a run; none where it must wait.
class Closing {
 public:
  Closing(const std::vector<v1::Event>& history, uint64_t epoch, const Clock& clock)
      : history_(history),
        last_(history.back()),
        epoch_(epoch),
        clock_(clock),
        // The clock may have been set back since.
        at_(std::max(clock.Now(), FromProto(history.back().at()))) {}

  std::vector<v1::Event> Events(const WhereIs& where_is, bool& undo_confirmed) {
    undo_confirmed = true;
    std::map<std::string, const v1::Event*> applied;
    for (const v1::Event& event : history_) {
      if (!event.has_command() || !event.command().command().has_apply()) continue;
      applied[FaultKey(event.command().command().apply().fault())] = &event;
    }
    const RunState state = Fold(history_);
    for (const auto& [key, fault] : state.faults) {
      const auto apply = applied.find(key);
      if (apply == applied.end() || fault.state == v1::FAULT_STATE_REVERTED ||
          fault.state == v1::FAULT_STATE_REFUSED) {
        continue;
      }
      // It leaves nothing; but it may not have acted yet.
      const bool one_shot =
          fault.planned.ending() == v1::ENDING_ONE_SHOT && Since(*apply->second) > kOneShotBound;
      const Whereabouts where =
          one_shot ? Whereabouts::kGone : where_is(apply->second->command().command());
      if (where == Whereabouts::kBeingUndone) return {};
      if (where == Whereabouts::kUnknown) {
        undo_confirmed = false;
        continue;
      }
      v1::FaultReport& report = *Add().mutable_fault();
      report.set_fault(fault.planned.name());
      report.set_node(fault.planned.node());
      report.set_state(v1::FAULT_STATE_REVERTED);
      report.set_reason(one_shot ? "it leaves nothing"
                                 : "looked for after its controller was lost: it is gone");
    }
    const std::string reason =
        absl::StrCat("its controller ended before the run did; nothing was written after ",
                     firedrill::FormatTime(FromProto(last_.at())));
    v1::StopRequested& stop = *Add().mutable_stop();
    stop.set_cause(v1::StopRequested::CAUSE_CONTROLLER_LOST);
    stop.set_by("firedrill");
    stop.set_reason(reason);
    v1::RunFinished& finished = *Add().mutable_finished();
    finished.set_outcome(v1::OUTCOME_ABORTED);
    finished.set_reason(reason);
    finished.set_cause(v1::StopRequested::CAUSE_CONTROLLER_LOST);
    finished.set_undo_confirmed(undo_confirmed);
    return std::move(events_);
  }

 private:
  // How long ago this was, at least. The wall clock may have been set meanwhile: it does not count.
  absl::Duration Since(const v1::Event& event) const {
    const v1::Event& first = history_.front();
    const absl::Duration lived = FromProto(last_.at()) - FromProto(event.at());
    if (first.created().boot_id().empty()) return lived;
    // The machine was started again since.
    if (first.created().boot_id() != BootId()) return std::max(lived, clock_.Boot());
    const absl::Duration then =
        FromProto(first.created().boot()) + (FromProto(event.at()) - FromProto(first.at()));
    return std::max(lived, clock_.Boot() - then);
  }

  v1::Event& Add() {
    v1::Event& event = events_.emplace_back();
    event.set_run(last_.run());
    event.set_seq(last_.seq() + events_.size());
    event.set_epoch(epoch_);
    event.set_source(kSource);
    *event.mutable_at() = ToProto(at_);
    return event;
  }

  const std::vector<v1::Event>& history_;
  const v1::Event& last_;
  const uint64_t epoch_;
  const Clock& clock_;
  const absl::Time at_;
  std::vector<v1::Event> events_;
};

}  // namespace

absl::StatusOr<std::vector<OpenRun>> OpenRuns(const Store& store, const std::string& state_dir) {
  ASSIGN_OR_RETURN(const std::vector<v1::RunSummary> runs,
                   store.List(std::numeric_limits<int32_t>::max()));
  std::vector<OpenRun> open;
  for (const v1::RunSummary& run : runs) {
    if (!IsOpen(run)) continue;
    ASSIGN_OR_RETURN(const std::vector<v1::Event> history, store.Read(run.run(), 1));
    const bool alive = !history.empty() && EpochLock::Held(state_dir, history.back().epoch());
    // It may have ended in this moment, and its controller with it.
    if (history.empty() || history.back().has_finished()) continue;
    open.push_back({run.run(), run.experiment(), alive});
  }
  return open;
}

absl::StatusOr<std::vector<LeftRun>> RunsToGoOnWith(const Store& store,
                                                    const std::string& state_dir,
                                                    const Clock& clock,
                                                    const std::optional<std::string>& lever) {
  ASSIGN_OR_RETURN(const std::vector<OpenRun> open, OpenRuns(store, state_dir));
  const Machine machine{BootId(), clock.Boot()};
  const GoingMarks marks(state_dir);
  std::vector<LeftRun> left;
  for (const OpenRun& lost : open) {
    if (lost.alive) continue;
    ASSIGN_OR_RETURN(std::vector<v1::Event> history, store.Read(lost.run, 1));
    Fate fate = FateOf(history, machine, lever, marks.Has(lost.run));
    if (fate.what != Fate::What::kGoOn && fate.what != Fate::What::kUndo) continue;
    left.push_back({std::move(history), std::move(fate)});
  }
  return left;
}

absl::StatusOr<std::vector<ClosedRun>> CloseLostRuns(Store& store, const std::string& state_dir,
                                                     const Clock& clock, const WhereIs& where_is,
                                                     const std::set<std::string>& spared) {
  ASSIGN_OR_RETURN(const std::vector<OpenRun> open, OpenRuns(store, state_dir));
  std::vector<ClosedRun> closed;
  std::optional<uint64_t> epoch;
  for (const OpenRun& lost : open) {
    if (lost.alive || spared.count(lost.run) > 0) continue;
    // Read again: its controller may have written its end after the look, and died after that.
    ASSIGN_OR_RETURN(const std::vector<v1::Event> history, store.Read(lost.run, 1));
    if (history.empty() || history.back().has_finished()) continue;
    if (!epoch.has_value()) {
      ASSIGN_OR_RETURN(epoch, store.TakeEpoch());
    }
    bool undo_confirmed = false;
    const std::vector<v1::Event> events =
        Closing(history, *epoch, clock).Events(where_is, undo_confirmed);
    if (events.empty()) continue;
    const absl::Status appended = store.Append(lost.run, history.back().seq() + 1, *epoch, events);
    if (absl::IsAborted(appended)) continue;  // Somebody else was quicker.
    RETURN_IF_ERROR(appended);
    closed.push_back({lost.run, lost.experiment, undo_confirmed});
  }
  EpochLock::Sweep(state_dir);
  return closed;
}

}  // namespace firedrill
