// The PostgreSQL server of a profile.
#include "injector/remedies/postgres_profile.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace firedrill {

absl::StatusOr<v1::Profile> FindPostgresProfile(const Node& node, absl::string_view name) {
  ASSIGN_OR_RETURN(v1::Profile profile, node.FindProfile(name));
  if (profile.has_postgresql()) return profile;
  return absl::InvalidArgumentError(
      absl::StrCat("profile ", name, " of node ", node.spec().name(),
                   " is no PostgreSQL server, which this remedy is for"));
}

}  // namespace firedrill
