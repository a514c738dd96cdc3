// The store of simulated runs: everything that it keeps passes a witness.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/witness.h"
#include "tests/testing/memory_store.h"

namespace firedrill::simulation {

class WatchedStore final : public MemoryStore {
 public:
  explicit WatchedStore(Witness& witness) : witness_(witness) {}

  absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                      const std::vector<v1::Event>& events) override {
    const absl::Status appended = MemoryStore::Append(run, expected_seq, epoch, events);
    if (!appended.ok()) {
      witness_.NotRecorded(run, epoch);
      return appended;
    }
    for (const v1::Event& event : events) witness_.Recorded(run, epoch, event);
    return appended;
  }

 private:
  Witness& witness_;
};

}  // namespace firedrill::simulation
