// The tables of the store's file, and how an older file gets them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace SQLite {
class Database;
class Exception;
}  // namespace SQLite

namespace firedrill {

// Grows with each change of the tables. A file of the version before is brought to this one when it
// is opened; a newer one is refused.
inline constexpr int kSqliteSchema = 2;
// A second process (report, judge) may read meanwhile.
inline constexpr int kSqliteBusyMilliseconds = 2000;

// FAILED_PRECONDITION for a newer file; throws SQLite::Exception as SQLite does. Several processes
// may do it at once.
absl::Status PrepareSchema(SQLite::Database& database, const std::string& path);

// That of the file `path`, which is neither changed nor made.
absl::StatusOr<int> SchemaOf(const std::string& path);

// "appending to the history in PATH: ...; what to do".
absl::Status SqliteFailed(absl::string_view doing, const std::string& path,
                          const SQLite::Exception& error);

}  // namespace firedrill
