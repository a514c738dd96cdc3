// The store in one SQLite file.
#include "controller/sqlite_store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

// Grows with each change of the tables; an unknown, newer one is refused.
constexpr int kSchemaVersion = 1;
// A second process (report, judge) may read meanwhile.
constexpr int kBusyMilliseconds = 2000;

constexpr char kSchema[] = R"sql(
CREATE TABLE IF NOT EXISTS run (
  run TEXT PRIMARY KEY, experiment TEXT NOT NULL, created INTEGER NOT NULL,
  epoch INTEGER NOT NULL, next INTEGER NOT NULL,
  phase INTEGER NOT NULL DEFAULT 0, outcome INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS event (
  run TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS event_is_never_changed BEFORE UPDATE ON event
  BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER IF NOT EXISTS event_is_never_deleted BEFORE DELETE ON event
  BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TABLE IF NOT EXISTS epoch (
  only_one INTEGER PRIMARY KEY CHECK (only_one = 1), value INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS inbox (
  receiver TEXT NOT NULL, fingerprint TEXT NOT NULL, starts_at INTEGER NOT NULL,
  status TEXT NOT NULL,
  PRIMARY KEY (receiver, fingerprint, starts_at, status)
) STRICT, WITHOUT ROWID;
)sql";

absl::Status Failed(absl::string_view doing, const std::string& path,
                    const SQLite::Exception& error) {
  const auto said = [&](absl::StatusCode code, absl::string_view next) {
    return absl::Status(
        code, absl::StrCat(doing, " the history in ", path, ": ", error.what(), "; ", next));
  };
  switch (error.getErrorCode()) {
    case SQLITE_FULL:
      return said(absl::StatusCode::kResourceExhausted, "make space on the disk");
    case SQLITE_BUSY:
      return said(absl::StatusCode::kUnavailable, "another process holds it for long; try again");
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return said(
          absl::StatusCode::kDataLoss,
          "it is no history of firedrill, or a damaged one: move the file away, and keep it");
    default:
      return said(absl::StatusCode::kUnavailable,
                  "check the disk's free space and the file's owner");
  }
}

absl::Status Newer(const std::string& path, int version) {
  return absl::FailedPreconditionError(absl::StrCat(
      "opening the history in ", path, ": it was written by a newer firedrill (schema ", version,
      ", this one knows ", kSchemaVersion, "); use that one"));
}

// Switching needs the file for itself, and SQLite gives up at once where another process is doing
// the same.
void UseWriteAheadLog(SQLite::Database& database) {
  const absl::Time until = absl::Now() + absl::Milliseconds(kBusyMilliseconds);
  while (true) {
    try {
      database.exec("PRAGMA journal_mode = WAL");
      return;
    } catch (const SQLite::Exception& error) {
      if (error.getErrorCode() != SQLITE_BUSY || absl::Now() > until) throw;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
}

}  // namespace

SqliteStore::SqliteStore(std::string path, std::unique_ptr<SQLite::Database> database)
    : path_(std::move(path)), database_(std::move(database)) {}

SqliteStore::~SqliteStore() = default;

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path) {
  try {
    auto database = std::make_unique<SQLite::Database>(
        path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyMilliseconds);
    chmod(path.c_str(), 0600);
    int version = database->execAndGet("PRAGMA user_version").getInt();
    if (version > kSchemaVersion) return Newer(path, version);
    UseWriteAheadLog(*database);
    database->exec("PRAGMA synchronous = FULL");
    if (version < kSchemaVersion) {
      // Several may find the same new file: who comes second finds the first one's work.
      SQLite::Transaction making(*database, SQLite::TransactionBehavior::IMMEDIATE);
      version = database->execAndGet("PRAGMA user_version").getInt();
      if (version > kSchemaVersion) return Newer(path, version);
      database->exec(kSchema);
      database->exec(absl::StrCat("PRAGMA user_version = ", kSchemaVersion));
      making.commit();
    }
    return std::unique_ptr<SqliteStore>(new SqliteStore(path, std::move(database)));
  } catch (const SQLite::Exception& error) {
    return Failed("opening", path, error);
  }
}

absl::StatusOr<uint64_t> SqliteStore::TakeEpoch() {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement take(*database_,
                           "INSERT INTO epoch VALUES (1, 1) ON CONFLICT (only_one) "
                           "DO UPDATE SET value = value + 1 RETURNING value");
    take.executeStep();
    const int64_t epoch = take.getColumn(0).getInt64();
    while (take.executeStep()) {
    }
    return static_cast<uint64_t>(epoch);
  } catch (const SQLite::Exception& error) {
    return Failed("taking an epoch in", path_, error);
  }
}

absl::Status SqliteStore::Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                                 const std::vector<v1::Event>& events) {
  if (events.empty()) return absl::OkStatus();
  MutexLock lock(mutex_);
  try {
    SQLite::Transaction transaction(*database_, SQLite::TransactionBehavior::IMMEDIATE);
    SQLite::Statement known(*database_, "SELECT next, epoch FROM run WHERE run = ?");
    known.bind(1, run);
    const bool exists = known.executeStep();
    const uint64_t next = exists ? known.getColumn(0).getInt64() : 1;
    const uint64_t highest = exists ? known.getColumn(1).getInt64() : 0;
    if (expected_seq != next) {
      return absl::AbortedError(absl::StrCat("appending event ", expected_seq, " of run ", run,
                                             ": the next one is ", next,
                                             "; another controller writes this run"));
    }
    if (epoch < highest) {
      return absl::AbortedError(absl::StrCat("appending to run ", run, ": epoch ", epoch,
                                             " is over, a controller of epoch ", highest,
                                             " has taken the run over"));
    }
    if (!exists) {
      if (!events.front().has_created()) {
        return absl::NotFoundError(
            absl::StrCat("appending to run ", run, ": there is no such run"));
      }
      SQLite::Statement insert(*database_,
                               "INSERT INTO run (run, experiment, created, epoch, next) "
                               "VALUES (?, ?, ?, ?, 1)");
      insert.bind(1, run);
      insert.bind(2, events.front().created().experiment().metadata().name());
      insert.bind(3, static_cast<int64_t>(absl::ToUnixMicros(FromProto(events.front().at()))));
      insert.bind(4, static_cast<int64_t>(epoch));
      insert.exec();
    }
    SQLite::Statement append(*database_, "INSERT INTO event VALUES (?, ?, ?, ?)");
    uint64_t seq = expected_seq;
    for (const v1::Event& event : events) {
      const std::string body = event.SerializeAsString();
      append.bind(1, run);
      append.bind(2, static_cast<int64_t>(seq++));
      append.bind(3, static_cast<int64_t>(epoch));
      append.bind(4, body.data(), static_cast<int>(body.size()));
      append.exec();
      append.reset();
      if (event.has_phase() || event.has_finished()) {
        SQLite::Statement update(*database_, "UPDATE run SET phase = ?, outcome = ? WHERE run = ?");
        update.bind(1, event.has_finished() ? v1::PHASE_FINISHED : event.phase().phase());
        update.bind(2, static_cast<int>(event.finished().outcome()));
        update.bind(3, run);
        update.exec();
      }
    }
    SQLite::Statement update(*database_, "UPDATE run SET next = ?, epoch = ? WHERE run = ?");
    update.bind(1, static_cast<int64_t>(seq));
    update.bind(2, static_cast<int64_t>(epoch));
    update.bind(3, run);
    update.exec();
    transaction.commit();
    return absl::OkStatus();
  } catch (const SQLite::Exception& error) {
    return Failed("appending to", path_, error);
  }
}

