// Whether a rule can mean anything to a protocol.
#pragma once

#include "absl/status/status.h"
#include "injector/wire/rules.h"

namespace firedrill::wire {

// INVALID_ARGUMENT names the key and what to write instead.
absl::Status CheckRule(v1::Protocol protocol, const Rule& rule);

}  // namespace firedrill::wire
