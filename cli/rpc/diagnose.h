// How a controller, and the way to it, are.
#pragma once

#include <vector>

#include "cli/commands.h"
#include "firedrill/v1/controller.pb.h"

namespace firedrill {

// The caller's own certificate, the way to the controller, and what the controller says.
std::vector<v1::Diagnosis> AskDiagnoses(const Places& places);

}  // namespace firedrill
