// The store in memory, for simulations: the same contract as the real one, and a disk that can
// fail.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "controller/store.h"

namespace firedrill {

class MemoryStore final : public Store {
 public:
  absl::StatusOr<uint64_t> TakeEpoch() override {
    if (!disk_.ok()) return disk_;
    return ++epoch_;
  }
  absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                      const std::vector<v1::Event>& events) override {
    if (events.empty()) return absl::OkStatus();
    if (!disk_.ok()) return disk_;
    auto found = runs_.find(run);
    if (found == runs_.end()) {
      if (expected_seq != 1) return absl::AbortedError("not the next event");
      if (!events.front().has_created()) return absl::NotFoundError("no such run");
      found = runs_.emplace(run, Run{}).first;
    }
    Run& kept = found->second;
    if (expected_seq != kept.events.size() + 1) return absl::AbortedError("not the next event");
    if (epoch < kept.epoch) return absl::AbortedError("this epoch is over");
    kept.epoch = epoch;
    kept.events.insert(kept.events.end(), events.begin(), events.end());
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<v1::Event>> Read(const std::string& run,
                                              uint64_t from_seq) const override {
    auto found = runs_.find(run);
    if (found == runs_.end()) return absl::NotFoundError("no such run");
    const std::vector<v1::Event>& events = found->second.events;
    const size_t skip = std::min<size_t>(from_seq > 0 ? from_seq - 1 : 0, events.size());
    return std::vector<v1::Event>(events.begin() + static_cast<ptrdiff_t>(skip), events.end());
  }
  absl::StatusOr<std::vector<v1::RunSummary>> List(uint32_t at_most) const override {
    std::vector<v1::RunSummary> list;
    for (const auto& [run, kept] : runs_) {
      v1::RunSummary& summary = list.emplace_back();
      summary.set_run(run);
      const v1::Event& created = kept.events.front();
      summary.set_experiment(created.created().experiment().metadata().name());
      *summary.mutable_created() = created.at();
      for (const v1::Event& event : kept.events) {
        if (event.has_phase()) summary.set_phase(event.phase().phase());
        if (event.has_finished()) {
          summary.set_phase(v1::PHASE_FINISHED);
          summary.set_outcome(event.finished().outcome());
        }
      }
    }
    const auto key = [](const v1::RunSummary& summary) {
      return std::tuple(summary.created().seconds(), summary.created().nanos(), summary.run());
    };
    std::sort(list.begin(), list.end(),
              [&key](const v1::RunSummary& a, const v1::RunSummary& b) { return key(a) > key(b); });
    if (list.size() > at_most) list.resize(at_most);
    return list;
  }
  absl::StatusOr<bool> Deliver(const std::string& receiver, const std::string& fingerprint,
                               absl::Time starts_at, const std::string& status) override {
    if (!disk_.ok()) return disk_;
    return inbox_.emplace(receiver, fingerprint, absl::ToUnixMicros(starts_at), status).second;
  }

  // From now on every write fails with `status`; OK heals the disk.
  void FailWrites(absl::Status status) { disk_ = std::move(status); }

 private:
  struct Run {
    uint64_t epoch = 0;
    std::vector<v1::Event> events;
  };
  uint64_t epoch_ = 0;
  absl::Status disk_;
  std::map<std::string, Run> runs_;
  std::set<std::tuple<std::string, std::string, int64_t, std::string>> inbox_;
};

}  // namespace firedrill
