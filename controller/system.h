// The real surroundings of runs: the site's Prometheus, Alertmanagers, webhook receiver, endpoints
// and announce URLs.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "controller/conductor.h"
#include "controller/plan.h"
#include "controller/store.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

class Deliveries;

class System {
 public:
  System(Executor& executor, v1::Site site, Store& store);
  ~System();

  // For one run. Takes the webhook's port, which runs of one controller share: an error says who
  // else may have it. On the executor.
  absl::StatusOr<std::unique_ptr<Surroundings>> MakeSurroundings();
  // Blocks on the monitoring's answers. Any thread.
  AlertingFacts Facts(const v1::Experiment& experiment) const;

 private:
  Executor& executor_;
  const v1::Site site_;
  Store& store_;
  // Alive while a run listens.
  std::weak_ptr<Deliveries> deliveries_;
};

}  // namespace firedrill
