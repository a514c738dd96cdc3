// When the faults and remedies of a run happened, as its history tells: the times of the anchors.
// Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "experiment/anchor.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// An instant on the controller's clock, and the bound on its error.
struct Instant {
  absl::Time at;
  absl::Duration error;
};

// When the event happened: by its source's clock, corrected; else when the controller wrote it.
Instant InstantOf(const v1::Event& event);
// A time of the source's clock inside the event, corrected.
Instant InstantOf(const v1::Event& event, const google::protobuf::Timestamp& time);

// One fault on one node.
struct FaultCourse {
  v1::PlannedFault planned;
  bool apply_issued = false;
  // When its node was first told to apply it: its time runs from then on.
  std::optional<Instant> ordered;
  v1::FaultState last = v1::FAULT_STATE_UNSPECIFIED;
  std::optional<Instant> start;
  std::optional<Instant> reached;
  std::optional<Instant> end;
  // When its undo was asked for, or began by itself.
  std::optional<Instant> undo_begun;
  // What was measured when it was first in force.
  v1::Observation in_force;
  // The strongest disturbance that was measured, and when; and the last thing that was said.
  v1::Observation best;
  std::optional<Instant> best_at;
  // What was measured once it was off: the proof.
  std::string after;
  std::string reason;
  std::string undo_by_hand;

  // More was measured after it had been seen in force.
  bool GrewLater() const { return reached.has_value() && best.real() > in_force.real(); }
};

struct RemedyCourse {
  v1::PlannedRemedy planned;
  std::optional<Instant> running;
  std::optional<Instant> done;
  v1::RemedyReport last;
};

class RunSteps {
 public:
  explicit RunSteps(const std::vector<v1::Event>& history);

  // With several nodes: the first start, and the last of everything else; empty until all have got
  // there.
  std::optional<Instant> Find(const Anchor& anchor) const;
  bool IsFault(const std::string& step) const;
  // Every node has seen it at the requested magnitude.
  bool InForce(const std::string& step) const;
  // Whether some node has begun to apply it.
  bool Applied(const std::string& step) const;
  // The first start, and the last end, of any fault.
  std::optional<Instant> FirstStart() const;
  std::optional<Instant> LastEnd() const;

  const std::vector<FaultCourse>& faults() const { return faults_; }
  const std::vector<RemedyCourse>& remedies() const { return remedies_; }

 private:
  void TakeFault(const v1::Event& event);
  void TakeRevert(const v1::Event& event);
  void TakeRemedy(const v1::Event& event);

  std::vector<FaultCourse> faults_;
  std::vector<RemedyCourse> remedies_;
};

}  // namespace firedrill
