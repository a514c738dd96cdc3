// A statement of SQL as words, literals and signs; and its shape, which is all of that without the
// literals. By form alone: nothing is parsed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace firedrill::wire {

enum class Dialect { kPostgresql, kMysql };

struct Token {
  enum Kind : uint8_t { kEnd, kWord, kName, kLiteral, kSign };
  Kind kind = kEnd;
  // With its quotes.
  absl::string_view text;
};

// Where blanks and comments that begin at `at` end. Ahead of a comment that some of MySQL's servers
// execute: /*! and /*M!.
size_t SqlBlankEnd(Dialect dialect, absl::string_view text, size_t at);

class SqlWords {
 public:
  SqlWords(Dialect dialect, absl::string_view text) : dialect_(dialect), text_(text) {}
  // Comments and blanks are left out, but not what stands in a comment that some of MySQL's servers
  // execute. kEnd at the end, again and again. What is not closed goes on
  // to the end.
  Token Next();

 private:
  void SkipBlank();
  size_t QuotedEnd(size_t begin, bool escapes) const;
  Token Make(Token::Kind kind, size_t end);
  Token Number();
  Token Dollar();

  Dialect dialect_;
  absl::string_view text_;
  size_t at_ = 0;
  // In a comment that some servers execute.
  bool executed_ = false;
};

// The same for statements that differ in literals, case, comments and blanks only, where that makes
// no difference to their verbs, tables and fingerprint. About 1 ns a byte.
uint64_t ShapeOf(Dialect dialect, absl::string_view text);

}  // namespace firedrill::wire
