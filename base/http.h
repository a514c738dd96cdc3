// One HTTP exchange with a deadline. Redirects are never followed, proxies never used, link-local
// addresses never asked.
#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace firedrill {

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::map<std::string, std::string> headers;
  std::string body;
  // The whole exchange, from resolving the name to the last byte.
  absl::Duration deadline = absl::Seconds(2);
  // A longer answer is an error.
  size_t max_body = 8 << 20;
  // For https: the authorities that are trusted (those of the system when empty), and PATH.crt and
  // PATH.key of our own certificate (none when empty).
  std::string ca_file = {};
  std::string identity = {};
};

struct HttpResponse {
  int status = 0;
  std::string body;
  std::map<std::string, std::string> headers;  // Names in lower case.
  absl::Duration took;
};

// Blocks until the answer, the deadline (DEADLINE_EXCEEDED) or the stop (CANCELLED); UNAVAILABLE
// where no connection could be made, PERMISSION_DENIED for a link-local address, UNAUTHENTICATED
// where one of the two ends does not trust the other's certificate. Any status code is an answer,
// not an error. Any thread.
absl::StatusOr<HttpResponse> Fetch(const HttpRequest& request, std::stop_token stop = {});
// Of an error of Fetch(): the status of the answer that was cut; 0 where the request was sent, and
// no answer had begun; no value where nothing was sent.
std::optional<int> SentAnyway(const absl::Status& error);

}  // namespace firedrill
