// One question to a controller that others use, too.
#pragma once

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/rpc/dial.h"

namespace firedrill {

inline constexpr absl::Duration kAnswerWithin = absl::Seconds(10);

// Says it, and returns the exit code.
inline int ComplainOf(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
  const bool usage = absl::IsNotFound(status) || absl::IsInvalidArgument(status);
  return usage ? kUsageError : kNotStarted;
}

// What the controller's answer means for whoever has asked `places`.
absl::Status Answered(const Places& places, const grpc::Status& status);
// Where no controller is named.
absl::Status NamesController(const Places& places);

// Asks with `call`, which gets stub and context.
template <typename Call>
absl::Status Ask(const Places& places, Call call, absl::Duration within = kAnswerWithin) {
  if (const absl::Status named = NamesController(places); !named.ok()) return named;
  const auto stub = Dial({places.controller, places.identity});
  if (!stub.ok()) return stub.status();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + within));
  return Answered(places, call(**stub, context));
}

}  // namespace firedrill
