// Takes an index from MariaDB's optimizer and gives it back.
#include "injector/os/mysql_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "injector/os/index_access.h"

namespace firedrill {
namespace {

// Whoever changes what is ignored at this server holds it. Ends with its session.
constexpr char kLock[] = "firedrill.ignored-index";
// Longer than a change can take that a process has left behind, in seconds.
constexpr char kLockPatience[] = "3";
constexpr absl::Duration kFirstAttempt = absl::Milliseconds(100);
constexpr absl::Duration kLongestAttempt = absl::Seconds(1);
constexpr int kNoSuchTable = 1146;

enum ShowIndexColumn {
  kNonUnique = 1,
  kKeyName = 2,
  kColumnName = 4,
  kSubPart = 7,
  kIndexType = 10,
  kIgnored = 13,
  kColumns
};

std::string TableOf(const MysqlIndex& index) {
  return absl::StrCat(MysqlName(index.database), ".", MysqlName(index.table));
}

// Somebody may have given it, or its table, another name: then it is not gone.
absl::Status CheckNotRenamed(MysqlSession& session, const MysqlIndex& index,
                             const Patience& patience) {
  const std::string columns =
      "group_concat(concat(column_name, coalesce(concat(':', sub_part), '')) ORDER BY seq_in_index "
      "SEPARATOR ',')";
  ASSIGN_OR_RETURN(
      const MysqlRows rows,
      session.Query(absl::StrCat("SELECT concat(table_name, '.', index_name) FROM"
                                 " information_schema.statistics WHERE table_schema = ",
                                 MysqlText(index.database),
                                 " AND ignored = 'YES' GROUP BY table_name, index_name HAVING ",
                                 columns, " = ", MysqlText(index.columns),
                                 " AND (table_name = ", MysqlText(index.table),
                                 " OR index_name = ", MysqlText(index.name), ") LIMIT 1"),
                    patience));
  // The server leaves out what it could not open, and says so only here.
  ASSIGN_OR_RETURN(const MysqlRows warnings, session.Query("SELECT @@warning_count", patience));
  if (!rows.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the index ", index.Name(), " is called ", *rows[0][0],
                     " now: whoever has renamed it must say whether it is to be ignored"));
  }
  if (*warnings[0][0] != "0") {
    return absl::UnavailableError(
        absl::StrCat("the index ", index.Name(),
                     " is not where it was, and not every table could be looked into for it"));
  }
  return absl::OkStatus();
}

// Or its columns. One of more or fewer columns is another one, which a person has made.
absl::Status CheckColumnsNotRenamed(const MysqlIndex& index, const MysqlIndexSight& now) {
  const auto columns = [](const std::string& all) {
    return std::count(all.begin(), all.end(), ',');
  };
  if (!now.there || !now.ignored || columns(now.columns) != columns(index.columns)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "the index ", index.Name(), " is one of ", now.columns, " now, and was one of ",
      index.columns, ": whoever has changed that must say whether it is to be ignored"));
}

absl::Status CheckServer(MysqlSession& session, const MysqlIndex& index, const Patience& patience) {
  ASSIGN_OR_RETURN(const MysqlFacts facts, AskMysqlFacts(session, patience));
  if (facts.identity == index.server) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the server that answers is ", facts.identity, ", and the index ", index.Name(),
                   " was changed on ", index.server, ": look where that has gone"));
}

// One look, and one attempt at the change.
absl::StatusOr<IndexChange> Attempt(MysqlSession& session, const MysqlIndex& index, bool ignored,
                                    absl::Duration length, const Patience& patience) {
  ASSIGN_OR_RETURN(const MysqlIndexSight now, LookAtIndex(session, index, patience));
  const bool same = now.there && now.columns == index.columns;
  // A promoted replica has followed, and is to follow back. Of any other server nothing is known.
  if (!same || now.ignored == ignored) RETURN_IF_ERROR(CheckServer(session, index, patience));
  if (!same) {
    RETURN_IF_ERROR(CheckColumnsNotRenamed(index, now));
    RETURN_IF_ERROR(CheckNotRenamed(session, index, patience));
    return IndexChange::kGone;
  }
  if (now.ignored == ignored) return IndexChange::kNothingToDo;
  RETURN_IF_ERROR(
      session
          .Query(absl::StrCat("SET STATEMENT max_statement_time = ", absl::ToDoubleSeconds(length),
                              ", lock_wait_timeout = 2", " FOR ", IndexStatement(index, ignored)),
                 patience)
          .status());
  ASSIGN_OR_RETURN(const MysqlIndexSight then, LookAtIndex(session, index, patience));
  if (then.there && then.ignored == ignored) return IndexChange::kDone;
  return absl::UnavailableError(
      absl::StrCat("the server has taken the change of ", index.Name(), ", and does not show it"));
}