absl::StatusOr<std::vector<v1::Event>> SqliteStore::Read(const std::string& run,
                                                         uint64_t from_seq) const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement known(*database_, "SELECT 1 FROM run WHERE run = ?");
    known.bind(1, run);
    if (!known.executeStep()) {
      return absl::NotFoundError(absl::StrCat("reading run ", run, ": there is no such run in ",
                                              path_, "; `firedrill runs` lists what there is"));
    }
    SQLite::Statement rows(*database_,
                           "SELECT body FROM event WHERE run = ? AND seq >= ? ORDER BY seq");
    rows.bind(1, run);
    rows.bind(2, static_cast<int64_t>(from_seq));
    std::vector<v1::Event> events;
    while (rows.executeStep()) {
      const SQLite::Column body = rows.getColumn(0);
      v1::Event event;
      if (!event.ParseFromArray(body.getBlob(), body.getBytes())) {
        return absl::DataLossError(
            absl::StrCat("reading run ", run, " in ", path_, ": an event cannot be parsed"));
      }
      events.push_back(std::move(event));
    }
    return events;
  } catch (const SQLite::Exception& error) {
    return Failed("reading", path_, error);
  }
}

absl::StatusOr<std::vector<v1::RunSummary>> SqliteStore::List(uint32_t at_most) const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement rows(*database_,
                           "SELECT run, experiment, created, phase, outcome FROM run "
                           "ORDER BY created DESC, run DESC LIMIT ?");
    rows.bind(1, static_cast<int64_t>(at_most));
    std::vector<v1::RunSummary> runs;
    while (rows.executeStep()) {
      v1::RunSummary summary;
      summary.set_run(rows.getColumn(0).getString());
      summary.set_experiment(rows.getColumn(1).getString());
      *summary.mutable_created() = ToProto(absl::FromUnixMicros(rows.getColumn(2).getInt64()));
      summary.set_phase(static_cast<v1::Phase>(rows.getColumn(3).getInt()));
      summary.set_outcome(static_cast<v1::Outcome>(rows.getColumn(4).getInt()));
      runs.push_back(std::move(summary));
    }
    return runs;
  } catch (const SQLite::Exception& error) {
    return Failed("listing the runs in", path_, error);
  }
}

absl::StatusOr<bool> SqliteStore::Deliver(const std::string& receiver,
                                          const std::string& fingerprint, absl::Time starts_at,
                                          const std::string& status) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement insert(*database_,
                             "INSERT INTO inbox VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING");
    insert.bind(1, receiver);
    insert.bind(2, fingerprint);
    insert.bind(3, static_cast<int64_t>(absl::ToUnixMicros(starts_at)));
    insert.bind(4, status);
    return insert.exec() > 0;
  } catch (const SQLite::Exception& error) {
    return Failed("delivering to", path_, error);
  }
}

}  // namespace firedrill
