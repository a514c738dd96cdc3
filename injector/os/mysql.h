// The door to MariaDB: one session over libmariadb that never blocks past its deadline.
#pragma once

#include <mysql.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/patience.h"
#include "injector/os/statements.h"

namespace firedrill {

// Where a server is and who we are there. Holds the password: never printed.
struct MysqlAccount {
  std::string host;
  // Addresses of `host`; the first one is where sessions are opened.
  std::vector<std::string> addresses;
  uint32_t port = 3306;
  std::string user;
  std::string database;
  std::string password;

  // "127.0.0.1:3306 as reports", for messages.
  std::string Name() const;
};

// Resolves the secret and the host's name. Blocks; the error says what to mend. A profile without a
// user has no account: FAILED_PRECONDITION.
absl::StatusOr<MysqlAccount> FindMysqlAccount(const v1::MysqlServer& server,
                                              const Patience& patience);

// Session variables, set when it connects, as the server reads them:
// {"wait_timeout", "5"}, {"sql_mode", MysqlText("ANSI")}.
using MysqlSettings = std::map<std::string, std::string>;

// The text values of an answer; no value for NULL.
using MysqlRows = std::vector<std::vector<std::optional<std::string>>>;

// The number of an error that the server sent, or libmariadb made (2000 and above); 0 for any
// other.
int MysqlError(const absl::Status& status);
inline constexpr int kMysqlTooManyConnections = 1040;
inline constexpr int kMysqlLockWaitTimeout = 1205;
inline constexpr int kMysqlStatementTimeout = 1969;

// Nobody listens there: the server is down, and no session can live in it.
bool MysqlNobodyListens(const absl::Status& status);

// `name`, and 'text', as a statement may hold them, whatever the sql_mode is.
std::string MysqlName(absl::string_view name);
std::string MysqlText(absl::string_view text);

// One session. Its socket is close-on-exec. One thread at a time.
class MysqlSession {
 public:
  // Begins to connect to the first address; never blocks. `program_name` is a connection attribute,
  // which the server shows only where its performance schema is on. `settings` are in force before
  // the session is ready, and `first`, a statement without rows, has run.
  static std::unique_ptr<MysqlSession> Begin(const MysqlAccount& account,
                                             const std::string& program_name,
                                             const MysqlSettings& settings,
                                             const std::string& first = "");
  // Begin(), and blocks until the session is ready. Tries every address of the account.
  static absl::StatusOr<std::unique_ptr<MysqlSession>> Open(const MysqlAccount& account,
                                                            const std::string& program_name,
                                                            const MysqlSettings& settings,
                                                            const Patience& patience);
  // Closes the socket without waiting for the server. A statement that still runs there goes on:
  // MariaDB does not notice; only its own limits or KILL end it.
  ~MysqlSession();
  MysqlSession(const MysqlSession&) = delete;
  MysqlSession& operator=(const MysqlSession&) = delete;

  // Goes on connecting as far as possible without blocking; to be called when poll(2) finds `fd()`
  // ready for `events()`. Ask `ready()` whether it is done.
  absl::Status Advance();
  bool ready() const { return ready_; }
  // Blocks until the session is ready.
  absl::Status Connect(const Patience& patience);
  int fd() const;
  // Also while a statement runs: those that Drain() waits for.
  short events() const;

  // Sends one statement without waiting for the answer, whose rows are thrown away as they come.
  // Only when Quiet().
  absl::Status Send(const std::string& sql);
  // Takes in what has arrived. An error where the session has ended or its statement failed.
  absl::Status Drain();
  // True when the statement sent has been answered.
  bool Quiet() const { return call_ == Call::kNone; }

  // Runs one statement and waits for its rows. After DEADLINE_EXCEEDED or CANCELLED the session is
  // unusable, since its answer is still to come: `usable()` is false.
  absl::StatusOr<MysqlRows> Query(const std::string& sql, const Patience& patience);
  bool usable() const { return ready_ && !broken_; }

  // By which KILL and the process list know it.
  uint64_t connection_id() const { return mysql_thread_id(connection_.get()); }
  // 101119 for 10.11.19.
  int server_version() const {
    return static_cast<int>(mysql_get_server_version(connection_.get()));
  }
  // "10.11.19-MariaDB".
  std::string server_words() const { return mysql_get_server_info(connection_.get()); }
  // False for MySQL.
  bool mariadb() const;

 private:
  // What libmariadb has been asked for, and has not come back from yet.
  enum class Call { kNone, kConnect, kQuery, kStore, kDiscard, kNext };
  struct Close {
    void operator()(MYSQL* connection) const { mysql_close(connection); }
  };
  explicit MysqlSession(MYSQL* connection) : connection_(connection) {}
  void Start(Call call);
  void Continue(int happened);
  absl::Status Follow();
  absl::Status FollowAll();
  absl::Status TakeResult();
  void KeepRows();
  absl::Status Step();
  absl::Status Error();

  std::unique_ptr<MYSQL, Close> connection_;
  // libmariadb reads these while it connects and sends.
  MysqlAccount account_;
  std::string address_;
  std::string sql_;
  Call call_ = Call::kNone;
  // What libmariadb waits for, in its own bits; 0: its call is done.
  int wait_ = 0;
  MYSQL* connected_ = nullptr;
  int failed_ = 0;
  MYSQL_RES* result_ = nullptr;
  bool keep_ = false;
  MysqlRows rows_;
  bool ready_ = false;
  bool broken_ = false;
};

// What a control session asks the server about itself, once.
struct MysqlFacts {
  int max_connections = 0;
  // "mysql/<the server's own id, or its host name>/<port>".
  std::string identity;
  // Sees the sessions of other accounts (PROCESS).
  bool sees_all = false;
  // Gets in where nobody else does any more, and may end anybody (SUPER, CONNECTION ADMIN).
  bool superuser = false;
};

absl::StatusOr<MysqlFacts> AskMysqlFacts(MysqlSession& session, const Patience& patience);

// "opening the control connection of profile leaker to 127.0.0.1:3306 as reports: ...; check ..."
// Refuses what is not MariaDB 10.6 or newer. Statements end after 5 s, and wait 1 s for locks.
absl::StatusOr<std::unique_ptr<MysqlSession>> OpenMysqlControl(const MysqlAccount& account,
                                                               absl::string_view profile,
                                                               absl::string_view run,
                                                               const Patience& patience);

}  // namespace firedrill
