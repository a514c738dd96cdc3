// Histories that a controller keeps.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/commands.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// The history of a run, as far as it goes by now. `run`: its id, a beginning of it, or `last`.
absl::StatusOr<std::vector<v1::Event>> ReadRemoteHistory(const Places& places,
                                                         const std::string& run);

// The history of a run from its first event to the end of the run, as it is written; `event` is
// called with each. Dials again where the connection is lost, and says so with `say`; an error only
// where the controller stays away, or does not know the run.
absl::StatusOr<std::vector<v1::Event>> FollowHistory(
    const Places& places, std::string run, const std::function<void(const v1::Event&)>& event,
    const std::function<void(const std::string&)>& say);

}  // namespace firedrill
