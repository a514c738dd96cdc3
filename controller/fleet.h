// The injectors that have dialled in: who they are, what they were told, what they have reported.
// Commands are kept and sent again after a reconnect until the run lets go of them; reports are
// taken once. Everything runs on the executor, but for Halt().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "base/link.h"
#include "base/mutex.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/injector.pb.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// What a run hears of its nodes.
struct FleetListener {
  // A report of this run. False where it could not be kept: the injector will send it again.
  std::function<bool(v1::Event)> report;
  // A node connected, or went silent.
  std::function<void(const v1::NodeReport&)> node;
};

class Fleet {
 public:
  struct Options {
    // Names the controller group in command ids; epochs are compared within it.
    std::string group = "local";
    uint64_t epoch = 1;
    // How often every injector is pinged; a ping renews its leases.
    absl::Duration ping_every = absl::Seconds(1);
    // An injector that says nothing for so long is taken for gone.
    absl::Duration silent_after = absl::Seconds(4);
    // Set while the lever is pulled: who registers is told at once. Any thread.
    std::function<std::optional<v1::Halt>()> halt;
  };

  using Down = Link<v1::ConnectResponse>;
  using UpEvents = LinkEvents<v1::ConnectRequest>;

  Fleet(Executor& executor, Options options);
  ~Fleet();

  // Takes a new link; the events are to be called on the executor. `proven`: the name of its
  // certificate, under which alone it may register; empty on a Unix socket.
  UpEvents Accept(std::shared_ptr<Down> link, std::string proven = "");

  // Nodes that are connected now.
  std::vector<v1::Registration> Connected() const;
  // Of the state folder with which the node has dialled in; empty while it is away, and where it
  // does not say.
  std::string MemoryOf(const std::string& node) const;
  // This node is away, and does not come back with that: a person has said so.
  void ForgetFault(const std::string& node, const std::string& run, const std::string& fault);
  // Every node seen, connected or not.
  std::vector<v1::InjectorSummary> Seen() const;

  void Subscribe(const std::string& run, FleetListener listener);
  // Also forgets the run's commands, but for those that end something: a node that is away, and may
  // come back before its longest lease is over, still has to hear them.
  void Unsubscribe(const std::string& run);

  // Sends, now or when the node is there. The id must be complete. A revert takes back an apply of
  // the same fault that was not sent yet. `at` of the absolute end does not move when a command is
  // sent again.
  void Send(const v1::Command& command);

  // Asks the nodes what each of these faults would hit. `done` once, with as many subjects in their
  // order; `unsure` where a node did not say it in time.
  void AskSubjects(const std::vector<v1::PlannedFault>& faults,
                   std::function<void(std::vector<v1::Subject>)> done);

  // A run of a controller before this one with which this one goes on: injectors that dial in are
  // told, and leave on what they have on of it, as long as it is subscribed to.
  void GoOnWith(const std::string& run) { resumed_.insert(run); }

  // To every node that is connected, past the executor: the only call that any thread may make.
  // Returns to how many.
  size_t Halt(const v1::Halt& halt) FD_EXCLUDES(lines_mutex_);

  const Options& options() const { return options_; }

 private:
  struct Kept {
    v1::Command command;
    absl::Duration issued;  // Boot time.
    // Of a run that is over: boot time until which it is kept.
    absl::Duration until = absl::InfiniteDuration();
  };
  struct NodeEntry {
    v1::Registration registration;
    v1::NodeFigures figures;
    std::shared_ptr<Down> link;  // Null while it is away.
    uint64_t link_id = 0;
    absl::Duration heard;  // Boot time of its last message.
    absl::Time seen;
    uint64_t reports_taken = 0;
    bool fresh = true;  // No report of this instance was taken yet.
    absl::Duration offset;
    absl::Duration error = absl::InfiniteDuration();
    std::vector<Kept> kept;
  };
  // A question about subjects, until every node has answered.
  struct Asked {
    std::vector<v1::Subject> subjects;
    // Node → the number of its question, and which of the subjects it is about.
    std::map<std::string, std::pair<uint64_t, std::vector<size_t>>> missing;
    std::function<void(std::vector<v1::Subject>)> done;
  };
  struct Pending {
    std::shared_ptr<Down> link;
    std::string proven;
    std::string node;  // Empty until it has registered.
  };

  void OnMessage(uint64_t link_id, const v1::ConnectRequest& message);
  void OnClosed(uint64_t link_id, const absl::Status& why);
  void Register(uint64_t link_id, Pending& pending, const v1::Registration& registration);
  void Refuse(uint64_t link_id, const std::string& reason, const std::string& next);
  // Of an injector that obeys a controller of a higher epoch: it may dial again at once, for the
  // address may be that one's by then.
  void SendToSuccessor(uint64_t link_id, const v1::Registration& registration);
  void TakeReport(NodeEntry& node, const v1::Report& report);
  void TakeSubjects(const std::string& node, const v1::SubjectsTold& told);
  void GiveUpAsking(const std::shared_ptr<Asked>& asked);
  void TakePong(NodeEntry& node, const v1::Pong& pong);
  void Ping();
  void Transmit(NodeEntry& node, const Kept& kept);
  void SetLink(const std::string& name, NodeEntry& node, std::shared_ptr<Down> link)
      FD_EXCLUDES(lines_mutex_);
  void Tell(const std::string& node, bool connected, const std::string& reason,
            bool restarted = false);

  Executor& executor_;
  const Options options_;
  uint64_t next_link_ = 1;
  // The highest epoch of this group that an injector has told of.
  uint64_t superseded_by_ = 0;
  std::map<uint64_t, Pending> links_;
  std::map<std::string, NodeEntry> nodes_;
  std::map<std::string, FleetListener> listeners_;
  std::set<std::string> resumed_;
  // What is being asked about subjects.
  std::vector<std::shared_ptr<Asked>> asked_;
  uint64_t questions_ = 0;
  // The links of nodes_, for Halt().
  Mutex lines_mutex_;
  std::map<std::string, std::shared_ptr<Down>> lines_ FD_GUARDED_BY(lines_mutex_);
  uint64_t pings_ = 0;
  // Number → when it was sent: boot and wall time.
  std::map<uint64_t, std::pair<absl::Duration, absl::Time>> ping_sent_;
  Executor::TimerId ping_timer_ = 0;
  // Callbacks that were posted before the end find that it is over.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
