// Types, bounds and patterns of single values.
#include "experiment/scalar.h"

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/problem.h"
#include "experiment/vocabulary.h"
#include "re2/re2.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxCharacters = 4096;
// Of a value in a message.
constexpr size_t kShownCharacters = 60;

std::string Shown(absl::string_view text) {
  if (CountCharacters(text) <= kShownCharacters) return absl::StrCat("'", text, "'");
  size_t end = kShownCharacters;
  while (end > 0 && Utf8Length(text.substr(end)) == 0) --end;
  return absl::StrCat("'", text.substr(0, end), "...'");
}

bool Matches(absl::string_view text, const RE2& regex) {
  return RE2::FullMatch(re2::StringPiece(text.data(), text.size()), regex);
}

// Sets a field, or adds to it where it is a list.
template <typename T, typename Set, typename Add>
void Store(const FieldDescriptor* field, Message* message, T value, Set set, Add add) {
  const Reflection* reflection = message->GetReflection();
  if (field->is_repeated()) {
    (reflection->*add)(message, field, value);
  } else {
    (reflection->*set)(message, field, value);
  }
}

Advice SetText(absl::string_view text, bool quoted, const FieldDescriptor* field,
               const std::string& path, Message* message) {
  if (!quoted && (IsNumberWord(text) || IsBoolWord(text))) {
    return {absl::StrCat("'", path, "' is a text, and YAML reads ", text, " as a ",
                         IsBoolWord(text) ? "boolean" : "number"),
            absl::StrCat("write it in quotes: \"", text, "\"")};
  }
  const v1::FieldRule& rule = RuleOf(field);
  const bool map_value = field->containing_type()->options().map_entry();
  if (text.empty() && !field->is_repeated() && !map_value) {
    return {absl::StrCat("'", path, "' is empty"),
            rule.required() ? "" : "write something, or leave the key out"};
  }
  const size_t most =
      rule.max_size() > 0 && !field->is_repeated() ? rule.max_size() : kMaxCharacters;
  if (CountCharacters(text) > most) {
    return {absl::StrCat("'", path, "' has ", CountCharacters(text), " characters; at most ", most),
            ""};
  }
  const bool url = rule.refers_to() == "url";
  if (url && absl::StrContains(text, "@") && !Matches(text, RE2(rule.pattern()))) {
    Advice advice{absl::StrCat("'", path, "' is no URL that can be used here"),
                  PatternWords(rule.pattern())};
    advice.secret = true;
    return advice;
  }
  if (!rule.pattern().empty() && !Matches(text, RE2(rule.pattern()))) {
    return {absl::StrCat("'", path, "' cannot be ", Shown(text)), PatternWords(rule.pattern())};
  }
  Store(field, message, std::string(text), &Reflection::SetString, &Reflection::AddString);
  return {};
}

Advice SetEnum(absl::string_view text, const FieldDescriptor* field, const std::string& path,
               Message* message) {
  std::vector<std::string> words;
  for (const EnumWord& word : WordsOf(field)) {
    if (word.word == text) {
      Store(field, message, word.value, &Reflection::SetEnum, &Reflection::AddEnum);
      return {};
    }
    words.push_back(word.word);
  }
  const std::string nearest = NearestOf(text, words);
  return {
      absl::StrCat("'", path, "' cannot be ", Shown(text)),
      nearest.empty() || words.size() == 1
          ? absl::StrCat("write ", words.size() == 1 ? "" : "one of ", absl::StrJoin(words, ", "))
          : absl::StrCat("did you mean '", nearest, "'? It is one of ",
                         absl::StrJoin(words, ", "))};
}

Advice SetDuration(absl::string_view text, const FieldDescriptor* field, const std::string& path,
                   Message* message) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (!duration.ok()) {
    std::string suggestion = "write a number with a unit: 250ms, 5s, 1m30s, 2h";
    if (IsNumberWord(text)) suggestion = absl::StrCat("with a unit: ", text, "s or ", text, "ms");
    return {absl::StrCat("'", path, "' must be a duration, not ", Shown(text)), suggestion};
  }
  const v1::FieldRule& rule = RuleOf(field);
  absl::StatusOr<absl::Duration> min = ParseDuration(rule.min());
  absl::StatusOr<absl::Duration> max = ParseDuration(rule.max());
  if (min.ok() && *duration < *min) {
    return {absl::StrCat("'", path, "' is ", text, "; at least ", rule.min()), ""};
  }
  if (max.ok() && *duration > *max) {
    return {absl::StrCat("'", path, "' is ", text, "; at most ", rule.max()), ""};
  }
  const Reflection* reflection = message->GetReflection();
  Message* target = field->is_repeated() ? reflection->AddMessage(message, field)
                                         : reflection->MutableMessage(message, field);
  target->CopyFrom(ToProto(*duration));
  return {};
}

