// The addresses of a host, within a deadline: the resolver of the C library knows none.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace firedrill {

// The numeric addresses of a host, at most 16; of a numeric host, itself. DEADLINE_EXCEEDED,
// CANCELLED, NOT_FOUND. Blocks no longer than `deadline`; any thread.
absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host,
                                                     absl::Duration deadline, std::stop_token stop);

}  // namespace firedrill
