// What the journals of this machine's nodes still hold, in words.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/commands.h"

namespace firedrill {

// A line for everything that is still on, with the command that undoes it. Touches nothing.
std::vector<std::string> DescribeLeftovers(const std::string& state_dir);
// Undoes what no living injector owns; a line for everything that was found.
std::vector<std::string> UndoLeftovers(const std::string& state_dir);
// Ends, in the history, the runs whose controller has died; a line for each. Their undo is
// confirmed where the journals of this machine's nodes say so; not for `unsure` nodes, whose
// injectors did not say so themselves. An error where the history cannot be read or written.
absl::StatusOr<std::vector<std::string>> EndLostRuns(const std::string& state_dir,
                                                     const std::set<std::string>& unsure = {});
// The state folder of a command that starts nothing: a wrong --state-dir is an error, and not made.
absl::StatusOr<std::string> StateDirToRead(const Places& places);
// What every command that starts something does first: removes, undoes and ends what others left.
std::vector<std::string> TidyUp(const std::string& state_dir);

}  // namespace firedrill
