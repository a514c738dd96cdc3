// Serves the figures to Prometheus, and to nobody else.
#include "controller/metrics_port.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "experiment/address.h"
#include "identity/caller.h"

namespace firedrill {
namespace {

constexpr char kPath[] = "/metrics";
// Two Prometheus and a person, and room to shake hands in while others only take it up.
constexpr size_t kMostConnections = 64;

HttpReply Refused(int status, absl::string_view why) {
  return {.status = status, .body = absl::StrCat(why, "\n")};
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpListener>> ListenForMetrics(const v1::MetricsListener& spec,
                                                               const IdentityFiles& identity,
                                                               const std::string& domain,
                                                               const Revocations& revocations,
                                                               const FigureBoard& board) {
  const absl::StatusOr<Address> at = ParseListenAddress(spec.listen());
  if (!at.ok()) return Annotate(at.status(), absl::StrCat("metrics.listen: ", spec.listen()));
  const bool open = IsLoopback(*at);
  HttpListener::Options options{.key = "metrics.listen",
                                .host = at->host,
                                .port = at->port,
                                .connections = kMostConnections,
                                .longest_body = 0};
  if (!open) options.identity = identity;
  return HttpListener::Start(
      std::move(options), [open, domain, &revocations, &board](const HttpCall& call) -> HttpReply {
        if (call.path != kPath) return Refused(404, "there is only /metrics here");
        if (call.method != "GET") return Refused(405, "GET /metrics");
        if (!open && !call.caller.has_value()) {
          return Refused(401, "show a certificate of a viewer: tls_config.cert_file and key_file");
        }
        if (!open) {
          const absl::Status may = CheckCaller(*call.caller, domain, revocations, "GET /metrics",
                                               v1::ROLE_VIEWER, absl::Now());
          if (!may.ok()) return Refused(absl::IsPermissionDenied(may) ? 403 : 401, may.message());
        }
        return {.body = board.Text(absl::Now()),
                .headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}};
      });
}

}  // namespace firedrill
