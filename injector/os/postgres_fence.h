// How a PostgreSQL server turns every session away, and takes sessions again: by a name in its
// session_preload_libraries that nothing has. A superuser still gets in by overriding it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/postgres.h"
#include "injector/undo.h"

namespace firedrill {

struct PostgresFence {
  // Of the server's data.
  std::string system_identifier;
  // What nothing has; the name says whose fence it is.
  std::string library;
  // The setting in the server's own file before, as a statement takes it; empty for none.
  std::string former;
  // Another server may take writes in its place: only a person may open this one.
  bool stays = false;
};

// Settings of a session that gets in all the same; a superuser's.
PostgresSettings PastTheFence();
// No other fence is put up or lifted until this session ends, and the server ends it only after it
// has done what it was sent: whoever comes after a process that died sees all that it did.
absl::Status HoldFence(PostgresSession& session, const Patience& patience);
// The setting in the server's own file, as a statement takes it; empty for none.
absl::StatusOr<std::string> PreloadedNow(PostgresSession& session, const Patience& patience);
// Of a session that holds the fence. What is open stays open.
absl::Status PutUpFence(PostgresSession& session, const PostgresFence& fence,
                        const Patience& patience);
// Puts back what was there.
absl::Status TakeDownFence(PostgresSession& session, const PostgresFence& fence,
                           const Patience& patience);
bool IsRefusalBy(absl::string_view library, const absl::Status& status);

// The name by which the setting knows a library: 'name'.
std::string PreloadName(absl::string_view library);
// For the journal.
Undo FenceUndo(const PostgresFence& fence, const v1::PostgresqlServer& server);
absl::Status ReadFenceUndo(const Undo& undo, PostgresFence* fence, v1::PostgresqlServer* server);

}  // namespace firedrill
