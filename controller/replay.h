// What is to be known of a run to go on with it, from its history alone; and whether to. Pure.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/run.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// No injector waits longer for its controller, and no fault has a longer lease: what has been away
// for longer has been undone by its nodes.
inline constexpr absl::Duration kLongestAway = absl::Seconds(60);

// How the group of a private controller begins; that of a team's is empty.
inline constexpr char kPrivateGroup[] = "private-";

// Its controller lived for this run alone, and its nodes with it: they undo it, and dial nobody
// else. False as long as none of its commands says so.
bool IsPrivate(const std::vector<v1::Event>& history);

// What a controller that was started again does with a run that the one before it has left.
struct Fate {
  enum class What {
    // It has its end.
    kNothing,
    kGoOn,
    // Goes on with it only to see undone what may be on: it ends as aborted.
    kUndo,
    // Writes its end, and no more: nothing of it was begun, or nobody here can tell.
    kClose,
  };
  What what;
  // Why it does not simply go on.
  std::string why = {};
  // Of kUndo: comes before anything else of the run.
  std::optional<v1::StopRequested> stop = std::nullopt;
};

// The machine that the controller is started on, now.
struct Machine {
  std::string boot_id;
  absl::Duration boot;
};

// `lever`: who has pulled it and why, where it is pulled. `was_going`: it has its mark, see
// going_marks.h.
Fate FateOf(const std::vector<v1::Event>& history, const Machine& machine,
            const std::optional<std::string>& lever, bool was_going);

struct Replayed {
  RunState state;
  // Timers that were set and have not fired: when they are due, by the times of the run's events.
  std::map<std::string, absl::Time> timers;
  // What was decided and is not in the history: it died with its controller, and was never done. In
  // order; commands without group and epoch. After a stop nothing of it begins anything.
  std::deque<v1::Event> decided;
  // Commands that are in the history and may never have been heard, and that must be: those by
  // which something ends. The last of each, without group and epoch.
  std::vector<v1::Command> unheard;
  // Marks of what nodes have told last: they tell it again, where its controller died before they
  // heard that it was written.
  std::set<std::string> told;
  // The controller's own probes and the alert sources were asking.
  bool asking = false;
};

Replayed Replay(const std::vector<v1::Event>& history);

// The same for what a node told, however often and to whichever life of its controller.
std::string MarkOf(const v1::Event& report);

// Nothing is begun any more.
void DropBeginnings(std::deque<v1::Event>& decided);

// The event that records an action, where there is one.
std::optional<v1::Event> RecordOf(const Action& action);

}  // namespace firedrill
