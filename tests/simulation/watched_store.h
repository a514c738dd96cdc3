// The store of simulated runs: everything that it keeps passes a witness.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/witness.h"
#include "tests/testing/memory_store.h"

namespace firedrill::simulation {

class WatchedStore final : public Store {
 public:
  explicit WatchedStore(Witness& witness) : witness_(witness) {}

  absl::StatusOr<uint64_t> TakeEpoch() override { return store_.TakeEpoch(); }
  absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                      const std::vector<v1::Event>& events) override {
    const absl::Status appended = store_.Append(run, expected_seq, epoch, events);
    if (!appended.ok()) {
      witness_.NotRecorded(run, epoch);
      return appended;
    }
    for (const v1::Event& event : events) witness_.Recorded(run, epoch, event);
    return appended;
  }
  absl::StatusOr<std::vector<v1::Event>> Read(const std::string& run,
                                              uint64_t from_seq) const override {
    return store_.Read(run, from_seq);
  }
  absl::StatusOr<std::vector<v1::RunSummary>> List(uint32_t at_most) const override {
    return store_.List(at_most);
  }
  absl::StatusOr<bool> Deliver(const std::string& receiver, const std::string& fingerprint,
                               absl::Time starts_at, const std::string& status) override {
    return store_.Deliver(receiver, fingerprint, starts_at, status);
  }
  void FailWrites(absl::Status status) { store_.FailWrites(std::move(status)); }

 private:
  Witness& witness_;
  MemoryStore store_;
};

}  // namespace firedrill::simulation
