// Durations as people write them, and near misses.
#include "base/text.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

// Longer than any run; keeps sums of durations finite.
constexpr double kLongestSeconds = 10.0 * 366 * 86400;

absl::Status NotADuration(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is not a duration: write a number with a unit, like 250ms, 5s or 1m30s"));
}

// Letters that are left out, put in, exchanged, or swapped with their neighbour.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  const auto same = [&](size_t i, size_t j) {
    return std::tolower(a[i - 1]) == std::tolower(b[j - 1]);
  };
  std::vector<size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (same(i, j) ? 0 : 1)});
      if (i > 1 && j > 1 && same(i, j - 1) && same(i - 1, j)) {
        next[j] = std::min(next[j], before[j - 2] + 1);
      }
    }
    before.swap(row);
    row.swap(next);
  }
  return row[b.size()];
}

}  // namespace

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::string_view rest = text;
  absl::Duration sum = absl::ZeroDuration();
  if (rest.empty()) return NotADuration(text);
  while (!rest.empty()) {
    const size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    double number = 0;
    if (digits == 0 || !absl::SimpleAtod(rest.substr(0, digits), &number))
      return NotADuration(text);
    rest.remove_prefix(digits);
    const size_t letters = std::min(rest.find_first_of("0123456789."), rest.size());
    const absl::string_view unit = rest.substr(0, letters);
    rest.remove_prefix(letters);
    double seconds = 0;
    if (unit == "ms")
      seconds = number / 1000;
    else if (unit == "s")
      seconds = number;
    else if (unit == "m")
      seconds = number * 60;
    else if (unit == "h")
      seconds = number * 3600;
    else if (unit == "d")
      seconds = number * 86400;
    else
      return NotADuration(text);
    if (!(seconds <= kLongestSeconds)) return NotADuration(text);
    sum += absl::Seconds(seconds);
  }
  return sum;
}

std::string FormatDuration(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "for ever";
  const bool negative = duration < absl::ZeroDuration();
  int64_t ms = std::llround(absl::ToDoubleMilliseconds(absl::AbsDuration(duration)));
  std::string text = negative && ms > 0 ? "-" : "";
  if (ms < 1000) return absl::StrCat(text, ms == 0 ? "0s" : absl::StrCat(ms, "ms"));
  const int64_t hours = ms / 3600000, minutes = ms / 60000 % 60;
  ms %= 60000;
  if (hours > 0) absl::StrAppend(&text, hours, "h");
  if (minutes > 0) absl::StrAppend(&text, minutes, "m");
  if (ms > 0) absl::StrAppend(&text, ms / 1000.0, "s");
  return text;
}

std::string FormatTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

std::string NearestOf(absl::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  // A third of the word may differ, so that short words do not match everything.
  size_t limit = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < limit) {
      limit = distance;
      best = candidate;
    }
  }
  return best;
}

std::string JoinWords(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace firedrill
