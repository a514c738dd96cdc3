// What each word of `firedrill` does. Every function prints, and returns the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace firedrill {

// Exit codes, worst first: 5 undo not confirmed, 130 interrupted, 4 aborted, 1 failed, 6
// inconclusive, 3 not started, 2 usage or definition error (nothing touched), 0 every expectation
// held.
inline constexpr int kUsageError = 2;
inline constexpr int kNotStarted = 3;
inline constexpr int kAborted = 4;
inline constexpr int kUndoUnconfirmed = 5;
inline constexpr int kInconclusive = 6;
inline constexpr int kInterrupted = 130;

struct Places {
  // Empty: ./firedrill.site.yaml, else /etc/firedrill/site.yaml.
  std::string site;
  // Empty: see base/state_dir.h.
  std::string state_dir;
  // Empty: a private controller and private injectors.
  std::string controller;
  // The caller's certificate, without its ending; for a Unix socket none.
  std::string identity;
  bool no_color = false;
};

struct RunOptions {
  Places places;
  std::vector<std::string> files;
  std::string junit, json, report;
  uint64_t seed = 0;
  bool inject_anyway = false;
  // "not-started": circumstances that keep a run from starting are no failure of the pipeline.
  std::string allow;
  bool detach = false;
};

int RunCommand(const RunOptions& options);
int PlanCommand(const RunOptions& options);
// One fault on this machine, from the words behind `inject`.
int InjectCommand(const std::vector<std::string>& words);
int LintCommand(const std::vector<std::string>& files, const std::string& site,
                const std::string& format);
int SchemaCommand(const std::string& kind);
int ExplainCommand(const std::string& path);
int FaultsCommand();
// Of a statement of PostgreSQL, from standard input where none is given.
int FingerprintCommand(const std::optional<std::string>& statement);
// What ended runs left on the nodes of this machine, and undoes what nobody owns any more.
int LeftoversCommand(const Places& places);
int JudgeCommand(const Places& places, const std::string& run, bool json);
int ReportCommand(const Places& places, const std::string& run, const std::string& format);
int RunsCommand(const Places& places);
// Of a controller that others use, too: one run, or everything until it is unlocked.
int StopCommand(const Places& places, const std::string& run, bool all, const std::string& reason);
int UnlockCommand(const Places& places, const std::string& reason);
// What an ended run has left is gone, or its node is; of one node where `node` names it.
int SettleCommand(const Places& places, const std::string& run, const std::string& node,
                  const std::string& reason);
// `what`: injectors, runs or experiments. `form`: a word of print.h's FormWords().
int GetCommand(const Places& places, const std::string& what, const std::string& form,
               uint32_t limit);
// `what`: injector, run or experiment.
int DescribeCommand(const Places& places, const std::string& what, const std::string& name,
                    const std::string& form);
// The exit code is the run's.
int WatchCommand(const Places& places, const std::string& run, const std::string& form);
int ApplyCommand(const Places& places, const std::vector<std::string>& files);
// Of this machine, or of the controller of `places`; 0 where nothing has failed, else 1.
int DoctorCommand(const Places& places);
int DeleteExperimentCommand(const Places& places, const std::string& name);

}  // namespace firedrill
