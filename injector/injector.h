// A whole injector without its process: journal, warden, work and session of one node over whatever
// executor, disk, wire and faults it is given. main.cc gives it the real ones, the simulation its
// own.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "injector/disk.h"
#include "injector/epochs.h"
#include "injector/journal.h"
#include "injector/leftovers.h"
#include "injector/node_file.h"
#include "injector/node_work.h"
#include "injector/running_fault.h"
#include "injector/session.h"
#include "injector/warden.h"

namespace firedrill {

class Injector {
 public:
  struct Options {
    std::string version;
    // Drawn at each start of the process.
    std::string instance;
    uint32_t pid = 0;
    std::vector<v1::Capability> capabilities;
    Warden::Options warden;
    NodeWork::Options work;
    Session::Options session;
  };
  // Executor, disk and dialler outlive the injector. The factories are called once, with the
  // injector's own node and journal, which outlive what they return.
  struct Parts {
    Executor& executor;
    Disk& disk;
    Dialler& dialler;
    v1::NodeSpec spec;
    std::function<RunningFaultFactory(Executor&, Node&, Journal&)> faults;
    // What blocks may outlive the injector: it has the journal with it.
    std::function<WorkFactories(const Node&, std::shared_ptr<Journal>, const Clock&)> work;
  };

  // Undoes first what a predecessor left, and serves nothing before that. Blocks on the disk and as
  // long as undoing does. On the executor, like everything below and the destructor.
  static absl::StatusOr<std::unique_ptr<Injector>> Open(Parts parts, Options options);

  // Dials. `ended` is called once when a private session is over.
  void Start(std::function<void(Session::End)> ended);
  // Everything goes off now if a file stops this node; also by itself, twice a second.
  void LookForStop();
  // Everything goes off; then `done`.
  void Close(const std::string& reason, std::function<void(Session::End)> done);

  Warden& warden() { return *warden_; }
  Session& session() { return *session_; }
  Journal& journal() { return *journal_; }
  // What was found at the start, for the log.
  const NodeLeftovers& found() const { return found_; }

 private:
  Injector(Parts parts, Options options);

  const Parts parts_;
  const Options options_;
  FileNode node_;
  std::shared_ptr<Journal> journal_;
  std::optional<Epochs> epochs_;
  NodeLeftovers found_;
  std::function<void(Session::End)> ended_;
  // In this order: each uses those above it.
  std::unique_ptr<Warden> warden_;
  std::unique_ptr<NodeWork> work_;
  std::unique_ptr<Session> session_;
};

}  // namespace firedrill
