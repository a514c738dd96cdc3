// The few SQL statements that matter to the protocol itself: those that change what a prepared
// statement's name stands for, and COPY.
#pragma once

#include "absl/strings/string_view.h"

namespace firedrill::wire::postgresql {

struct NamingStatement {
  enum Kind { kNone, kPrepare, kExecute, kDeallocate, kDeallocateAll };
  Kind kind = kNone;
  // As the server folds and cuts it; `size` bytes of it.
  char name[64];
  size_t size = 0;
  // Of PREPARE: the statement after AS.
  absl::string_view body;

  absl::string_view Name() const { return {name, size}; }
};

// PREPARE, EXECUTE, DEALLOCATE, DISCARD ALL, when `text` begins with it; kNone for all others.
NamingStatement ReadNaming(absl::string_view text);

// COMMIT or END, and nothing behind it. Not COMMIT PREPARED, which ends another transaction.
bool Commits(absl::string_view text);

// Whether a statement makes the server take data from the client: COPY ... FROM STDIN. True also
// for a COPY that cannot be read to its end. Of several statements at once, whether one may.
bool CopiesIn(absl::string_view text);

}  // namespace firedrill::wire::postgresql
