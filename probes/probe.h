// A probe asks the system one question and never changes it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "firedrill/v1/probe.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// What a probe may know of the place where it runs.
struct ProbeSite {
  // The id of the run, for statements that count the run's own sessions.
  std::string run;
  // By name.
  std::map<std::string, v1::Endpoint> endpoints;
  // Which of them answers is all the same.
  std::vector<v1::MonitoringServer> prometheus;
  // The node's profiles; empty at the controller.
  std::map<std::string, v1::Profile> profiles;
  bool free_queries = false;
};

struct ProbeContext {
  const Clock& clock;
  // From the call of Read(); the answer must be there by then.
  absl::Duration deadline;
  std::stop_token stop;
};

// Field → value: durations in seconds, shares in percent.
using ProbeValues = std::map<std::string, double>;

class Probe {
 public:
  virtual ~Probe() = default;
  // What can be found wrong without asking: a name that is not there, a statement that is not
  // permitted.
  virtual absl::Status Validate() const = 0;
  // Asks once. An error is "unknown", never a failing value. Blocks at most until the deadline plus
  // a little. One call at a time, always of the same thread.
  virtual absl::StatusOr<ProbeValues> Read(const ProbeContext& context) = 0;
};

using ProbeMaker =
    std::function<absl::StatusOr<std::unique_ptr<Probe>>(const v1::Probe&, const ProbeSite&)>;

// Registers the maker of a kind: `static const ProbeRegistration kHttp(v1::Probe::kHttp,
// MakeHttp);`
class ProbeRegistration {
 public:
  ProbeRegistration(v1::Probe::QuestionCase kind, ProbeMaker maker);
};

// UNIMPLEMENTED for kinds that are not asked but derived (load, probe, page).
absl::StatusOr<std::unique_ptr<Probe>> MakeProbe(const v1::Probe& probe, const ProbeSite& site);

}  // namespace firedrill
