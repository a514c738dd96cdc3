// Durations as people write them, and abseil's types in fmt's format strings.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace firedrill {

// "250ms", "1m30s", "1.5h", "0s". Units ms, s, m, h, d; a number alone is an error.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// "250ms", "1.5s", "1m30s", "0s"; at most millisecond precision, so that people can read it.
std::string FormatDuration(absl::Duration duration);

// Wall time in UTC with milliseconds: "2026-11-21T10:00:00.123Z".
std::string FormatTime(absl::Time time);

// The one of `candidates` that `word` may have been meant to be; empty when none is near.
std::string NearestOf(absl::string_view word, const std::vector<std::string>& candidates);

// "a, b and c".
std::string JoinWords(const std::vector<std::string>& words);

}  // namespace firedrill

template <>
struct fmt::formatter<absl::string_view> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::string_view text, Context& context) const {
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};

template <>
struct fmt::formatter<absl::Status> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(const absl::Status& status, Context& context) const {
    const std::string text = status.ToString();
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};
