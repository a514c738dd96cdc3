// Asks PostgreSQL's parser, and looks at the words where it has no answer.
#include "injector/wire/sql_facts.h"

#include <pg_query.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "injector/wire/codec.h"
#include "injector/wire/table_words.h"

namespace firedrill::wire {
namespace {

using Json = nlohmann::json;

bool AnyOf(absl::string_view word, std::initializer_list<absl::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](absl::string_view known) { return absl::EqualsIgnoreCase(word, known); });
}

void AddVerbs(Dialect dialect, absl::string_view text, SqlFacts* facts) {
  SqlWords words(dialect, text);
  bool begins = true;
  // Within the statement, and behind its WITH.
  int depth = 0;
  bool with = false;
  for (Token token = words.Next(); token.kind != Token::kEnd; token = words.Next()) {
    if (token.kind == Token::kSign) {
      if (token.text == ";") begins = true, with = false, depth = 0;
      if (token.text == "(" && !begins) ++depth;
      if (token.text == ")") --depth;
    } else if (token.kind == Token::kWord && begins) {
      AddOnce(&facts->verbs, Plain(token));
      begins = false;
      with = absl::EqualsIgnoreCase(token.text, "with");
    } else if (token.kind == Token::kWord && with && depth <= 0 &&
               AnyOf(token.text, {"select", "insert", "update", "delete", "merge"})) {
      AddOnce(&facts->verbs, Plain(token));
      with = false;
    }
  }
}

// A string of JSON from after its opening quote; `*at` goes behind its closing one.
std::string JsonString(absl::string_view json, size_t* at) {
  std::string made;
  while (*at < json.size() && json[*at] != '"') {
    if (json[*at] == '\\') ++*at;
    if (*at < json.size()) made += json[(*at)++];
  }
  ++*at;
  return made;
}

// The parse tree is JSON without blanks, in which a table is
// {..."schemaname":"s","relname":"t",...}. Inside of a string, quotes are escaped, so that these
// keys are never found there.
void AddTables(absl::string_view json, std::vector<std::string>* tables) {
  constexpr absl::string_view kSchema = "\"schemaname\":\"";
  constexpr absl::string_view kTable = "\"relname\":\"";
  std::string schema;
  size_t schema_end = 0;
  for (size_t at = 0; (at = json.find('"', at)) != json.npos;) {
    const absl::string_view rest = json.substr(at);
    if (absl::StartsWith(rest, kSchema)) {
      at += kSchema.size();
      schema = JsonString(json, &at);
      schema_end = at;
    } else if (absl::StartsWith(rest, kTable)) {
      const bool qualified = schema_end != 0 && schema_end + 1 == at;
      at += kTable.size();
      const std::string name = JsonString(json, &at);
      AddOnce(tables, qualified ? absl::StrCat(schema, ".", name) : name);
    } else {
      ++at;
      JsonString(json, &at);
    }
  }
}

// Likewise, of a tree with WITH: a name that it defines is no table where it is in force, which is
// behind its own definition, or everywhere beside it where that is RECURSIVE.
class TablesBesideWith {
 public:
  explicit TablesBesideWith(std::vector<std::string>* tables) : tables_(tables) {}

  void Add(const Json& node) {
    if (node.is_array()) {
      for (const Json& one : node) Add(one);
    }
    if (!node.is_object()) return;
    const size_t outside = defined_.size();
    if (const auto with = node.find("withClause"); with != node.end()) {
      const bool recursive = with->value("recursive", false);
      const Json ctes = with->value("ctes", Json::array());
      for (const bool define : {true, false}) {
        for (const Json& cte : ctes) {
          const Json expression = cte.value("CommonTableExpr", Json::object());
          if (!define) Add(expression);
          if (define == recursive) defined_.push_back(expression.value("ctename", ""));
        }
      }
    }
    for (const auto& [key, value] : node.items()) {
      if (key == "withClause") continue;
      Add(value);
      // What is written to is a table whatever WITH says.
      if (value.is_object() && value.contains("relname")) Table(value, key == "RangeVar");
    }
    defined_.resize(outside);
  }

