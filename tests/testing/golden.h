// Texts that a person has read and kept.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace firedrill {

// Expects `text` to be that of the file, which is named from the root of the sources. With
// FIREDRILL_UPDATE_GOLDEN set it is written instead: read what has changed.
void ExpectGolden(absl::string_view file, const std::string& text);

}  // namespace firedrill
