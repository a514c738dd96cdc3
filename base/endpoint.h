// Requests to an endpoint of the site: its address, its own token, and a path behind it.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/http.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// A GET of `path` at the endpoint, with its token; everything else is the caller's to add. Refuses
// what is not HTTP and a path without its slash; the message names the endpoint, never the token.
// Blocks on the token's file. Any thread.
absl::StatusOr<HttpRequest> RequestTo(const v1::Endpoint& endpoint, absl::string_view path);

}  // namespace firedrill
