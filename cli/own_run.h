// Starts one run at a controller, owns it, shows it, and brings back what became of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/controller.pb.h"

namespace firedrill {

// What the owner of a run does meanwhile, besides beating.
struct OwnerDuties {
  // Every event of the run, in order.
  std::function<void(const v1::Event&)> event;
  // Something for the person who watches, a line without its end.
  std::function<void(const std::string&)> say;
  // Called about five times a second.
  std::function<void()> tick;
  // The controller was silent for too long: end it, if it is ours.
  std::function<void()> controller_hangs;
};

struct OwnedRun {
  std::vector<v1::Event> history;
  // Not set where the controller was lost before it had judged.
  std::optional<v1::Judgement> judgement;
  // Why the run was lost or did not begin.
  absl::Status status;
  // The person asked for the end (Ctrl-C, SIGTERM).
  bool interrupted = false;
  // The person left without waiting for the end.
  bool left = false;
};

// Blocks SIGINT, SIGTERM and SIGHUP for this thread and all it starts: OwnRun() reads them. Call it first.
void BlockSignals();

// Blocks until the run has ended or the controller is lost.
OwnedRun OwnRun(const std::string& address, const v1::StartRun& start, const OwnerDuties& duties);

// Asks a controller what a run would do.
absl::StatusOr<v1::Plan> AskPlan(const std::string& address, const v1::Experiment& experiment,
                                 const std::string& file, uint64_t seed);

}  // namespace firedrill
