// Time zones by the names that mean the same on every machine.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace firedrill {

// INVALID_ARGUMENT where there is no such zone, and for names that abseil would take but that are
// not IANA's: "localtime", paths.
absl::StatusOr<absl::TimeZone> LoadZone(const std::string& name);

}  // namespace firedrill
