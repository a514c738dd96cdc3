// Requests to an endpoint of the site.
#include "base/endpoint.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/secret.h"
#include "base/status_macros.h"

namespace firedrill {

absl::StatusOr<HttpRequest> RequestTo(const v1::Endpoint& endpoint, absl::string_view path) {
  if (!absl::StartsWith(endpoint.url(), "http://") &&
      !absl::StartsWith(endpoint.url(), "https://")) {
    return absl::InvalidArgumentError(absl::StrCat("endpoint '", endpoint.name(), "' is ",
                                                   endpoint.url(),
                                                   "; HTTP needs http:// or https://"));
  }
  if (!absl::StartsWith(path, "/")) {
    return absl::InvalidArgumentError(absl::StrCat("the path '", path, "' begins without a slash"));
  }
  HttpRequest request;
  absl::string_view base = endpoint.url();
  while (absl::ConsumeSuffix(&base, "/")) {
  }
  request.url = absl::StrCat(base, path);
  ASSIGN_OR_RETURN(const std::string token, ResolveSecret(endpoint.token()));
  if (!token.empty()) request.headers["Authorization"] = absl::StrCat("Bearer ", token);
  return request;
}

}  // namespace firedrill
