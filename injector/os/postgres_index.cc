// Takes an index from the planner and gives it back.
#include "injector/os/postgres_index.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/os/index_access.h"

namespace firedrill {
namespace {

// Longer than another change of the same rows takes; nobody waits for what we wait for.
constexpr char kLockTimeout[] = "SET LOCAL lock_timeout = '1s'";
// A standby that does not answer must not hold up an undo.
constexpr char kCommitHere[] = "SET LOCAL synchronous_commit = local";
// Whatever the role's defaults are.
constexpr char kBegin[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

constexpr char kServer[] = "SELECT system_identifier, pg_is_in_recovery() FROM pg_control_system()";
constexpr char kHold[] =
    "SELECT i.indisvalid, n.nspname, c.relname FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE i.indexrelid = $1::oid AND i.indrelid = coalesce(nullif($2, '')::oid, i.indrelid)"
    " FOR UPDATE OF i";
// REINDEX CONCURRENTLY, or a person's DROP and CREATE, has made another one of it.
constexpr char kRebuilt[] =
    "SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE i.indrelid = $1::oid AND n.nspname = $2 AND c.relname = $3 AND i.indisvalid";
constexpr char kChange[] =
    "UPDATE pg_index SET indisvalid = $2::boolean WHERE indexrelid = $1::oid";
// Cached plans hang on the table, not on its indexes. A new version of the row of a column, with
// all it had, tells every session that the table has changed: what ALTER TABLE ... SET STATISTICS
// with the same value does, without its lock on the table, which a VACUUM would hold up for hours.
constexpr char kTellSessions[] =
    "UPDATE pg_attribute a SET attstattarget = a.attstattarget FROM pg_index i"
    " WHERE i.indexrelid = $1::oid AND a.attrelid = i.indrelid AND a.attnum = (SELECT min(attnum)"
    "  FROM pg_attribute WHERE attrelid = i.indrelid AND attnum > 0 AND NOT attisdropped)";

absl::Status CheckServer(PostgresSession& session, const PostgresIndex& index,
                         const Patience& patience) {
  ASSIGN_OR_RETURN(const PostgresRows rows, session.Query(kServer, {}, patience));
  if (*rows[0][0] != index.system_identifier) {
    return absl::FailedPreconditionError(
        absl::StrCat("the server that answers has the system identifier ", *rows[0][0],
                     ", and the index ", index.Name(), " is on the one with ",
                     index.system_identifier, ": look where that has gone"));
  }
  if (*rows[0][1] == "t") {
    return absl::FailedPreconditionError(
        "the server that answers is a standby now, where nothing can be changed: look for its "
        "primary");
  }
  return absl::OkStatus();
}

// Within a transaction.
absl::StatusOr<IndexChange> Change(PostgresSession& session, const PostgresIndex& index,
                                   bool usable, const Patience& patience) {
  for (const char* setting : {kLockTimeout, kCommitHere}) {
    RETURN_IF_ERROR(session.Query(setting, {}, patience).status());
  }
  ASSIGN_OR_RETURN(const PostgresRows rows,
                   session.Query(kHold, {index.oid, index.table_oid}, patience));
  const bool table_known = !index.table_oid.empty();
  if (rows.empty() && !table_known) return IndexChange::kGone;
  if (rows.empty()) {
    ASSIGN_OR_RETURN(
        const PostgresRows rebuilt,
        session.Query(kRebuilt, {index.table_oid, index.schema, index.name}, patience));
    return usable && !rebuilt.empty() ? IndexChange::kNothingToDo : IndexChange::kGone;
  }
  if ((*rows[0][0] == "t") == usable) return IndexChange::kNothingToDo;
  // What is given back is known by its oid and its table, whatever it is called by now.
  const bool renamed = *rows[0][1] != index.schema || *rows[0][2] != index.name;
  if (renamed && !(usable && table_known)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the index ", index.Name(), ", oid ", index.oid, ", is called ", *rows[0][1],
                     ".", *rows[0][2], " now: whoever has renamed it must say whether it is to be ",
                     usable ? "used" : "lost"));
  }
  RETURN_IF_ERROR(
      session.Query(kChange, {index.oid, usable ? "true" : "false"}, patience).status());
  RETURN_IF_ERROR(session.Query(kTellSessions, {index.oid}, patience).status());
  return IndexChange::kDone;
}

}  // namespace

absl::StatusOr<IndexChange> SetIndexUsable(PostgresSession& session, const PostgresIndex& index,
                                           bool usable, const Patience& patience) {
  RETURN_IF_ERROR(CheckServer(session, index, patience));
  RETURN_IF_ERROR(session.Query(kBegin, {}, patience).status());
  absl::StatusOr<IndexChange> change = Change(session, index, usable, patience);
  const absl::Status ended =
      session.Query(change.ok() ? "COMMIT" : "ROLLBACK", {}, patience).status();
  if (!change.ok()) return change;
  RETURN_IF_ERROR(ended);
  return change;
}

std::string IndexAccess(const PostgresIndex& index, const v1::PostgresqlServer& server) {
  return WriteIndexAccess({{"system", index.system_identifier},
                           {"oid", index.oid},
                           {"table", index.table_oid},
                           {"schema", index.schema},
                           {"index", index.name}},
                          server);
}

absl::Status ReadIndexAccess(const std::string& text, PostgresIndex* index,
                             v1::PostgresqlServer* server) {
  return ReadIndexAccessInto(text,
                             {{"system", &index->system_identifier},
                              {"oid", &index->oid},
                              {"schema", &index->schema},
                              {"index", &index->name}},
                             // Records of before it was written are still to be undone.
                             {{"table", &index->table_oid}}, server);
}

}  // namespace firedrill
