// The store in one SQLite file: WAL, STRICT tables, a history that triggers keep append-only.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "controller/store.h"

namespace SQLite {
class Database;
}

namespace firedrill {

// Any thread; calls are serialised. Blocks on the disk.
class SqliteStore final : public Store {
 public:
  // Opens or creates `path` (or ":memory:").
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path);
  ~SqliteStore() override;

  // Appends that the disk, or somebody who holds the file, did not let through. Any thread.
  uint64_t failed_appends() const { return failed_appends_; }

  absl::StatusOr<uint64_t> TakeEpoch() override;
  absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                      const std::vector<v1::Event>& events) override;
  absl::StatusOr<std::vector<v1::Event>> Read(const std::string& run,
                                              uint64_t from_seq) const override;
  absl::StatusOr<std::vector<v1::RunSummary>> List(uint32_t at_most) const override;
  absl::StatusOr<bool> Deliver(const std::string& receiver, const std::string& fingerprint,
                               absl::Time starts_at, const std::string& status) override;
  absl::Status NoteUndone(const std::string& run, bool settled) override;
  absl::Status NoteVerdict(const std::string& run, v1::Verdict verdict) override;
  absl::StatusOr<uint32_t> Forget(uint32_t runs, absl::Time before) override;

  absl::Status PutExperiment(const v1::AppliedExperiment& applied) override;
  absl::StatusOr<bool> DeleteExperiment(const std::string& name) override;
  absl::StatusOr<std::vector<v1::AppliedExperiment>> Experiments() const override;

  absl::StatusOr<bool> ClaimSlot(const v1::Slot& slot) override;
  absl::Status SettleSlot(const v1::Slot& slot) override;
  absl::StatusOr<std::vector<v1::Slot>> Slots(const std::string& experiment,
                                              uint32_t at_most) const override;
  absl::StatusOr<std::map<std::string, uint64_t>> MissedSlots() const override;

 private:
  SqliteStore(std::string path, std::unique_ptr<SQLite::Database> database);

  const std::string path_;
  mutable Mutex mutex_;
  std::unique_ptr<SQLite::Database> database_ FD_GUARDED_BY(mutex_);
  std::atomic<uint64_t> failed_appends_ = 0;
};

}  // namespace firedrill
