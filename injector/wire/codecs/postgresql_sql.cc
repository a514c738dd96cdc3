// Reads the beginning of a statement.
#include "injector/wire/codecs/postgresql_sql.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace firedrill::wire::postgresql {
namespace {

bool InName(char c) {
  return absl::ascii_isalnum(c) || c == '_' || c == '$' || static_cast<unsigned char>(c) >= 0x80;
}

void SkipBlank(absl::string_view* text) {
  while (!text->empty()) {
    if (absl::ascii_isspace(text->front())) {
      text->remove_prefix(1);
    } else if (absl::StartsWith(*text, "--")) {
      const size_t end = text->find('\n');
      text->remove_prefix(end == text->npos ? text->size() : end + 1);
    } else if (absl::StartsWith(*text, "/*")) {
      const size_t end = text->find("*/", 2);
      text->remove_prefix(end == text->npos ? text->size() : end + 2);
    } else {
      return;
    }
  }
}

absl::string_view Word(absl::string_view* text) {
  SkipBlank(text);
  size_t size = 0;
  while (size < text->size() && InName((*text)[size])) ++size;
  const absl::string_view word = text->substr(0, size);
  text->remove_prefix(size);
  return word;
}

// False when there is none.
bool SkipName(absl::string_view* text) {
  SkipBlank(text);
  if (!absl::StartsWith(*text, "\"")) return !Word(text).empty();
  for (size_t i = 1; i < text->size(); ++i) {
    if ((*text)[i] != '"') continue;
    if (i + 1 >= text->size() || (*text)[i + 1] != '"') {
      text->remove_prefix(i + 1);
      return true;
    }
    ++i;
  }
  return false;
}

bool Take(absl::string_view* text, absl::string_view sign) {
  SkipBlank(text);
  return absl::ConsumePrefix(text, sign);
}

// A list of names, one at least.
bool SkipNames(absl::string_view* text, absl::string_view between) {
  do {
    if (!SkipName(text)) return false;
  } while (Take(text, between));
  return true;
}

// Any of the words of such a COPY; the server takes STDOUT for the same.
bool MayCopyIn(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(text);
  return absl::StrContains(lower, "copy") &&
         (absl::StrContains(lower, "stdin") || absl::StrContains(lower, "stdout"));
}

// A statement that may be about prepared ones.
bool BeginsNaming(absl::string_view text) {
  SkipBlank(&text);
  // The first letter rules nearly everything out.
  if (text.empty() || absl::string_view("pPeEdDcC").find(text.front()) == text.npos) return false;
  const absl::string_view verb = Word(&text);
  for (const absl::string_view one :
       {"prepare", "execute", "deallocate", "discard", "explain", "create"}) {
    if (absl::EqualsIgnoreCase(verb, one)) return true;
  }
  return false;
}

}  // namespace

bool Commits(absl::string_view text) {
  SkipBlank(&text);
  if (text.empty() || absl::string_view("cCeE").find(text.front()) == text.npos) return false;
  const absl::string_view verb = Word(&text);
  if (!absl::EqualsIgnoreCase(verb, "commit") && !absl::EqualsIgnoreCase(verb, "end")) return false;
  for (absl::string_view word = Word(&text); !word.empty(); word = Word(&text)) {
    if (absl::EqualsIgnoreCase(word, "prepared")) return false;
  }
  while (Take(&text, ";")) SkipBlank(&text);
  return text.empty();
}

bool CopiesIn(absl::string_view text) {
  if (const size_t end = text.find(';'); end != text.npos) {
    absl::string_view behind = text.substr(end + 1);
    SkipBlank(&behind);
    if (!behind.empty()) return MayCopyIn(text);
  }
  const absl::string_view whole = text;
  const absl::string_view verb = Word(&text);
  // Such as a comment in a comment.
  if (verb.empty()) return MayCopyIn(whole);
  if (!absl::EqualsIgnoreCase(verb, "copy") || Take(&text, "(")) return false;
  absl::string_view ahead = text;
  if (absl::EqualsIgnoreCase(Word(&ahead), "binary")) text = ahead;
  if (!SkipNames(&text, ".")) return true;
  if (Take(&text, "(") && !(SkipNames(&text, ",") && Take(&text, ")"))) return true;
  const absl::string_view direction = Word(&text);
  if (!absl::EqualsIgnoreCase(direction, "from")) return !absl::EqualsIgnoreCase(direction, "to");
  const absl::string_view source = Word(&text);
  // Otherwise a file's name, or a program.
  return absl::EqualsIgnoreCase(source, "stdin") || absl::EqualsIgnoreCase(source, "stdout");
}

