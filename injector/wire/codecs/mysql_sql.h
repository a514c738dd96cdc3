// The few SQL statements that matter to MySQL's protocol itself: those that change the database, or
// what a prepared statement's name stands for.
#pragma once

#include "absl/strings/string_view.h"

namespace firedrill::wire {

struct MysqlNaming {
  enum Kind {
    kNone,
    kPrepare,    // `name` stands for `text`.
    kExecute,    // What `name` stands for.
    kImmediate,  // `text`.
    kForget,     // `name` stands for nothing, or for what cannot be known.
    kForgetAll,  // It cannot be told which names it changes, and how.
  };
  Kind kind = kNone;
  // Folded; `size` bytes of it.
  char name[64];
  size_t size = 0;
  // Without quotes and escapes. In ScratchText::OfThread().
  absl::string_view text;
  // `text` is the beginning only.
  bool cut = false;

  absl::string_view Name() const { return {name, size}; }
};

// PREPARE ... FROM, EXECUTE, DEALLOCATE PREPARE, when `sql` begins with it; kNone for all others.
// `cut`: more of it follows. `backslashes`: they escape, as they do unless the session's mode says
// otherwise. Allocates nothing.
MysqlNaming ReadMysqlNaming(absl::string_view sql, bool cut, bool backslashes);

// Whether a statement of which ReadMysqlNaming() says nothing may yet change what names stand for:
// behind another statement, or in a comment for some servers only. What a procedure does is not
// seen.
bool MayName(absl::string_view sql);

// The session of `KILL QUERY number`; 0 for everything else, such as the end of the session.
uint64_t KilledQuery(absl::string_view sql);

// The database of `USE name`; empty for everything else.
absl::string_view UsedDatabase(absl::string_view sql);

}  // namespace firedrill::wire
