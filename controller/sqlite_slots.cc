// The part of the SQLite store that holds definitions and their slots.
#include <SQLiteCpp/SQLiteCpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/sqlite_schema.h"
#include "controller/sqlite_store.h"

namespace firedrill {
namespace {

int64_t Micros(const google::protobuf::Timestamp& time) {
  return absl::ToUnixMicros(FromProto(time));
}

}  // namespace

absl::Status SqliteStore::PutExperiment(const v1::AppliedExperiment& applied) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement put(*database_,
                          "INSERT INTO definition VALUES (?, ?) "
                          "ON CONFLICT (name) DO UPDATE SET body = excluded.body");
    const std::string body = applied.SerializeAsString();
    put.bind(1, applied.name());
    put.bind(2, body.data(), static_cast<int>(body.size()));
    put.exec();
    return absl::OkStatus();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("keeping a definition in", path_, error);
  }
}

absl::StatusOr<bool> SqliteStore::DeleteExperiment(const std::string& name) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement remove(*database_, "DELETE FROM definition WHERE name = ?");
    remove.bind(1, name);
    return remove.exec() > 0;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("deleting a definition in", path_, error);
  }
}

absl::StatusOr<std::vector<v1::AppliedExperiment>> SqliteStore::Experiments() const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement rows(*database_, "SELECT body FROM definition ORDER BY name");
    std::vector<v1::AppliedExperiment> all;
    while (rows.executeStep()) {
      const SQLite::Column body = rows.getColumn(0);
      if (!all.emplace_back().ParseFromArray(body.getBlob(), body.getBytes())) {
        return absl::DataLossError(
            absl::StrCat("reading the definitions in ", path_, ": one cannot be parsed"));
      }
    }
    return all;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("reading the definitions of", path_, error);
  }
}

absl::StatusOr<bool> SqliteStore::ClaimSlot(const v1::Slot& slot) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement insert(
        *database_, "INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING");
    insert.bind(1, slot.experiment());
    insert.bind(2, Micros(slot.due()));
    insert.bind(3, Micros(slot.decided()));
    insert.bind(4, static_cast<int64_t>(slot.epoch()));
    insert.bind(5, slot.run());
    insert.bind(6, slot.missed());
    insert.bind(7, slot.reason());
    return insert.exec() > 0;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("claiming a slot in", path_, error);
  }
}

absl::Status SqliteStore::SettleSlot(const v1::Slot& slot) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement update(*database_,
                             "UPDATE slot SET decided = ?, run = ?, missed = ?, reason = ? "
                             "WHERE experiment = ? AND due = ? AND epoch = ?");
    update.bind(1, Micros(slot.decided()));
    update.bind(2, slot.run());
    update.bind(3, slot.missed());
    update.bind(4, slot.reason());
    update.bind(5, slot.experiment());
    update.bind(6, Micros(slot.due()));
    update.bind(7, static_cast<int64_t>(slot.epoch()));
    if (update.exec() > 0) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("settling a slot of ", slot.experiment(), " in ", path_,
                                           ": another controller has claimed it"));
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("settling a slot in", path_, error);
  }
}

absl::StatusOr<std::vector<v1::Slot>> SqliteStore::Slots(const std::string& experiment,
                                                         uint32_t at_most) const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement rows(*database_,
                           "SELECT due, decided, epoch, run, missed, reason FROM slot "
                           "WHERE experiment = ? ORDER BY due DESC LIMIT ?");
    rows.bind(1, experiment);
    rows.bind(2, static_cast<int64_t>(at_most));
    std::vector<v1::Slot> slots;
    while (rows.executeStep()) {
      v1::Slot& slot = slots.emplace_back();
      slot.set_experiment(experiment);
      *slot.mutable_due() = ToProto(absl::FromUnixMicros(rows.getColumn(0).getInt64()));
      *slot.mutable_decided() = ToProto(absl::FromUnixMicros(rows.getColumn(1).getInt64()));
      slot.set_epoch(static_cast<uint64_t>(rows.getColumn(2).getInt64()));
      slot.set_run(rows.getColumn(3).getString());
      slot.set_missed(rows.getColumn(4).getString());
      slot.set_reason(rows.getColumn(5).getString());
    }
    return slots;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("reading the slots of", path_, error);
  }
}

absl::StatusOr<std::map<std::string, uint64_t>> SqliteStore::MissedSlots() const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement rows(
        *database_, "SELECT experiment, COUNT(*) FROM slot WHERE missed <> '' GROUP BY experiment");
    std::map<std::string, uint64_t> missed;
    while (rows.executeStep()) {
      missed[rows.getColumn(0).getString()] = static_cast<uint64_t>(rows.getColumn(1).getInt64());
    }
    return missed;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("counting the slots of", path_, error);
  }
}

}  // namespace firedrill