// The bounds of a number, as the user would write them.
Advice CheckBounds(double value, absl::string_view text, const FieldDescriptor* field,
                   const std::string& path) {
  const v1::FieldRule& rule = RuleOf(field);
  double bound = 0;
  const std::string unit = rule.unit().empty() ? "" : absl::StrCat(" (", rule.unit(), ")");
  if (absl::SimpleAtod(rule.min(), &bound) && value < bound) {
    return {absl::StrCat("'", path, "' is ", text, "; at least ", rule.min(), unit), ""};
  }
  if (absl::SimpleAtod(rule.max(), &bound) && value > bound) {
    return {absl::StrCat("'", path, "' is ", text, "; at most ", rule.max(), unit), ""};
  }
  return {};
}

// For a share that was written in percent, and for what has a unit: "1MiB/s".
std::string NumberHelp(absl::string_view text, bool quoted, const FieldDescriptor* field) {
  double value = 0;
  if (quoted && IsNumberWord(text)) return absl::StrCat("without quotes: ", text);
  if (absl::EndsWith(text, "%") && absl::SimpleAtod(absl::StripSuffix(text, "%"), &value)) {
    return absl::StrCat("as a share: ", value / 100);
  }
  const std::string& unit = RuleOf(field).unit();
  if (!unit.empty() && !text.empty() && absl::ascii_isdigit(text.front()) &&
      absl::ascii_isalpha(text.back())) {
    return absl::StrCat("the number alone, in ", unit);
  }
  return "";
}

Advice SetNumber(absl::string_view text, bool quoted, const FieldDescriptor* field,
                 const std::string& path, Message* message) {
  double value = 0;
  if (quoted || !IsNumberWord(text) || !absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return {
        absl::StrCat("'", path, "' must be a number, not ", quoted ? "the text " : "", Shown(text)),
        NumberHelp(text, quoted, field)};
  }
  Advice advice = CheckBounds(value, text, field, path);
  if (!advice.message.empty()) return advice;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) {
    Store(field, message, static_cast<float>(value), &Reflection::SetFloat, &Reflection::AddFloat);
  } else {
    Store(field, message, value, &Reflection::SetDouble, &Reflection::AddDouble);
  }
  return {};
}

Advice SetWholeNumber(absl::string_view text, bool quoted, const FieldDescriptor* field,
                      const std::string& path, Message* message) {
  const bool is_signed = field->cpp_type() == FieldDescriptor::CPPTYPE_INT32 ||
                         field->cpp_type() == FieldDescriptor::CPPTYPE_INT64;
  absl::string_view digits = text;
  if (is_signed) absl::ConsumePrefix(&digits, "-");
  // A leading zero is octal to some readers of YAML and decimal to others.
  const bool plain = !digits.empty() &&
                     digits.find_first_not_of("0123456789") == absl::string_view::npos &&
                     (digits.size() == 1 || digits[0] != '0');
  if (quoted || !plain) {
    std::string help = NumberHelp(text, quoted, field);
    if (!quoted && absl::StartsWith(text, "-") && !is_signed) help = "it cannot be negative";
    return {absl::StrCat("'", path, "' must be a whole number, not ", quoted ? "the text " : "",
                         Shown(text)),
            help};
  }
  int64_t value = 0;
  const bool wide = field->cpp_type() == FieldDescriptor::CPPTYPE_INT64 ||
                    field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
  const int64_t largest = wide        ? std::numeric_limits<int64_t>::max()
                          : is_signed ? std::numeric_limits<int32_t>::max()
                                      : std::numeric_limits<uint32_t>::max();
  const bool fits = absl::SimpleAtoi(text, &value) && value <= largest && value >= -largest;
  Advice advice = CheckBounds(fits ? static_cast<double>(value) : HUGE_VAL, text, field, path);
  if (!advice.message.empty()) return advice;
  if (!fits) return {absl::StrCat("'", path, "' is ", text, "; at most ", largest), ""};
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      Store(field, message, static_cast<int32_t>(value), &Reflection::SetInt32,
            &Reflection::AddInt32);
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      Store(field, message, value, &Reflection::SetInt64, &Reflection::AddInt64);
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      Store(field, message, static_cast<uint32_t>(value), &Reflection::SetUInt32,
            &Reflection::AddUInt32);
      break;
    default:
      Store(field, message, static_cast<uint64_t>(value), &Reflection::SetUInt64,
            &Reflection::AddUInt64);
  }
  return {};
}