// With the lock by name.
absl::StatusOr<IndexChange> Change(MysqlSession& session, const MysqlIndex& index, bool ignored,
                                   const Patience& patience) {
  absl::Duration length = kFirstAttempt;
  while (true) {
    const auto change = Attempt(session, index, ignored, length, patience);
    const int error = MysqlError(change.status());
    if (change.ok() || (error != kMysqlStatementTimeout && error != kMysqlLockWaitTimeout)) {
      return change;
    }
    // The others' turn.
    absl::SleepFor(kFirstAttempt);
    if (!ignored) length = std::min(2 * length, kLongestAttempt);
    if (patience.Left() > length + kFirstAttempt && patience.Check().ok()) continue;
    RETURN_IF_ERROR(patience.stop().stop_requested() ? patience.Check() : absl::OkStatus());
    return absl::UnavailableError(absl::StrCat(
        "the table ", index.table,
        " is in use by transactions that do not end, and nobody is made to wait behind us for"
        " longer; find them in information_schema.innodb_trx, and try again"));
  }
}

}  // namespace

std::string IndexStatement(const MysqlIndex& index, bool ignored) {
  return absl::StrCat("ALTER TABLE ", TableOf(index), " ALTER INDEX ", MysqlName(index.name),
                      ignored ? " IGNORED" : " NOT IGNORED", ", ALGORITHM=INSTANT");
}

absl::StatusOr<MysqlIndexSight> LookAtIndex(MysqlSession& session, const MysqlIndex& index,
                                            const Patience& patience) {
  const auto rows = session.Query(
      absl::StrCat("SHOW INDEX FROM ", TableOf(index), " WHERE Key_name = ", MysqlText(index.name)),
      patience);
  MysqlIndexSight sight;
  if (MysqlError(rows.status()) == kNoSuchTable) return sight;
  RETURN_IF_ERROR(rows.status());
  for (const auto& row : *rows) {
    if (row.size() < kColumns) {
      return absl::InternalError("the server shows indexes in a form that is not known here");
    }
    sight.there = true;
    sight.ignored = row[kIgnored] == "YES";
    sight.unique = row[kNonUnique] == "0";
    sight.name = row[kKeyName].value_or("");
    sight.method = row[kIndexType].value_or("");
    if (sight.columns.empty()) sight.first_column = row[kColumnName].value_or("");
    absl::StrAppend(&sight.columns, sight.columns.empty() ? "" : ",", row[kColumnName].value_or(""),
                    row[kSubPart].has_value() ? absl::StrCat(":", *row[kSubPart]) : "");
  }
  return sight;
}

absl::StatusOr<IndexChange> SetIndexIgnored(MysqlSession& session, const MysqlIndex& index,
                                            bool ignored, const Patience& patience) {
  ASSIGN_OR_RETURN(const MysqlRows locked,
                   session.Query(absl::StrCat("SELECT get_lock('", kLock, "', ", kLockPatience,
                                              "), is_used_lock('", kLock, "')"),
                                 patience));
  if (locked[0][0] != "1") {
    return absl::UnavailableError(absl::StrCat(
        "the session ", locked[0][1].value_or("?"),
        " changes an index of this server, and does not come to an end; if nobody knows it, KILL "
        "it"));
  }
  absl::StatusOr<IndexChange> change = Change(session, index, ignored, patience);
  // Where this fails the session is of no use any more, and its end opens the lock.
  if (session.usable()) {
    session.Query(absl::StrCat("DO release_lock('", kLock, "')"), patience).IgnoreError();
  }
  return change;
}

std::string MysqlIndexAccess(const MysqlIndex& index, const v1::MysqlServer& server) {
  return WriteIndexAccess({{"identity", index.server},
                           {"database", index.database},
                           {"table", index.table},
                           {"index", index.name},
                           {"columns", index.columns}},
                          server);
}

absl::Status ReadMysqlIndexAccess(const std::string& text, MysqlIndex* index,
                                  v1::MysqlServer* server) {
  return ReadIndexAccessInto(text,
                             {{"identity", &index->server},
                              {"database", &index->database},
                              {"table", &index->table},
                              {"index", &index->name},
                              {"columns", &index->columns}},
                             {}, server);
}

}  // namespace firedrill
