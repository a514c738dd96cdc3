// From a definition, a site, the nodes and a seed to what would happen. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/injector.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// What is known of the alerting when a plan is made; empty members mean that nobody could be asked.
struct AlertingFacts {
  struct Rule {
    std::string alert;
    std::string group;
    absl::Duration hold;                   // The rule's `for`.
    absl::Duration evaluation;             // Its group's interval.
    std::optional<absl::Duration> scrape;  // The longest scrape interval among its series.
  };
  std::vector<Rule> rules;
  // Expectation's alert name → group_wait of the route its notification takes.
  std::map<std::string, absl::Duration> group_wait;
};

struct PlanInput {
  v1::Experiment experiment;
  v1::SiteSpec site;
  std::vector<v1::Registration> nodes;
  uint64_t seed = 0;
  std::string run;
  AlertingFacts alerting;
  // When the plan is made: nodes permit faults at certain hours. Not set: not looked at.
  std::optional<absl::Time> now;
  // The most that the controller lets happen; what is 0 is not limited.
  v1::RunLimits limits;
};

// Never fails: what is wrong stands in `findings` as a circumstance, with what to do next.
v1::Plan MakePlan(const PlanInput& input);

// Who, what, when, why not the others, and the alert arithmetic, for a terminal of 100 columns.
// `arguments` are those of the command that would run it: the definition as the user named it, and
// where it is to run.
std::string PlanText(const v1::Experiment& experiment, const v1::Plan& plan,
                     absl::string_view arguments = "FILE");

}  // namespace firedrill
