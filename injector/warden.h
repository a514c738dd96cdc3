// Owns every fault of this node. It decides what goes on and when it goes off: by command, by its
// absolute end, by a lease that nobody renews, by a controller that is gone. On the executor only;
// never blocks, except for the disk.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "firedrill/v1/injector.pb.h"
#include "injector/disk.h"
#include "injector/epochs.h"
#include "injector/journal.h"
#include "injector/running_fault.h"

namespace firedrill {

class Warden {
 public:
  static constexpr char kStopFile[] = "STOP";

  struct Options {
    // For faults whose plan says none; shorter or longer ones are brought within the bounds.
    absl::Duration lease = absl::Seconds(5);
    absl::Duration shortest_lease = absl::Milliseconds(500);
    absl::Duration longest_lease = absl::Seconds(60);
    // A revert that says nothing for so long: `give_up` is called, which must end the process, so
    // that what dies with it is gone and the reaper undoes the rest.
    absl::Duration give_up_after = absl::Seconds(20);
    std::function<void(const std::string& why)> give_up;
    // SmallestLease() has become smaller. Called before the fault whose lease it is has touched
    // anything, so that whoever watches for hangs is no more patient than that fault.
    std::function<void()> lease_shortened;
    // How often what is stuck is tried again.
    absl::Duration retry_stuck = absl::Seconds(5);
    // The path of a file that stops this node; empty where there is none. Where it is not set, the
    // file STOP of the node's disk is looked for. Any thread.
    std::function<std::string()> stop_file;
  };
  // Gets reports without a number. Called within the calls below.
  using Sink = std::function<void(v1::Report)>;

  // `node`, `disk`, `epochs` outlive the warden.
  Warden(Executor& executor, const v1::NodeSpec& node, Disk& disk, Epochs& epochs,
         RunningFaultFactory factory, Sink report, Options options);
  ~Warden();

  // Faults that a dead predecessor began: looked for until they are seen to be gone. Returns those
  // that this version cannot look for, with why.
  std::vector<v1::Leftover> Adopt(const std::vector<Journal::Begun>& begun);
  // What it left and nobody could undo: a revert of it is answered with `stuck`.
  void AddLeftovers(std::vector<v1::Leftover> leftovers);

  // prepare, apply, revert. The same id gets the same answer, and no second act. An error, and
  // nothing is done or answered, where the sender is not to be obeyed: an epoch that is over,
  // another node's command.
  absl::Status Handle(const v1::Command& command);
  // A ping of this controller: renews the leases of its faults.
  void Renew(const std::string& group, uint64_t epoch);
  // The stream is gone for longer than its grace, or another controller has come: what is not
  // `untilLease` goes off, but for what is of the runs in `kept`.
  void ControllerLost(const std::set<std::string>& kept = {});
  // Another life of the controller goes on with these runs: it renews their leases from now on.
  void TakeOver(const std::set<std::string>& runs, const std::string& group, uint64_t epoch);
  // The lever of this controller: everything of it goes off, and nothing of it begins, until
  // Release().
  void Halt(const std::string& group, const std::string& words);
  void Release() { halted_.reset(); }
  // Why nothing begins on this node at all: the lever, or a file; empty where that is not so.
  std::string Stopped() const;
  std::string StoppedByFile() const;
  // Looks for the file that stops this node: also by itself, twice a second.
  void LookForStop();
  // Everything goes off, and nothing goes on any more. `done` gets false where something is stuck.
  void Close(const std::string& reason, std::function<void(bool clean)> done);

  // OK, or why nothing of this run (load, remedy, fault) may begin here any more.
  absl::Status MayBegin(const std::string& run) const;
  // From here on nothing of it begins. What is on is not touched by this.
  void StopRun(const std::string& run, const std::string& reason);

  // Nothing is on, prepared or on its way off. What is stuck counts.
  bool idle() const { return entries_.empty(); }
  // Everything that is on, by run and name.
  std::vector<v1::ActiveFault> active() const;
  const std::vector<v1::Leftover>& leftovers() const { return leftovers_; }
  // The smallest of what is on or prepared (that holds a connection already), else the default: the
  // reaper must not be more patient.
  absl::Duration SmallestLease() const;

 private:
  // (run, fault).
  using Key = std::pair<std::string, std::string>;
  // (epoch, attempt).
  using Fence = std::pair<uint64_t, uint32_t>;

