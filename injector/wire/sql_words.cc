// A lexer of SQL that never fails.
#include "injector/wire/sql_words.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "injector/wire/chance.h"

namespace firedrill::wire {
namespace {

enum Class : uint8_t { kOther = 0, kBlank = 1, kLetter = 2, kDigit = 4, kQuote = 8, kMoney = 16 };

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
    const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = blank ? kBlank : letter ? kLetter : c >= '0' && c <= '9' ? kDigit : kOther;
  }
  classes['\''] = classes['"'] = classes['`'] = kQuote;
  classes['$'] = kMoney;
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

uint8_t ClassOf(char c) { return kClasses[static_cast<unsigned char>(c)]; }
bool InWord(char c) { return (ClassOf(c) & (kLetter | kDigit | kMoney)) != 0; }

constexpr uint64_t kPrime = 0x9fb21c651e98df25;

uint64_t Stir(uint64_t hash, uint64_t more) {
  hash = (hash ^ more) * kPrime;
  return hash ^ (hash >> 29);
}

// At most 8 bytes as a number, without a call: short words are most of a statement.
uint64_t Load(const char* bytes, size_t size) {
  if (size >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    return word;
  }
  if (size >= 4) {
    uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + size - 4, 4);
    return low | uint64_t{high} << (8 * (size - 4));
  }
  uint64_t word = 0;
  for (size_t i = 0; i < size; ++i) word |= uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  return word;
}

uint64_t StirBytes(uint64_t hash, absl::string_view bytes, bool fold) {
  const char* at = bytes.data();
  for (size_t left = bytes.size(); left > 0;) {
    const size_t size = left < 8 ? left : 8;
    uint64_t word = Load(at, size);
    // Of bytes below 0x80, those that words are made of: only letters have another case.
    if (fold) word |= ((~word & 0x8080808080808080) >> 2) & (~uint64_t{0} >> (64 - 8 * size));
    hash = Stir(hash, word);
    at += size;
    left -= size;
  }
  return hash;
}

// Statements whose literals nobody but the executor looks at.
bool LiteralsDoNotMatter(absl::string_view verb) {
  for (const absl::string_view known :
       {"select", "insert", "update", "delete", "with", "values", "table", "replace"}) {
    if (absl::EqualsIgnoreCase(verb, known)) return true;
  }
  return false;
}

// PostgreSQL's comments have comments inside.
size_t CommentEnd(absl::string_view text, size_t begin, bool nested) {
  int depth = 0;
  for (size_t i = begin; i + 1 < text.size(); ++i) {
    if (text[i] == '*' && text[i + 1] == '/') {
      ++i;
      if (--depth == 0 || !nested) return i + 1;
    } else if (text[i] == '/' && text[i + 1] == '*') {
      ++i;
      ++depth;
    }
  }
  return text.size();
}

}  // namespace

size_t SqlBlankEnd(Dialect dialect, absl::string_view text, size_t at) {
  const auto is = [&](size_t i, char c) { return i < text.size() && text[i] == c; };
  const bool mysql = dialect == Dialect::kMysql;
  while (at < text.size()) {
    const char c = text[at];
    if (ClassOf(c) == kBlank) {
      ++at;
    } else if (c == '/' && is(at + 1, '*')) {
      if (mysql && (is(at + 2, '!') || (is(at + 2, 'M') && is(at + 3, '!')))) return at;
      at = CommentEnd(text, at, !mysql);
    } else if ((c == '#' && mysql) ||
               // 5--1 is a sum to MySQL.
               (c == '-' && is(at + 1, '-') &&
                (!mysql || at + 2 >= text.size() || ClassOf(text[at + 2]) == kBlank))) {
      const size_t end = text.find('\n', at);
      at = end == text.npos ? text.size() : end + 1;
    } else {
      return at;
    }
  }
  return at;
}

void SqlWords::SkipBlank() {
  for (;;) {
    at_ = SqlBlankEnd(dialect_, text_, at_);
    const absl::string_view rest = text_.substr(at_);
    if (dialect_ != Dialect::kMysql || rest.size() < 2) return;
    if (rest[0] == '/' && rest[1] == '*') {
      executed_ = true;
      at_ = std::min(text_.size(), text_.find('!', at_) + 1);
      // Which versions execute it.
      while (at_ < text_.size() && ClassOf(text_[at_]) == kDigit) ++at_;
    } else if (executed_ && rest[0] == '*' && rest[1] == '/') {
      executed_ = false;
      at_ += 2;
    } else {
      return;
    }
  }
}

