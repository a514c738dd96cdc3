// Where Firedrill keeps what must outlive its processes.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace firedrill {

// `wanted` where it is not empty, else /var/lib/firedrill for root, else $XDG_STATE_HOME/firedrill.
// Made with mode 0700 where it does not exist.
absl::StatusOr<std::string> StateDir(const std::string& wanted);

}  // namespace firedrill
