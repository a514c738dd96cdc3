// Makes the tables, and changes those of older files.
#include "controller/sqlite_schema.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {
namespace {

constexpr char kVersion1[] = R"sql(
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

// Events go only with their whole run, and a run only when it has ended and everything is undone.
constexpr char kVersion2[] = R"sql(
ALTER TABLE run ADD COLUMN verdict INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN undo_confirmed INTEGER NOT NULL DEFAULT 0;
DROP TRIGGER event_is_never_deleted;
CREATE TRIGGER event_goes_with_its_run BEFORE DELETE ON event
  WHEN EXISTS (SELECT 1 FROM run WHERE run = OLD.run)
  BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END;
CREATE TRIGGER run_stays_until_it_is_undone BEFORE DELETE ON run
  WHEN OLD.outcome = 0 OR OLD.undo_confirmed = 0
  BEGIN SELECT RAISE(ABORT, 'the run goes on, or is not undone'); END;
CREATE TABLE definition (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE slot (
  experiment TEXT NOT NULL, due INTEGER NOT NULL, decided INTEGER NOT NULL,
  epoch INTEGER NOT NULL, run TEXT NOT NULL, missed TEXT NOT NULL, reason TEXT NOT NULL,
  PRIMARY KEY (experiment, due)
) STRICT, WITHOUT ROWID;
)sql";

// What version 1 kept in the last event only.
void FillUndoConfirmed(SQLite::Database& database) {
  std::vector<std::string> confirmed;
  SQLite::Statement last(database,
                         "SELECT run.run, event.body FROM run JOIN event ON event.run = run.run "
                         "AND event.seq = run.next - 1 WHERE run.outcome <> 0");
  while (last.executeStep()) {
    const SQLite::Column body = last.getColumn(1);
    v1::Event event;
    if (!event.ParseFromArray(body.getBlob(), body.getBytes())) continue;
    if (event.finished().undo_confirmed()) confirmed.push_back(last.getColumn(0).getString());
  }
  for (const std::string& run : confirmed) {
    SQLite::Statement update(database, "UPDATE run SET undo_confirmed = 1 WHERE run = ?");
    update.bind(1, run);
    update.exec();
  }
}

absl::Status Newer(const std::string& path, int version) {
  return absl::FailedPreconditionError(absl::StrCat(
      "opening the history in ", path, ": it was written by a newer firedrill (schema ", version,
      ", this one knows ", kSqliteSchema, "); use that one"));
}

// Switching needs the file for itself, and SQLite gives up at once where another process is doing
// the same.
void UseWriteAheadLog(SQLite::Database& database) {
  const absl::Time until = absl::Now() + absl::Milliseconds(kSqliteBusyMilliseconds);
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

absl::Status PrepareSchema(SQLite::Database& database, const std::string& path) {
  int version = database.execAndGet("PRAGMA user_version").getInt();
  if (version > kSqliteSchema) return Newer(path, version);
  UseWriteAheadLog(database);
  database.exec("PRAGMA synchronous = FULL");
  if (version == kSqliteSchema) return absl::OkStatus();
  // Several may find the same old file: who comes second finds the first one's work.
  SQLite::Transaction changing(database, SQLite::TransactionBehavior::IMMEDIATE);
  version = database.execAndGet("PRAGMA user_version").getInt();
  if (version > kSqliteSchema) return Newer(path, version);
  if (version < 1) database.exec(kVersion1);
  if (version < 2) {
    database.exec(kVersion2);
    FillUndoConfirmed(database);
  }
  database.exec(absl::StrCat("PRAGMA user_version = ", kSqliteSchema));
  changing.commit();
  return absl::OkStatus();
}

absl::StatusOr<int> SchemaOf(const std::string& path) {
  try {
    SQLite::Database database(path, SQLite::OPEN_READONLY, kSqliteBusyMilliseconds);
    return database.execAndGet("PRAGMA user_version").getInt();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("reading", path, error);
  }
}

absl::Status SqliteFailed(absl::string_view doing, const std::string& path,
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

}  // namespace firedrill
