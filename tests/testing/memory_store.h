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
#include "base/time_proto.h"
#include "controller/run_left.h"
#include "controller/store.h"

namespace firedrill {

class MemoryStore : public Store {
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
      summary.set_verdict(kept.verdict);
      for (const v1::Event& event : kept.events) {
        if (event.has_phase()) summary.set_phase(event.phase().phase());
        if (event.has_finished()) {
          summary.set_phase(v1::PHASE_FINISHED);
          summary.set_outcome(event.finished().outcome());
          summary.set_undo_confirmed(kept.undone || event.finished().undo_confirmed());
        }
      }
      if (kept.settled) summary.set_settled(SettledWords(kept.events));
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

  absl::Status NoteVerdict(const std::string& run, v1::Verdict verdict) override {
    if (!disk_.ok()) return disk_;
    if (auto found = runs_.find(run); found != runs_.end()) found->second.verdict = verdict;
    return absl::OkStatus();
  }
  absl::Status NoteUndone(const std::string& run, bool settled) override {
    if (!disk_.ok()) return disk_;
    if (auto found = runs_.find(run); found != runs_.end()) {
      found->second.undone = true;
      found->second.settled = settled;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<uint32_t> Forget(uint32_t runs, absl::Time before) override {
    if (!disk_.ok()) return disk_;
    const std::vector<v1::RunSummary> list = *List(UINT32_MAX);
    uint32_t forgotten = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      const bool old = i >= runs || FromProto(list[i].created()) < before;
      const bool over = list[i].outcome() != v1::OUTCOME_UNSPECIFIED && list[i].undo_confirmed();
      if (old && over) forgotten += static_cast<uint32_t>(runs_.erase(list[i].run()));
    }
    const int64_t limit = absl::ToUnixMicros(before);
    for (auto slot = slots_.begin(); slot != slots_.end();) {
      const auto next = std::next(slot);
      const bool newest = next == slots_.end() || next->first.first != slot->first.first;
      if (!newest && slot->first.second < limit) slots_.erase(slot);
      slot = next;
    }
    std::erase_if(inbox_, [limit](const auto& entry) { return std::get<2>(entry) < limit; });
    return forgotten;
  }

  absl::Status PutExperiment(const v1::AppliedExperiment& applied) override {
    if (!disk_.ok()) return disk_;
    experiments_[applied.name()] = applied;
    return absl::OkStatus();
  }
  absl::StatusOr<bool> DeleteExperiment(const std::string& name) override {
    if (!disk_.ok()) return disk_;
    return experiments_.erase(name) > 0;
  }
  absl::StatusOr<std::vector<v1::AppliedExperiment>> Experiments() const override {
    std::vector<v1::AppliedExperiment> all;
    for (const auto& [name, applied] : experiments_) all.push_back(applied);
    return all;
  }
  absl::StatusOr<bool> ClaimSlot(const v1::Slot& slot) override {
    if (!disk_.ok()) return disk_;
    return slots_.emplace(KeyOf(slot), slot).second;
  }
  absl::Status SettleSlot(const v1::Slot& slot) override {
    if (!disk_.ok()) return disk_;
    auto found = slots_.find(KeyOf(slot));
    if (found == slots_.end() || found->second.epoch() != slot.epoch())
      return absl::AbortedError("another controller has claimed it");
    found->second = slot;
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<v1::Slot>> Slots(const std::string& experiment,
                                              uint32_t at_most) const override {
    std::vector<v1::Slot> slots;
    for (auto slot = slots_.rbegin(); slot != slots_.rend() && slots.size() < at_most; ++slot) {
      if (slot->first.first == experiment) slots.push_back(slot->second);
    }
    return slots;
  }
  absl::StatusOr<std::map<std::string, uint64_t>> MissedSlots() const override {
    std::map<std::string, uint64_t> missed;
    for (const auto& [key, slot] : slots_) {
      if (!slot.missed().empty()) ++missed[key.first];
    }
    return missed;
  }

  // From now on every write fails with `status`; OK heals the disk.
  void FailWrites(absl::Status status) { disk_ = std::move(status); }

 private:
  struct Run {
    uint64_t epoch = 0;
    std::vector<v1::Event> events;
    v1::Verdict verdict = v1::VERDICT_UNSPECIFIED;
    bool undone = false;
    bool settled = false;
  };
  using SlotKey = std::pair<std::string, int64_t>;
  static SlotKey KeyOf(const v1::Slot& slot) {
    return {slot.experiment(), absl::ToUnixMicros(FromProto(slot.due()))};
  }

  uint64_t epoch_ = 0;
  absl::Status disk_;
  std::map<std::string, Run> runs_;
  std::set<std::tuple<std::string, std::string, int64_t, std::string>> inbox_;
  std::map<std::string, v1::AppliedExperiment> experiments_;
  std::map<SlotKey, v1::Slot> slots_;
};

}  // namespace firedrill
