// Dials a controller over gRPC.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "identity/identity.h"
#include "injector/dialler.h"

namespace firedrill {

// `address` is "unix:/path", or "host:port" with an identity: without TLS anybody on the way could
// order faults. Events are called on `executor`, which outlives the dialler. The dialler's
// destructor waits for its streams: drop the links first.
absl::StatusOr<std::unique_ptr<Dialler>> MakeGrpcDialler(
    Executor& executor, const std::string& address,
    const std::optional<IdentityFiles>& identity = std::nullopt);

}  // namespace firedrill
