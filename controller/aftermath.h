// Runs that have ended and have left something that nobody has seen undone: heard of their nodes
// until it is, or until a person settles it, and written into their histories. What may still be on
// keeps its subject. Across restarts. Everything runs on the executor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "controller/fleet.h"
#include "controller/run_left.h"
#include "controller/store.h"
#include "controller/subjects.h"
#include "firedrill/v1/controller.pb.h"

namespace firedrill {

// One such run.
struct LeftRunFaults {
  std::string run, experiment, owner;
  // By FaultKey().
  std::map<std::string, LeftFault> faults;
  Memories memories;
  // Its nodes served nobody else, and dial nobody any more: only a person can say what became of
  // it.
  bool is_private = false;
  uint64_t next_seq = 1;
  // Of its last event.
  absl::Time last;
  bool settled = false;
};

// The last events of a run that has ended, which the store has not taken.
struct UnwrittenEvents {
  std::vector<v1::Event> events;
  absl::Status why;
};

class Aftermath {
 public:
  // The rest outlive it.
  Aftermath(Executor& executor, Store& store, Fleet& fleet, Subjects& subjects);
  ~Aftermath();

  // Once, before the first plan: what runs of earlier controllers have left. Blocks on the store.
  absl::Status Recall();
  // A run has ended: frees what it has hit, but for what may be on still.
  void Begin(const std::string& run, const std::vector<v1::Event>& history);
  // Tries to write them until the store takes them, or another controller has taken over: before
  // anything else of the run, and before Begin() is told of it.
  void KeepUnwritten(const std::string& run, UnwrittenEvents unwritten);
  // By run.
  const std::map<std::string, UnwrittenEvents>& unwritten() const { return unwritten_; }
  // To what the store says of the run.
  void AddUnwritten(const std::string& run, std::vector<v1::Event>& history) const;
  void AddUnwritten(v1::RunSummary& summary) const;
  // A person has looked, and says so: what `run` has left, on `node` where it is named, is gone, or
  // its node is. Answers with the faults, by FaultKey(). FAILED_PRECONDITION where there is
  // nothing, and where a node that is connected says that it carries it. Blocks on the store.
  absl::StatusOr<std::vector<std::string>> Settle(const std::string& run, const std::string& node,
                                                  const std::string& by, const std::string& reason);
  // By run.
  const std::map<std::string, LeftRunFaults>& left() const { return left_; }
  // `seen`, and the nodes that nobody has seen in this controller's life; each with what it may
  // carry.
  std::vector<v1::InjectorSummary> Complete(std::vector<v1::InjectorSummary> seen) const;

 private:
  void Watch(const std::string& run);
  void Unwatch(const std::string& run);
  // What its node said of it. False where that could not be written.
  bool Hear(const std::string& run, const v1::Event& event);
  // Whether what is left is on a node that has dialled in, and says nothing of it.
  void LookAtNodes();
  void LookAtNode(LeftRunFaults& left, const v1::Registration& node);
  void LookLater();
  absl::Status WriteUnwritten(const std::string& run);
  void WriteUnwrittenLater();
  // Appends it to the run's history, and takes the fault off what it has left.
  absl::Status Write(LeftRunFaults& left, v1::Event event);
  // Frees the subjects of what is off, and forgets the run where nothing is left.
  void Tidy(const std::string& run);
  void Later(std::function<void()> task);

  Executor& executor_;
  Store& store_;
  Fleet& fleet_;
  Subjects& subjects_;
  std::map<std::string, LeftRunFaults> left_;
  std::map<std::string, UnwrittenEvents> unwritten_;
  Executor::TimerId look_timer_ = 0, write_timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace firedrill
