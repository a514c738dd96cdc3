// Prometheus matchers on labels: name="v", name!="v", name=~"re", name!~"re".
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "re2/re2.h"

namespace firedrill {

enum class MatchKind { kEqual, kNotEqual, kRegex, kNotRegex };

// A value: cheap to copy, safe to share between threads once parsed.
struct Matcher {
  std::string label;
  MatchKind kind = MatchKind::kEqual;
  std::string value;
  // Set for the regex kinds. Shared because RE2 cannot be copied; never changed after parsing.
  std::shared_ptr<const RE2> regex;
};

// InvalidArgument where the text is no matcher; then `*error_offset`, if given, is where, from 0.
absl::StatusOr<Matcher> ParseMatcher(absl::string_view text, size_t* error_offset = nullptr);

// Whether a label with this value matches. A label that is absent has the empty value.
bool MatchesValue(const Matcher& matcher, absl::string_view value);

// `labels`: any map from std::string to std::string, a proto's map field included.
template <typename Labels>
bool Matches(const Matcher& matcher, const Labels& labels) {
  auto it = labels.find(matcher.label);
  return MatchesValue(matcher, it == labels.end() ? absl::string_view() : it->second);
}

template <typename Labels>
bool MatchesAll(const std::vector<Matcher>& matchers, const Labels& labels) {
  for (const Matcher& matcher : matchers) {
    if (!Matches(matcher, labels)) return false;
  }
  return true;
}

// name="v", as it could be parsed again.
std::string MatcherText(const Matcher& matcher);

}  // namespace firedrill
