// Probe http: fetches a path of an endpoint.
#include "base/http.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "probes/address.h"
#include "probes/probe.h"

namespace firedrill {
namespace {

class HttpProbe final : public Probe {
 public:
  HttpProbe(v1::HttpProbe probe, v1::Endpoint endpoint)
      : probe_(std::move(probe)), endpoint_(std::move(endpoint)) {}

  absl::Status Validate() const override {
    if (!absl::StartsWith(endpoint_.url(), "http://") &&
        !absl::StartsWith(endpoint_.url(), "https://")) {
      return absl::InvalidArgumentError(absl::StrCat("endpoint '", endpoint_.name(), "' is ",
                                                     endpoint_.url(),
                                                     "; an http probe needs http:// or https://"));
    }
    if (!absl::StartsWith(probe_.path(), "/")) {
      return absl::InvalidArgumentError("the path of an http probe begins with a slash");
    }
    RETURN_IF_ERROR(HostPortOf(endpoint_).status());
    return ResolveSecret(endpoint_.token()).status();
  }

  absl::StatusOr<ProbeValues> Read(const ProbeContext& context) override {
    HttpRequest request;
    request.url = endpoint_.url();
    while (absl::EndsWith(request.url, "/")) request.url.pop_back();
    absl::StrAppend(&request.url, probe_.path());
    request.deadline = context.deadline;
    ASSIGN_OR_RETURN(const std::string token, ResolveSecret(endpoint_.token()));
    if (!token.empty()) request.headers["Authorization"] = absl::StrCat("Bearer ", token);
    ASSIGN_OR_RETURN(const HttpResponse response, Fetch(request, context.stop));
    return ProbeValues{{"status", response.status},
                       {"latency", absl::ToDoubleSeconds(response.took)},
                       {"size", static_cast<double>(response.body.size())}};
  }

 private:
  const v1::HttpProbe probe_;
  const v1::Endpoint endpoint_;
};

const ProbeRegistration kHttp(
    v1::Probe::kHttp,
    [](const v1::Probe& probe, const ProbeSite& site) -> absl::StatusOr<std::unique_ptr<Probe>> {
      ASSIGN_OR_RETURN(v1::Endpoint endpoint, FindEndpoint(site, probe.http().endpoint()));
      return std::make_unique<HttpProbe>(probe.http(), std::move(endpoint));
    });

}  // namespace
}  // namespace firedrill
