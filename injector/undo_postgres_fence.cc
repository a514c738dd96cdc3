// Lets a PostgreSQL server take sessions again that was fenced for a failover, unless that may have
// come to pass: then it says what is left, and a person decides.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "injector/os/postgres_fence.h"
#include "injector/undo.h"

namespace firedrill {
namespace {

constexpr absl::Duration kConnect = absl::Seconds(2);
constexpr absl::Duration kAsk = absl::Seconds(3);
// A server reads its files again when it gets to it.
constexpr absl::Duration kTakesSessionsWithin = absl::Seconds(5);
constexpr absl::Duration kPause = absl::Milliseconds(20);

// An independent look: as an application would come.
absl::Status SeeTaken(const PostgresAccount& account, const PostgresFence& fence) {
  const Patience patience(kTakesSessionsWithin);
  for (;;) {
    const absl::Status seen =
        PostgresSession::Open(account, "firedrill-undo", {}, patience.AtMost(kConnect)).status();
    // Another reason is none of ours.
    if (!IsRefusalBy(fence.library, seen)) return absl::OkStatus();
    if (patience.Left() <= kPause) {
      return absl::DeadlineExceededError("the setting is back, and sessions are still refused");
    }
    absl::SleepFor(kPause);
  }
}

absl::StatusOr<UndoResult> Lift(const Undo& undo, const PostgresFence& fence,
                                const v1::PostgresqlServer& server, std::string* why) {
  ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(server, Patience(kConnect)));
  PostgresSettings settings = PastTheFence();
  settings["statement_timeout"] = "3000";
  ASSIGN_OR_RETURN(const auto session,
                   PostgresSession::Open(account, "firedrill-undo", settings, Patience(kConnect)));
  const Patience patience(kAsk);
  ASSIGN_OR_RETURN(
      const PostgresRows rows,
      session->Query("SELECT system_identifier::text FROM pg_control_system()", {}, patience));
  if (rows.at(0).at(0) != fence.system_identifier) {
    return absl::FailedPreconditionError(
        absl::StrCat("another server answers at ", account.Name()));
  }
  RETURN_IF_ERROR(HoldFence(*session, patience));
  ASSIGN_OR_RETURN(const std::string now, PreloadedNow(*session, patience));
  const bool ours = now == undo.after;
  if (fence.stays) {
    if (!ours) return UndoResult::kUntouched;
    *why = absl::StrCat(
        "the old primary refuses every session, and is left so, since another server may have been "
        "promoted in its place: make it a standby of that one, or see that none was promoted, "
        "before you open it");
    return UndoResult::kFailed;
  }
  if (!ours && now != fence.former) {
    *why = absl::StrCat("it is ", now.empty() ? "not set" : now,
                        " now: somebody has changed it since, so it is left alone");
    return UndoResult::kSuperseded;
  }
  // Also where the old value is there: nobody may have told the server yet.
  RETURN_IF_ERROR(TakeDownFence(*session, fence, patience));
  RETURN_IF_ERROR(SeeTaken(account, fence));
  return ours ? UndoResult::kRestored : UndoResult::kUntouched;
}

UndoResult LiftFence(const Undo& undo, std::string* why) {
  PostgresFence fence;
  v1::PostgresqlServer server;
  absl::Status status = ReadFenceUndo(undo, &fence, &server);
  if (status.ok()) {
    const auto lifted = Lift(undo, fence, server, why);
    if (lifted.ok()) return *lifted;
    status = lifted.status();
  }
  *why = absl::StrCat(fence.stays ? "the old primary refuses every session, unless somebody has "
                                    "opened it; it could not be looked at: "
                                  : "it is not known to take sessions again: ",
                      status.message());
  return UndoResult::kFailed;
}

const UndoRegistration kPostgresFence("postgres_fence", LiftFence);

}  // namespace
}  // namespace firedrill
