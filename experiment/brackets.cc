// Reads only what is needed to tell brackets from texts: quotes, comments and block texts.
#include "experiment/brackets.h"

#include <algorithm>
#include <vector>

namespace firedrill {
namespace {

constexpr absl::string_view kBlanks = " \t\r";

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

class Scanner {
 public:
  Scanner(absl::string_view text, size_t stopped) : text_(text), stopped_(stopped) {}

  std::optional<OpenBracket> Run() {
    size_t begin = 0;
    while (begin < text_.size() && begin <= stopped_) {
      const size_t end = std::min(text_.find('\n', begin), text_.size());
      if (const auto found = Line(begin, end)) return found;
      begin = end + 1;
    }
    // In the middle of a line, a value may be what the parser did not like.
    if (open_.empty() || stopped_ < text_.find_last_not_of(" \t\r\n")) return std::nullopt;
    return OpenBracket{open_.back(), std::nullopt};
  }

 private:
  std::optional<OpenBracket> Line(size_t begin, size_t end) {
    const size_t word = text_.find_first_not_of(kBlanks, begin);
    if (word >= end) return std::nullopt;
    const size_t indent = word - begin;
    if (!quote_) {
      if (block_.has_value() && indent > *block_) return std::nullopt;
      block_.reset();
      if (text_[word] == '#') return std::nullopt;
    }
    if (open_.empty()) {
      indent_ = indent;
    } else if (!quote_) {
      const bool closes = text_[word] == '}' || text_[word] == ']';
      const bool entry = text_[word] == '-' && (word + 1 == end || IsBlank(text_[word + 1]));
      if (entry || (indent <= indent_ && !closes)) return OpenBracket{open_.back(), std::nullopt};
    }
    bool start = true;  // Of a value or a key: only there quotes and brackets mean something.
    for (size_t i = word; i < end; ++i) {
      const char c = text_[i];
      if (quote_) {
        if (*quote_ == '"' && c == '\\') {
          ++i;
        } else if (c == *quote_) {
          if (c == '\'' && i + 1 < end && text_[i + 1] == '\'') {
            ++i;
          } else {
            quote_.reset();
          }
        }
        start = false;
        continue;
      }
      if (IsBlank(c)) continue;
      if (c == '#' && (i == begin || IsBlank(text_[i - 1]))) break;
      if (start && (c == '"' || c == '\'')) {
        quote_ = c;
        continue;
      }
      if ((c == '{' || c == '[') && (start || !open_.empty())) {
        open_.push_back(i);
        start = true;
        continue;
      }
      if (!open_.empty() && (c == '}' || c == ']')) {
        if ((text_[open_.back()] == '{') != (c == '}')) return OpenBracket{open_.back(), i};
        open_.pop_back();
        start = false;
        continue;
      }
      const bool ends_word = i + 1 == end || IsBlank(text_[i + 1]);
      if ((c == ':' && ends_word) || (c == '-' && ends_word && start) ||
          (c == ',' && !open_.empty())) {
        start = true;
        continue;
      }
      if (start && open_.empty() && (c == '|' || c == '>')) {
        // What belongs to it is indented further than its key.
        block_ = text_.find_first_not_of("- \t", begin) - begin;
        if (*block_ > i - begin) block_ = indent;
        break;
      }
      start = false;
    }
    return std::nullopt;
  }

  absl::string_view text_;
  size_t stopped_;
  std::vector<size_t> open_;
  // Of the line in which the outermost open bracket stands.
  size_t indent_ = 0;
  std::optional<char> quote_;
  // The indentation of the key whose block text is read.
  std::optional<size_t> block_;
};

}  // namespace

std::optional<OpenBracket> FindOpenBracket(absl::string_view text, size_t stopped) {
  return Scanner(text, stopped).Run();
}

}  // namespace firedrill
