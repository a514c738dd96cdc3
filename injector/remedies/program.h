// A program of the node's own file, run with fixed arguments and without a shell.
//
// It is done when the program itself has ended. What the program leaves running (a server that it
// has started anew) goes on, and should write to a log of its own: our end of its output is closed
// then. Until then its whole process group ends with this process, in whatever way that ends; but
// for what has closed all that it was given (its descriptor 99), and for other users' processes.
#pragma once

#include <stop_token>

#include "absl/status/status.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Refuses what is not there, may not be executed, or could have been changed by anyone.
absl::Status CheckProgram(const v1::Program& program);

// Blocks until the program has ended, its time-out is over, or `stop` is requested; in both cases
// its whole process group is ended, at the latest after a second. The report lacks all names. Any
// thread.
v1::RemedyReport RunProgramBlocking(const v1::Program& program, const std::stop_token& stop);

}  // namespace firedrill
