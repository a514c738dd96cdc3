// How the monitoring is asked, and what its refusals mean.
#include "base/monitoring_server.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace firedrill {
namespace {

// What stands in front of an advice.
constexpr char kInSite[] = "; in the site file: ";

// With TLS 1.3 a client knows that its certificate is missed only when the other end has gone.
bool HungUp(absl::string_view why) {
  return absl::StrContains(why, "SSL") || absl::StrContains(why, "getpeername") ||
         absl::StrContains(why, "Recv failure") || absl::StrContains(why, "Send failure");
}

}  // namespace

absl::StatusOr<MonitoringServer> MonitoringServer::Make(absl::string_view kind,
                                                        const v1::MonitoringServer& server) {
  MonitoringServer made;
  made.kind_ = std::string(kind);
  made.url_ = std::string(absl::StripSuffix(server.url(), "/"));
  made.ca_file_ = server.ca_file();
  made.identity_ = server.identity();
  std::vector<std::string> keys;
  if (server.has_token()) {
    ASSIGN_OR_RETURN(const std::string token, ResolveSecret(server.token()));
    made.headers_["Authorization"] = absl::StrCat("Bearer ", token);
    keys.push_back("`token`");
  }
  if (server.has_basic()) {
    ASSIGN_OR_RETURN(const std::string password, ResolveSecret(server.basic().password()));
    made.headers_["Authorization"] = absl::StrCat(
        "Basic ", absl::Base64Escape(absl::StrCat(server.basic().user(), ":", password)));
    keys.push_back("`basic`");
  }
  for (const v1::Header& header : server.headers()) {
    if (header.has_secret()) {
      ASSIGN_OR_RETURN(made.headers_[header.name()], ResolveSecret(header.secret()));
    } else {
      made.headers_[header.name()] = header.value();
    }
  }
  if (!server.headers().empty()) keys.push_back("`headers`");
  made.login_ = JoinWords(keys);
  return made;
}

absl::StatusOr<HttpResponse> MonitoringServer::Ask(const std::string& method,
                                                   absl::string_view path, const std::string& body,
                                                   absl::Duration deadline,
                                                   std::stop_token stop) const {
  HttpRequest request;
  request.method = method;
  request.url = absl::StrCat(url_, path);
  request.headers = headers_;
  if (!body.empty()) request.headers["Content-Type"] = "application/json";
  request.body = body;
  request.deadline = deadline;
  request.max_body = 64 << 20;  // The targets of a large Prometheus.
  request.ca_file = ca_file_;
  request.identity = identity_;
  absl::StatusOr<HttpResponse> response = Fetch(request, std::move(stop));
  if (!response.ok()) return Explain(response.status());
  if (response->status == 401 || response->status == 403) return Refused(response->status);
  if (response->status / 100 != 3) return response;
  // What stands behind a question mark may be a ticket.
  std::string where = response->headers["location"];
  where = where.substr(0, where.find('?'));
  return absl::FailedPreconditionError(absl::StrCat(
      kind_, " at ", url_, " answers ", response->status, where.empty() ? "" : " and points to ",
      where,
      ": redirects are refused, a login may hide behind them; name the last address as `url` in "
      "the "
      "site file"));
}

absl::Status MonitoringServer::Explain(const absl::Status& status) const {
  const absl::string_view why = status.message();
  constexpr absl::string_view kAsks =
      "asks for a certificate: name PATH.crt and PATH.key as `identity`";
  constexpr absl::string_view kRefuses =
      "does not take our certificate: renew PATH.crt and PATH.key of `identity`, or have it trust "
      "their authority";
  const absl::string_view certificate = identity_.empty() ? kAsks : kRefuses;
  if (status.code() == absl::StatusCode::kUnavailable && absl::StartsWith(url_, "https:") &&
      HungUp(why)) {
    return absl::UnavailableError(absl::StrCat(why, kInSite, "maybe it ", certificate));
  }
  if (status.code() != absl::StatusCode::kUnauthenticated) return status;
  std::string advice;
  if (absl::StrContains(why, "alert")) {
    advice = absl::StrCat("it ", certificate);
  } else if (absl::StrContains(why, "expired") || absl::StrContains(why, "not yet valid")) {
    advice = "renew the certificate of the server, or set the clock right";
  } else if (absl::StrContains(why, "subject name") || absl::StrContains(why, "IP address")) {
    advice = "ask it by a name that stands in its certificate: correct `url`";
  } else if (absl::StrContains(why, "setting certificate")) {
    advice = "`caFile` must be a file of PEM that can be read";
  } else if (absl::StrContains(why, "client cert") || absl::StrContains(why, "private key")) {
    advice = "PATH.crt and PATH.key of `identity` must be PEM that can be read, and of one pair";
  } else {
    advice = "name the authority that has issued its certificate as `caFile`";
  }
  return absl::UnauthenticatedError(absl::StrCat(why, kInSite, advice));
}

absl::Status MonitoringServer::Refused(int status) const {
  const std::string advice =
      !login_.empty() ? absl::StrCat("check ", login_, " and the secret that is named there")
      : status == 401 ? "give it `token` or `basic`"
                      : "see what it permits to whom, or give it `token`, `basic` or `headers`";
  return absl::PermissionDeniedError(
      absl::StrCat(kind_, " at ", url_, " answers ", status,
                   status == 401 ? ": it wants to know who asks; " : ": it does not permit that; ",
                   advice, " in the site file"));
}

bool IsRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return true;
    default:
      return false;
  }
}

}  // namespace firedrill
