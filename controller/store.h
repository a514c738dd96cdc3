// The append-only history of every run. One writer a run; the state of a run is a fold over what is
// here.
#pragma once

#include <cstdint>
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
};

}  // namespace firedrill
