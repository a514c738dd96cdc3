// Finds a bracket that somebody forgot to close, in a text that is no valid YAML because of it.
#pragma once

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace firedrill {

// Offsets in bytes.
struct OpenBracket {
  size_t at = 0;
  // A bracket of the other kind that comes before it is closed.
  std::optional<size_t> closed_by;
};

// The `{` or `[` before which everything is in order, and that is not closed where the text says
// that it ought to be: at a bracket of the other kind, at a line that is indented no more than the
// one in which the outermost bracket opens, at a list entry, or before `stopped`, where the parser
// gave up. Nothing where all brackets are closed by then, or may still be closed behind it.
std::optional<OpenBracket> FindOpenBracket(absl::string_view text, size_t stopped);

}  // namespace firedrill