  struct Entry {
    uint64_t serial = 0;
    Key key;
    v1::PlannedFault planned;
    std::string group;
    // Unspecified while it is only prepared.
    v1::FaultState state = v1::FAULT_STATE_UNSPECIFIED;
    std::unique_ptr<RunningFault> running;
    v1::CommandId applied_by;
    std::optional<v1::CommandId> reverted_by;
    absl::Duration lease;
    // Boot times.
    absl::Duration lease_until = absl::InfiniteDuration();
    absl::Duration ends_at = absl::InfiniteDuration();
    absl::Duration active_since;
    absl::Duration reported_at;
    absl::Duration reverting_since;
    std::string reason;
    // It was applied, or may have been in part.
    bool touched = false;
    // Set where it could not be prepared or applied.
    std::optional<absl::Status> refused;
    std::optional<v1::Observation> observation;
    Executor::TimerId due_timer = 0;
    Executor::TimerId patience_timer = 0;
  };
  struct Answered {
    Key key;
    // Set where this very command was refused, whatever became of the fault.
    std::optional<v1::FaultReport> refusal;
  };

  void Prepare(const v1::CommandId& id, const v1::PrepareFault& prepare, const absl::Status& kept);
  void Apply(const v1::CommandId& id, const v1::ApplyFault& apply, const absl::Status& kept);
  void Revert(const v1::CommandId& id, const v1::RevertFault& revert);
  // What forbids `planned` to go on now, whatever is on already.
  absl::Status MayGoOn(const v1::CommandId& id, const v1::PlannedFault& planned) const;
  absl::StatusOr<Entry*> NewEntry(const Key& key, const v1::PlannedFault& planned,
                                  const std::string& group);
  FaultNews NewsFor(const Key& key, uint64_t serial);
  Entry* Find(const Key& key, uint64_t serial);

  void OnPrepared(Entry& entry, const absl::Status& status);
  void OnApplied(Entry& entry, const absl::Status& status, absl::Time at);
  void OnObserved(Entry& entry, const absl::StatusOr<v1::Observation>& seen, absl::Time at);
  void OnEnded(Entry& entry, const FaultEnd& end);
  void OnDue(const Key& key, uint64_t serial);
  void OnImpatient(const Key& key, uint64_t serial);
  void OnWatch();

  // `stop_run`: nothing of its run goes on here any more.
  void BeginRevert(Entry& entry, const std::string& reason, bool stop_run);
  void ArmDue(Entry& entry);
  bool LeaseIsOver(const Entry& entry) const;
  void ExpireLease(Entry& entry);
  void Forget(const Key& key);
  void TellClosed();

  v1::FaultReport ReportOf(const Entry& entry) const;
  // Remembers it as the fault's last word, and sends it.
  void Send(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
            std::optional<absl::Time> at = std::nullopt);
  void SendOnly(const Key& key, const v1::FaultReport& report, const v1::CommandId* answers,
                std::optional<absl::Time> at = std::nullopt);
  void Refuse(const v1::CommandId& id, const Key& key, const absl::Status& why);
  void Remember(const v1::CommandId& id, Answered answered);
  // True where the command was answered before, and now again.
  bool AnswerAgain(const v1::CommandId& id);

  Executor& executor_;
  const v1::NodeSpec& node_;
  Disk& disk_;
  Epochs& epochs_;
  const RunningFaultFactory factory_;
  const Sink report_;
  const Options options_;

  uint64_t next_serial_ = 1;
  std::map<Key, Entry> entries_;
  std::vector<v1::Leftover> leftovers_;
  // Bounded memories, oldest first in the queues beside them.
  std::map<std::string, Answered> answered_;
  std::deque<std::string> answered_order_;
  std::map<Key, v1::FaultReport> last_;
  std::deque<Key> last_order_;
  std::map<Key, Fence> fences_;
  std::deque<Key> fences_order_;
  std::map<std::string, std::string> stopped_runs_;
  std::deque<std::string> stopped_order_;

  // What the lever said.
  std::optional<std::string> halted_;
  std::optional<std::string> closed_;
  std::function<void(bool)> closed_done_;
  Executor::TimerId watch_timer_ = 0;
  // Callbacks that were posted before the end find that it is over.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
