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
bool ReadName(absl::string_view* text, NamingStatement* made) {
  SkipBlank(text);
  const auto add = [&](char c) {
    // NAMEDATALEN - 1.
    if (made->size < sizeof made->name - 1) made->name[made->size++] = c;
  };
  if (!absl::StartsWith(*text, "\"")) {
    for (char c : Word(text)) add(absl::ascii_tolower(c));
    return made->size != 0;
  }
  for (size_t i = 1; i < text->size(); ++i) {
    if ((*text)[i] == '"') {
      if (i + 1 >= text->size() || (*text)[i + 1] != '"') {
        text->remove_prefix(i + 1);
        return true;
      }
      ++i;
    }
    add((*text)[i]);
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
    NamingStatement name;
    if (!ReadName(text, &name)) return false;
  } while (Take(text, between));
  return true;
}

// Any of the words of such a COPY; the server takes STDOUT for the same.
bool MayCopyIn(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(text);
  return absl::StrContains(lower, "copy") &&
         (absl::StrContains(lower, "stdin") || absl::StrContains(lower, "stdout"));
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

NamingStatement ReadNaming(absl::string_view text) {
  NamingStatement made;
  SkipBlank(&text);
  // The first letter rules nearly everything out.
  if (text.empty() || absl::string_view("pPeEdD").find(text.front()) == text.npos) return made;
  const absl::string_view verb = Word(&text);
  if (absl::EqualsIgnoreCase(verb, "discard")) {
    if (absl::EqualsIgnoreCase(Word(&text), "all")) made.kind = NamingStatement::kDeallocateAll;
  } else if (absl::EqualsIgnoreCase(verb, "deallocate")) {
    absl::string_view ahead = text;
    if (absl::EqualsIgnoreCase(Word(&ahead), "prepare")) text = ahead;
    ahead = text;
    if (absl::EqualsIgnoreCase(Word(&ahead), "all")) {
      made.kind = NamingStatement::kDeallocateAll;
    } else if (ReadName(&text, &made)) {
      made.kind = NamingStatement::kDeallocate;
    }
  } else if (absl::EqualsIgnoreCase(verb, "execute")) {
    if (ReadName(&text, &made)) made.kind = NamingStatement::kExecute;
  } else if (absl::EqualsIgnoreCase(verb, "prepare")) {
    if (!ReadName(&text, &made)) return made;
    SkipBlank(&text);
    if (absl::StartsWith(text, "(")) {
      const size_t end = text.find(')');
      if (end == text.npos) return made;
      text.remove_prefix(end + 1);
    }
    // PREPARE TRANSACTION 'x' has no AS.
    if (!absl::EqualsIgnoreCase(Word(&text), "as")) return made;
    SkipBlank(&text);
    made.kind = NamingStatement::kPrepare;
    made.body = text;
  }
  return made;
}

}  // namespace firedrill::wire::postgresql
