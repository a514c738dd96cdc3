// The life of one fault, as steps that block: validate, apply, sustain and observe, let go, undo,
// look. Who calls them decides on which thread and over which clock; the order and the rules are
// the same everywhere.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "injector/fault.h"
#include "injector/journal.h"

namespace firedrill {

// How a fault ended.
struct FaultEnd {
  enum class How {
    kReverted,    // Undone, and an independent look found nothing of it.
    kSuperseded,  // Someone else changed what we changed: that was left alone, the rest is undone.
    kStuck,       // Could not be undone, or not be seen to be: needs a person. May be tried again.
  };
  How how = How::kReverted;
  std::string reason;
  // What a person can paste, where it is stuck.
  std::string undo_by_hand;
  // What the independent look saw, of faults that tell.
  std::optional<v1::Observation> after;
  // What it had counted when it was let go.
  std::optional<v1::Observation> last;
};

// One caller at a time. Owns the fault; clock, node and journal outlive it.
class FaultLife {
 public:
  // While the requested magnitude is not reached, and afterwards.
  static constexpr absl::Duration kObserveSoon = absl::Milliseconds(200);
  static constexpr absl::Duration kObserveLater = absl::Milliseconds(500);
  // How long it may take until the look after the undo finds nothing, and how often it is repeated.
  static constexpr absl::Duration kLookFor = absl::Seconds(5);
  static constexpr absl::Duration kLookEvery = absl::Milliseconds(50);

  FaultLife(std::string run, v1::PlannedFault planned, std::unique_ptr<Fault> fault, Node& node,
            Journal& journal, const Clock& clock);

  // Opens what it will need. Disturbs nothing.
  absl::Status Prepare(std::stop_token stop);
  // Prepares first where that has not succeeded: then nothing is touched. After an error End() must
  // follow: it may have done a part. `ends_at` is boot time.
  absl::Status Apply(std::stop_token stop, absl::Duration ends_at);

  struct Turn {
    // Boot time at which the next turn is due.
    absl::Duration next;
    // Not set where nothing was observed in this turn.
    std::optional<absl::StatusOr<v1::Observation>> observed;
  };
  // What is due now: a tick, an observation, or nothing.
  Turn Sustain(std::stop_token stop);

  // Lets go, undoes and looks. Not set: look again after kLookEvery. Idempotent, legal at any time.
  std::optional<FaultEnd> End(std::stop_token stop);
  // A predecessor applied it and has died: End() is all that is asked of this one.
  void Adopt() { touched_ = true; }

  absl::Duration ends_at() const { return ends_at_; }

 private:
  Context ContextFor(absl::Duration length, std::stop_token stop) const;
  void Count();
  FaultEnd Settle(absl::Status looked);

  const std::string run_;
  const v1::PlannedFault planned_;
  const std::unique_ptr<Fault> fault_;
  Node& node_;
  Journal& journal_;
  const Clock& clock_;
  Sustains* const sustains_;
  // Prepare() has succeeded, and nothing was let go of since.
  bool prepared_ = false;
  // Something may have been done to the system.
  bool touched_ = false;
  bool reached_ = false;
  // Applied and not let go since: what it counts is still to be asked for.
  bool counting_ = false;
  std::optional<v1::Observation> last_;
  absl::Duration ends_at_ = absl::InfiniteDuration();
  absl::Duration tick_due_;
  absl::Duration observe_due_;
  // Since when End() looks.
  std::optional<absl::Duration> looking_since_;
  Journal::RollbackResult undone_;
  std::vector<Journal::Problem> superseded_;
};

}  // namespace firedrill
