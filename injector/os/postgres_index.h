// One index of a PostgreSQL server, and whether the planner may use it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/index_change.h"
#include "injector/os/postgres.h"

namespace firedrill {

// Which index, for as long as it exists: a rebuilt one has another oid.
struct PostgresIndex {
  // Of the server's data: a standby that was promoted has the same.
  std::string system_identifier;
  std::string oid;
  // Empty where it is not known: then the name must be the same, too.
  std::string table_oid;
  std::string schema;
  std::string name;

  std::string Name() const { return schema + "." + name; }
  bool operator==(const PostgresIndex&) const = default;
};

// Lets the planner use the index, or not, and makes every session plan anew, also those with
// prepared statements: one transaction. No lock is taken that a statement of an application would
// wait for; the server keeps the index up to date meanwhile.
//
// The row is held while it is looked at, so that a change of a process that has died in the middle
// of it is waited for, and not overlooked. An error where that takes too long, where another server
// answers, or where what is to be lost has another name by now; what is given back may have one,
// but must be on the same table. The session must be a superuser's.
absl::StatusOr<IndexChange> SetIndexUsable(PostgresSession& session, const PostgresIndex& index,
                                           bool usable, const Patience& patience);

// The index and how to reach its server, as text without secrets, and back.
std::string IndexAccess(const PostgresIndex& index, const v1::PostgresqlServer& server);
absl::Status ReadIndexAccess(const std::string& text, PostgresIndex* index,
                             v1::PostgresqlServer* server);

}  // namespace firedrill
