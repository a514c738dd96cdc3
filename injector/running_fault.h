// A fault that is under way, as the warden sees it: orders go in without waiting, news comes out on
// the executor. In an injector each has a thread of its own; in the simulation it has events.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "injector/fault_life.h"

namespace firedrill {

// Called on the executor, in the order in which things happened.
struct FaultNews {
  std::function<void(absl::Status)> prepared;
  // When it was applied (wall time). After an error it undoes what it did by itself; `ended`
  // follows.
  std::function<void(absl::Status, absl::Time)> applied;
  std::function<void(absl::StatusOr<v1::Observation>, absl::Time)> observed;
  // Also without a Revert(), when its absolute end has come.
  std::function<void(FaultEnd)> ended;
};

// The destructor reverts what is on, and waits for it: call Revert() and wait for `ended` first.
class RunningFault {
 public:
  virtual ~RunningFault() = default;
  virtual void Prepare() = 0;
  // Once. `ends_at` is boot time; it ends by itself then.
  virtual void Apply(absl::Duration ends_at) = 0;
  // A predecessor applied it: instead of Prepare() and Apply(), before Revert().
  virtual void Adopt() = 0;
  // From any state; again after an end that was stuck.
  virtual void Revert() = 0;
};

// An error where the fault cannot even be made. `run` and the planned fault say which.
using RunningFaultFactory = std::function<absl::StatusOr<std::unique_ptr<RunningFault>>(
    const std::string& run, const v1::PlannedFault& planned, FaultNews news)>;

// Makes the fault of one order; MakeFault() of the registry, or a test's own.
using MakeOneFault = std::function<absl::StatusOr<std::unique_ptr<Fault>>(const v1::Fault&)>;

// Faults on threads of their own. All outlive what the factory makes.
RunningFaultFactory ThreadedFaultsOf(MakeOneFault make, Executor& executor, Node& node,
                                     Journal& journal);
// Those of the registry.
RunningFaultFactory ThreadedFaults(Executor& executor, Node& node, Journal& journal);

}  // namespace firedrill
