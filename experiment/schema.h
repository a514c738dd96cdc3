// A JSON Schema (draft 7) of the definitions, for editors: `# yaml-language-server: $schema=…`.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace firedrill {

// `root`: "Experiment" or "Site"; anything else is taken for an experiment. Ends with a newline.
std::string JsonSchema(absl::string_view root);

}  // namespace firedrill
