// Addresses of endpoints: found and checked.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "probes/probe.h"

namespace firedrill {

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// Of tcp://db:5432, http://shop/base (port 80) or https://[::1]:8443. Refuses what is no URL, and
// link-local addresses; the message names the endpoint.
absl::StatusOr<HostPort> HostPortOf(const v1::Endpoint& endpoint);

// 169.254/16 and fe80::/10, where metadata services hand out credentials. Only numeric addresses.
bool IsLinkLocalAddress(absl::string_view address);

// The endpoint of this name, or what to do where there is none.
absl::StatusOr<v1::Endpoint> FindEndpoint(const ProbeSite& site, const std::string& name);

}  // namespace firedrill
