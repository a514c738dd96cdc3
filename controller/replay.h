// What is to be known of a run to go on with it, from its history alone. Pure.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/run.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct Replayed {
  RunState state;
  // Timers that were set and have not fired: when they are due, by the times of the run's events.
  std::map<std::string, absl::Time> timers;
  // What was decided and is not in the history: it died with its controller, and was never done. In
  // order; commands without group and epoch.
  std::deque<v1::Event> decided;
  // The controller's own probes and the alert sources were asking.
  bool asking = false;
};

Replayed Replay(const std::vector<v1::Event>& history);

// The event that records an action, where there is one.
std::optional<v1::Event> RecordOf(const Action& action);

// What nobody saw from the last event of the history to `now`: a gap of each source of alerts, and
// of each alert that was active at its begin that it is not known what became of it. What is active
// still is told anew by the first look.
std::vector<v1::Event> BlindSpell(const std::vector<v1::Event>& history, absl::Time now);

}  // namespace firedrill
