// What rules want to know about a statement: its verbs, the tables it names, its fingerprint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
};

// With `parse` by libpg_query, which takes some 10 µs, and only for PostgreSQL.
SqlFacts FactsOf(Dialect dialect, absl::string_view text, bool parse);

}  // namespace firedrill::wire
