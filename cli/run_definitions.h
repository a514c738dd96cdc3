// Runs definitions that have been read, or were never in a file.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/screen.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// Whoever wants to show a run in another way.
struct RunWatch {
  // Every event of the run, in order, before its line is printed.
  std::function<void(const v1::Event&)> event;
  // About five times a second, in place of the status line.
  std::function<void()> tick;
  // Which events get a line; all where it is empty.
  std::function<bool(const v1::Event&)> shows;
  // What is said at the end, in place of the summary; returns the exit code, which was `code`.
  std::function<int(const std::vector<v1::Event>&, const v1::Judgement&, int code)> judged;
};

// One after the other, with everything that `firedrill run` does around it. BlockSignals() must
// have been called. Returns the worst exit code.
int RunDefinitions(const Definitions& all, const RunOptions& options, const std::string& state_dir,
                   Screen& screen, const RunWatch& watch = {});

}  // namespace firedrill
