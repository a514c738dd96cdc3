// Acts out one run: writes every event to the history, folds it with Advance(), and does what comes
// out. It decides nothing. Everything runs on the executor.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "controller/fleet.h"
#include "controller/run.h"
#include "controller/run_left.h"
#include "controller/store.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// What a run needs besides its injectors: the system's monitoring, the controller's own probes, and
// whoever is told. Real, or simulated. `sink` takes events with their body, source and source times
// set; it is to be called on the executor.
class Surroundings {
 public:
  using Sink = std::function<void(v1::Event)>;
  virtual ~Surroundings() = default;
  // Emits findings, then exactly one preflight_finished.
  virtual void Preflight(const v1::RunCreated& created, Sink sink) = 0;
  // Probes at the controller, and the alert sources; until StopProbes().
  virtual void StartProbes(const v1::RunCreated& created, Sink sink) = 0;
  virtual void StopProbes() = 0;
  // Tells the site's announce URLs; emits an announced event each.
  virtual void Announce(const v1::RunCreated& created, const std::string& what,
                        const std::string& detail, Sink sink) = 0;
};

class Conductor {
 public:
  struct Watchers {
    // Every event, in order, after it is in the history.
    std::function<void(const v1::Event&)> event;
    // Once, after the last event.
    std::function<void()> finished;
  };

  Conductor(Executor& executor, Store& store, Fleet& fleet,
            std::unique_ptr<Surroundings> surroundings, Watchers watchers);
  ~Conductor();

  // Begins the run. An error means that the history cannot be written, and that nothing was begun.
  absl::Status Begin(v1::RunCreated created);
  // Goes on with a run whose controller has died in this boot of the machine, without an end:
  // timers go on where they were, and what was decided and never done is done. Until its nodes have
  // dialled in, what they carry is unknown. With `stop` it is gone on with only to be undone, and
  // nothing of it begins. An error as of Begin().
  absl::Status Resume(const std::vector<v1::Event>& history,
                      const std::optional<v1::StopRequested>& stop = std::nullopt);
  // Ends the run early. Idempotent.
  void Stop(v1::StopRequested stop);

  const RunState& state() const { return state_; }
  const std::string& run() const { return run_; }
  bool finished() const { return state_.finished.has_value(); }
  // Set when the history could not be written: the run was stopped for it.
  const absl::Status& store_status() const { return store_status_; }
  // Of a run that has ended: what the history has not taken yet.
  std::vector<v1::Event> TakeUnwritten() { return std::move(unwritten_); }

 private:
  // Stamps and appends the event, folds it, and does what comes out, until nothing is left to do.
  // False where it could not be appended.
  bool Record(v1::Event event);
  bool RecordQueued();
  // What the store does not take is kept, and written with a later event.
  absl::Status Write(const v1::Event& event);
  void Listen();
  // Fills in what of its id is this controller's.
  void Address(v1::Command& command) const;
  void Arm(const std::string& timer, absl::Duration delay);
  // By the clock of the run's events.
  absl::Time Now() const;
  void Fold(const v1::Event& event);
  void Do(Action action);
  void StopForLostStore();
  // What a node that has lost its state folder says of what was put on before is no proof.
  void Doubt(v1::Event& event) const;
  Surroundings::Sink Sink();

  Executor& executor_;
  Store& store_;
  Fleet& fleet_;
  std::unique_ptr<Surroundings> surroundings_;
  Watchers watchers_;

  std::string run_;
  v1::RunCreated created_;
  RunState state_;
  uint64_t next_seq_ = 1;
  // Event times do not jump with the wall clock: they are the wall time of the begin plus boot time
  // since.
  absl::Time begin_wall_;
  absl::Duration begin_boot_;
  // Events that came out of folding another one.
  std::deque<v1::Event> queue_;
  bool recording_ = false;
  Memories memories_;
  // Reports that are in the history since before it was resumed.
  std::set<std::string> told_;
  absl::Status store_status_;
  // In order, without a gap.
  std::vector<v1::Event> unwritten_;
  bool writes_ = true;
  absl::Duration write_again_;
  std::map<std::string, Executor::TimerId> timers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
