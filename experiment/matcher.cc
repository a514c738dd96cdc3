// Parses and applies Prometheus matchers. Regular expressions are anchored at both ends, as there.
#include "experiment/matcher.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

constexpr int64_t kMaxRegexMemory = 1 << 20;

re2::StringPiece Piece(absl::string_view text) { return {text.data(), text.size()}; }

size_t SkipSpace(absl::string_view text, size_t at) {
  while (at < text.size() && absl::ascii_isspace(text[at])) ++at;
  return at;
}

// Reads a quoted value that begins at `*at`, with \" \\ \n as escapes.
absl::StatusOr<std::string> ReadQuoted(absl::string_view text, size_t* at) {
  if (*at >= text.size() || text[*at] != '"') {
    return absl::InvalidArgumentError(
        "the value of a matcher stands in double quotes, as in severity=\"page\"");
  }
  size_t start = *at;
  std::string value;
  for (size_t i = start + 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      *at = i + 1;
      return value;
    }
    if (text[i] == '\\' && i + 1 < text.size()) {
      char next = text[++i];
      if (next != '"' && next != '\\' && next != 'n') {
        *at = i - 1;
        return absl::InvalidArgumentError(absl::StrCat("unknown escape '\\", std::string(1, next),
                                                       "': only \\\" \\\\ and \\n are known"));
      }
      value.push_back(next == 'n' ? '\n' : next);
      continue;
    }
    value.push_back(text[i]);
  }
  *at = start;
  return absl::InvalidArgumentError("the closing double quote is missing");
}

absl::string_view KindText(MatchKind kind) {
  switch (kind) {
    case MatchKind::kEqual:
      return "=";
    case MatchKind::kNotEqual:
      return "!=";
    case MatchKind::kRegex:
      return "=~";
    case MatchKind::kNotRegex:
      return "!~";
  }
  return "?";
}

absl::StatusOr<Matcher> Parse(absl::string_view text, size_t* at) {
  Matcher matcher;
  *at = SkipSpace(text, 0);
  size_t start = *at;
  while (*at < text.size() && (absl::ascii_isalnum(text[*at]) || text[*at] == '_')) ++*at;
  matcher.label = std::string(text.substr(start, *at - start));
  if (matcher.label.empty() || absl::ascii_isdigit(matcher.label[0])) {
    *at = start;
    return absl::InvalidArgumentError(
        "a matcher begins with the name of a label, as in severity=\"page\"");
  }
  *at = SkipSpace(text, *at);
  bool found = false;
  // The longer signs first, so that "=~" is not read as "=".
  for (MatchKind kind :
       {MatchKind::kRegex, MatchKind::kNotRegex, MatchKind::kNotEqual, MatchKind::kEqual}) {
    if (!absl::StartsWith(text.substr(*at), KindText(kind))) continue;
    matcher.kind = kind;
    *at += KindText(kind).size();
    found = true;
    break;
  }
  if (!found) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected one of = != =~ !~ after '", matcher.label, "'"));
  }
  *at = SkipSpace(text, *at);
  size_t value_at = *at;
  absl::StatusOr<std::string> value = ReadQuoted(text, at);
  if (!value.ok()) return value.status();
  matcher.value = *std::move(value);
  *at = SkipSpace(text, *at);
  if (*at < text.size()) {
    return absl::InvalidArgumentError(
        "one matcher ends here; write several as a list, one string each");
  }
  if (matcher.kind == MatchKind::kRegex || matcher.kind == MatchKind::kNotRegex) {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kMaxRegexMemory);
    matcher.regex = std::make_shared<const RE2>(Piece(matcher.value), options);
    if (!matcher.regex->ok()) {
      *at = value_at;
      return absl::InvalidArgumentError(
          absl::StrCat("not a regular expression: ", matcher.regex->error()));
    }
  }
  return matcher;
}

}  // namespace

absl::StatusOr<Matcher> ParseMatcher(absl::string_view text, size_t* error_offset) {
  size_t at = 0;
  absl::StatusOr<Matcher> matcher = Parse(text, &at);
  if (!matcher.ok() && error_offset != nullptr) *error_offset = at;
  return matcher;
}

bool MatchesValue(const Matcher& matcher, absl::string_view value) {
  switch (matcher.kind) {
    case MatchKind::kEqual:
      return value == matcher.value;
    case MatchKind::kNotEqual:
      return value != matcher.value;
    case MatchKind::kRegex:
      return RE2::FullMatch(Piece(value), *matcher.regex);
    case MatchKind::kNotRegex:
      return !RE2::FullMatch(Piece(value), *matcher.regex);
  }
  return false;
}

std::string MatcherText(const Matcher& matcher) {
  std::string quoted;
  for (char c : matcher.value) {
    if (c == '"' || c == '\\') quoted.push_back('\\');
    if (c == '\n') {
      quoted += "\\n";
    } else {
      quoted.push_back(c);
    }
  }
  return absl::StrCat(matcher.label, KindText(matcher.kind), "\"", quoted, "\"");
}

}  // namespace firedrill
