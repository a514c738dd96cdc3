// Takes a lock and holds it.
#include "injector/os/mysql_lock.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

// In seconds: how long one attempt makes others wait behind it, and the pause for them. The
// server's own lock_wait_timeout knows whole seconds only.
constexpr char kOneAttempt[] = "0.1";
constexpr absl::Duration kPause = absl::Milliseconds(50);
// The server's own time-outs end the session so long after the fault's end.
constexpr absl::Duration kNetMargin = absl::Seconds(1);

bool Waited(const absl::Status& status) {
  const int error = MysqlError(status);
  return error == kMysqlLockWaitTimeout || error == kMysqlStatementTimeout;
}

}  // namespace

absl::Status MysqlLock::Ensure(const Place& place, const Patience& patience) {
  place_ = place;
  return control_.Open(place.server,
                       {place.profile, place.run, place.superuser,
                        "its sessions get in where nobody else does any more"},
                       patience);
}

absl::Status MysqlLock::Open(const Place& place, const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place, patience));
  if (!quoted_table_.empty()) return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(place.table, '.');
  if (parts.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("table ", place.table, ": write it with its database, as in shop.users"));
  }
  for (const char* own : {"mysql", "information_schema", "performance_schema", "sys"}) {
    if (parts[0] != own) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the table ", place.table,
                     " is not locked: it is the server's own, without which nobody "
                     "gets in"));
  }
  ASSIGN_OR_RETURN(
      const MysqlRows rows,
      control_->Query(
          absl::StrCat("SELECT table_name, table_type, table_name = ", MysqlText(parts[1]),
                       " FROM information_schema.tables WHERE table_schema = ", MysqlText(parts[0]),
                       " ORDER BY 3 DESC, 1 LIMIT 1000"),
          patience));
  if (rows.empty() || rows[0][2] != "1") {
    std::vector<std::string> names;
    for (const auto& row : rows) names.push_back(absl::StrCat(parts[0], ".", *row[0]));
    const std::string nearest = NearestOf(place.table, names);
    return absl::NotFoundError(
        absl::StrCat("there is no table ", place.table,
                     nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }
  if (rows[0][1] != "BASE TABLE") {
    return absl::InvalidArgumentError(absl::StrCat(place.table, " is no table"));
  }
  table_name_ = parts[1];
  quoted_table_ = absl::StrCat(MysqlName(parts[0]), ".", MysqlName(parts[1]));
  return absl::OkStatus();
}

absl::StatusOr<size_t> MysqlLock::Attempt(const Take& take, const Patience& patience) {
  size_t count = 0;
  for (const std::string& statement : take.statements) {
    const auto rows = holder_->Query(statement, patience);
    if (!rows.ok()) {
      if (holder_->usable() && !take.back_out.empty()) {
        holder_->Query(take.back_out, patience).IgnoreError();
      }
      return rows.status();
    }
    count = rows->size();
  }
  return count;
}

absl::StatusOr<size_t> MysqlLock::Acquire(const Take& take, const Patience& patience) {
  const absl::Duration left =
      std::max(absl::ZeroDuration(), take.end - RealClock().Boot()) + kNetMargin;
  // Whole seconds.
  const std::string net = absl::StrCat(absl::ToInt64Seconds(absl::Ceil(left, absl::Seconds(1))));
  trouble_.clear();
  ASSIGN_OR_RETURN(holder_, MysqlSession::Open(control_.account(), take.stamp,
                                               {{"autocommit", "1"},
                                                {"max_statement_time", kOneAttempt},
                                                {"lock_wait_timeout", "2"},
                                                {"innodb_lock_wait_timeout", "1"},
                                                {"wait_timeout", net},
                                                {"idle_transaction_timeout", net}},
                                               patience));
  const auto named =
      holder_->Query(absl::StrCat("SELECT get_lock(", MysqlText(take.stamp), ", 0)"), patience);
  if (!named.ok() || named->at(0)[0] != "1") {
    holder_.reset();
    RETURN_IF_ERROR(named.status());
    return absl::FailedPreconditionError(
        absl::StrCat("another session calls itself ", take.stamp, " at this server"));
  }
  const Patience within = patience.AtMost(take.within);
  while (true) {
    const absl::StatusOr<size_t> rows = Attempt(take, within);
    if (rows.ok()) return rows;
    if (!Waited(rows.status()) && within.Check().ok()) {
      holder_.reset();
      return rows;
    }
    absl::SleepFor(kPause);
    if (within.Check().ok()) continue;
    holder_.reset();
    RETURN_IF_ERROR(patience.Check());
    return absl::UnavailableError(
        absl::StrCat("the lock on ", place_.table, " was not granted within ",
                     firedrill::FormatDuration(take.within),
                     "; nobody is made to wait behind us for longer: try again, or raise "
                     "acquireWithin"));
  }
}

absl::StatusOr<bool> MysqlLock::Held(const std::string& stamp, const Patience& patience) {
  if (holder_ == nullptr) return false;
  if (const absl::Status alive = holder_->Drain(); !alive.ok()) {
    trouble_ = std::string(alive.message());
  }
  RETURN_IF_ERROR(Ensure(place_, patience));
  ASSIGN_OR_RETURN(
      const MysqlRows rows,
      control_->Query(absl::StrCat("SELECT is_used_lock(", MysqlText(stamp), ")"), patience));
  return holder_->usable() && rows[0][0] == absl::StrCat(holder_->connection_id());
}

// What a look has locked goes at once, with its session if it must.
absl::Status MysqlLock::BackOut(const std::string& statement, const Patience& patience) {
  const absl::Status done = control_->Query(statement, patience).status();
  if (!done.ok()) control_.Close();
  return done;
}

absl::StatusOr<bool> MysqlLock::WouldWait(const std::string& statement, const std::string& back_out,
                                          const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place_, patience));
  const auto rows = control_->Query(statement, patience);
  if (rows.ok() && !back_out.empty()) {
    RETURN_IF_ERROR(BackOut(back_out, patience));
  }
  if (rows.ok()) return false;
  if (Waited(rows.status())) return true;
  return rows.status();
}

