// Starts one run at a controller, owns it, shows it, and brings back what became of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "cli/rpc/dial.h"
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
  // Asked about five times a second: whether to leave, since the run goes on without its client.
  std::function<bool()> leave;
  // The controller was silent for too long: end it, if it is ours.
  std::function<void()> controller_hangs;
};

// What a person asks by signals: once to stop, a third time to leave without waiting. Counted from
// the start of the run to the end of its last process, whoever waits. BlockSignals() must have been
// called.
class Interrupts {
 public:
  Interrupts();

  int fd() const { return signals_.get(); }
  // Reads what has come; `said` gets the words for each, `first` is called at the very first. Never
  // blocks.
  void Take(const std::function<void(const std::string&)>& say,
            const std::function<void(int signal)>& first = nullptr);
  bool any() const { return count_ > 0; }
  // The person does not want to wait any more.
  bool leave() const { return count_ >= 3; }

 private:
  UniqueFd signals_;
  int count_ = 0;
};

struct OwnedRun {
  std::vector<v1::Event> history;
  // Not set where the controller was lost before it had judged.
  std::optional<v1::Judgement> judgement;
  // Why the run was lost or did not begin.
  absl::Status status;
};

// Blocks SIGINT, SIGTERM and SIGHUP for this thread and all it starts: OwnRun() reads them. Call it
// first.
void BlockSignals();

// Blocks until the run has ended, the controller is lost, or the person leaves. A team's controller
// that was started again, and goes on with the run, is found again; a private one is not.
OwnedRun OwnRun(const ControllerAddress& at, const v1::StartRun& start, const OwnerDuties& duties,
                Interrupts& interrupts);

// Asks a controller what a run would do. CANCELLED where a person interrupts.
absl::StatusOr<v1::Plan> AskPlan(const ControllerAddress& at, const v1::PlanRunRequest& request);

}  // namespace firedrill
