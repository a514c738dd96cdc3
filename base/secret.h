// Secrets are references; this is where they become bytes, on the node that uses them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// The secret's bytes without the trailing newline; empty where the reference is not set. Refuses a
// file that is readable by everyone. The error names the reference, never the content. Blocks on a
// file. Any thread.
absl::StatusOr<std::string> ResolveSecret(const v1::Secret& secret);

}  // namespace firedrill
