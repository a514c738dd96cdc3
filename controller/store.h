// The append-only history of every run, the definitions that were applied, and what became of their
// slots. One writer a run; the state of a run is a fold over what is here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

class Store {
 public:
  virtual ~Store() = default;
  // A number greater than any given out before, kept durably: the epoch of a controller's life.
  virtual absl::StatusOr<uint64_t> TakeEpoch() = 0;
  // Appends events with seq expected_seq, expected_seq + 1, ... All or nothing, synced before it
  // returns. ABORTED where `expected_seq` is not the next, or where `epoch` is lower than one seen
  // for this run.
  virtual absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                              const std::vector<v1::Event>& events) = 0;
  // Events from `from_seq` on, in order. NOT_FOUND for an unknown run.
  virtual absl::StatusOr<std::vector<v1::Event>> Read(const std::string& run,
                                                      uint64_t from_seq) const = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<v1::RunSummary>> List(uint32_t at_most) const = 0;
  // A webhook delivery. False where (receiver, fingerprint, starts_at, status) was there already.
  virtual absl::StatusOr<bool> Deliver(const std::string& receiver, const std::string& fingerprint,
                                       absl::Time starts_at, const std::string& status) = 0;
  // As a run was judged when it ended, for lists: the history is what counts.
  virtual absl::Status NoteVerdict(const std::string& run, v1::Verdict verdict) = 0;
  // Nothing that the run had left is on any more: its nodes have said so after its end, or, with
  // `settled`, a person has.
  virtual absl::Status NoteUndone(const std::string& run, bool settled) = 0;
  // Forgets whole runs: all but the newest `runs`, and those created before `before`; also slots
  // and deliveries before then, but for each experiment's newest slot: it says up to when all are
  // decided. Never a run without an end, or whose undo is not confirmed. Answers how many runs.
  virtual absl::StatusOr<uint32_t> Forget(uint32_t runs, absl::Time before) = 0;

  // Keeps a definition, in place of an older one of its name.
  virtual absl::Status PutExperiment(const v1::AppliedExperiment& applied) = 0;
  // False where there is none of this name. Its slots stay.
  virtual absl::StatusOr<bool> DeleteExperiment(const std::string& name) = 0;
  // By name.
  virtual absl::StatusOr<std::vector<v1::AppliedExperiment>> Experiments() const = 0;

  // A slot has one row, and whoever inserts it decides it: false where somebody has.
  virtual absl::StatusOr<bool> ClaimSlot(const v1::Slot& slot) = 0;
  // What became of a slot. ABORTED where another epoch has claimed it.
  virtual absl::Status SettleSlot(const v1::Slot& slot) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<v1::Slot>> Slots(const std::string& experiment,
                                                      uint32_t at_most) const = 0;
  // How many are missed, by experiment.
  virtual absl::StatusOr<std::map<std::string, uint64_t>> MissedSlots() const = 0;
};

}  // namespace firedrill
