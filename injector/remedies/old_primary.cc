// The old primary of a failover.
#include "injector/remedies/old_primary.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr absl::Duration kConnect = absl::Seconds(3);
constexpr absl::Duration kTry = absl::Seconds(2);
constexpr absl::Duration kPause = absl::Milliseconds(50);
// Looks in a row that must find nobody: a session that was let in before the server had read its
// files again shows up a moment later.
constexpr int kQuietLooks = 4;
constexpr char kNotAuthorised[] = "28000";

constexpr char kEndOthers[] =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND (backend_type = 'client backend'"
    // Of logical replication: it takes statements like any other session.
    " OR backend_type = 'walsender' AND datname IS NOT NULL)";
// Whatever else may write: schedulers, appliers of logical replication. Nobody turns them away.
constexpr char kOtherWriters[] =
    "SELECT string_agg(DISTINCT backend_type, ', ') FROM pg_stat_activity"
    " WHERE backend_type NOT IN ('client backend', 'parallel worker', 'walsender', 'walwriter',"
    " 'checkpointer', 'background writer', 'archiver', 'autovacuum launcher', 'autovacuum worker',"
    " 'logical replication launcher', 'logger', 'walsummarizer', 'io worker')";

// What faults have there: sessions that are stamped with run and fault, and those by which they
// look and undo.
constexpr char kFaults[] =
    "SELECT string_agg(DISTINCT CASE WHEN application_name LIKE 'firedrill:%'"
    " THEN split_part(application_name, ':', 3) ELSE 'session ' || application_name END, ', ')"
    " FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    " AND (application_name LIKE 'firedrill:%:%' OR application_name LIKE 'firedrill-control:%'"
    " OR application_name = 'firedrill-undo')";

std::string First(const PostgresRows& rows) {
  return rows.empty() || rows[0].empty() ? "" : rows[0][0].value_or("");
}

}  // namespace

PostgresSettings WriterSettings() {
  return {{"default_transaction_read_only", "off"},
          {"synchronous_commit", "local"},
          {"statement_timeout", "2000"}};
}

OldPrimary::OldPrimary(PostgresAccount account, v1::PostgresqlServer server,
                       const RemedyContext& context)
    : account_(std::move(account)),
      server_(std::move(server)),
      run_(context.run),
      remedy_(context.remedy),
      journal_(context.journal) {
  fence_.library = "firedrill_fence_";
  for (const char c : run_) fence_.library.push_back(absl::ascii_isalnum(c) ? c : '_');
}

absl::StatusOr<OldPrimary::Life> OldPrimary::Look(const Patience& patience) {
  auto acting = PostgresSession::Open(account_, absl::StrCat("firedrill-control:", run_),
                                      {{"statement_timeout", "5000"}}, patience.AtMost(kConnect));
  RETURN_IF_ERROR(patience.Check());
  if (!acting.ok()) {
    why_ = acting.status();
    return NobodyListens(why_) ? Life::kDead : Life::kSilent;
  }
  acting_ = *std::move(acting);
  ASSIGN_OR_RETURN(const PostgresRows recovery,
                   acting_->Query("SELECT pg_is_in_recovery()", {}, patience.AtMost(kTry)));
  if (First(recovery) == "t") {
    return absl::FailedPreconditionError(absl::StrCat(
        "the old primary (", Name(), ") is a standby already; check the profile oldPrimary"));
  }
  ASSIGN_OR_RETURN(const PostgresFacts facts, AskFacts(*acting_, patience.AtMost(kTry)));
  identity_ = facts.identity.substr(0, facts.identity.rfind('/'));

  ASSIGN_OR_RETURN(witness_,
                   PostgresSession::Open(account_, absl::StrCat("firedrill-witness:", run_),
                                         WriterSettings(), patience.AtMost(kConnect)));
  // Only a refusal of what worked before means anything.
  const absl::Status writes = witness_->Query(kWrite, {"witness"}, patience.AtMost(kTry)).status();
  if (!writes.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the old primary (", Name(), ") does not let us write now: ", writes.message(),
                     "; so a refusal later would prove nothing"));
  }
  return Life::kAlive;
}

