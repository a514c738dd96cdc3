// Holds a simulated run to its invariants, from outside: it sees what passes on the network, what
// the store keeps, and what is on in the system. It asks nothing of the code under test.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "firedrill/v1/run.pb.h"
#include "tests/simulation/scenario.h"
#include "tests/testing/sim_executor.h"
#include "tests/testing/sim_fault.h"
#include "tests/testing/sim_network.h"

namespace firedrill::simulation {

// The invariants, by the word that a failure begins with.
inline constexpr char kLeftBehind[] = "left-behind";
inline constexpr char kUndoConfirmed[] = "undo-confirmed";
inline constexpr char kAppliedTwice[] = "applied-twice";
inline constexpr char kLowerEpoch[] = "lower-epoch";
inline constexpr char kOutlivesLease[] = "outlives-lease";
inline constexpr char kOutlivesStop[] = "outlives-stop";
inline constexpr char kOutlivesTime[] = "outlives-time";
inline constexpr char kReports[] = "reports";
inline constexpr char kHistory[] = "history";
inline constexpr char kEnds[] = "ends";
inline constexpr char kUnasked[] = "unasked";

// "run/fault@node": how the simulation names what is on.
std::string EffectKey(const std::string& run, const std::string& fault, const std::string& node);
// The lasting setting of one fault on one node.
std::string SettingOf(const std::string& fault, const std::string& node);

class Witness {
 public:
  // All outlive the witness.
  Witness(const Scenario& scenario, const SimTime& time, SimSystem& system, SimNetwork& network);

  // ---- what whoever drives the simulation does to its processes
  void ControllerBorn(const SimExecutor& controller, uint64_t epoch);
  void ProcessBorn(const SimExecutor& process, size_t node);
  void ProcessDied(size_t node);
  // Neither an injector nor its reaper is there: nobody can put a setting back.
  void Unattended(size_t node, bool is);
  void Frozen(size_t node, bool is);
  void DiskFull(size_t node, bool is);
  // Some setting can be written again.
  void CanUndo() { cannot_undo_until_ = time_.boot(); }

  // ---- what the store does
  void Recorded(const std::string& run, uint64_t epoch, const v1::Event& event);
  // An event was not kept: from here on the run goes on in its controller's memory.
  void NotRecorded(const std::string& run, uint64_t epoch);

  // To be called often: everything that is on must have a reason.
  void Look();
  // When all is quiet: everything that was sent has arrived.
  void LookAtReports();

  void Fail(const char* invariant, const std::string& what);
  const std::vector<std::string>& failures() const { return failures_; }
  // Faults that were on.
  size_t effects() const { return effects_.size(); }
  bool finished(const std::string& run) const;
  const std::vector<std::string>& runs() const { return run_names_; }
  // Something of this run is on: what it is.
  std::optional<std::string> OnOf(const std::string& run) const;

 private:
  struct Sent {
    std::string run;
    std::string key;
    bool recorded = false;
  };
  struct Process {
    size_t node = 0;
    std::map<uint64_t, Sent> reports;
    uint64_t acknowledged = 0;
    // The last number of each run that is in its history.
    std::map<std::string, uint64_t> recorded;
    // The highest epoch that it has heard of.
    uint64_t epoch = 0;
    bool registered = false;
    std::optional<absl::Duration> lost;
    std::set<std::string> obeyed, stale;
    // Since it has registered, if it was never without its controller since; and when it heard of
    // it last.
    std::optional<absl::Duration> in_touch_since;
    absl::Duration heard;
    const SimExecutor* controller = nullptr;
    // Probes and loads of which something is in the history: "run/name".
    std::set<std::string> told;
  };
  struct NodeFacts {
    std::vector<const SimExecutor*> processes;
    bool alive = false;
    // What a new process may be expected to know.
    uint64_t kept_epoch = 0;
    bool disk_full = false, frozen = false, unattended = false;
    absl::Duration frozen_until = -absl::InfiniteDuration();
    absl::Duration attended_since = -absl::InfiniteDuration();
    // By controller: when something of it was last dealt with here.
    std::map<const SimExecutor*, absl::Duration> contact;
    std::set<std::string> may_apply;
  };
  struct RunFacts {
    uint64_t epoch = 0;
    uint64_t events = 0;
    bool finished = false;
    bool store_lost = false;
    std::optional<absl::Duration> stopped;
    std::optional<absl::Duration> gate;
    // By "fault@node".
    std::map<std::string, v1::PlannedFault> planned;
    // By node: its probes and loads.
    std::multimap<std::string, std::string> asked;
  };
  struct Effect {
    std::string run;
    std::string fault;
    size_t node = 0;
    absl::Duration applied;
    bool complained = false;
  };

  void OnApply(const std::string& key);
  void SentUp(const SimExecutor& injector, const SimExecutor& controller,
              const v1::ConnectRequest& message);
  void SentDown(const SimExecutor& injector, const SimExecutor& controller,
                const v1::ConnectResponse& message);
  void Arriving(const SimExecutor& injector, const v1::ConnectResponse& message);
  void Arrived(const SimExecutor& injector, const SimExecutor& controller,
               const v1::ConnectResponse& message);
  void TakeFromInjector(const std::string& run, const v1::Event& event);
  void LookAt(const std::string& key, bool only_setting);
  // Whoever was started again is asked again.
  void LookAtQuestions(const std::string& run, RunFacts& facts);

  const Scenario& scenario_;
  const SimTime& time_;
  SimSystem& system_;
  std::map<const SimExecutor*, uint64_t> controllers_;
  std::map<uint64_t, const SimExecutor*> by_epoch_;
  std::map<const SimExecutor*, Process> processes_;
  std::vector<NodeFacts> nodes_;
  std::map<std::string, RunFacts> runs_;
  std::vector<std::string> run_names_;
  // Who has begun a run, and who went on with it: the last one renews its leases.
  std::map<std::string, std::vector<const SimExecutor*>> conductors_;
  std::map<std::string, Effect> effects_;
  absl::Duration cannot_undo_until_ = -absl::InfiniteDuration();
  std::vector<std::string> failures_;
};

}  // namespace firedrill::simulation
