// The door to PostgreSQL: one session over libpq that never blocks past its deadline.
#pragma once

#include <libpq-fe.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/patience.h"
#include "injector/os/statements.h"

namespace firedrill {

// Where a server is and who we are there. Holds the password: never printed.
struct PostgresAccount {
  std::string host;
  // Addresses of `host`; empty for the folder of a Unix socket.
  std::vector<std::string> addresses;
  uint32_t port = 5432;
  std::string user;
  std::string database;
  std::string password;
  std::string ssl_mode;

  // "127.0.0.1:5432 as reports", for messages.
  std::string Name() const;
};

// Resolves the secret and the host's name. Blocks; the error says what to mend.
absl::StatusOr<PostgresAccount> FindAccount(const v1::PostgresqlServer& server,
                                            const Patience& patience);

// Server-side settings of a session, given when it connects: {"statement_timeout", "5000"}.
using PostgresSettings = std::map<std::string, std::string>;

// The text values of an answer; no value for NULL.
using PostgresRows = std::vector<std::vector<std::optional<std::string>>>;

// The five-character code of an error that the server sent; empty for any other.
std::string SqlState(const absl::Status& status);
inline constexpr char kTooManyConnections[] = "53300";

// Nobody listens there: the server is down, and no session can live in it.
bool NobodyListens(const absl::Status& status);

// One session. Its socket is close-on-exec. One thread at a time.
class PostgresSession {
 public:
  // Begins to connect; never blocks. `application_name` is cut at 63 bytes by the server.
  static std::unique_ptr<PostgresSession> Begin(const PostgresAccount& account,
                                                const std::string& application_name,
                                                const PostgresSettings& settings);
  // Begin(), and blocks until the session is ready.
  static absl::StatusOr<std::unique_ptr<PostgresSession>> Open(const PostgresAccount& account,
                                                               const std::string& application_name,
                                                               const PostgresSettings& settings,
                                                               const Patience& patience);
  // Tells the server good-bye and closes the socket, without waiting for an answer.
  ~PostgresSession() = default;

  // Goes on connecting as far as possible without blocking; to be called when poll(2) finds
  // `fd()` ready for `events()`. UNAVAILABLE "connecting" while it is under way has no meaning of
  // its own: ask `ready()`.
  absl::Status Advance();
  bool ready() const { return ready_; }
  // Blocks until the session is ready.
  absl::Status Connect(const Patience& patience);
  // The next Advance() says who we are; only then does the session need a slot of the server.
  bool at_the_door() const { return PQstatus(connection_.get()) == CONNECTION_MADE; }
  int fd() const { return PQsocket(connection_.get()); }
  short events() const { return events_; }

  // Sends statements without waiting for the answer, whose rows are thrown away as they come.
  absl::Status Send(const std::string& sql);
  // Takes in what has arrived. An error where the session has ended or its statement failed.
  absl::Status Drain();
  // True when all statements sent have been answered.
  bool Quiet() const { return !busy_; }

  // Runs one statement and waits for its rows. The server plans it once a session, however often it
  // runs: statements are to be few, and constant. After DEADLINE_EXCEEDED or CANCELLED the session
  // is unusable, since its answer is still to come: `usable()` is false.
  absl::StatusOr<PostgresRows> Query(const std::string& sql,
                                     const std::vector<std::string>& parameters,
                                     const Patience& patience);
  bool usable() const { return ready_ && !broken_; }
  // What the server said of the last statement that it has done: "UPDATE 3".
  const std::string& tag() const { return tag_; }

  int server_version() const { return PQserverVersion(connection_.get()); }
  bool superuser() const;
  int backend_pid() const { return PQbackendPID(connection_.get()); }

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };
  explicit PostgresSession(PGconn* connection) : connection_(connection) {}
  static void Hear(void* session, const PGresult* notice);
  absl::Status ConnectionError() const;
  absl::Status Flush(const Patience& patience);
  // The rows of what was sent last.
  absl::StatusOr<PostgresRows> Collect(const Patience& patience);

  std::unique_ptr<PGconn, Finish> connection_;
  short events_ = 0;
  bool ready_ = false;
  bool broken_ = false;
  bool busy_ = false;
  std::string tag_;
  // Why the server has ended the session, where it has said so.
  absl::Status last_words_;
  // The statements that the server has prepared, and what they are called there.
  std::map<std::string, std::string> prepared_;
};

// What a control session asks the server about itself, once.
struct PostgresFacts {
  int max_connections = 0;
  // Slots that ordinary roles cannot take.
  int reserved = 0;
  // "postgresql/<system identifier>/<port>".
  std::string identity;
  // Sees the kind and the names of other roles' sessions (pg_read_all_stats).
  bool sees_all = false;
};

absl::StatusOr<PostgresFacts> AskFacts(PostgresSession& session, const Patience& patience);

// "opening the control connection of profile leaker to 127.0.0.1:5432 as reports: ...; check ..."
absl::StatusOr<std::unique_ptr<PostgresSession>> OpenControl(const PostgresAccount& account,
                                                             absl::string_view profile,
                                                             absl::string_view run,
                                                             const Patience& patience);

}  // namespace firedrill
