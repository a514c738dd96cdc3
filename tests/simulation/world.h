// One simulated run from its first event to the last: controllers that take over from each other,
// nodes, a store, a network, and what goes wrong according to the seed. The code that decides and
// acts is the shipped one.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controller/epoch_lock.h"
#include "controller/runs.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/sim_node.h"
#include "tests/simulation/sim_surroundings.h"
#include "tests/simulation/watched_store.h"
#include "tests/simulation/witness.h"
#include "tests/testing/child.h"
#include "tests/testing/sim_executor.h"
#include "tests/testing/sim_fault.h"
#include "tests/testing/sim_network.h"

namespace firedrill::simulation {

// What came of one seed.
struct Outcome {
  std::vector<std::string> failures;
  // Of everything that was written and done: two runs of one seed have the same.
  uint64_t digest = 0;
  uint64_t steps = 0;
  absl::Duration length;
  int runs = 0, effects = 0, applies = 0, completed = 0, aborted = 0, not_started = 0, closed = 0;
  int unconfirmed = 0, events = 0, passed = 0, resumed = 0;
  std::array<int, kTroubles> troubles{};
  int reaped = 0, killed_by_reaper = 0, killed_in_write = 0, controllers = 0, stuck = 0;
  Weather weather;
  // By run; filled where the history was asked for.
  std::map<std::string, std::vector<v1::Event>> histories;
};

class World {
 public:
  explicit World(uint64_t seed);
  ~World();

  Outcome Run(bool keep_histories = false);

 private:
  struct Controller {
    std::unique_ptr<SimExecutor> executor;
    std::unique_ptr<Fleet> fleet;
    std::unique_ptr<Runs> runs;
    uint64_t epoch = 0;
    // Says that it lives, to whoever closes the runs of the dead. A real file.
    std::unique_ptr<EpochLock> lock;
    bool alive() const { return runs != nullptr; }
  };
  // A run as its watcher was told of it.
  struct Told {
    std::vector<v1::Event> events;
    size_t controller = 0;
    std::optional<v1::Judgement> judged;
    absl::Duration begun;
    absl::Duration limit;
    bool over = false;
  };

  // ---- processes
  // `resume`: it goes on with the runs of those before it, as far as it can.
  void StartController(bool resume = true);
  std::set<std::string> ResumeRuns(size_t number);
  void EndController(size_t number);
  void AwaitEnd(size_t number, int tries);
  void KillController(size_t number);
  Controller* Current();
  void StartRun();
  void OnEvent(const std::string& run, const v1::Event& event);
  bool RunsAreOver() const;

  // ---- what goes wrong
  void Schedule();
  void Do(const Disturbance& disturbance);
  void DoToController(const Disturbance& disturbance);
  void SetScripts();
  void Heal();

  // ---- the clock
  void Pass(absl::Duration length);
  void RunToTheEnd();
  void Settle();
  bool Quiet();
  // Every run has an end once another controller has come.
  void CloseRuns();
  void LookAtTheEnd();
  void CheckHistory(const std::string& run, const std::vector<v1::Event>& history);
  void At(absl::Duration delay, std::function<void()> task) {
    outside_->After(delay, std::move(task));
  }

  const Scenario scenario_;
  const TempDir state_dir_{"firedrill-simulation"};
  const Lever lever_{"/nonexistent/STOP"};
  Dice dice_;
  SimTime time_;
  SimNetwork network_;
  SimSystem system_;
  Witness witness_;
  std::map<std::string, SimFaultScript> scripts_;
  SimWorkScript work_;
  Weather weather_;
  std::unique_ptr<WatchedStore> store_;
  std::unique_ptr<SimExecutor> outside_;
  std::vector<Controller> controllers_;
  // Which one has the controller's address.
  size_t address_ = 0;
  NodeParts node_parts_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  // Until when (boot time) nobody can reach its controller.
  std::vector<absl::Duration> unreachable_;
  std::map<std::string, Told> told_;
  // Runs that were asked for, by number: which controller has not answered yet.
  std::vector<std::optional<size_t>> starting_;
  int runs_named_ = 0;
  absl::Duration begun_;
  bool healed_ = false;
  Outcome outcome_;
};

}  // namespace firedrill::simulation
