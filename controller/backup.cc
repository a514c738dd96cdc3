// Copies the store by SQLite's own online backup.
#include "controller/backup.h"

#include <SQLiteCpp/Backup.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "controller/epoch_lock.h"
#include "controller/going_marks.h"
#include "controller/sqlite_schema.h"
#include "controller/sqlite_store.h"

namespace firedrill {
namespace {

// Far above what controllers can have taken since any copy was made.
constexpr uint64_t kEpochsSince = 1'000'000;

std::string StoreOf(const std::string& state_dir) { return absl::StrCat(state_dir, "/history.db"); }

absl::Status Errno(absl::string_view doing, const std::string& file) {
  return absl::UnavailableError(absl::StrCat(doing, " ", file, ": ", std::strerror(errno)));
}

absl::Status CheckApart(const std::string& store, const std::string& file) {
  std::error_code error;
  if (!std::filesystem::equivalent(store, file, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, " is the history itself: name another file for its copy"));
}

// Of any age; it may be damaged where that does not hide what it is.
bool IsHistory(SQLite::Database& database) {
  return database.execAndGet("PRAGMA user_version").getInt() >= 1 && database.tableExists("run") &&
         database.tableExists("event") && database.tableExists("epoch");
}

// Nobody else's letters, nor anybody's database, are replaced by a backup.
absl::Status MayReplace(const std::string& file) {
  if (access(file.c_str(), F_OK) != 0) return absl::OkStatus();
  try {
    SQLite::Database there(file, SQLite::OPEN_READONLY, kSqliteBusyMilliseconds);
    if (IsHistory(there)) return absl::OkStatus();
  } catch (const SQLite::Exception&) {
    // No database at all.
  }
  return absl::InvalidArgumentError(absl::StrCat(
      file, " is there, and is no history of firedrill: name another file, or remove that one"));
}

// A whole store, and one that this program can read.
absl::Status CheckCopy(const std::string& file) {
  if (access(file.c_str(), R_OK) != 0) return Errno("reading", file);
  try {
    SQLite::Database copy(file, SQLite::OPEN_READONLY, kSqliteBusyMilliseconds);
    const std::string found = copy.execAndGet("PRAGMA integrity_check").getString();
    if (found != "ok")
      return absl::DataLossError(absl::StrCat(file, " is damaged: ", found, "; use another copy"));
    const int version = copy.execAndGet("PRAGMA user_version").getInt();
    if (version > kSqliteSchema) {
      return absl::FailedPreconditionError(
          absl::StrCat(file, " was written by a newer firedrill (schema ", version,
                       ", this one knows ", kSqliteSchema, "); use that one"));
    }
    if (!IsHistory(copy))
      return absl::DataLossError(absl::StrCat(file, " is no history of firedrill"));
    return absl::OkStatus();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("checking", file, error);
  }
}

absl::Status NobodyUses(const std::string& state_dir) {
  const std::string living = EpochLock::Living(state_dir);
  if (living.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("restoring into ", state_dir,
                                                    ": a controller uses it (", living,
                                                    "); end it first, and try again"));
}

absl::Status Sync(const std::string& file) {
  const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return Errno("syncing", file);
  return absl::OkStatus();
}

}  // namespace

absl::Status BackUp(const std::string& state_dir, const std::string& file) {
  const std::string from = StoreOf(state_dir);
  if (access(from.c_str(), R_OK) != 0) return Errno("backing up", from);
  RETURN_IF_ERROR(CheckApart(from, file));
  RETURN_IF_ERROR(MayReplace(file));
  const std::string beside = file + ".new";
  unlink(beside.c_str());
  {
    // Nobody else's to read from its first byte on.
    const UniqueFd fd(open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd.valid()) return Errno("writing", beside);
  }
  absl::Status status;
  try {
    SQLite::Database source(from, SQLite::OPEN_READONLY, kSqliteBusyMilliseconds);
    SQLite::Database copy(beside, SQLite::OPEN_READWRITE, kSqliteBusyMilliseconds);
    SQLite::Backup backup(copy, source);
    backup.executeStep(-1);
    // One file, whole by itself.
    copy.exec("PRAGMA journal_mode = DELETE");
  } catch (const SQLite::Exception& error) {
    status = SqliteFailed(absl::StrCat("backing up to ", file), from, error);
  }
  if (status.ok()) status = CheckCopy(beside);
  if (status.ok()) status = Sync(beside);
  if (status.ok() && rename(beside.c_str(), file.c_str()) != 0) status = Errno("replacing", file);
  if (!status.ok()) unlink(beside.c_str());
  return status;
}

absl::StatusOr<Restored> Restore(const std::string& state_dir, const std::string& file,
                                 const Clock& clock) {
  RETURN_IF_ERROR(CheckCopy(file));
  RETURN_IF_ERROR(NobodyUses(state_dir));
  const std::string path = StoreOf(state_dir);
  RETURN_IF_ERROR(CheckApart(path, file));
  // How its runs have ended since is not in the copy.
  RETURN_IF_ERROR(GoingMarks(state_dir).KeepOnly({}));
  uint64_t seen = 0;
  if (access(path.c_str(), F_OK) == 0) {
    ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> old, SqliteStore::Open(path));
    ASSIGN_OR_RETURN(seen, old->TakeEpoch());
  }
  try {
    SQLite::Database store(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE,
                           kSqliteBusyMilliseconds);
    chmod(path.c_str(), 0600);
    {
      SQLite::Database copy(file, SQLite::OPEN_READONLY, kSqliteBusyMilliseconds);
      SQLite::Backup backup(store, copy);
      backup.executeStep(-1);
    }
    RETURN_IF_ERROR(PrepareSchema(store, path));
    SQLite::Statement epoch(store,
                            "INSERT INTO epoch VALUES (1, ?1) ON CONFLICT (only_one) "
                            "DO UPDATE SET value = max(value, ?2) + ?1");
    epoch.bind(1, static_cast<int64_t>(kEpochsSince));
    epoch.bind(2, static_cast<int64_t>(seen));
    epoch.exec();
  } catch (const SQLite::Exception& error) {
    return SqliteFailed("restoring", path, error);
  }
  Restored restored;
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store, SqliteStore::Open(path));
  ASSIGN_OR_RETURN(std::vector<v1::AppliedExperiment> all, store->Experiments());
  for (v1::AppliedExperiment& applied : all) {
    *applied.mutable_due_after() = ToProto(clock.Now());
    RETURN_IF_ERROR(store->PutExperiment(applied));
  }
  ASSIGN_OR_RETURN(const std::vector<v1::RunSummary> runs, store->List(INT32_MAX));
  ASSIGN_OR_RETURN(restored.epoch, store->TakeEpoch());
  restored.runs = runs.size();
  restored.experiments = all.size();
  // One that came meanwhile has read what is not there any more.
  RETURN_IF_ERROR(NobodyUses(state_dir));
  return restored;
}

}  // namespace firedrill
