// GET /metrics for Prometheus, on an address of its own.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "controller/figures.h"
#include "firedrill/v1/daemon.pb.h"
#include "identity/http_listener.h"
#include "identity/revocations.h"

namespace firedrill {

// On loopback anybody may read, without TLS; elsewhere whoever has a certificate of a viewer or
// more. `revocations` and `board` outlive it.
absl::StatusOr<std::unique_ptr<HttpListener>> ListenForMetrics(const v1::MetricsListener& spec,
                                                               const IdentityFiles& identity,
                                                               const std::string& domain,
                                                               const Revocations& revocations,
                                                               const FigureBoard& board);

}  // namespace firedrill
