// The cheap "no" before regular expressions are asked: most texts have nothing of what a match
// needs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace firedrill::wire {

// The longest text that is in every text that `pattern` matches, in lower case; "" where there is
// none of four characters. RE2 itself says what it is.
std::string RequiredLiteral(const std::string& pattern);

// Many literals at once, by four of their characters.
class LiteralFilter {
 public:
  // Of four characters or more, of ASCII.
  void Add(absl::string_view literal);
  // False only where `text` has none of the literals, in whatever case. A few ns for each ten
  // bytes.
  bool MayContainAny(absl::string_view text) const;

 private:
  static constexpr size_t kGram = 4;
  static constexpr int kBits = 12;

  std::array<uint64_t, (size_t{1} << kBits) / 64> known_{};
  // Every how-manieth place of a text is looked at.
  size_t stride_ = kGram;
};

}  // namespace firedrill::wire
