// What rules want to know about a statement: its verbs, the tables it names, its fingerprint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "injector/wire/sql_words.h"

namespace firedrill::wire {

struct SqlFacts {
  // In small letters, of each statement of the text; of WITH ... UPDATE both words.
  std::vector<std::string> verbs;
  // As `name` or `schema.name`, in small letters.
  std::vector<std::string> tables;
  // 0: none.
  uint64_t fingerprint = 0;
  // PostgreSQL's parser did not read it: by words alone, as for MySQL always.
  bool by_words = true;
  // What the parser said to that, where it was asked.
  std::string unread;
};

// With `parse` by libpg_query, which takes some 10 µs, and only for PostgreSQL.
SqlFacts FactsOf(Dialect dialect, absl::string_view text, bool parse);

// The fingerprint of a statement of PostgreSQL as a match wants it written: 16 hexadecimal digits
// of what FactsOf() finds. INVALID_ARGUMENT says why there is none.
absl::StatusOr<std::string> FingerprintOf(absl::string_view text);

}  // namespace firedrill::wire
