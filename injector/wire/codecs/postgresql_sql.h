// The few SQL statements that matter to the protocol itself: those that change what a prepared
// statement's name stands for, and COPY.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "injector/wire/sql_words.h"

namespace firedrill::wire::postgresql {

struct NamingStatement {
  enum Kind { kPrepare, kExecute, kDeallocate, kDeallocateAll };
  Kind kind = kPrepare;
  // As the server folds and cuts it; `size` bytes of it.
  char name[64];
  size_t size = 0;
  // Of PREPARE: the statement after AS. Of EXECUTE: itself, with its arguments.
  absl::string_view body;
  // So many statements of the query stand before it.
  uint32_t place = 0;
  // Of EXECUTE: there is nothing else in the query.
  bool alone = false;

  absl::string_view Name() const { return {name, size}; }
};

// What of a query is about prepared statements: PREPARE, EXECUTE (also behind EXPLAIN and CREATE
// TABLE ... AS), DEALLOCATE, DISCARD ALL, in order. Of all others only the first word is looked at,
// and that behind each semicolon.
class Namings {
 public:
  explicit Namings(absl::string_view text);
  bool Next(NamingStatement* made);

 private:
  void Advance();
  bool IsSign(char c) const { return token_.kind == Token::kSign && token_.text[0] == c; }
  bool IsWord(absl::string_view word) const;
  bool TakeWord(absl::string_view word);
  void Skip(absl::string_view up_to);
  void SkipBrackets();
  bool ReadName(NamingStatement* made);
  bool Read(NamingStatement* made);
  bool ReadExecute(NamingStatement* made);
  absl::string_view Since(const char* begin) const;

  SqlWords words_;
  // kEnd where there is nothing to be found.
  Token token_;
  // Behind the token before it.
  const char* end_ = nullptr;
  uint32_t place_ = 0;
};

// COMMIT or END, and nothing behind it. Not COMMIT PREPARED, which ends another transaction.
bool Commits(absl::string_view text);

// Whether a statement makes the server take data from the client: COPY ... FROM STDIN. True also
// for a COPY that cannot be read to its end. Of several statements at once, whether one may.
bool CopiesIn(absl::string_view text);

}  // namespace firedrill::wire::postgresql
