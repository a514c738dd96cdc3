// A run's state in words: two states are the same where their words are.
#pragma once

#include <string>

#include "controller/run.h"

namespace firedrill::simulation {

std::string StateText(const RunState& state);

}  // namespace firedrill::simulation
