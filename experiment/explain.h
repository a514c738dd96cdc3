// Help for one key of a definition: `firedrill explain experiment.spec.faults.holdConnections`.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// What a key means, its rules and the keys below it, for a terminal. `path` begins with
// "experiment" or "site"; indices are ignored ("spec.faults[0].at"). NotFound names what was meant,
// perhaps.
absl::StatusOr<std::string> Explain(absl::string_view path);

// Every path that can be explained, in the order of the vocabulary.
std::vector<std::string> ExplainablePaths();

}  // namespace firedrill
