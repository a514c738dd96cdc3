// From a history to a verdict. Pure: an old run can be judged again at any time.
#pragma once

#include <vector>

#include "firedrill/v1/run.pb.h"

namespace firedrill {

// The first event must be RunCreated. An unfinished history is judged as it stands: what is still
// open is inconclusive.
v1::Judgement Judge(const std::vector<v1::Event>& history);

// The exit code of several runs together: 5 > 130 > 4 > 1 > 6 > 3 > 0.
int WorstExitCode(const std::vector<int>& codes);

}  // namespace firedrill