absl::StatusOr<size_t> MysqlLock::CountRows(const std::string& statement,
                                            const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place_, patience));
  RETURN_IF_ERROR(
      control_->Query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", patience).status());
  RETURN_IF_ERROR(control_->Query("START TRANSACTION", patience).status());
  const absl::StatusOr<MysqlRows> rows = control_->Query(statement, patience);
  RETURN_IF_ERROR(BackOut("ROLLBACK", patience));
  RETURN_IF_ERROR(rows.status());
  return rows->size();
}

absl::StatusOr<std::optional<int>> MysqlLock::CountWaiting(const std::string& query,
                                                           const Patience& patience) {
  RETURN_IF_ERROR(Ensure(place_, patience));
  if (!facts().sees_all) return std::optional<int>();
  ASSIGN_OR_RETURN(const MysqlRows rows, control_->Query(query, patience));
  return std::optional<int>(std::atoi(rows[0][0]->c_str()));
}

absl::Status MysqlLock::AwaitNone(const Place& place, const std::string& stamp,
                                  const Patience& patience) {
  const auto look = [&]() -> absl::Status {
    const absl::Status open = Ensure(place, patience);
    // A server that is down holds no lock.
    if (MysqlNobodyListens(open)) return absl::OkStatus();
    RETURN_IF_ERROR(open);
    ASSIGN_OR_RETURN(
        const MysqlRows rows,
        control_->Query(absl::StrCat("SELECT is_used_lock(", MysqlText(stamp), ")"), patience));
    if (!rows[0][0].has_value()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "the session of ", stamp, " is still there; to end it by hand: KILL ", *rows[0][0]));
  };
  return LookUntilOk(look, absl::Milliseconds(10), patience,
                     "looking whether all that was held is gone");
}

std::string WaitingWords(const std::optional<int>& waiting) {
  if (!waiting.has_value()) return ", who waits cannot be seen without the privilege PROCESS";
  return absl::StrCat(", ", *waiting, *waiting == 1 ? " session waits" : " sessions wait");
}

}  // namespace firedrill
