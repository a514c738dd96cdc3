// Probe http: fetches a path of an endpoint.
#include "base/endpoint.h"
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
    RETURN_IF_ERROR(RequestTo(endpoint_, probe_.path()).status());
    return HostPortOf(endpoint_).status();
  }

  absl::StatusOr<ProbeValues> Read(const ProbeContext& context) override {
    ASSIGN_OR_RETURN(HttpRequest request, RequestTo(endpoint_, probe_.path()));
    request.deadline = context.deadline;
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