Namings::Namings(absl::string_view text) : words_(Dialect::kPostgresql, text) {
  bool any = BeginsNaming(text);
  for (size_t at = text.find(';'); !any && at != text.npos; at = text.find(';', at + 1)) {
    any = BeginsNaming(text.substr(at + 1));
  }
  if (any) Advance();
}

bool Namings::Next(NamingStatement* made) {
  while (token_.kind != Token::kEnd) {
    if (IsSign(';')) {
      Advance();
      continue;
    }
    *made = {};
    made->place = place_++;
    const char* const begin = token_.text.data();
    const bool found = Read(made);
    if (found && made->kind == NamingStatement::kPrepare) {
      const char* const body = token_.text.data();
      const bool any = token_.kind != Token::kEnd && !IsSign(';');
      Skip("");
      if (any) made->body = Since(body);
      if (!any) continue;
    }
    const bool at_end = token_.kind == Token::kEnd || IsSign(';');
    Skip("");
    while (IsSign(';')) Advance();
    if (!found) continue;
    made->alone = made->kind == NamingStatement::kExecute && made->place == 0 && at_end &&
                  token_.kind == Token::kEnd && made->body.data() == begin;
    return true;
  }
  return false;
}

void Namings::Advance() {
  if (token_.kind != Token::kEnd) end_ = token_.text.data() + token_.text.size();
  token_ = words_.Next();
}

bool Namings::IsWord(absl::string_view word) const {
  return token_.kind == Token::kWord && absl::EqualsIgnoreCase(token_.text, word);
}

bool Namings::TakeWord(absl::string_view word) {
  if (!IsWord(word)) return false;
  Advance();
  return true;
}

// To the end of the statement, or behind such a word of it; not within brackets.
void Namings::Skip(absl::string_view up_to) {
  for (int depth = 0; token_.kind != Token::kEnd; Advance()) {
    if (IsSign('(')) ++depth;
    if (IsSign(')')) --depth;
    if (depth > 0) continue;
    if (IsSign(';')) return;
    if (!up_to.empty() && IsWord(up_to)) return Advance();
  }
}

// Those that open here, if any.
void Namings::SkipBrackets() {
  int depth = 0;
  do {
    if (IsSign('(')) ++depth;
    if (depth == 0) return;
    if (IsSign(')')) --depth;
    Advance();
  } while (depth > 0 && token_.kind != Token::kEnd);
}

absl::string_view Namings::Since(const char* begin) const {
  return {begin, static_cast<size_t>(end_ - begin)};
}

// False when there is none.
bool Namings::ReadName(NamingStatement* made) {
  if (token_.kind != Token::kWord && token_.kind != Token::kName) return false;
  const bool quoted = token_.kind == Token::kName;
  absl::string_view name = token_.text;
  if (quoted) name = name.substr(1, name.size() - (name.size() > 1 && name.back() == '"' ? 2 : 1));
  // NAMEDATALEN - 1.
  for (size_t i = 0; i < name.size() && made->size < sizeof made->name - 1; ++i) {
    made->name[made->size++] = quoted ? name[i] : absl::ascii_tolower(name[i]);
    if (quoted && name[i] == '"') ++i;
  }
  Advance();
  return true;
}

// Of PREPARE, what stands before its statement.
bool Namings::Read(NamingStatement* made) {
  if (TakeWord("prepare")) {
    if (!ReadName(made)) return false;
    // PREPARE TRANSACTION 'x' has no AS.
    if (!IsSign('(') && !IsWord("as")) return false;
    Skip("as");
    return true;
  }
  if (TakeWord("deallocate")) {
    TakeWord("prepare");
    made->kind = TakeWord("all") ? NamingStatement::kDeallocateAll : NamingStatement::kDeallocate;
    return made->kind == NamingStatement::kDeallocateAll || ReadName(made);
  }
  if (TakeWord("discard")) {
    made->kind = NamingStatement::kDeallocateAll;
    return TakeWord("all");
  }
  if (TakeWord("explain")) {
    SkipBrackets();
    while (TakeWord("analyze") || TakeWord("analyse") || TakeWord("verbose")) continue;
  }
  if (TakeWord("create")) Skip("as");
  return IsWord("execute") && ReadExecute(made);
}

bool Namings::ReadExecute(NamingStatement* made) {
  made->kind = NamingStatement::kExecute;
  const char* const begin = token_.text.data();
  Advance();
  if (!ReadName(made)) return false;
  SkipBrackets();
  made->body = Since(begin);
  return true;
}

}  // namespace firedrill::wire::postgresql
