// Reads a statement from left to right, and knows at each word whether a table may be named there.
#include "injector/wire/table_words.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

bool AnyOf(absl::string_view word, std::initializer_list<absl::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

class TableWords {
 public:
  TableWords(Dialect dialect, absl::string_view text, std::vector<std::string>* tables)
      : dialect_(dialect), words_(dialect, text), tables_(tables) {}

  void Read() {
    for (Advance(); token_.kind != Token::kEnd;) {
      if (token_.kind == Token::kSign) {
        Sign(token_.text[0]);
      } else if (token_.kind == Token::kWord) {
        Word();
        continue;
      } else if (Here().awaits != kNothing && IsName()) {
        Name();
        continue;
      } else {
        Here().awaits = kNothing;
      }
      before_ = std::string(token_.text);
      Advance();
    }
  }

 private:
  enum Awaits { kNothing, kReference, kTarget };
  // Between two brackets.
  struct Level {
    // What may be named next: something to read from, which may be a function, or a table.
    Awaits awaits = kNothing;
    // A comma leads to the next one.
    bool list = false;
  };

  Level& Here() { return levels_.back(); }
  void Advance() { token_ = words_.Next(); }
  bool At(char sign) const { return token_.kind == Token::kSign && token_.text[0] == sign; }
  bool IsName() const { return token_.kind == Token::kWord || token_.kind == Token::kName; }

  void Sign(char sign) {
    const bool awaits = Here().awaits != kNothing;
    switch (sign) {
      case '(':
        // JOIN ... USING (column), or tables between brackets.
        if (awaits && before_ != "using") {
          Here().awaits = kNothing;
          levels_.push_back({kReference, true});
        } else {
          Here().awaits = kNothing;
          levels_.push_back({});
        }
        break;
      case ')':
        if (levels_.size() > 1) levels_.pop_back();
        break;
      case ',':
        Here().awaits = Here().list ? kReference : kNothing;
        break;
      case ';':
        levels_.assign(1, {});
        begins_ = true;
        selects_ = false;
        break;
      case '{':
        break;
      default:
        Here().awaits = kNothing;
    }
  }

  // A keyword, or a name where one is awaited.
  void Word() {
    const std::string word = Plain(token_);
    const std::string before = std::exchange(before_, word);
    if (begins_ && Begin(word)) return Advance();
    if (Here().awaits != kNothing && IsModifier(word, before)) return Advance();
    if (IsKeyword(word, before)) return Advance();
    if (Here().awaits != kNothing) return Name();
    Advance();
  }

  // The first word of a statement; false where it means there what it means everywhere.
  bool Begin(const std::string& word) {
    if (AnyOf(word, {"explain", "desc", "describe", "analyze", "extended"})) {
      // Of a table or of a statement.
      Here() = {word == "analyze" ? kNothing : kTarget, false};
      return true;
    }
    begins_ = false;
    verb_ = word;
    if (!AnyOf(word, {"insert", "replace", "truncate", "copy", "handler"})) return false;
    Here() = {kTarget, word == "truncate"};
    return true;
  }

  bool IsModifier(const std::string& word, const std::string& before) const {
    return AnyOf(word, {"lateral", "if", "not", "exists", "ignore", "low_priority", "delayed",
                        "high_priority"}) ||
           (word == "only" && dialect_ == Dialect::kPostgresql) || (word == "oj" && before == "{");
  }

  bool IsKeyword(const std::string& word, const std::string& before) {
    if (AnyOf(word, {"select", "insert", "update", "delete", "merge", "replace"}) &&
        verb_ == "with" && levels_.size() == 1) {
      verb_ = word;
    }
    // Tables may have these names, without quotes.
    const bool free = AnyOf(word, {"tables", "value", "duplicate"});
    if (free && Here().awaits != kNothing) return false;
    // USE INDEX FOR JOIN (i), or FOR ORDER BY, FOR GROUP BY.
    if (before == "for" && AnyOf(word, {"join", "order", "group"})) return true;
    if (word == "from") {
      // IS DISTINCT FROM.
      if (before != "distinct") Here() = {kReference, true};
    } else if (word == "join" || (word == "straight_join" && Here().list)) {
      Here().awaits = kReference;
    } else if (word == "into") {
      Here() = {kTarget, false};
    } else if (word == "table" || word == "tables") {
      Here() = {kTarget, !AnyOf(verb_, {"alter", "create"})};
    } else if (word == "update") {
      // FOR UPDATE, ON DUPLICATE KEY UPDATE, ON CONFLICT DO UPDATE, ON UPDATE, AFTER UPDATE.
      if (!AnyOf(before, {"for", "key", "do", "on", "before", "after", "of"})) {
        Here() = {kReference, true};
      }
    } else if (word == "using" && (verb_ == "delete" || verb_ == "merge")) {
      Here().awaits = kReference;
    } else if ((word == "to" && verb_ == "rename") ||
               (word == "like" && verb_ == "create" && !selects_) ||
               (word == "on" && AnyOf(verb_, {"create", "drop"}) && !selects_ &&
                levels_.size() == 1)) {
      Here().awaits = kTarget;
    } else if (AnyOf(word, {"select", "where", "set", "group", "order", "having", "limit", "union",
                            "except", "intersect", "values", "value", "window", "returning",
                            "outfile", "dumpfile", "duplicate"})) {
      Here() = {};
      selects_ = selects_ || word == "select";
    } else {
      return false;
    }
    return true;
  }

  void Name() {
    std::string name = Plain(token_);
    for (Advance(); At('.');) {
      Advance();
      if (!IsName()) break;
      absl::StrAppend(&name, ".", Plain(token_));
      Advance();
    }
    const bool function = Here().awaits == kReference && At('(');
    Here().awaits = kNothing;
    if (!function) AddOnce(tables_, std::move(name));
    begins_ = false;
    before_.clear();
  }

  const Dialect dialect_;
  SqlWords words_;
  std::vector<std::string>* const tables_;
  Token token_;
  std::string before_;
  // Of the statement.
  std::string verb_;
  bool begins_ = true;
  bool selects_ = false;
  std::vector<Level> levels_ = {{}};
};

}  // namespace

std::string Plain(const Token& token) {
  std::string name(token.text);
  if (token.kind == Token::kName) {
    name = name.substr(1, name.size() - (name.size() > 1 && name.back() == name.front() ? 2 : 1));
  }
  return absl::AsciiStrToLower(name);
}

void AddOnce(std::vector<std::string>* all, std::string one) {
  if (std::find(all->begin(), all->end(), one) == all->end()) all->push_back(std::move(one));
}

void AddTablesByWords(Dialect dialect, absl::string_view text, std::vector<std::string>* tables) {
  TableWords(dialect, text, tables).Read();
}

}  // namespace firedrill::wire
