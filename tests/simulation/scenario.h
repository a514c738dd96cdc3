// What one seed means: an experiment, its nodes, how its faults behave, and what goes wrong
// meanwhile.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill::simulation {

// How one fault behaves on every node.
struct FaultTemper {
  bool lasting = false;
  int observations_until_reached = 0;
  bool fails_to_prepare = false;
  bool fails_to_apply = false;
  // From the run's begin. In this time it cannot be measured, and cannot be seen to be gone, or be
  // put back.
  absl::Duration unseen_from, unseen_until;
  absl::Duration stuck_from, stuck_until;
  // It is the undo that fails in that time, and not the look.
  bool stuck_in_undo = false;
};

enum class Trouble {
  kCutLink,      // The link breaks once.
  kUnreachable,  // It breaks, and cannot be made again for a while.
  kStallLink,    // Nothing arrives for a while; what waits arrives late, or with a dead link never.
  kKillInjector,      // SIGKILL; another one is started.
  kKillInWrite,       // SIGKILL in the middle of its next write to the disk.
  kKillBoth,          // The injector and its reaper.
  kEndInjector,       // SIGTERM.
  kFreezeInjector,    // SIGSTOP, and SIGCONT unless the reaper was sooner.
  kDiskFull,          // Of a node, for a while.
  kJumpNodeClock,     // Wall time.
  kJumpClock,         // The controller's wall time.
  kKillController,    // SIGKILL; another one, of a higher epoch, is started.
  kFreezeController,  // SIGSTOP, and SIGCONT.
  kTakeOver,    // A second controller takes over while the first one hangs, or only seems to; that
                // comes back.
  kStoreFails,  // For a while, or for good.
  kOperatorStop,
  kEndController,  // SIGTERM: everything is stopped; another one is started.
  kStopFile,       // In a node's state folder, for a while.
  kSomebodyElse,   // Sets what a lasting fault has set.
  kBreakSystem,    // What guardrails look at goes bad.
  kSamplesLate,
  kSamplesUnknown,
  kSamplesMissing,
};
constexpr int kTroubles = static_cast<int>(Trouble::kSamplesMissing) + 1;
const char* TroubleName(Trouble trouble);

struct Disturbance {
  Trouble what;
  // From the run's begin.
  absl::Duration at;
  absl::Duration length;
  size_t node = 0;
  double amount = 0;
};

struct Scenario {
  uint64_t seed = 0;
  v1::Site site;
  v1::Experiment experiment;
  // By fault name.
  std::map<std::string, FaultTemper> tempers;
  std::vector<Disturbance> disturbances;
  absl::Duration grace;
  absl::Duration ping_every;
  // Blocking work takes up to this.
  absl::Duration slowness;
  bool defect = false, circumstance = false;
  bool unexpected_page = false;
  // False: a controller that is superseded does not notice; the injectors must.
  bool controllers_see_epochs = true;

  size_t nodes() const { return static_cast<size_t>(site.spec().injectors_size()); }
};

Scenario DrawScenario(uint64_t seed);

}  // namespace firedrill::simulation
