// What ended injectors left on this machine, and its undoing by whoever comes next: the reaper, a
// new injector, or any `firedrill` command. Needs none of the faults.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/injector.pb.h"
#include "injector/journal.h"

namespace firedrill {

// A process that disturbs nothing any more and carries on what was open when its injector ended.
struct CarryingWorker {
  int pid = 0;
  // "postgresql/127.0.0.1/5432".
  std::string subject;
  // 0 where that cannot be seen.
  int connections = 0;
};

struct NodeLeftovers {
  std::string node;
  // The process of the injector that owns them; 0 where nobody does.
  int owner = 0;
  // What is on, or is not known to be off. For an owned node: what its injector will undo itself.
  std::vector<v1::Leftover> entries;
  // What this call has undone, in words.
  std::vector<std::string> undone;
  // Why the journal could not be read or replayed; empty where it could.
  std::string trouble;
  // No faults, and nothing to undo: they end when what they carry is closed.
  std::vector<CarryingWorker> carrying = {};
};

// Every node of which something is left. Touches nothing. Blocks on the disk.
std::vector<NodeLeftovers> Leftovers(const std::string& state_dir);

// Undoes what no living injector owns, and says what it found; `entries` is what could not be
// undone or was left alone. Nodes whose lock is held longer than `wait` are skipped. Blocks as long
// as undoing does.
std::vector<NodeLeftovers> ReplayOwnerless(const std::string& state_dir,
                                           absl::Duration wait = absl::ZeroDuration());

// One node, whose lock the caller holds. With `forget_begun` faults without a lasting change are
// taken for gone with their process; else they stay recorded, for an injector that can look.
NodeLeftovers ReplayJournal(Journal& journal, const std::string& node, bool forget_begun);

// An open change, or one that could not be undone, as it is told to people and controllers.
v1::Leftover ToLeftover(const Journal::Entry& entry, const std::string& reason);

}  // namespace firedrill
