// The store in one SQLite file.
#include "controller/sqlite_store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "controller/run_left.h"
#include "controller/sqlite_schema.h"

namespace firedrill {
namespace {

// Of `undo_confirmed`, beside 0: every fault was seen to be undone, or a person has settled the
// rest.
constexpr int kConfirmed = 1;
constexpr int kSettled = 2;

}  // namespace

SqliteStore::SqliteStore(std::string path, std::unique_ptr<SQLite::Database> database)
    : path_(std::move(path)), database_(std::move(database)) {}

SqliteStore::~SqliteStore() = default;

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path) {
  try {
    auto database = std::make_unique<SQLite::Database>(
        path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kSqliteBusyMilliseconds);
    chmod(path.c_str(), 0600);
    RETURN_IF_ERROR(PrepareSchema(*database, path));
    return std::unique_ptr<SqliteStore>(new SqliteStore(path, std::move(database)));
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("opening", path, error);
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
    return SqliteFailed("taking an epoch in", path_, error);
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
        SQLite::Statement update(*database_,
                                 "UPDATE run SET phase = ?, outcome = ?, undo_confirmed = ? "
                                 "WHERE run = ?");
        update.bind(1, event.has_finished() ? v1::PHASE_FINISHED : event.phase().phase());
        update.bind(2, static_cast<int>(event.finished().outcome()));
        update.bind(3, event.finished().undo_confirmed() ? kConfirmed : 0);
        update.bind(4, run);
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
    ++failed_appends_;
    return SqliteFailed("appending to", path_, error);
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
    return SqliteFailed("reading", path_, error);
  }
}

absl::StatusOr<std::vector<v1::RunSummary>> SqliteStore::List(uint32_t at_most) const {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement rows(*database_,
                           "SELECT run, experiment, created, phase, outcome, verdict, "
                           "undo_confirmed FROM run "
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
      summary.set_verdict(static_cast<v1::Verdict>(rows.getColumn(5).getInt()));
      const int undo = rows.getColumn(6).getInt();
      summary.set_undo_confirmed(undo != 0);
      if (undo == kSettled) {
        std::vector<v1::Event> news;
        SQLite::Statement newest(*database_,
                                 "SELECT body FROM event WHERE run = ? ORDER BY seq DESC");
        newest.bind(1, summary.run());
        while (newest.executeStep()) {
          const SQLite::Column body = newest.getColumn(0);
          v1::Event event;
          if (!event.ParseFromArray(body.getBlob(), body.getBytes())) break;
          if (event.has_finished()) break;
          news.insert(news.begin(), std::move(event));
        }
        summary.set_settled(SettledWords(news));
      }
      runs.push_back(std::move(summary));
    }
    return runs;
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("listing the runs in", path_, error);
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
    return SqliteFailed("delivering to", path_, error);
  }
}

absl::Status SqliteStore::NoteVerdict(const std::string& run, v1::Verdict verdict) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement update(*database_, "UPDATE run SET verdict = ? WHERE run = ?");
    update.bind(1, static_cast<int>(verdict));
    update.bind(2, run);
    update.exec();
    return absl::OkStatus();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("noting a verdict in", path_, error);
  }
}

absl::Status SqliteStore::NoteUndone(const std::string& run, bool settled) {
  MutexLock lock(mutex_);
  try {
    SQLite::Statement update(*database_,
                             "UPDATE run SET undo_confirmed = ? WHERE run = ? AND outcome <> 0");
    update.bind(1, settled ? kSettled : kConfirmed);
    update.bind(2, run);
    update.exec();
    return absl::OkStatus();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("noting that a run is undone in", path_, error);
  }
}

absl::StatusOr<uint32_t> SqliteStore::Forget(uint32_t runs, absl::Time before) {
  MutexLock lock(mutex_);
  try {
    SQLite::Transaction transaction(*database_, SQLite::TransactionBehavior::IMMEDIATE);
    const auto micros = static_cast<int64_t>(absl::ToUnixMicros(before));
    SQLite::Statement old(*database_,
                          "SELECT run FROM run WHERE outcome <> 0 AND undo_confirmed <> 0 AND "
                          "(created < ?1 OR run NOT IN (SELECT run FROM run "
                          "ORDER BY created DESC, run DESC LIMIT ?2))");
    old.bind(1, micros);
    old.bind(2, static_cast<int64_t>(runs));
    std::vector<std::string> names;
    while (old.executeStep()) names.push_back(old.getColumn(0).getString());
    for (const std::string& name : names) {
      // A trigger keeps the events of every run that is there.
      for (const char* sql : {"DELETE FROM run WHERE run = ?", "DELETE FROM event WHERE run = ?"}) {
        SQLite::Statement remove(*database_, sql);
        remove.bind(1, name);
        remove.exec();
      }
    }
    for (const char* sql :
         {"DELETE FROM slot WHERE due < ? AND due < (SELECT max(due) FROM slot AS newer "
          "WHERE newer.experiment = slot.experiment)",
          "DELETE FROM inbox WHERE starts_at < ?"}) {
      SQLite::Statement remove(*database_, sql);
      remove.bind(1, micros);
      remove.exec();
    }
    transaction.commit();
    return static_cast<uint32_t>(names.size());
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("forgetting old runs in", path_, error);
  }
}

}  // namespace firedrill
