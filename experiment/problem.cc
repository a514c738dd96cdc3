// Orders and renders problems.
#include "experiment/problem.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace firedrill {
namespace {

// Of a longer line only the part around the caret is shown.
constexpr size_t kShownColumns = 110;
constexpr size_t kShownBefore = 70;

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The bytes of line `line`, without its end.
absl::string_view LineOf(absl::string_view text, int line) {
  size_t start = 0;
  for (int i = 1; i < line; ++i) {
    size_t end = text.find('\n', start);
    if (end == absl::string_view::npos) return "";
    start = end + 1;
  }
  absl::string_view rest = text.substr(std::min(start, text.size()));
  if (line == 1) absl::ConsumePrefix(&rest, "\xef\xbb\xbf");
  rest = rest.substr(0, rest.find('\n'));
  if (absl::EndsWith(rest, "\r")) rest.remove_suffix(1);
  return rest;
}

// The byte at which character `column` (from 1) begins.
size_t ByteOfColumn(absl::string_view line, int column) {
  size_t at = 0;
  for (int i = 1; i < column && at < line.size(); ++i) {
    ++at;
    while (at < line.size() && IsContinuation(line[at])) ++at;
  }
  return at;
}

// Cuts a long line so that the caret stays in view; `*caret` moves along. Both are in bytes.
std::string CutAround(absl::string_view line, size_t* caret) {
  if (line.size() <= kShownColumns) return std::string(line);
  size_t begin = *caret > kShownBefore ? *caret - kShownBefore : 0;
  while (begin < line.size() && IsContinuation(line[begin])) ++begin;
  size_t end = std::min(line.size(), begin + kShownColumns);
  while (end < line.size() && IsContinuation(line[end])) ++end;
  std::string cut = absl::StrCat(begin > 0 ? "..." : "", line.substr(begin, end - begin),
                                 end < line.size() ? "..." : "");
  *caret = *caret - begin + (begin > 0 ? 3 : 0);
  return cut;
}

// Nothing can be read from `from` on, and everything keeps its place.
void Mask(size_t from, std::string* line) {
  for (size_t i = from; i < line->size(); ++i) {
    if (absl::ascii_isalnum((*line)[i])) (*line)[i] = '*';
  }
}

// Blanks as wide as the text in front of the caret; tabs stay tabs.
std::string BlanksFor(absl::string_view text) {
  std::string blanks;
  for (char c : text) {
    if (!IsContinuation(c)) blanks.push_back(c == '\t' ? '\t' : ' ');
  }
  return blanks;
}

}  // namespace

size_t Utf8Length(absl::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xc2 && first < 0xe0   ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond the last code point.
  if (first == 0xe0 && byte(1) < 0xa0) return 0;
  if (first == 0xed && byte(1) > 0x9f) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

std::string Printable(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    size_t length = Utf8Length(text);
    unsigned char c = static_cast<unsigned char>(text[0]);
    bool control = (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f;
    if (length == 0 || control) {
      out.push_back('?');
      length = 1;
    } else {
      absl::StrAppend(&out, text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  return out;
}

size_t CountCharacters(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); });
}

void SortProblems(std::vector<Problem>* problems) {
  auto key = [](const Problem& p) { return std::tie(p.line, p.column); };
  std::stable_sort(problems->begin(), problems->end(),
                   [&](const Problem& a, const Problem& b) { return key(a) < key(b); });
  auto same = [&](const Problem& a, const Problem& b) {
    return key(a) == key(b) && a.message == b.message;
  };
  problems->erase(std::unique(problems->begin(), problems->end(), same), problems->end());
}

std::string RenderProblems(absl::string_view file, absl::string_view text,
                           const std::vector<Problem>& problems) {
  // Line → the column from which a secret may stand in it, also for the other problems there.
  std::map<int, int> secrets;
  for (const Problem& problem : problems) {
    if (!problem.secret) continue;
    auto [it, is_new] = secrets.emplace(problem.line, problem.column);
    it->second = std::min(it->second, problem.column);
  }
  std::string out;
  for (const Problem& problem : problems) {
    if (problem.line == 0) {
      absl::StrAppend(&out, file, ": error: ", problem.message, "\n");
    } else {
      absl::StrAppend(&out, file, ":", problem.line, ":", problem.column,
                      ": error: ", problem.message, "\n");
      std::string line(LineOf(text, problem.line));
      auto secret = secrets.find(problem.line);
      if (secret != secrets.end()) Mask(ByteOfColumn(line, secret->second), &line);
      size_t caret = ByteOfColumn(line, problem.column);
      std::string shown = CutAround(line, &caret);
      std::string number = absl::StrCat(problem.line);
      absl::StrAppend(&out, "  ", number, " | ", shown, "\n");
      absl::StrAppend(&out, "  ", std::string(number.size(), ' '), " | ",
                      BlanksFor(absl::string_view(shown).substr(0, caret)), "^\n");
    }
    if (!problem.suggestion.empty()) absl::StrAppend(&out, "  help: ", problem.suggestion, "\n");
  }
  return Printable(out);
}

std::string RenderProblemsForGithub(absl::string_view file, const std::vector<Problem>& problems) {
  auto data = [](absl::string_view s) {
    return absl::StrReplaceAll(s, {{"%", "%25"}, {"\r", "%0D"}, {"\n", "%0A"}});
  };
  auto property = [](absl::string_view s) {
    return absl::StrReplaceAll(
        s, {{"%", "%25"}, {"\r", "%0D"}, {"\n", "%0A"}, {":", "%3A"}, {",", "%2C"}});
  };
  std::string out;
  for (const Problem& problem : problems) {
    absl::StrAppend(&out, "::error file=", property(file));
    if (problem.line > 0) {
      absl::StrAppend(&out, ",line=", problem.line, ",col=", problem.column);
    }
    absl::StrAppend(&out, "::", data(problem.message));
    if (!problem.suggestion.empty()) absl::StrAppend(&out, "%0Ahelp: ", data(problem.suggestion));
    absl::StrAppend(&out, "\n");
  }
  return Printable(out);
}

Place PlaceInside(absl::string_view text, Place start, absl::string_view scalar, size_t offset) {
  absl::string_view line = LineOf(text, start.line);
  size_t at = ByteOfColumn(line, start.column);
  int quote = at < line.size() && (line[at] == '"' || line[at] == '\'') ? 1 : 0;
  if (line.substr(std::min(line.size(), at + quote), scalar.size()) != scalar) return start;
  offset = std::min(offset, scalar.size());
  return {start.line,
          start.column + quote + static_cast<int>(CountCharacters(scalar.substr(0, offset)))};
}

}  // namespace firedrill
