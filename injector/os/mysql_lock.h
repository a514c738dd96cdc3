// A lock of a MariaDB server, held by a session of ours: it ends with this process, and by the
// server's own time-outs when this process hangs.
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
class MysqlLock {
 public:
  using Kind = MysqlKind;
  struct Place {
    std::string profile;
    v1::MysqlServer server;
    // "shop.users": the database and the table.
    std::string table;
    // Permits an account that may end anybody.
    bool superuser = false;
    std::string run;
  };
  struct Take {
    // The session is known by it at the server: it holds a lock by this name.
    std::string stamp;
    // Run one after the other; the last one takes the lock.
    std::vector<std::string> statements;
    // What ends an attempt that has failed half-way; may be empty.
    std::string back_out;
    // Boot time at which the server ends the session by itself.
    absl::Duration end;
    // While the lock is asked for, others may wait behind us: not longer than this, in attempts of
    // 100 ms with pauses for the others. The server itself ends each attempt.
    absl::Duration within;
  };

  // Opens the control connection, and finds the table. Refuses an account with SUPER that is not
  // permitted, and the server's own tables. Again: only what is missing.
  absl::Status Open(const Place& place, const Patience& patience);
  // After Open(). How many rows the last statement gave.
  absl::StatusOr<size_t> Acquire(const Take& take, const Patience& patience);
  // Whether our session is there, says the server. Opens the control connection anew if it must.
  absl::StatusOr<bool> Held(const std::string& stamp, const Patience& patience);
  // On the control connection, without waiting for a lock: true where it would have to.
  absl::StatusOr<bool> WouldWait(const std::string& statement, const std::string& back_out,
                                 const Patience& patience);
  // Of a statement on the control connection, in a transaction that is rolled back.
  absl::StatusOr<size_t> CountRows(const std::string& statement, const Patience& patience);
  // What the query counts; no value without the privilege to see others.
  absl::StatusOr<std::optional<int>> CountWaiting(const std::string& query,
                                                  const Patience& patience);
  void LetGo() { holder_.reset(); }
  // OK where the server has no session of this stamp, or is down.
  absl::Status AwaitNone(const Place& place, const std::string& stamp, const Patience& patience);
  void Close() { control_.Close(); }

  // As statements write it.
  const std::string& quoted_table() const { return quoted_table_; }
  const std::string& table_name() const { return table_name_; }
  const MysqlFacts& facts() const { return control_.facts(); }
  uint64_t holder_id() const { return holder_ == nullptr ? 0 : holder_->connection_id(); }
  // The server's last word on a lock that is lost; may be empty.
  const std::string& trouble() const { return trouble_; }

 private:
  absl::Status Ensure(const Place& place, const Patience& patience);
  absl::Status BackOut(const std::string& statement, const Patience& patience);
  absl::StatusOr<size_t> Attempt(const Take& take, const Patience& patience);

  Place place_;
  std::string table_name_;
  std::string quoted_table_;
  std::string trouble_;
  ServerControl<MysqlKind> control_;
  std::unique_ptr<MysqlSession> holder_;
};

// ", 2 sessions wait", or that this cannot be seen.
std::string WaitingWords(const std::optional<int>& waiting);

}  // namespace firedrill
