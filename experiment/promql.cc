// Scans PromQL for selectors: names and braces, past strings, comments, numbers, functions and
// label lists.
#include "experiment/promql.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace firedrill {
namespace {

// Followed by a list of labels in parentheses.
constexpr absl::string_view kTakesLabels[] = {"by",       "without",    "on",
                                              "ignoring", "group_left", "group_right"};
constexpr absl::string_view kOtherWords[] = {"and",   "or",  "unless", "bool",  "offset",
                                             "atan2", "inf", "nan",    "start", "end"};

class Scanner {
 public:
  explicit Scanner(absl::string_view text) : text_(text) {}

  void Run() {
    while (at_ < text_.size()) Step();
  }
  std::vector<SeriesSelector> found() && { return std::move(found_); }
  bool absence() const { return absence_; }

 private:
  static bool BeginsName(char c) { return absl::ascii_isalpha(c) || c == '_' || c == ':'; }
  static bool InName(char c) { return BeginsName(c) || absl::ascii_isdigit(c); }

  void Step() {
    const char c = text_[at_];
    if (c == '"' || c == '\'' || c == '`') {
      SkipString();
    } else if (c == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == '[') {
      at_ = std::min(text_.find(']', at_), text_.size());
    } else if (c == '{') {
      Add("");
    } else if (absl::ascii_isdigit(c) || c == '.') {
      // Numbers and durations: 5m, 1e9, 0x1f.
      while (at_ < text_.size() && (absl::ascii_isalnum(text_[at_]) || text_[at_] == '.')) ++at_;
    } else if (BeginsName(c)) {
      Word();
    } else {
      ++at_;
    }
  }

  void Word() {
    const size_t begin = at_;
    while (at_ < text_.size() && InName(text_[at_])) ++at_;
    const absl::string_view word = text_.substr(begin, at_ - begin);
    const std::string lower = absl::AsciiStrToLower(word);
    SkipSpace();
    const char next = at_ < text_.size() ? text_[at_] : '\0';
    if (std::count(std::begin(kTakesLabels), std::end(kTakesLabels), lower) > 0) {
      if (next == '(') at_ = std::min(text_.find(')', at_), text_.size());
      return;
    }
    if (std::count(std::begin(kOtherWords), std::end(kOtherWords), lower) > 0) return;
    if (next == '(') {  // A function, or an aggregation.
      absence_ = absence_ || lower == "absent" || lower == "absent_over_time";
      return;
    }
    if (AggregationFollows()) return;  // sum by (instance) (...)
    Add(word);
  }

  // Whether `by` or `without` is the next word.
  bool AggregationFollows() const {
    for (const absl::string_view word : {"by", "without"}) {
      if (!absl::StartsWithIgnoreCase(text_.substr(at_), word)) continue;
      const size_t end = at_ + word.size();
      if (end >= text_.size() || !InName(text_[end])) return true;
    }
    return false;
  }

  void Add(absl::string_view metric) {
    SeriesSelector selector{std::string(metric), {}};
    if (at_ < text_.size() && text_[at_] == '{') {
      ++at_;
      size_t begin = at_;
      const auto end_matcher = [&] {
        const absl::string_view matcher =
            absl::StripAsciiWhitespace(text_.substr(begin, at_ - begin));
        if (!matcher.empty()) selector.matchers.emplace_back(matcher);
        begin = at_ + 1;
      };
      while (at_ < text_.size() && text_[at_] != '}') {
        if (text_[at_] == '"' || text_[at_] == '\'' || text_[at_] == '`') {
          SkipString();
          continue;
        }
        if (text_[at_] == ',') end_matcher();
        ++at_;
      }
      if (at_ < text_.size()) {
        end_matcher();
        ++at_;
      }
    }
    if (selector.metric.empty() && selector.matchers.empty()) return;
    for (const SeriesSelector& other : found_) {
      if (other.Text() == selector.Text()) return;
    }
    found_.push_back(std::move(selector));
  }

  void SkipSpace() {
    while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
  }

  void SkipString() {
    const char quote = text_[at_++];
    while (at_ < text_.size() && text_[at_] != quote) {
      at_ += text_[at_] == '\\' && quote != '`' ? 2 : 1;
    }
    at_ = std::min(at_ + 1, text_.size());
  }

  absl::string_view text_;
  size_t at_ = 0;
  std::vector<SeriesSelector> found_;
  bool absence_ = false;
};

std::string LabelOf(const std::string& matcher) {
  return matcher.substr(0, matcher.find_first_of("=!~ \t\n"));
}

}  // namespace

std::string SeriesSelector::Text() const {
  if (matchers.empty()) return metric;
  return absl::StrCat(metric, "{", absl::StrJoin(matchers, ","), "}");
}

SeriesSelector SeriesSelector::Relaxed(const std::set<std::string>& kept) const {
  SeriesSelector relaxed{metric, {}};
  for (const std::string& matcher : matchers) {
    const std::string label = LabelOf(matcher);
    if (label == "__name__" || kept.count(label) > 0) relaxed.matchers.push_back(matcher);
  }
  // Without a name and a label nothing would be left to ask for.
  return relaxed.metric.empty() && relaxed.matchers.empty() ? *this : relaxed;
}

std::vector<SeriesSelector> ExtractSelectors(absl::string_view query) {
  Scanner scanner(query);
  scanner.Run();
  return std::move(scanner).found();
}

bool AsksForAbsence(absl::string_view query) {
  Scanner scanner(query);
  scanner.Run();
  return scanner.absence();
}

}  // namespace firedrill
