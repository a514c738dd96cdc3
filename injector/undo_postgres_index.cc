// Undoes the loss of an index of a PostgreSQL server: the planner may use it again.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/os/postgres_index.h"
#include "injector/undo.h"
#include "injector/undo_sessions.h"

namespace firedrill {
namespace {

constexpr absl::Duration kConnectFor = absl::Seconds(2);
constexpr absl::Duration kUndoFor = absl::Seconds(4);
constexpr char kApplicationName[] = "firedrill-undo";

UndoSessions<PostgresSession>& Kept() {
  static auto* const sessions = new UndoSessions<PostgresSession>;
  return *sessions;
}

absl::StatusOr<std::unique_ptr<PostgresSession>> Open(const v1::PostgresqlServer& server,
                                                      const Patience& patience) {
  ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(server, patience));
  auto session = PostgresSession::Open(account, kApplicationName,
                                       {{"statement_timeout", "5000"},
                                        // It is idle until it is needed.
                                        {"idle_session_timeout", "0"},
                                        {"idle_in_transaction_session_timeout", "5000"},
                                        {"client_connection_check_interval", "100"}},
                                       patience);
  return session.ok() ? std::move(session)
                      : Annotate(session.status(), absl::StrCat("connecting to ", account.Name()));
}

absl::Status OpenEarly(const Undo& undo, std::stop_token stop) {
  PostgresIndex index;
  v1::PostgresqlServer server;
  RETURN_IF_ERROR(ReadIndexAccess(undo.access, &index, &server));
  const Patience patience(kConnectFor, std::move(stop));
  std::unique_ptr<PostgresSession> session = Kept().Take(undo.access);
  // Also finds the one whose server has been started again since.
  if (session != nullptr && !session->Query("SELECT 1", {}, patience).ok()) session.reset();
  if (session == nullptr) {
    ASSIGN_OR_RETURN(session, Open(server, patience));
  }
  Kept().Keep(undo.access, std::move(session));
  return absl::OkStatus();
}

void Close(const Undo& undo) { Kept().Take(undo.access); }

absl::StatusOr<IndexChange> GiveBack(const Undo& undo) {
  PostgresIndex index;
  v1::PostgresqlServer server;
  RETURN_IF_ERROR(ReadIndexAccess(undo.access, &index, &server));
  if (auto session = Kept().Take(undo.access); session != nullptr && session->usable()) {
    auto change = SetIndexUsable(*session, index, true, Patience(kUndoFor));
    const bool usable = session->usable();
    Kept().Keep(undo.access, std::move(session));
    // A session that has broken says nothing about the index.
    if (change.ok() || usable) return change;
  }
  ASSIGN_OR_RETURN(auto session, Open(server, Patience(kConnectFor)));
  auto change = SetIndexUsable(*session, index, true, Patience(kUndoFor));
  if (!change.ok()) Kept().Keep(undo.access, std::move(session));
  return change;
}

UndoResult UndoPostgresIndex(const Undo& undo, std::string* why) {
  const absl::StatusOr<IndexChange> change = GiveBack(undo);
  if (!change.ok()) {
    *why = absl::StrCat("it is not known to be usable again: ", change.status().message());
    return UndoResult::kFailed;
  }
  if (*change == IndexChange::kDone) return UndoResult::kRestored;
  if (*change == IndexChange::kNothingToDo) return UndoResult::kUntouched;
  *why = absl::StrCat(undo.resource,
                      " is not there any more: somebody has dropped or rebuilt it since, so it is "
                      "left alone");
  return UndoResult::kSuperseded;
}

const UndoRegistration kPostgresIndex("postgres_index", UndoPostgresIndex,
                                      UndoReadiness{OpenEarly, Close});

}  // namespace
}  // namespace firedrill
