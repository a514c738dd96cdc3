// Reading and writing of files that hold one small value, like those of cgroups and sysctl.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// The content without one trailing newline; at most 4 KiB. NOT_FOUND where there is no such file.
// Links are not followed. Blocks.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

// Writes `value`, with a newline where the content ends in one now. Old or new content, never a
// mixture: a kernel's file is written in one call, any other is replaced (same owner and mode).
// Blocks.
absl::Status WriteSmallFile(const std::string& path, absl::string_view value);

}  // namespace firedrill
