// A node of the simulation: its disk, its injector and the reaper beside it, which live and die as
// processes do.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "injector/injector.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/witness.h"
#include "tests/testing/memory_disk.h"
#include "tests/testing/sim_executor.h"
#include "tests/testing/sim_fault.h"
#include "tests/testing/sim_network.h"

namespace firedrill::simulation {

// What all nodes share. Outlives them.
struct NodeParts {
  const Scenario& scenario;
  SimTime& time;
  SimNetwork& network;
  SimSystem& system;
  Witness& witness;
  // By EffectKey() without the run: "fault@node".
  std::map<std::string, SimFaultScript>& scripts;
  SimWorkScript& work;
  Dice& dice;
  // Who answers at the controller's address for this node; nulls where nobody does.
  std::function<std::pair<SimExecutor*, Fleet*>(size_t node)> address;
};

class SimNode final : public Dialler {
 public:
  SimNode(NodeParts& parts, size_t number);
  ~SimNode() override;

  // ---- its processes
  void Start();
  // SIGKILL, of the reaper as well if so; and of nothing where nothing runs.
  void Kill(bool reaper_too = false);
  // SIGTERM.
  void End();
  void Freeze();
  void Thaw();
  void JumpWall(absl::Duration by);
  bool running() const { return injector_ != nullptr; }
  bool frozen() const { return running() && executor_->frozen(); }
  Injector& injector() { return *injector_; }
  SimExecutor& executor() { return *executor_; }
  const std::string& name() const { return spec_.name(); }
  // Whoever wrote to the disk was killed in that write: it was this node's injector.
  bool Owns(const Killed& killed) const { return killed.disk == &disk; }

  MemoryDisk disk;
  // Of every kind, how often it happened.
  int starts = 0, reaped = 0, killed_by_reaper = 0, killed_in_write = 0;

  std::shared_ptr<Link<v1::ConnectRequest>> Dial(LinkEvents<v1::ConnectResponse> events) override;

 private:
  RunningFaultFactory Faults(Executor& executor, Node& node, Journal& journal);
  void Died();
  // The injector's end of the pipe.
  void Beat();
  // The reaper's: nothing came for so long.
  void ArmReaper();
  void StartReaper();
  void Reap(int tries);

  NodeParts& parts_;
  const size_t number_;
  v1::NodeSpec spec_;
  absl::Duration wall_offset_;
  // All that ever were: what is under way to a dead one is dropped, not lost track of.
  std::vector<std::unique_ptr<SimExecutor>> executors_;
  SimExecutor* executor_ = nullptr;
  SimExecutor* reaper_ = nullptr;
  std::unique_ptr<Injector> injector_;
  std::shared_ptr<bool> killed_;
  absl::Duration beat_, patience_;
  Executor::TimerId reaper_timer_ = 0;
  Executor::TimerId beat_timer_ = 0;
  bool said_goodbye_ = false;
};

}  // namespace firedrill::simulation
