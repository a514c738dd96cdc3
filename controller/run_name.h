// How people name a run.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "controller/store.h"

namespace firedrill {

// The run that is meant by its id, by the beginning of one that no other shares, or by `last`, the
// newest. INVALID_ARGUMENT where several begin so. What begins no run stays as it is: whoever reads
// it says that there is none.
absl::StatusOr<std::string> FindRun(const Store& store, const std::string& name);

}  // namespace firedrill
