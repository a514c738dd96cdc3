// A server that is given on the command line, by --upstream and --protocol.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// What --protocol takes.
inline constexpr char kProtocols[] = "postgresql|mysql|redis|http|tcp";

// "postgresql" for "db-1:5432": what usually listens at its port; empty for any other port.
std::string UsualProtocol(const std::string& upstream);
// "5432 postgresql, 3306 mysql, ...".
std::string UsualPorts();

// A profile named `upstream`.
absl::StatusOr<v1::Profile> AdHocProfile(const std::string& upstream, const std::string& protocol);

}  // namespace firedrill
