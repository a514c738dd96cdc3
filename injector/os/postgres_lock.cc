// Takes a lock and holds it.
#include "injector/os/postgres_lock.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr char kLockNotAvailable[] = "55P03";
// In milliseconds: how long one attempt makes others wait behind it, and the pause for them.
constexpr char kOneAttempt[] = "100";
constexpr absl::Duration kPause = absl::Milliseconds(50);
// The server's own time-outs end the session so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);

constexpr char kTable[] =
    "SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind IN ('r', 'p'),"
    " n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') OR c.oid < 16384"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2";
constexpr char kTables[] =
    "SELECT n.nspname || '.' || c.relname FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1 LIMIT 1000";
// Everybody may see pg_locks.
constexpr char kLook[] =
    "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1::int AND relation = $2::oid AND mode = $3"
    "  AND granted), (SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    "  AND $1::int = ANY (pg_blocking_pids(pid)))";
constexpr char kHolders[] =
    "SELECT l.pid || ' (' || concat_ws(', ', nullif(a.application_name, ''), a.state, l.mode) || "
    "')'"
    " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
    // Who waits for a row holds a place in its queue: a lock on a tuple of the table.
    " WHERE l.locktype = 'relation' AND l.relation = $1::oid AND l.granted"
    "  AND l.pid NOT IN (pg_backend_pid(), $2::int)"
    " ORDER BY a.xact_start LIMIT 3";

}  // namespace

absl::Status PostgresLock::Ensure(const Place& place, const Patience& patience) {
  place_ = place;
  return control_.Open(
      place.server,
      {place.profile, place.run, place.superuser, "it may lock what nobody could open again"},
      patience);
}

