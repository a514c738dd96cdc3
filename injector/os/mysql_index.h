// One index of a MariaDB server, and whether its optimizer may use it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"
#include "injector/os/index_change.h"
#include "injector/os/mysql.h"

namespace firedrill {

// Which index. MariaDB has no number for one that outlives a rebuild of its table, so it is known
// by what it is called and what it consists of.
struct MysqlIndex {
  // "mysql/<the server's own id>/<port>": a replica that was promoted has another one.
  std::string server;
  std::string database;
  std::string table;
  std::string name;
  // "email,org:10": columns, and how many characters of each.
  std::string columns;

  // "users.users_email_idx"
  std::string Name() const { return table + "." + name; }
  bool operator==(const MysqlIndex&) const = default;
};

// What the server says of an index: read under the table's own lock, so that an error is an error.
struct MysqlIndexSight {
  bool there = false;
  bool ignored = false;
  bool unique = false;
  // As the server writes them.
  std::string name;
  std::string columns;
  std::string first_column;
  // BTREE, HASH, FULLTEXT, ...
  std::string method;
};
// Without the table, or without such an index in it: not there.
absl::StatusOr<MysqlIndexSight> LookAtIndex(MysqlSession& session, const MysqlIndex& index,
                                            const Patience& patience);

// Lets the optimizer ignore the index, or not: every statement that begins afterwards is planned
// so, those of prepared statements too. The server keeps the index up to date meanwhile. Goes into
// the binary log like any ALTER TABLE, so that replicas follow.
//
// The ALTER waits for the transactions that use the table, and whoever comes later waits behind it:
// so it is asked for in short attempts, 100 ms each; to end the ignoring they become longer, up to
// 1 s. A lock by name is held from before the look until after the change, and ends with its
// session: so the change of a process that has died in the middle of it is waited for, and not
// overlooked.
//
// An error where that takes too long, where another server answers, or where somebody has renamed
// the index or its table.
absl::StatusOr<IndexChange> SetIndexIgnored(MysqlSession& session, const MysqlIndex& index,
                                            bool ignored, const Patience& patience);

// The statement by which a person would do the same.
std::string IndexStatement(const MysqlIndex& index, bool ignored);

// The index and how to reach its server, as text without secrets, and back.
std::string MysqlIndexAccess(const MysqlIndex& index, const v1::MysqlServer& server);
absl::Status ReadMysqlIndexAccess(const std::string& text, MysqlIndex* index,
                                  v1::MysqlServer* server);

}  // namespace firedrill
