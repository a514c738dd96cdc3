// Undoes the loss of an index of a MariaDB server: the optimizer may use it again.
#include "injector/os/mysql_index.h"
#include "injector/undo_index.h"

namespace firedrill {
namespace {

struct MysqlIndexUndo {
  using Session = MysqlSession;
  using Index = MysqlIndex;
  using Server = v1::MysqlServer;
  static constexpr absl::Duration kGiveBackFor = absl::Seconds(6);
  static constexpr char kAgain[] = "used";
  static constexpr auto Read = ReadMysqlIndexAccess;

  static absl::StatusOr<std::unique_ptr<Session>> Open(const Server& server,
                                                       const Patience& patience) {
    ASSIGN_OR_RETURN(const MysqlAccount account, FindMysqlAccount(server, patience));
    auto session = MysqlSession::Open(account, "firedrill-undo",
                                      {{"autocommit", "1"},
                                       {"max_statement_time", "5"},
                                       {"lock_wait_timeout", "2"},
                                       // It is idle until it is needed: the longest there is.
                                       {"wait_timeout", "31536000"}},
                                      patience);
    if (session.ok()) return session;
    return Annotate(session.status(), absl::StrCat("connecting to ", account.Name()));
  }
  static absl::Status Ask(Session& session, const Patience& patience) {
    return session.Query("DO 1", patience).status();
  }
  static absl::StatusOr<IndexChange> GiveBack(Session& session, const Index& index,
                                              const Patience& patience) {
    return SetIndexIgnored(session, index, false, patience);
  }
};

const UndoIndex<MysqlIndexUndo> kMysqlIndex("mysql_index");

}  // namespace
}  // namespace firedrill
