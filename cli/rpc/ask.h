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
// A controller that a flood of connections besieges ends those that have not said who they are yet:
// an honest one on a slow machine is among them now and then, and has room a moment later.
inline constexpr int kTriesAtACrowdedDoor = 5;
inline constexpr absl::Duration kBetweenTries = absl::Milliseconds(200);

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

// Whether the connection was taken and then ended before anything was asked.
bool WasTurnedAway(const grpc::Status& status);

// Asks with `call`, which gets stub and context; more than once only where nothing was asked yet.
template <typename Call>
absl::Status Ask(const Places& places, Call call, absl::Duration within = kAnswerWithin) {
  if (const absl::Status named = NamesController(places); !named.ok()) return named;
  const absl::Time deadline = absl::Now() + within;
  for (int tries = 1;; ++tries) {
    const auto stub = Dial({places.controller, places.identity});
    if (!stub.ok()) return stub.status();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    const grpc::Status answered = call(**stub, context);
    if (!WasTurnedAway(answered) || tries == kTriesAtACrowdedDoor) {
      return Answered(places, answered);
    }
    absl::SleepFor(kBetweenTries);
  }
}

}  // namespace firedrill
