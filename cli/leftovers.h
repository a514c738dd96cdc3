// What the journals of this machine's nodes still hold, in words.
#pragma once

#include <string>
#include <vector>

namespace firedrill {

// A line for everything that is still on, with the command that undoes it. Touches nothing.
std::vector<std::string> DescribeLeftovers(const std::string& state_dir);
// Undoes what no living injector owns; a line for everything that was found.
std::vector<std::string> UndoLeftovers(const std::string& state_dir);

}  // namespace firedrill