absl::Status PostgresLock::Open(const Place& place, const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place, patience));
  if (!table_oid_.empty()) return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(place.table, '.');
  if (parts.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("table ", place.table, ": write it with its schema, as in public.users"));
  }
  ASSIGN_OR_RETURN(const PostgresRows rows, control_->Query(kTable, parts, patience));
  if (rows.empty()) {
    ASSIGN_OR_RETURN(const PostgresRows others, control_->Query(kTables, {}, patience));
    std::vector<std::string> names;
    for (const auto& row : others) names.push_back(*row[0]);
    const std::string nearest = NearestOf(place.table, names);
    return absl::NotFoundError(absl::StrCat(
        "there is no table ", place.table, " in the database ", control_.account().database,
        nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }
  if (*rows[0][3] == "t") {
    return absl::InvalidArgumentError(absl::StrCat(
        "the table ", place.table,
        " is not locked: it belongs to the system catalogs, without which nobody gets in"));
  }
  if (*rows[0][2] != "t") {
    return absl::InvalidArgumentError(absl::StrCat(place.table, " is no table"));
  }
  table_oid_ = *rows[0][0];
  quoted_table_ = *rows[0][1];
  return absl::OkStatus();
}

absl::StatusOr<size_t> PostgresLock::Attempt(const Take& take, const Patience& patience) {
  RETURN_IF_ERROR(
      holder_->Query("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", {}, patience).status());
  absl::StatusOr<PostgresRows> rows = holder_->Query(take.statement, take.parameters, patience);
  if (rows.ok()) return rows->size();
  if (holder_->usable()) holder_->Query("ROLLBACK", {}, patience).IgnoreError();
  return rows.status();
}

absl::StatusOr<size_t> PostgresLock::Acquire(const Take& take, const Patience& patience) {
  const absl::Duration left =
      std::max(absl::ZeroDuration(), take.end - RealClock().Boot()) + kNetMargin;
  const std::string net = absl::StrCat(absl::ToInt64Milliseconds(left));
  trouble_.clear();
  ASSIGN_OR_RETURN(holder_, PostgresSession::Open(control_.account(), take.stamp,
                                                  {{"client_connection_check_interval", "100"},
                                                   {"lock_timeout", kOneAttempt},
                                                   {"statement_timeout", net},
                                                   {"idle_session_timeout", net},
                                                   {"idle_in_transaction_session_timeout", net},
                                                   {"tcp_keepalives_idle", "5"},
                                                   {"tcp_keepalives_interval", "2"},
                                                   {"tcp_keepalives_count", "3"}},
                                                  patience));
  const Patience within = patience.AtMost(take.within);
  while (true) {
    const absl::StatusOr<size_t> rows = Attempt(take, within);
    if (rows.ok()) return rows;
    const bool waited = SqlState(rows.status()) == kLockNotAvailable;
    if (!waited && within.Check().ok()) {
      holder_.reset();
      return rows;
    }
    absl::SleepFor(kPause);
    if (within.Check().ok()) continue;
    const int ours = holder_->backend_pid();
    holder_.reset();
    RETURN_IF_ERROR(patience.Check());
    return absl::UnavailableError(
        absl::StrCat("the lock on ", place_.table, " was not granted within ",
                     firedrill::FormatDuration(take.within), Holders(ours, patience),
                     "; nobody is made to wait behind us for longer: try again, or raise "
                     "acquireWithin"));
  }
}

std::string PostgresLock::Holders(int except, const Patience& patience) {
  const auto rows = control_->Query(kHolders, {table_oid_, absl::StrCat(except)}, patience);
  if (!rows.ok() || rows->empty()) return "";
  std::vector<std::string> words;
  for (const auto& row : *rows) words.push_back(absl::StrCat("pid ", row[0].value_or("?")));
  return absl::StrCat(", while locks are held by ", JoinWords(words));
}

absl::StatusOr<PostgresLock::Sight> PostgresLock::Look(const std::string& mode,
                                                       const Patience& patience) {
  if (holder_ == nullptr) return Sight{};
  if (const absl::Status alive = holder_->Drain(); !alive.ok()) {
    trouble_ = std::string(alive.message());
  }
  RETURN_IF_ERROR(Ensure(place_, patience));
  ASSIGN_OR_RETURN(
      const PostgresRows rows,
      control_->Query(kLook, {absl::StrCat(holder_->backend_pid()), table_oid_, mode}, patience));
  return Sight{*rows[0][0] == "t" && holder_->usable(), std::atoi(rows[0][1]->c_str())};
}

absl::StatusOr<size_t> PostgresLock::CountRows(const std::string& statement,
                                               const std::vector<std::string>& parameters,
                                               const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place_, patience));
  RETURN_IF_ERROR(
      control_->Query("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", {}, patience).status());
  const absl::StatusOr<PostgresRows> rows = control_->Query(statement, parameters, patience);
  RETURN_IF_ERROR(control_->Query("ROLLBACK", {}, patience).status());
  RETURN_IF_ERROR(rows.status());
  return rows->size();
}

absl::Status PostgresLock::AwaitNone(const Place& place, const std::string& stamp,
                                     const Patience& patience) {
  const auto look = [&]() -> absl::Status {
    const absl::Status open = Ensure(place, patience);
    // A server that is down holds no lock.
    if (NobodyListens(open)) return absl::OkStatus();
    RETURN_IF_ERROR(open);
    ASSIGN_OR_RETURN(
        const PostgresRows rows,
        control_->Query(
            "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE application_name = $1", {stamp},
            patience));
    if (*rows[0][0] == "0") return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the session named ", stamp,
                     " is still there; to end it by hand: SELECT pg_terminate_backend(pid) FROM "
                     "pg_stat_activity WHERE application_name = '",
                     stamp, "'"));
  };
  return LookUntilOk(look, absl::Milliseconds(10), patience,
                     "looking whether all that was held is gone");
}

std::string WaitingWords(int waiting) {
  return absl::StrCat(", ", waiting, waiting == 1 ? " session waits" : " sessions wait", " for us");
}

}  // namespace firedrill
