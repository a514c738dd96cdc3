// Undoes the loss of an index of a PostgreSQL server: the planner may use it again.
#include "injector/os/postgres_index.h"
#include "injector/undo_index.h"

namespace firedrill {
namespace {

struct PostgresIndexUndo {
  using Session = PostgresSession;
  using Index = PostgresIndex;
  using Server = v1::PostgresqlServer;
  static constexpr absl::Duration kGiveBackFor = absl::Seconds(4);
  static constexpr char kAgain[] = "usable";
  static constexpr auto Read = ReadIndexAccess;

  static absl::StatusOr<std::unique_ptr<Session>> Open(const Server& server,
                                                       const Patience& patience) {
    ASSIGN_OR_RETURN(const PostgresAccount account, FindAccount(server, patience));
    auto session = PostgresSession::Open(account, "firedrill-undo",
                                         {{"statement_timeout", "5000"},
                                          // It is idle until it is needed.
                                          {"idle_session_timeout", "0"},
                                          {"idle_in_transaction_session_timeout", "5000"},
                                          {"client_connection_check_interval", "100"}},
                                         patience);
    if (session.ok()) return session;
    return Annotate(session.status(), absl::StrCat("connecting to ", account.Name()));
  }
  static absl::Status Ask(Session& session, const Patience& patience) {
    return session.Query("SELECT 1", {}, patience).status();
  }
  static absl::StatusOr<IndexChange> GiveBack(Session& session, const Index& index,
                                              const Patience& patience) {
    return SetIndexUsable(session, index, true, patience);
  }
};

const UndoIndex<PostgresIndexUndo> kPostgresIndex("postgres_index");

}  // namespace
}  // namespace firedrill
