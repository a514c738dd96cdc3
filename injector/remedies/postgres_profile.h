// The PostgreSQL server of a profile, for remedies.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "firedrill/v1/site.pb.h"
#include "injector/fault.h"

namespace firedrill {

// NOT_FOUND where the node has no such profile, INVALID_ARGUMENT where it is of another server.
absl::StatusOr<v1::Profile> FindPostgresProfile(const Node& node, absl::string_view name);

}  // namespace firedrill
