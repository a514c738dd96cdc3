// Undoes the loss of an index of a MariaDB server: the optimizer may use it again.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/os/mysql_index.h"
#include "injector/undo.h"
#include "injector/undo_sessions.h"

namespace firedrill {
namespace {

constexpr absl::Duration kConnectFor = absl::Seconds(2);
constexpr absl::Duration kUndoFor = absl::Seconds(6);
constexpr char kProgramName[] = "firedrill-undo";

UndoSessions<MysqlSession>& Kept() {
  static auto* const sessions = new UndoSessions<MysqlSession>;
  return *sessions;
}

absl::StatusOr<std::unique_ptr<MysqlSession>> Open(const v1::MysqlServer& server,
                                                   const Patience& patience) {
  ASSIGN_OR_RETURN(const MysqlAccount account, FindMysqlAccount(server, patience));
  auto session = MysqlSession::Open(account, kProgramName,
                                    {{"autocommit", "1"},
                                     {"max_statement_time", "5"},
                                     {"lock_wait_timeout", "2"},
                                     // It is idle until it is needed: the longest there is.
                                     {"wait_timeout", "31536000"}},
                                    patience);
  return session.ok() ? std::move(session)
                      : Annotate(session.status(), absl::StrCat("connecting to ", account.Name()));
}

absl::Status OpenEarly(const Undo& undo, std::stop_token stop) {
  MysqlIndex index;
  v1::MysqlServer server;
  RETURN_IF_ERROR(ReadMysqlIndexAccess(undo.access, &index, &server));
  const Patience patience(kConnectFor, std::move(stop));
  std::unique_ptr<MysqlSession> session = Kept().Take(undo.access);
  // Also finds the one whose server has been started again since.
  if (session != nullptr && !session->Query("DO 1", patience).ok()) session.reset();
  if (session == nullptr) {
    ASSIGN_OR_RETURN(session, Open(server, patience));
  }
  Kept().Keep(undo.access, std::move(session));
  return absl::OkStatus();
}

void Close(const Undo& undo) { Kept().Take(undo.access); }

absl::StatusOr<IndexChange> GiveBack(const Undo& undo) {
  MysqlIndex index;
  v1::MysqlServer server;
  RETURN_IF_ERROR(ReadMysqlIndexAccess(undo.access, &index, &server));
  if (auto session = Kept().Take(undo.access); session != nullptr && session->usable()) {
    auto change = SetIndexIgnored(*session, index, false, Patience(kUndoFor));
    const bool usable = session->usable();
    Kept().Keep(undo.access, std::move(session));
    // A session that has broken says nothing about the index.
    if (change.ok() || usable) return change;
  }
  ASSIGN_OR_RETURN(auto session, Open(server, Patience(kConnectFor)));
  auto change = SetIndexIgnored(*session, index, false, Patience(kUndoFor));
  if (!change.ok()) Kept().Keep(undo.access, std::move(session));
  return change;
}

UndoResult UndoMysqlIndex(const Undo& undo, std::string* why) {
  const absl::StatusOr<IndexChange> change = GiveBack(undo);
  if (!change.ok()) {
    *why = absl::StrCat("it is not known to be used again: ", change.status().message());
    return UndoResult::kFailed;
  }
  if (*change == IndexChange::kDone) return UndoResult::kRestored;
  if (*change == IndexChange::kNothingToDo) return UndoResult::kUntouched;
  *why = absl::StrCat(undo.resource,
                      " is not there any more: somebody has dropped or rebuilt it since, so it is "
                      "left alone");
  return UndoResult::kSuperseded;
}

const UndoRegistration kMysqlIndex("mysql_index", UndoMysqlIndex, UndoReadiness{OpenEarly, Close});

}  // namespace
}  // namespace firedrill
