// How many files and sockets this process may have open.
#pragma once

#include <cstddef>

#include "absl/status/status.h"

namespace firedrill {

// At least `count` descriptors may be open; raises the soft limit as far as needed.
// RESOURCE_EXHAUSTED where the hard limit is lower.
absl::Status PermitDescriptors(size_t count);

}  // namespace firedrill
