// Runs whose controller has died before their end: they are ended in the history, so that none goes
// on for ever there. Whose controller lives, however slowly, is left alone.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/replay.h"
#include "controller/store.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// A run that has no end in the history.
struct OpenRun {
  std::string run;
  std::string experiment;
  // Its controller lives: it is going on.
  bool alive = false;
};

// Newest first. Blocks on the disk.
absl::StatusOr<std::vector<OpenRun>> OpenRuns(const Store& store, const std::string& state_dir);

// What is known, now, of a fault whose controller is lost.
enum class Whereabouts {
  // Nobody here can tell.
  kUnknown,
  // It was looked, and nothing of it is there.
  kGone,
  // Somebody is undoing it at this moment: the run is closed later.
  kBeingUndone,
};
// Asked with the command by which the fault went on, for each that was not reported as undone.
using WhereIs = std::function<Whereabouts(const v1::Command& apply)>;

struct ClosedRun {
  std::string run;
  std::string experiment;
  bool undo_confirmed = false;
};

// A run of a controller that has died, with which another one goes on, as FateOf() says.
struct LeftRun {
  std::vector<v1::Event> history;
  Fate fate;
};
// Those without a mark in `state_dir` are only undone. `clock` is of the machine whose controllers
// they were; `lever`: why it is pulled, where it is.
// Blocks on the disk.
absl::StatusOr<std::vector<LeftRun>> RunsToGoOnWith(const Store& store,
                                                    const std::string& state_dir,
                                                    const Clock& clock,
                                                    const std::optional<std::string>& lever);

// Appends StopRequested and RunFinished to each run whose controller is dead, under a new epoch,
// which shuts its old one out for ever. Blocks on the disk. Several may do it at once: each run is
// closed by one. `clock` is of the machine whose controllers they were. `spared` are left as they
// are.
absl::StatusOr<std::vector<ClosedRun>> CloseLostRuns(Store& store, const std::string& state_dir,
                                                     const Clock& clock, const WhereIs& where_is,
                                                     const std::set<std::string>& spared = {});

}  // namespace firedrill
