// Every run of this controller: plans them, starts their conductors, stops them, lets people watch.
// Everything runs on the executor.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "controller/aftermath.h"
#include "controller/conductor.h"
#include "controller/fleet.h"
#include "controller/going_marks.h"
#include "controller/lever.h"
#include "controller/plan.h"
#include "controller/store.h"
#include "controller/subjects.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

class Runs {
 public:
  struct Options {
    v1::Site site;
    // Where runs that go on are marked; empty where nobody goes on with them.
    std::string state_dir;
    // Nodes that a plan waits for; those of the site, for private runs.
    std::set<std::string> awaited;
    absl::Duration await_nodes = absl::Seconds(10);
    // Names a new run; NewRunId() where it is empty. A simulation names its own, to replay bit for
    // bit.
    std::function<std::string()> name_run;
    // Definitions are held to what `firedrill lint --site` finds: for a controller of many clients.
    // A private one's client has done that, and may ask for less than a whole experiment.
    bool checks_definitions = false;
    // The most that is let happen; 0 is no limit, but for the runs at the same time, which are then
    // kMostRuns.
    v1::RunLimits limits;
  };
  static constexpr uint32_t kMostRuns = 64;
  // Makes what a run needs besides its injectors. An error says why a run cannot start now.
  using MakeSurroundings = std::function<absl::StatusOr<std::unique_ptr<Surroundings>>()>;
  // Blocking: asks the monitoring what a plan needs to know.
  using GatherFacts = std::function<AlertingFacts(const v1::Experiment&)>;

  // `lever` outlives this, as the others do.
  Runs(Executor& executor, Store& store, Fleet& fleet, const Lever& lever, Options options,
       MakeSurroundings make_surroundings, GatherFacts gather_facts);
  ~Runs();

  // What ended runs have left, and nobody has seen undone.
  Aftermath& aftermath() { return aftermath_; }

  // Plans with the nodes that are connected, waiting for the awaited ones. `done` may come later.
  // INVALID_ARGUMENT where `firedrill lint` would refuse the definition, in its words.
  void Plan(const v1::PlanRunRequest& request, std::function<void(absl::StatusOr<v1::Plan>)> done);

  struct Watcher {
    std::function<void(const v1::Event&)> event;
    std::function<void(const v1::Judgement&)> judged;
  };
  // Starts a run and lets `watcher` see it from its first event. `started` gets the run's id.
  void Start(const v1::StartRun& start, Watcher watcher,
             std::function<void(absl::StatusOr<std::string>)> started);
  // Goes on with a run of a controller that has died, before any injector has dialled in. Where it
  // is owned, its client must come back soon, or it is stopped. With `stop` it is only seen undone,
  // and its nodes leave nothing of it on.
  absl::Status Resume(const std::vector<v1::Event>& history,
                      const std::optional<v1::StopRequested>& stop);
  // Gives a resumed run back to its client, which is told of it from `from_seq` on; of one that is
  // being stopped, or has ended, it is told the rest. NOT_FOUND where there is none, UNAVAILABLE as
  // long as its client has not been missed, PERMISSION_DENIED where it is somebody else's.
  absl::Status Reclaim(const v1::ResumeRun& resume, const std::string& owner, Watcher watcher);
  absl::Status Stop(const std::string& run, v1::StopRequested stop);
  // Stops every run; returns how many there were.
  size_t StopEvery(const v1::StopRequested& stop);
  // Adds a watcher of events that come from now on. False for a run that is not going on.
  bool Watch(const std::string& run, Watcher watcher);
  bool Going(const std::string& run) const { return runs_.count(run) > 0; }
  // Any thread.
  size_t going() const { return going_; }
  // Of each run that is going on.
  std::vector<v1::Phase> Phases() const;
  // Null for a run that is not going on; valid until something happens to it.
  const RunState* StateOf(const std::string& run) const;
  // Called whenever a run has ended.
  void OnEnded(std::function<void()> ended) { ended_ = std::move(ended); }

  const v1::SiteSpec& site() const { return options_.site.spec(); }

 private:
  struct Running {
    std::unique_ptr<Conductor> conductor;
    std::vector<Watcher> watchers;
    std::vector<v1::Event> history;
    // It was resumed, and its client has not come back.
    bool unowned = false;
  };

  void PlanChecked(const v1::Experiment& experiment, uint64_t seed,
                   std::function<void(absl::StatusOr<v1::Plan>)> done);
  absl::StatusOr<v1::Experiment> Checked(
      const v1::Experiment& experiment, const std::string& file,
      const google::protobuf::Map<std::string, v1::Position>& positions) const;
  uint32_t MostRuns() const;
  // OK, or why no run may start: FAILED_PRECONDITION says who has pulled the lever, or what keeps
  // the history from being written, RESOURCE_EXHAUSTED that there are too many.
  absl::Status MayStart() const;
  void AwaitNodes(absl::Duration give_up, std::function<void()> then);
  void FindSubjects(v1::Plan plan, std::function<void(absl::StatusOr<v1::Plan>)> done);
  void Begin(const v1::StartRun& start, v1::Plan plan, Watcher watcher,
             std::function<void(absl::StatusOr<std::string>)> started);
  Running& Add(const std::string& run, std::unique_ptr<Surroundings> surroundings);
  void TakeSubjects(const v1::RunCreated& created, absl::Time since);
  void Ended(const std::string& run);
  // Lets go of the run, and of what it hit as far as that is off.
  void LetGo(const std::string& run);

  Executor& executor_;
  Store& store_;
  Fleet& fleet_;
  const Lever& lever_;
  const Options options_;
  const MakeSurroundings make_surroundings_;
  const GatherFacts gather_facts_;
  const GoingMarks marks_;
  std::map<std::string, Running> runs_;
  Subjects subjects_;
  Aftermath aftermath_;
  // Of runs_.
  std::atomic<size_t> going_ = 0;
  std::function<void()> ended_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A new run's id: 8 characters, lower case letters and digits without those that look alike.
std::string NewRunId();

}  // namespace firedrill
