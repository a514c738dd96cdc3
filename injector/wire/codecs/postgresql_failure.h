// What a failure looks like on PostgreSQL's wire: the error the client reads, and the statement
// that makes the server fail by itself.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "firedrill/v1/wire.pb.h"

namespace firedrill::wire::postgresql {

// No server has such a keyword: it fails while it reads the statement, before it does anything, in
// every state of a transaction. Its own error names the word, by which we know it again.
inline constexpr absl::string_view kTrapWord = "firedrill_planned_failure";

// Whole messages that make the server fail.
absl::string_view TrapQuery();
absl::string_view TrapParse();
// One that ends a transaction as a COMMIT that fails does.
absl::string_view RollbackQuery();
absl::string_view SyncMessage();

struct Error {
  // A whole ErrorResponse.
  std::string message;
  // The server ends the connection after it.
  bool fatal = false;
};

// nullopt when `error` is no SQLSTATE of an error. With `connect`, every error is fatal.
std::optional<Error> MakeError(const v1::QueryFailure& failure, bool connect);

}  // namespace firedrill::wire::postgresql