absl::StatusOr<std::string> OldPrimary::Position(const Patience& patience) {
  if (acting_ == nullptr) return absl::UnavailableError("the old primary cannot be asked");
  ASSIGN_OR_RETURN(
      const PostgresRows rows,
      acting_->Query("SELECT pg_current_wal_flush_lsn()::text", {}, patience.AtMost(kTry)));
  return First(rows);
}

absl::Status OldPrimary::CheckRefusable(const Patience& patience) {
  const std::string cannot = absl::StrCat("refuseSessions at ", Name(), ": ");
  const std::string next = "; use a fenceProgram";
  if (!acting_->superuser()) {
    return absl::PermissionDeniedError(
        absl::StrCat(cannot, "this role is no superuser, which ALTER SYSTEM needs", next));
  }
  ASSIGN_OR_RETURN(const PostgresRows writers,
                   acting_->Query(kOtherWriters, {}, patience.AtMost(kTry)));
  if (!First(writers).empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        cannot, "other processes of the server may write, and are no sessions: ", First(writers),
        next));
  }
  // With the sessions refused nobody could see, or make, the end of what is on there.
  ASSIGN_OR_RETURN(const PostgresRows faults, acting_->Query(kFaults, {}, patience.AtMost(kTry)));
  if (!First(faults).empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(cannot, "a fault is on or prepared there (", First(faults),
                     "), whose end could not be seen any more once all sessions are refused; use a "
                     "fenceProgram, or begin when the fault has ended"));
  }
  ASSIGN_OR_RETURN(const PostgresRows overrides,
                   acting_->Query("SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) s"
                                  " WHERE s LIKE 'session\\_preload\\_libraries=%'",
                                  {}, patience.AtMost(kTry)));
  if (First(overrides) != "0") {
    return absl::FailedPreconditionError(absl::StrCat(
        cannot, "a role or a database has a session_preload_libraries of its own, which wins",
        next));
  }
  ASSIGN_OR_RETURN(const PostgresRows data,
                   acting_->Query("SELECT system_identifier::text FROM pg_control_system()", {},
                                  patience.AtMost(kTry)));
  fence_.system_identifier = First(data);
  return absl::OkStatus();
}

absl::Status OldPrimary::RefuseSessions(const Patience& patience) {
  if (acting_ == nullptr) return absl::UnavailableError("the old primary cannot be asked");
  if (journal_ == nullptr) {
    return absl::FailedPreconditionError("refuseSessions: there is no journal to keep its undo in");
  }
  RETURN_IF_ERROR(CheckRefusable(patience));
  RETURN_IF_ERROR(HoldFence(*acting_, patience.AtMost(kTry)));
  ASSIGN_OR_RETURN(fence_.former, PreloadedNow(*acting_, patience.AtMost(kTry)));
  const absl::StatusOr<uint64_t> recorded = journal_->Record(run_, remedy_, FenceUndo());
  if (!recorded.ok()) {
    return Annotate(recorded.status(),
                    absl::StrCat("refuseSessions at ", Name(),
                                 " was not begun, since its undo could not be kept"));
  }
  record_ = *recorded;
  RETURN_IF_ERROR(PutUpFence(*acting_, fence_, patience.AtMost(kTry)));
  int quiet = 0;
  while (quiet < kQuietLooks) {
    ASSIGN_OR_RETURN(const PostgresRows others,
                     acting_->Query(kEndOthers, {}, patience.AtMost(kTry)));
    int found = 0;
    if (!absl::SimpleAtoi(First(others), &found)) found = 0;
    // Those of an earlier look may still be on their way out.
    ended_ = std::max(ended_, found);
    quiet = found == 0 ? quiet + 1 : 0;
    RETURN_IF_ERROR(patience.Check());
    absl::SleepFor(kPause);
  }
  return absl::OkStatus();
}

