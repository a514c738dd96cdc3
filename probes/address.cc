// Addresses of endpoints.
#include "probes/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "experiment/address.h"

namespace firedrill {
namespace {

constexpr size_t kMostAddresses = 16;
// How soon a stop is noticed while a name is being resolved.
constexpr absl::Duration kLook = absl::Milliseconds(20);

std::string Numeric(const sockaddr* address, socklen_t size) {
  char text[NI_MAXHOST];
  const int error = getnameinfo(address, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return error == 0 ? text : "";
}

bool IsNumeric(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), bytes) == 1;
}

// glibc writes into these while it works, also after we have stopped waiting.
struct Question {
  std::string host;
  addrinfo hints{};
  gaicb request{};
};

}  // namespace

absl::StatusOr<HostPort> HostPortOf(const v1::Endpoint& endpoint) {
  const absl::StatusOr<Address> address = ParseUrl(endpoint.url());
  if (!address.ok()) {
    return Annotate(address.status(), absl::StrCat("endpoint '", endpoint.name(), "' is at ", endpoint.url()));
  }
  const int usual = address->scheme == "https" ? 443 : 80;
  return HostPort{address->host, static_cast<uint16_t>(address->port == 0 ? usual : address->port)};
}

absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host,
                                                     absl::Duration deadline,
                                                     std::stop_token stop) {
  if (IsNumeric(host)) return std::vector<std::string>{host};
  const absl::Duration end = RealClock().Boot() + deadline;
  auto question = std::make_unique<Question>();
  question->host = host;
  question->hints.ai_socktype = SOCK_STREAM;
  question->request.ar_name = question->host.c_str();
  question->request.ar_request = &question->hints;
  gaicb* list[] = {&question->request};
  int error = getaddrinfo_a(GAI_NOWAIT, list, 1, nullptr);
  if (error != 0) return absl::UnavailableError(gai_strerror(error));
  while ((error = gai_error(&question->request)) == EAI_INPROGRESS) {
    const bool late = RealClock().Boot() >= end;
    if (late || stop.stop_requested()) {
      if (gai_cancel(&question->request) == EAI_NOTCANCELED) (void)question.release();
      return late ? absl::DeadlineExceededError(absl::StrCat("resolving the name ", host, ": no answer within ",
                                                             firedrill::FormatDuration(deadline)))
                  : absl::CancelledError("stopped");
    }
    const timespec look = absl::ToTimespec(kLook);
    gai_suspend(list, 1, &look);
  }
  if (error != 0) {
    return absl::NotFoundError(
        absl::StrCat("resolving the name ", host, ": ", gai_strerror(error)));
  }
  std::vector<std::string> addresses;
  for (const addrinfo* at = question->request.ar_result; at != nullptr; at = at->ai_next) {
    if (addresses.size() < kMostAddresses) addresses.push_back(Numeric(at->ai_addr, at->ai_addrlen));
  }
  freeaddrinfo(question->request.ar_result);
  return addresses;
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
  return absl::NotFoundError(absl::StrCat(
      "no endpoint '", name, "' here; ",
      nearest.empty() ? "add it to `endpoints` of the site file"
                      : absl::StrCat("did you mean '", nearest, "'?")));
}

}  // namespace firedrill
