// Asks one planned probe again and again on a thread of its own, so that a slow answer delays no
// other.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "firedrill/v1/run.pb.h"
#include "probes/probe.h"

namespace firedrill {

class ProbeRunner {
 public:
  using Sink = std::function<void(v1::Sample)>;

  // Refuses a probe that cannot be made or is not valid here. `sink` is called on the runner's
  // thread.
  static absl::StatusOr<std::unique_ptr<ProbeRunner>> Start(const v1::PlannedProbe& planned,
                                                            const ProbeSite& site,
                                                            const Clock& clock, Sink sink);
  // Ends the question under way, and waits for the thread: nothing is emitted afterwards.
  ~ProbeRunner();

 private:
  ProbeRunner(v1::PlannedProbe planned, std::unique_ptr<Probe> probe, const Clock& clock,
              Sink sink);
  void Loop(std::stop_token stop);
  v1::Sample Ask(std::stop_token stop);

  const v1::PlannedProbe planned_;
  const std::unique_ptr<Probe> probe_;
  const Clock& clock_;
  const Sink sink_;
  std::jthread thread_;
};

}  // namespace firedrill
