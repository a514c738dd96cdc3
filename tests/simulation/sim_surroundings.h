// The surroundings of simulated runs: a preflight that finds what the seed says, probes at the
// controller, and alerts that follow what is on; answers come late, or unknown, or not at all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controller/conductor.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/scenario.h"
#include "tests/testing/sim_fault.h"

namespace firedrill::simulation {

// What the world is like at the moment: until when (boot time) each of these lasts.
struct Weather {
  absl::Duration broken, late, unknown, missing;
  int samples = 0, late_samples = 0, unknown_samples = 0, missing_samples = 0, alerts = 0;
};

// All outlive it.
class SimSurroundings final : public Surroundings {
 public:
  SimSurroundings(Executor& executor, const Scenario& scenario, const SimSystem& system,
                  Weather& weather, Dice& dice)
      : executor_(executor), scenario_(scenario), system_(system), weather_(weather), dice_(dice) {}
  ~SimSurroundings() override { *alive_ = false; }

  void Preflight(const v1::RunCreated& created, Sink sink) override;
  void StartProbes(const v1::RunCreated& created, Sink sink) override;
  void StopProbes() override { tickers_.clear(); }
  void Announce(const v1::RunCreated& created, const std::string& what, const std::string& detail,
                Sink sink) override;

 private:
  void Ask(const v1::PlannedProbe& probe, const Sink& sink);
  void Evaluate(const Sink& sink);
  void SendAlert(const std::string& alert, v1::AlertState state, absl::Time active_at,
                 const Sink& sink);
  // Calls `task` after `delay`, unless all of this is gone.
  void Later(absl::Duration delay, std::function<void()> task);

  Executor& executor_;
  const Scenario& scenario_;
  const SimSystem& system_;
  Weather& weather_;
  Dice& dice_;
  int running_ = 0;
  std::vector<std::unique_ptr<SimTicker>> tickers_;
  std::optional<absl::Time> pending_since_;
  bool firing_ = false, strange_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill::simulation
