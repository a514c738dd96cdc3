// Loads, remedies and probes that run on this node. Like faults they fall under policy and lease,
// end when the controller is gone, and are begun once for a command id. On the executor only; what
// blocks, blocks elsewhere.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "firedrill/v1/injector.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"
#include "injector/fault.h"

namespace firedrill {

class Journal;

// What does the work. All but `leaves` are called where blocking is allowed; sinks may be called on
// any thread.
struct WorkFactories {
  // Dropping the last handle ends it, and waits: nothing is emitted afterwards.
  using Handle = std::shared_ptr<void>;
  std::function<absl::StatusOr<Handle>(const v1::StartLoad&, std::function<void(v1::LoadWindow)>)>
      load;
  std::function<absl::StatusOr<Handle>(const std::string& run, const v1::StartProbe&,
                                       std::function<void(v1::Sample)>)>
      probe;
  std::function<absl::StatusOr<v1::Leaves>(const v1::PlannedRemedy&)> leaves;
  std::function<v1::RemedyReport(const std::string& run, const v1::RunRemedy&, std::stop_token)>
      remedy;
  // What each fault would hit, in their order.
  std::function<std::vector<v1::Subject>(const v1::SubjectsAsked&)> subjects;
};

// The registries of loads, remedies and probes, each on threads of its own. `node` and `clock`
// outlive it.
WorkFactories ThreadedWork(const Node& node, std::shared_ptr<Journal> journal, const Clock& clock);

class NodeWork {
 public:
  struct Options {
    // Without a ping for so long everything ends.
    absl::Duration lease = absl::Seconds(5);
    // Told of every run that lost its lease here: nothing of it may begin any more.
    std::function<void(const std::string& run, const std::string& reason)> stop_run;
    // Why nothing may go on here any more; empty where it may.
    std::function<std::string()> stopped;
  };
  using Sink = std::function<void(v1::Report)>;
  // OK, or why nothing of this run may begin.
  using MayBegin = std::function<absl::Status(const std::string& run)>;

  NodeWork(Executor& executor, const v1::NodeSpec& node, WorkFactories factories,
           MayBegin may_begin, Sink report, Options options);
  ~NodeWork();

  // start and stop of loads and probes, running of remedies. The same id does nothing a second
  // time.
  void Handle(const v1::Command& command);
  // Looks what faults would hit; `told` is called on the executor, unless this is gone by then.
  void FindSubjects(const v1::SubjectsAsked& asked, std::function<void(v1::SubjectsTold)> told);
  void Renew();
  // Ends everything where nothing may go on: also by itself, twice a second.
  void LookForStop();
  // Everything ends, but for what is of the runs in `kept`; what is running of a remedy is asked
  // to.
  void End(const std::string& reason, const std::set<std::string>& kept = {});
  // Nothing runs. Handles that are still being let go do not count.
  bool idle() const { return jobs_.empty(); }
  // A remedy has not said yet how it ended.
  bool remedies() const;
  // Runs that have something running here.
  std::vector<std::string> runs() const;

 private:
  enum class Kind { kLoad, kProbe, kRemedy };
  using Key = std::tuple<std::string, Kind, std::string>;
  struct Job {
    uint64_t serial = 0;
    v1::CommandId id;
    WorkFactories::Handle handle;
    std::stop_source stop;
    Executor::TimerId end_timer = 0;
  };
  using Started = std::shared_ptr<absl::StatusOr<WorkFactories::Handle>>;

  void StartLoad(const v1::CommandId& id, const v1::StartLoad& start);
  void StartProbe(const v1::CommandId& id, const v1::StartProbe& start);
  void RunRemedy(const v1::CommandId& id, const v1::RunRemedy& run);
  Job& Add(const Key& key, const v1::CommandId& id, absl::Duration remaining);
  Job* Find(const Key& key, uint64_t serial);
  void OnStarted(const Key& key, uint64_t serial, const Started& started);
  void Stop(const Key& key, const std::string& reason);
  // Where blocking is allowed.
  void LetGo(WorkFactories::Handle handle);
  void OnWatch();
  void EndAndStopRuns(const std::string& reason);

  void SendLoad(const v1::CommandId& id, const std::string& load, bool running,
                const std::string& reason);
  void SendUnknown(const v1::CommandId& id, const std::string& probe, const std::string& why);
  void SendRemedy(const v1::CommandId& id, v1::RemedyReport report);
  void Send(const std::string& run, v1::Event event, const v1::CommandId* answers);
  // Sends from other threads, as long as the job runs.
  template <typename What>
  std::function<void(What)> SinkFor(const Key& key, uint64_t serial, void (*put)(v1::Event&, What));

  Executor& executor_;
  const v1::NodeSpec& node_;
  const WorkFactories factories_;
  const MayBegin may_begin_;
  const Sink report_;
  const Options options_;
  uint64_t next_serial_ = 1;
  absl::Duration renewed_;
  std::map<Key, Job> jobs_;
  // Command → the last answer. Bounded, oldest first in the queue beside it.
  std::map<std::string, v1::Report> answered_;
  std::deque<std::string> answered_order_;
  Executor::TimerId watch_timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
