// Reads the beginning of a statement.
#include "injector/wire/codecs/mysql_sql.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "injector/wire/codecs/scratch_text.h"
#include "injector/wire/sql_words.h"

namespace firedrill::wire {
namespace {

bool Has(absl::string_view text, absl::string_view lower_case) {
  return std::search(text.begin(), text.end(), lower_case.begin(), lower_case.end(),
                     [](char a, char b) { return absl::ascii_tolower(a) == b; }) != text.end();
}

void SkipBlank(absl::string_view* sql) {
  sql->remove_prefix(SqlBlankEnd(Dialect::kMysql, *sql, 0));
}

absl::string_view Word(absl::string_view* sql) {
  SkipBlank(sql);
  const auto in_word = [](char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '$' || static_cast<unsigned char>(c) >= 0x80;
  };
  const auto end = std::find_if_not(sql->begin(), sql->end(), in_word);
  const absl::string_view word = sql->substr(0, static_cast<size_t>(end - sql->begin()));
  sql->remove_prefix(word.size());
  return word;
}

bool TakeWord(absl::string_view* sql, absl::string_view lower_case) {
  absl::string_view ahead = *sql;
  if (!absl::EqualsIgnoreCase(Word(&ahead), lower_case)) return false;
  *sql = ahead;
  return true;
}

// False when there is none, or one whose other spellings are not known: the server folds the
// letters of every language.
bool ReadName(absl::string_view* sql, MysqlNaming* made) {
  SkipBlank(sql);
  const auto add = [&](char c) {
    if (made->size == sizeof made->name || !absl::ascii_isascii(c)) return false;
    made->name[made->size++] = absl::ascii_tolower(c);
    return true;
  };
  if (sql->empty() || (sql->front() != '`' && sql->front() != '"')) {
    const absl::string_view word = Word(sql);
    return !word.empty() && std::all_of(word.begin(), word.end(), add);
  }
  const char quote = sql->front();
  sql->remove_prefix(1);
  while (!sql->empty()) {
    const char c = sql->front();
    sql->remove_prefix(1);
    if (c == quote) {
      if (sql->empty() || sql->front() != quote) return made->size > 0;
      sql->remove_prefix(1);
    }
    if (!add(c)) return false;
  }
  return false;
}

char Escaped(char c) {
  constexpr absl::string_view kNamed = "ntrb0Z", kMeant = {"\n\t\r\b\0\x1a", 6};
  const size_t at = kNamed.find(c);
  return at == kNamed.npos ? c : kMeant[at];
}

// Literals, of which those side by side are one. False when there is none, or no end of it.
bool ReadText(absl::string_view* sql, bool cut, bool backslashes, MysqlNaming* made) {
  ScratchText& text = ScratchText::OfThread();
  text.Clear();
  bool any = false;
  for (SkipBlank(sql); !sql->empty() && (sql->front() == '\'' || sql->front() == '"');
       SkipBlank(sql)) {
    const char special[] = {sql->front(), '\\'};
    sql->remove_prefix(1);
    for (bool open = true; open;) {
      const size_t at = sql->find_first_of(special, 0, backslashes ? 2 : 1);
      text.Append(sql->substr(0, at));
      const bool ends = at == sql->npos || (at + 1 == sql->size() && (*sql)[at] == '\\');
      if (ends) {
        sql->remove_prefix(sql->size());
        made->text = text.text();
        made->cut = cut;
        return cut;
      }
      const char sign = (*sql)[at];
      sql->remove_prefix(at + 1);
      if (sign == '\\') {
        const char next = sql->front();
        // For LIKE, which reads them once more.
        if (next == '%' || next == '_') text.Append("\\");
        const char meant = Escaped(next);
        text.Append({&meant, 1});
      } else if (!sql->empty() && sql->front() == sign) {
        text.Append({&sign, 1});
      } else {
        open = false;
        continue;
      }
      sql->remove_prefix(1);
    }
    any = true;
  }
  made->text = text.text();
  made->cut = text.cut();
  return any;
}

// Of the only statement.
bool AtEnd(absl::string_view sql) {
  SkipBlank(&sql);
  if (absl::StartsWith(sql, ";")) sql.remove_prefix(1);
  SkipBlank(&sql);
  return sql.empty();
}

// Another statement behind this one is about a name.
bool NamesBehind(absl::string_view sql) {
  const size_t end = sql.find(';');
  return end != sql.npos && Has(sql.substr(end), "prepare");
}

}  // namespace

MysqlNaming ReadMysqlNaming(absl::string_view sql, bool cut, bool backslashes) {
  MysqlNaming made;
  SkipBlank(&sql);
  // The first letter rules nearly everything out.
  if (sql.empty() || absl::string_view("pPeEdD").find(sql.front()) == sql.npos) return made;
  const absl::string_view verb = Word(&sql);
  if (absl::EqualsIgnoreCase(verb, "execute")) {
    if (!TakeWord(&sql, "immediate")) {
      if (ReadName(&sql, &made)) made.kind = MysqlNaming::kExecute;
    } else if (ReadText(&sql, cut, backslashes, &made)) {
      made.kind = MysqlNaming::kImmediate;
    }
    if (TakeWord(&sql, "using")) sql.remove_prefix(std::min(sql.find(';'), sql.size()));
    // Several statements are one request: none of them is what it is about.
    if (!AtEnd(sql)) made.kind = MysqlNaming::kNone;
  } else if (absl::EqualsIgnoreCase(verb, "prepare")) {
    made.kind = MysqlNaming::kForgetAll;
    if (!ReadName(&sql, &made) || !TakeWord(&sql, "from")) return made;
    const bool known = ReadText(&sql, cut, backslashes, &made);
    SkipBlank(&sql);
    const bool whole = sql.empty() || sql.front() == ';';
    if (!NamesBehind(sql))
      made.kind = known && whole ? MysqlNaming::kPrepare : MysqlNaming::kForget;
  } else if ((absl::EqualsIgnoreCase(verb, "deallocate") || absl::EqualsIgnoreCase(verb, "drop")) &&
             TakeWord(&sql, "prepare")) {
    const bool known = ReadName(&sql, &made) && !NamesBehind(sql);
    made.kind = known ? MysqlNaming::kForget : MysqlNaming::kForgetAll;
  }
  return made;
}

bool MayName(absl::string_view sql) {
  return NamesBehind(sql) ||
         ((absl::StrContains(sql, "/*!") || absl::StrContains(sql, "/*M!")) && Has(sql, "prepare"));
}

uint64_t KilledQuery(absl::string_view sql) {
  SkipBlank(&sql);
  if (sql.empty() || (sql.front() | 0x20) != 'k' || !TakeWord(&sql, "kill")) return 0;
  if (!TakeWord(&sql, "hard")) TakeWord(&sql, "soft");
  uint64_t session = 0;
  if (!TakeWord(&sql, "query") || !absl::SimpleAtoi(Word(&sql), &session)) return 0;
  return AtEnd(sql) ? session : 0;
}

absl::string_view UsedDatabase(absl::string_view sql) {
  SkipBlank(&sql);
  if (sql.empty() || (sql.front() | 0x20) != 'u' || !TakeWord(&sql, "use")) return {};
  SqlWords words(Dialect::kMysql, sql);
  const Token name = words.Next();
  absl::string_view database = name.text;
  if (name.kind == Token::kName && database.size() > 2) {
    database = database.substr(1, database.size() - 2);
  } else if (name.kind != Token::kWord) {
    return {};
  }
  Token end = words.Next();
  while (end.text == ";") end = words.Next();
  return end.kind == Token::kEnd ? database : absl::string_view();
}

}  // namespace firedrill::wire