absl::Status OldPrimary::KeepClosed() {
  if (!refusing()) return absl::OkStatus();
  fence_.stays = true;
  const absl::Status kept = journal_->Amend(*record_, FenceUndo());
  if (kept.ok()) return absl::OkStatus();
  fence_.stays = false;
  return Annotate(kept,
                  "nothing was promoted, since it could not be kept that the fence is to stay");
}

void OldPrimary::Forget() {
  if (refusing()) journal_->Forget(*record_);
}

absl::Status OldPrimary::Lift() {
  if (!refusing()) return absl::OkStatus();
  if (fence_.stays) {
    fence_.stays = false;
    RETURN_IF_ERROR(journal_->Amend(*record_, FenceUndo()));
  }
  // It holds what the undo waits for.
  acting_.reset();
  const Journal::RollbackResult result = journal_->RollBack(run_, remedy_);
  if (result.failed()) return absl::UnavailableError(result.problems.front().why);
  record_.reset();
  return absl::OkStatus();
}

std::string OldPrimary::ByHand() const { return FenceUndo().by_hand; }

absl::StatusOr<std::string> OldPrimary::TryWitness(const Patience& patience) {
  if (witness_ == nullptr) return std::string("no session of ours was open");
  if (!witness_hangs_ && witness_->usable()) {
    const absl::Status status =
        witness_->Query(kWrite, {"witness"}, patience.AtMost(kTry)).status();
    if (status.ok()) return absl::FailedPreconditionError("an open session still writes");
    if (SqlState(status) == kReadOnlyServer) return std::string("an open session may only read");
    witness_hangs_ = absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
    if (witness_hangs_ || witness_->usable()) {
      return absl::FailedPreconditionError(
          absl::StrCat("an open session: ", status.message(), ", which is no refusal"));
    }
  }
  if (witness_hangs_ && witness_->Drain().ok()) {
    return absl::FailedPreconditionError(
        "an open session hangs: when the server goes on, it may still write");
  }
  return std::string("the open session was ended");
}

absl::StatusOr<std::string> OldPrimary::TryAnew(bool nobody_counts, const Patience& patience) {
  const auto session = PostgresSession::Open(account_, absl::StrCat("firedrill-fence:", run_),
                                             WriterSettings(), patience.AtMost(kTry));
  if (session.ok()) {
    const absl::Status status =
        (*session)->Query(kWrite, {"fence check"}, patience.AtMost(kTry)).status();
    if (status.ok()) return absl::FailedPreconditionError("a new session still writes");
    if (SqlState(status) == kReadOnlyServer) return std::string("a new session may only read");
    return absl::FailedPreconditionError(
        absl::StrCat("a new session: ", status.message(), ", which is no refusal"));
  }
  const absl::Status& why = session.status();
  if (NobodyListens(why)) {
    if (nobody_counts) return std::string("nobody listens there");
    return absl::FailedPreconditionError(
        "nobody listens there, and nothing keeps it from coming back; use a fenceProgram, or say "
        "deadIsFenced: true");
  }
  const bool ours = refusing() && IsRefusalBy(fence_.library, why);
  const bool rejected =
      SqlState(why) == kNotAuthorised && absl::StrContains(why.message(), "pg_hba.conf");
  if (ours || rejected) return absl::StrCat("a new session is refused: ", why.message());
  return absl::FailedPreconditionError(
      absl::StrCat("a new session: ", why.message(), ", which is no refusal of writes"));
}

absl::StatusOr<std::string> OldPrimary::SeeRefused(bool nobody_counts, const Patience& patience) {
  absl::Status against;
  for (;;) {
    const auto open = TryWitness(patience);
    const auto anew = TryAnew(nobody_counts, patience);
    if (open.ok() && anew.ok()) return absl::StrCat(*open, ", ", *anew);
    const absl::Status over = patience.Check();
    if (absl::IsCancelled(over)) return over;
    // A try that was cut short tells less than the one before it.
    if (over.ok() || against.ok()) against = open.ok() ? anew.status() : open.status();
    if (!over.ok()) return against;
    absl::SleepFor(kPause);
  }
}

}  // namespace firedrill
