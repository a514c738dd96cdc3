// The few SQL statements that change what a prepared statement's name stands for.
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

}  // namespace firedrill::wire::postgresql
