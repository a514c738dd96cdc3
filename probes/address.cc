// Addresses of endpoints.
#include "probes/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "experiment/address.h"

namespace firedrill {

absl::StatusOr<HostPort> HostPortOf(const v1::Endpoint& endpoint) {
  const absl::StatusOr<Address> address = ParseUrl(endpoint.url());
  if (!address.ok()) {
    return Annotate(address.status(),
                    absl::StrCat("endpoint '", endpoint.name(), "' is at ", endpoint.url()));
  }
  const int usual = address->scheme == "https" ? 443 : 80;
  return HostPort{address->host, static_cast<uint16_t>(address->port == 0 ? usual : address->port)};
}

bool IsLinkLocalAddress(absl::string_view address) {
  const std::string text(address.substr(0, address.find('%')));
  in_addr four{};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 16) == 0xA9FE;
  in6_addr six{};
  if (inet_pton(AF_INET6, text.c_str(), &six) != 1) return false;
  return IN6_IS_ADDR_LINKLOCAL(&six) ||
         (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 169 && six.s6_addr[13] == 254);
}

absl::StatusOr<v1::Endpoint> FindEndpoint(const ProbeSite& site, const std::string& name) {
  const auto found = site.endpoints.find(name);
  if (found != site.endpoints.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, endpoint] : site.endpoints) names.push_back(known);
  const std::string nearest = NearestOf(name, names);
  return absl::NotFoundError(absl::StrCat("no endpoint '", name, "' here; ",
                                          nearest.empty()
                                              ? "add it to `endpoints` of the site file"
                                              : absl::StrCat("did you mean '", nearest, "'?")));
}

}  // namespace firedrill
