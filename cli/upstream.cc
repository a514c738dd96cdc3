// Makes a profile of a server that is given on the command line.
#include "cli/upstream.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "experiment/address.h"

namespace firedrill {
namespace {

constexpr std::pair<int, const char*> kUsual[] = {
    {5432, "postgresql"}, {3306, "mysql"}, {6379, "redis"}, {80, "http"}, {8080, "http"}};

}  // namespace

std::string UsualProtocol(const std::string& upstream) {
  const absl::StatusOr<Address> address = ParseListenAddress(upstream);
  if (!address.ok()) return "";
  for (const auto& [port, protocol] : kUsual) {
    if (port == address->port) return protocol;
  }
  return "";
}

std::string UsualPorts() { return absl::StrJoin(kUsual, ", ", absl::PairFormatter(" ")); }

absl::StatusOr<v1::Profile> AdHocProfile(const std::string& upstream, const std::string& protocol) {
  const absl::StatusOr<Address> address = ParseListenAddress(upstream);
  if (!address.ok() || address->host.empty() || address->port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--upstream ", upstream, ": write it as 127.0.0.1:5432"));
  }
  v1::Profile profile;
  profile.set_name("upstream");
  const auto fill = [&](auto* server) {
    server->set_host(address->host);
    server->set_port(static_cast<uint32_t>(address->port));
  };
  if (protocol == "postgresql") {
    fill(profile.mutable_postgresql());
    // Nobody logs in by it.
    profile.mutable_postgresql()->set_user("nobody");
    profile.mutable_postgresql()->set_database("none");
  } else if (protocol == "mysql") {
    fill(profile.mutable_mysql());
  } else if (protocol == "redis") {
    fill(profile.mutable_redis());
  } else if (protocol == "http") {
    fill(profile.mutable_http());
  } else if (protocol == "tcp") {
    fill(profile.mutable_tcp());
  } else {
    const std::string what = protocol.empty()
                                 ? absl::StrCat("is missing, and port ", address->port,
                                                " does not tell it, as these do: ", UsualPorts())
                                 : protocol;
    return absl::InvalidArgumentError(
        absl::StrCat("--protocol ", what,
                     ": say what the upstream speaks: postgresql, mysql, redis, http or tcp"));
  }
  return profile;
}

}  // namespace firedrill
