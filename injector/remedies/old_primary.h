// The PostgreSQL server that is to be given up in a failover: whether it lives, how its sessions
// are turned away, and whether it really refuses writes.
//
// What holds was measured: `default_transaction_read_only` does not (a client overrides it).
// ALLOW_CONNECTIONS false holds for one database only, leaves open sessions writing, and is
// replicated, so that the promoted server would refuse everybody too. session_preload_libraries
// with a name that nothing has turns away every new session of every role in every database, is
// local to the server, and holds over its restart; open sessions must be ended beside it. It
// lets in a superuser who overrides it, and replication connections (by which a standby gets what
// is left).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "injector/journal.h"
#include "injector/os/postgres.h"
#include "injector/os/postgres_fence.h"
#include "injector/remedies/remedy.h"

namespace firedrill {

// A write that only a server that takes writes can do: a transaction with an id and a record in the
// WAL that touches no table. It needs no privilege, and read-only settings do not prevent it.
inline constexpr char kWrite[] = "SELECT pg_logical_emit_message(true, 'firedrill', $1)";
// 25006: the server is a standby.
inline constexpr char kReadOnlyServer[] = "25006";
// Settings of sessions that try to write. A standby that is gone must not look like a refusal.
PostgresSettings WriterSettings();

// One thread at a time.
class OldPrimary {
 public:
  // Silent: it could not be asked, and nobody knows whether it lives; why() says what was seen.
  enum class Life { kAlive, kDead, kSilent };

  // `server` is the account without its secrets. What the context points to outlives this.
  OldPrimary(PostgresAccount account, v1::PostgresqlServer server, const RemedyContext& context);

  // Opens a session that acts and one that bears witness: it writes now, and must not later. An
  // error where it lives but cannot serve as the old primary.
  absl::StatusOr<Life> Look(const Patience& patience);
  const absl::Status& why() const { return why_; }
  // "postgresql/<system identifier>"; empty where it could not be asked.
  const std::string& identity() const { return identity_; }
  std::string Name() const { return account_.Name(); }

  // Where its WAL ends. An error once it is gone.
  absl::StatusOr<std::string> Position(const Patience& patience);

  // Turns new sessions away and ends the open ones, all but the acting one. Journalled before: it
  // is lifted where this process dies. After an error the fence may be half there: Lift().
  absl::Status RefuseSessions(const Patience& patience);
  // RefuseSessions() was begun and not lifted.
  bool refusing() const { return record_.has_value(); }
  // Sessions that RefuseSessions() ended.
  int ended() const { return ended_; }
  // What session_preload_libraries was in the server's own file; empty for nothing.
  const std::string& former() const { return fence_.former; }
  // From here on it stays closed, also where this process dies: before the standby is told to
  // become primary. After an error it is still lifted.
  absl::Status KeepClosed();
  // It stays closed for good, and that has been said.
  void Forget();
  // Takes sessions again. Not after the standby may have been promoted.
  absl::Status Lift();
  // What a person pastes to open it again.
  std::string ByHand() const;

  // The witness and a new session try to write, again and again, until both are refused: how, in
  // words; the error says what still speaks against it when `patience` ends. Where nobody listens
  // that is a refusal only if `nobody_counts`.
  absl::StatusOr<std::string> SeeRefused(bool nobody_counts, const Patience& patience);

 private:
  absl::Status CheckRefusable(const Patience& patience);
  absl::StatusOr<std::string> TryWitness(const Patience& patience);
  absl::StatusOr<std::string> TryAnew(bool nobody_counts, const Patience& patience);
  Undo FenceUndo() const { return firedrill::FenceUndo(fence_, server_); }

  const PostgresAccount account_;
  const v1::PostgresqlServer server_;
  const std::string run_;
  const std::string remedy_;
  Journal* const journal_;
  absl::Status why_;
  std::string identity_;
  std::unique_ptr<PostgresSession> acting_;
  std::unique_ptr<PostgresSession> witness_;
  // It was asked to write and has not answered.
  bool witness_hangs_ = false;
  PostgresFence fence_;
  // Of the journal, while the fence is up.
  std::optional<uint64_t> record_;
  int ended_ = 0;
};

}  // namespace firedrill
