// Dials a controller over gRPC.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "injector/dialler.h"

namespace firedrill {

// `address` is "unix:/path"; events are called on `executor`, which outlives the dialler. The
// dialler's destructor waits for its streams: drop the links first. A network address is refused:
// without TLS anybody on the way could order faults.
absl::StatusOr<std::unique_ptr<Dialler>> MakeGrpcDialler(Executor& executor,
                                                         const std::string& address);

}  // namespace firedrill