Advice SetBool(absl::string_view text, bool quoted, const FieldDescriptor* field,
               const std::string& path, Message* message) {
  if (quoted || (text != "true" && text != "false")) {
    std::string help = quoted ? "without quotes" : "write true or false";
    for (absl::string_view yes : {"yes", "on", "1"}) {
      if (absl::EqualsIgnoreCase(text, yes)) help = "write true";
    }
    for (absl::string_view no : {"no", "off", "0"}) {
      if (absl::EqualsIgnoreCase(text, no)) help = "write false";
    }
    return {absl::StrCat("'", path, "' must be true or false, not ", Shown(text)), help};
  }
  Store(field, message, text == "true", &Reflection::SetBool, &Reflection::AddBool);
  return {};
}

}  // namespace

bool IsNumberWord(absl::string_view text) {
  static const RE2* const number =
      new RE2(R"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0x[0-9a-fA-F]+|0o[0-7]+|)"
              R"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))");
  return Matches(text, *number);
}

bool IsBoolWord(absl::string_view text) {
  static const RE2* const boolean = new RE2("true|True|TRUE|false|False|FALSE");
  return Matches(text, *boolean);
}

std::string PatternWords(const std::string& pattern) {
  static const RE2* const name = new RE2(R"(\[a-z\]\[a-z0-9-\]\{0,([0-9]+)\})");
  static const RE2* const literal = new RE2(R"([A-Za-z0-9/|-]+)");
  int more = 0;
  if (RE2::FullMatch(pattern, *name, &more)) {
    return absl::StrCat("lower case letters, digits and dashes, a letter first, at most ", more + 1,
                        " characters");
  }
  if (RE2::FullMatch(pattern, *literal)) {
    std::vector<std::string> words = absl::StrSplit(pattern, '|');
    return absl::StrCat("write ", words.size() == 1 ? "" : "one of ", absl::StrJoin(words, ", "));
  }
  if (pattern == "(\\[[0-9a-fA-F:]+\\]|[0-9.]+):[0-9]{1,5}") {
    return "write an address of this machine, not a name, and a port: 127.0.0.1:5433 or [::1]:5433";
  }
  if (pattern == ".+:[0-9]+") return "write an address and a port: 127.0.0.1:9099";
  if (pattern == "/.*") return "write an absolute path";
  if (pattern == "/\\S*") return "begin with a slash, without blanks";
  if (pattern == "https?://.+") return "write http://... or https://...";
  if (pattern == "(https?|tcp)://.+") return "write http://..., https://... or tcp://host:port";
  if (pattern == "[0-9]{4}-[0-9]{2}-[0-9]{2}") return "write YYYY-MM-DD";
  if (pattern == "([01][0-9]|2[0-3]):[0-5][0-9]") return "write HH:MM, from 00:00 to 23:59";
  if (pattern == "\\S(.*\\S)?") return "without blanks at its ends";
  if (pattern == "[^.]{1,63}[.][^.]{1,63}") {
    return "write two names with a dot between: its schema's first, as in public.users; of MariaDB "
           "its database's, of an index there its table's";
  }
  return absl::StrCat("it must match ", pattern);
}

Advice SetScalar(absl::string_view text, bool quoted, const FieldDescriptor* field,
                 const std::string& path, Message* message) {
  if (IsDuration(field)) return SetDuration(text, field, path, message);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return SetText(text, quoted, field, path, message);
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(text, field, path, message);
    case FieldDescriptor::CPPTYPE_BOOL:
      return SetBool(text, quoted, field, path, message);
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return SetNumber(text, quoted, field, path, message);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return {"not a single value", ""};
    default:
      return SetWholeNumber(text, quoted, field, path, message);
  }
}

}  // namespace firedrill