// A doubled quote is one inside.
size_t SqlWords::QuotedEnd(size_t begin, bool escapes) const {
  const char quote = text_[begin];
  for (size_t i = begin + 1; i < text_.size(); ++i) {
    if (text_[i] == '\\' && escapes) {
      ++i;
    } else if (text_[i] == quote) {
      if (i + 1 >= text_.size() || text_[i + 1] != quote) return i + 1;
      ++i;
    }
  }
  return text_.size();
}

Token SqlWords::Make(Token::Kind kind, size_t end) {
  Token token{kind, text_.substr(at_, end - at_)};
  at_ = end < text_.size() ? end : text_.size();
  return token;
}

Token SqlWords::Number() {
  size_t end = at_;
  while (end < text_.size()) {
    const char c = text_[end];
    const bool exponent = (c == '+' || c == '-') && (text_[end - 1] | 0x20) == 'e' && end > at_ &&
                          !absl::StartsWith(text_.substr(at_), "0x");
    if (!InWord(c) && c != '.' && !exponent) break;
    ++end;
  }
  return Make(Token::kLiteral, end);
}

// $1, or $tag$ text $tag$.
Token SqlWords::Dollar() {
  size_t end = at_ + 1;
  while (end < text_.size() && (ClassOf(text_[end]) == kLetter || ClassOf(text_[end]) == kDigit)) {
    ++end;
  }
  const bool tag = end < text_.size() && text_[end] == '$' &&
                   (end == at_ + 1 || ClassOf(text_[at_ + 1]) != kDigit);
  if (!tag || dialect_ == Dialect::kMysql) return Make(Token::kSign, end);
  const absl::string_view mark = text_.substr(at_, end + 1 - at_);
  const size_t close = text_.find(mark, end + 1);
  return Make(Token::kLiteral, close == text_.npos ? text_.size() : close + mark.size());
}

Token SqlWords::Next() {
  SkipBlank();
  if (at_ >= text_.size()) return {};
  const char c = text_[at_];
  switch (ClassOf(c)) {
    case kLetter: {
      size_t end = at_ + 1;
      while (end < text_.size() && InWord(text_[end])) ++end;
      const bool escape_string = end == at_ + 1 && (c | 0x20) == 'e' && end < text_.size() &&
                                 text_[end] == '\'' && dialect_ == Dialect::kPostgresql;
      if (escape_string) return Make(Token::kLiteral, QuotedEnd(end, true));
      return Make(Token::kWord, end);
    }
    case kDigit:
      return Number();
    case kMoney:
      return Dollar();
    case kQuote: {
      const bool name = c == '`' || (c == '"' && dialect_ == Dialect::kPostgresql);
      if (c == '`' && dialect_ == Dialect::kPostgresql) return Make(Token::kSign, at_ + 1);
      const bool escapes = dialect_ == Dialect::kMysql && !name;
      return Make(name ? Token::kName : Token::kLiteral, QuotedEnd(at_, escapes));
    }
    default:
      if (c == '.' && at_ + 1 < text_.size() && ClassOf(text_[at_ + 1]) == kDigit) return Number();
      return Make(Token::kSign, at_ + 1);
  }
}

uint64_t ShapeOf(Dialect dialect, absl::string_view text) {
  SqlWords words(dialect, text);
  uint64_t hash = 0x51ed270b76a1f3c5;
  bool keep = false;
  bool begins = true;
  for (Token token = words.Next(); token.kind != Token::kEnd; token = words.Next()) {
    switch (token.kind) {
      case Token::kWord:
        if (begins) {
          // MySQL's facts are found by words alone.
          keep = dialect == Dialect::kPostgresql && !LiteralsDoNotMatter(token.text);
          begins = false;
        }
        hash = Stir(StirBytes(hash, token.text, true), Token::kWord);
        break;
      case Token::kLiteral:
        if (keep) hash = StirBytes(hash, token.text, false);
        hash = Stir(hash, Token::kLiteral | 0x100);
        break;
      default:
        begins = begins || token.text == ";";
        hash = token.text.size() == 1
                   ? Stir(hash, 0x200 | static_cast<unsigned char>(token.text[0]))
                   : Stir(StirBytes(hash, token.text, false), Token::kSign);
    }
  }
  return Mix(hash);
}

}  // namespace firedrill::wire
