// A lock of a PostgreSQL server, held by a transaction of a session of ours: it ends with this
// process, and by the server's own time-outs when this process hangs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/server_control.h"

namespace firedrill {

// One thread at a time.
class PostgresLock {
 public:
  using Kind = PostgresKind;
  struct Place {
    std::string profile;
    v1::PostgresqlServer server;
    // "public.users"
    std::string table;
    // Permits a superuser's profile.
    bool superuser = false;
    std::string run;
  };
  struct Take {
    // Names the session at the server.
    std::string stamp;
    // What takes the lock.
    std::string statement;
    std::vector<std::string> parameters;
    // Boot time at which the server ends the session by itself.
    absl::Duration end;
    // While the lock is asked for, everybody who comes later waits behind us: not longer than this,
    // in short attempts with pauses for the others.
    absl::Duration within;
  };
  struct Sight {
    // Granted to our session, says the server.
    bool held = false;
    // Sessions that wait for us.
    int waiting = 0;
  };

  // Opens the control connection, and finds the table. Refuses a superuser that is not permitted,
  // and the system catalogs. Again: only what is missing.
  absl::Status Open(const Place& place, const Patience& patience);
  // After Open(). How many rows the statement gave. An error names who holds the lock.
  absl::StatusOr<size_t> Acquire(const Take& take, const Patience& patience);
  // `mode` as in pg_locks: "AccessExclusiveLock". Opens the control connection anew if it must.
  absl::StatusOr<Sight> Look(const std::string& mode, const Patience& patience);
  // Of a statement on the control connection, in a transaction that is rolled back.
  absl::StatusOr<size_t> CountRows(const std::string& statement,
                                   const std::vector<std::string>& parameters,
                                   const Patience& patience);
  void LetGo() { holder_.reset(); }
  // OK where the server has no session of this name, or is down.
  absl::Status AwaitNone(const Place& place, const std::string& stamp, const Patience& patience);
  void Close() { control_.Close(); }

  // As the server writes it in statements.
  const std::string& quoted_table() const { return quoted_table_; }
  const PostgresFacts& facts() const { return control_.facts(); }
  // What the last look, or the server's last word, says of a lock that is lost; may be empty.
  const std::string& trouble() const { return trouble_; }

 private:
  absl::Status Ensure(const Place& place, const Patience& patience);
  absl::StatusOr<size_t> Attempt(const Take& take, const Patience& patience);
  std::string Holders(int except, const Patience& patience);

  Place place_;
  std::string table_oid_;
  std::string quoted_table_;
  std::string trouble_;
  ServerControl<PostgresKind> control_;
  std::unique_ptr<PostgresSession> holder_;
};

// ", 2 sessions wait for us".
std::string WaitingWords(int waiting);

}  // namespace firedrill