 private:
  void Table(const Json& node, bool read) {
    const std::string name = node.value("relname", "");
    const std::string schema = node.value("schemaname", "");
    const bool defined = std::find(defined_.begin(), defined_.end(), name) != defined_.end();
    if (read && schema.empty() && defined) return;
    AddOnce(tables_, schema.empty() ? name : absl::StrCat(schema, ".", name));
  }

  std::vector<std::string>* const tables_;
  std::vector<std::string> defined_;
};

// What a statement that begins with WITH does.
void AddParsedVerbs(absl::string_view json, std::vector<std::string>* verbs) {
  struct Node {
    absl::string_view name;
    absl::string_view verb;
  };
  for (const Node& node :
       {Node{"SelectStmt", "select"}, Node{"InsertStmt", "insert"}, Node{"UpdateStmt", "update"},
        Node{"DeleteStmt", "delete"}, Node{"MergeStmt", "merge"}}) {
    if (absl::StrContains(json, absl::StrCat("{\"stmt\":{\"", node.name, "\":"))) {
      AddOnce(verbs, std::string(node.verb));
    }
  }
}

bool Parse(absl::string_view text, SqlFacts* facts) {
  const std::string terminated(text);
  PgQueryParseResult tree = pg_query_parse(terminated.c_str());
  const bool parsed = tree.error == nullptr && tree.parse_tree != nullptr;
  if (parsed) {
    const absl::string_view json = tree.parse_tree;
    const Json nodes = absl::StrContains(json, "{\"CommonTableExpr\":")
                           ? Json::parse(json.begin(), json.end(), nullptr, false)
                           : Json(Json::value_t::discarded);
    if (nodes.is_discarded()) {
      AddTables(json, &facts->tables);
    } else {
      TablesBesideWith(&facts->tables).Add(nodes);
    }
    AddParsedVerbs(tree.parse_tree, &facts->verbs);
  }
  if (!parsed) facts->unread = tree.error != nullptr ? tree.error->message : "no parse tree";
  pg_query_free_parse_result(tree);
  if (!parsed) return false;
  PgQueryFingerprintResult fingerprint = pg_query_fingerprint(terminated.c_str());
  if (fingerprint.error == nullptr) facts->fingerprint = fingerprint.fingerprint;
  pg_query_free_fingerprint_result(fingerprint);
  return true;
}

}  // namespace

SqlFacts FactsOf(Dialect dialect, absl::string_view text, bool parse) {
  SqlFacts facts;
  AddVerbs(dialect, text, &facts);
  if (parse && dialect == Dialect::kPostgresql) facts.by_words = !Parse(text, &facts);
  // What is dropped, or commented on, is no table to the parser but a list of words.
  const bool lists =
      std::any_of(facts.verbs.begin(), facts.verbs.end(), [](const std::string& verb) {
        return AnyOf(verb, {"drop", "comment"});
      });
  if (facts.by_words || lists) AddTablesByWords(dialect, text, &facts.tables);
  return facts;
}

absl::StatusOr<std::string> FingerprintOf(absl::string_view text) {
  if (text.size() > kMaxText) {
    return absl::InvalidArgumentError(
        absl::StrCat("a text of ", text.size(), " bytes is told apart by its first ", kMaxText,
                     ", which have no fingerprint; match by `regex`"));
  }
  const SqlFacts facts = FactsOf(Dialect::kPostgresql, text, true);
  if (facts.by_words) {
    return absl::InvalidArgumentError(absl::StrCat("PostgreSQL's parser says: ", facts.unread));
  }
  if (facts.verbs.empty() || facts.fingerprint == 0) {
    return absl::InvalidArgumentError("there is no statement in it");
  }
  return absl::StrCat(absl::Hex(facts.fingerprint, absl::kZeroPad16));
}

}  // namespace firedrill::wire
