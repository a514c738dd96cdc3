// The statements of a profile, by name.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// The text of a statement of the profile. NOT_FOUND names what there is.
absl::StatusOr<std::string> FindStatement(const v1::Profile& profile, absl::string_view name);
// The same, and refuses one with parameters: to be run as it is.
absl::StatusOr<std::string> FindPlainStatement(const v1::Profile& profile, absl::string_view name);

}  // namespace firedrill
