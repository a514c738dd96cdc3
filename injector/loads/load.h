// What every load is: requests that go on until they are stopped. A kind of load is one file in
// injector/loads/ that ends in its own registration.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "firedrill/v1/load.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"
#include "injector/fault.h"

namespace firedrill {

// A load that runs. The destructor stops it and waits for its thread, at most about 0.1 s; requests
// under way are dropped, and no window is emitted once it has returned. Not to be destroyed from
// within `emit`.
class LoadRun {
 public:
  virtual ~LoadRun() = default;
};

// Gets one window a second and request name, also for seconds in which nothing happened. Called on
// the load's own thread; must not block, else the load is late.
using LoadSink = std::function<void(v1::LoadWindow)>;

// Starts `load` against `endpoint`; every choice by chance is drawn from `seed`. Returns at once.
// Refuses what this node cannot do (a missing value file, an address that is no HTTP URL) before
// the first request. `node` is not used after the call. Any thread.
absl::StatusOr<std::unique_ptr<LoadRun>> StartLoad(const v1::PlannedLoad& load,
                                                   const v1::Endpoint& endpoint, uint64_t seed,
                                                   const Node& node, LoadSink emit);

using LoadStarter = std::function<absl::StatusOr<std::unique_ptr<LoadRun>>(
    const v1::PlannedLoad&, const v1::Endpoint&, uint64_t seed, const Node&, LoadSink)>;

// `static const LoadRegistration kSendRequests(v1::Load::kSendRequests, StartSendRequests);`
class LoadRegistration {
 public:
  LoadRegistration(v1::Load::KindCase kind, LoadStarter starter);
};

// Every registered kind.
std::vector<v1::Load::KindCase> RegisteredLoads();

// The kind as it is written in a definition: "sendRequests"; empty where none is set.
std::string KindName(const v1::Load& load);

}  // namespace firedrill
