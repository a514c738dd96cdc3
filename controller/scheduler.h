// Starts experiments when their schedules are due. A slot is a row of the store: the insert that
// wins fires it, so it fires once whatever is started again; a slot that is not fired is a record
// with its reason. Everything runs on the executor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "controller/schedule.h"
#include "controller/store.h"
#include "firedrill/v1/controller.pb.h"

namespace firedrill {

class Scheduler {
 public:
  // How runs are started, by whoever has them.
  struct Starting {
    // `started` is called before anything of it is done: with the run's id, or with why there is
    // none.
    // `ended` once it is over.
    std::function<void(const v1::StartRun& start,
                       std::function<void(absl::StatusOr<std::string>)> started,
                       std::function<void(const v1::Judgement&)> ended)>
        start;
    std::function<bool(const std::string& run)> going;
    // `ended` as of start, for a run that was started before. False for one that is not going on.
    std::function<bool(const std::string& run, std::function<void(const v1::Judgement&)> ended)>
        watch;
  };

  Scheduler(Executor& executor, Store& store, uint64_t epoch, Starting starting);
  ~Scheduler();

  // Reads the definitions of the store, and goes on with their schedules a moment later, when the
  // injectors have had the time to dial; slots that were due while nobody was there are fired where
  // their deadline is not over, else missed. The error is of the first definition, or row, that
  // could not be read; it goes on with all others.
  absl::Status Begin();
  // Starts nothing from now on: what is due is left to whoever comes next.
  void End();
  // Keeps a definition. It is never started by that: only slots after now count. INVALID_ARGUMENT
  // for a schedule that could not be obeyed.
  absl::StatusOr<v1::ApplyExperimentResponse> Apply(v1::AppliedExperiment applied);
  // NOT_FOUND where there is none.
  absl::Status Delete(const std::string& name);
  absl::StatusOr<v1::ListExperimentsResponse> List(const v1::ListExperimentsRequest& request) const;
  // Slots that were missed, by experiment; 0 for those of which none was.
  const std::map<std::string, uint64_t>& missed() const { return missed_; }

 private:
  struct Entry {
    v1::AppliedExperiment applied;
    std::optional<Timetable> table;
    // Everything up to here is decided.
    absl::Time after;
    // The first slot behind it.
    absl::Time next = absl::InfiniteFuture();
    // The last run that was fired.
    std::string run;
    // A slot is fired, and its run has no id yet.
    bool starting = false;
    // Why there is no table where there should be one.
    std::string problem;
  };

  // Its `problem` says what is wrong with the schedule.
  static Entry EntryOf(const v1::AppliedExperiment& applied);
  absl::Status Resume(const v1::AppliedExperiment& applied);
  static absl::Time NextOf(const Entry& entry);
  // Decides all that is due, and comes back for the next.
  void Look();
  void Decide(Entry& entry, absl::Time now);
  void Fire(Entry& entry, absl::Time due);
  // To be told how the run of a slot has ended: one that did not start was missed.
  std::function<void(const v1::Judgement&)> Judged(std::shared_ptr<v1::Slot> fired);
  void Miss(const Entry& entry, absl::Time due, const std::string& missed,
            const std::string& reason);
  void Settle(v1::Slot slot, bool was_missed);
  v1::Slot SlotOf(const Entry& entry, absl::Time due) const;

  Executor& executor_;
  Store& store_;
  const uint64_t epoch_;
  const Starting starting_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, uint64_t> missed_;
  Executor::TimerId timer_ = 0;
  // Before Begin() has gone on, and after End().
  bool idle_ = true;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
