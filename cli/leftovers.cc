// `firedrill leftovers`, and the look at journals with which every run begins.
#include "cli/leftovers.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "cli/commands.h"
#include "cli/private_run.h"
#include "controller/lost_runs.h"
#include "controller/sqlite_store.h"
#include "injector/leftovers.h"
#include "injector/state_dir.h"

namespace firedrill {
namespace {

// An injector that is just ending may hold its node's lock a moment longer.
constexpr absl::Duration kLockWait = absl::Seconds(1);

std::string Describe(const NodeLeftovers& node, const v1::Leftover& entry) {
  std::string text =
      absl::StrCat("node ", node.node, ": fault ", entry.fault(), " of run ", entry.run());
  if (!entry.resource().empty()) absl::StrAppend(&text, " on ", entry.resource());
  if (!entry.reason().empty()) absl::StrAppend(&text, ": ", entry.reason());
  if (node.owner != 0) {
    absl::StrAppend(&text, "; its injector (process ", node.owner, ") undoes it when it ends");
  } else if (!entry.undo_by_hand().empty()) {
    absl::StrAppend(&text, "\n    to undo it by hand: ", entry.undo_by_hand());
  }
  return text;
}

std::vector<std::string> Describe(const std::vector<NodeLeftovers>& nodes) {
  std::vector<std::string> lines;
  for (const NodeLeftovers& node : nodes) {
    for (const std::string& undone : node.undone) {
      lines.push_back(absl::StrCat("node ", node.node, ": undone now: ", undone));
    }
    for (const v1::Leftover& entry : node.entries) lines.push_back(Describe(node, entry));
    for (const CarryingWorker& worker : node.carrying) {
      lines.push_back(absl::StrCat(
          "node ", node.node, ": process ", worker.pid, " (firedrill-wire) disturbs nothing and ",
          "carries on ", worker.connections == 0 ? "" : absl::StrCat(worker.connections, " "),
          worker.connections == 1 ? "open connection to " : "open connections to ", worker.subject,
          "; it ends when they are closed (kill -9 ", worker.pid, " would break them)"));
    }
    if (!node.trouble.empty()) {
      lines.push_back(absl::StrCat("node ", node.node, ": ", node.trouble));
    }
  }
  return lines;
}

// Only of private runs: the nodes of another controller need not be of this machine.
Whereabouts WhereOnThisMachine(const v1::Command& apply, const std::vector<std::string>& nodes,
                               const std::vector<NodeLeftovers>& left) {
  const v1::CommandId& id = apply.id();
  if (!absl::StartsWith(id.group(), kPrivateGroup)) return Whereabouts::kUnknown;
  if (std::find(nodes.begin(), nodes.end(), id.node()) == nodes.end()) return Whereabouts::kUnknown;
  for (const NodeLeftovers& node : left) {
    if (node.node != id.node()) continue;
    if (!node.trouble.empty()) return Whereabouts::kUnknown;
    for (const v1::Leftover& entry : node.entries) {
      // A damaged line names no run: it may be about any.
      if (!entry.run().empty() && (entry.run() != id.run() || entry.fault() != id.name())) continue;
      return node.owner != 0 ? Whereabouts::kBeingUndone : Whereabouts::kUnknown;
    }
  }
  return Whereabouts::kGone;
}

absl::StatusOr<std::vector<ClosedRun>> CloseRuns(const std::string& state_dir,
                                                 const std::set<std::string>& unsure) {
  const std::string path = absl::StrCat(state_dir, "/history.db");
  if (access(path.c_str(), F_OK) != 0) return std::vector<ClosedRun>();
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store, SqliteStore::Open(path));
  const std::vector<std::string> nodes = NodesIn(state_dir);
  const std::vector<NodeLeftovers> left = Leftovers(state_dir);
  return CloseLostRuns(*store, state_dir, RealClock(), [&](const v1::Command& apply) {
    if (unsure.count(apply.id().node()) > 0) return Whereabouts::kUnknown;
    return WhereOnThisMachine(apply, nodes, left);
  });
}

}  // namespace

absl::StatusOr<std::string> StateDirToRead(const Places& places) {
  if (!places.state_dir.empty() && access(places.state_dir.c_str(), F_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("reading the state folder ", places.state_dir,
                                            ": there is none; correct --state-dir"));
  }
  return StateDir(places.state_dir);
}

absl::StatusOr<std::vector<std::string>> EndLostRuns(const std::string& state_dir,
                                                     const std::set<std::string>& unsure) {
  ASSIGN_OR_RETURN(const std::vector<ClosedRun> closed, CloseRuns(state_dir, unsure));
  std::vector<std::string> lines;
  for (const ClosedRun& run : closed) {
    lines.push_back(absl::StrCat(
        "run ", run.run, " of ", run.experiment,
        " had lost its controller: it is ended as aborted, ",
        run.undo_confirmed ? "every fault undone"
                           : absl::StrCat("undo NOT confirmed; see firedrill report ", run.run)));
  }
  return lines;
}

std::vector<std::string> TidyUp(const std::string& state_dir) {
  std::vector<std::string> lines = UndoLeftovers(state_dir);
  RemoveStaleFolders();
  const absl::StatusOr<std::vector<std::string>> ended = EndLostRuns(state_dir);
  if (!ended.ok()) {
    lines.emplace_back(ended.status().message());
  } else {
    lines.insert(lines.end(), ended->begin(), ended->end());
  }
  return lines;
}

std::vector<std::string> DescribeLeftovers(const std::string& state_dir) {
  return Describe(Leftovers(state_dir));
}

std::vector<std::string> UndoLeftovers(const std::string& state_dir) {
  const std::vector<std::string> nodes = NodesIn(state_dir);
  // It is worth waiting for a reaper, not for another run.
  const bool in_use = std::any_of(nodes.begin(), nodes.end(), [&](const std::string& node) {
    return UseOf(state_dir, node).WillStay();
  });
  return Describe(ReplayOwnerless(state_dir, in_use ? absl::ZeroDuration() : kLockWait));
}

int LeftoversCommand(const Places& places) {
  const auto complain = [](const absl::Status& status) {
    std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
    return kUsageError;
  };
  const absl::StatusOr<std::string> state_dir = StateDirToRead(places);
  if (!state_dir.ok()) return complain(state_dir.status());
  const auto say = [](const std::vector<std::string>& lines) {
    for (const std::string& line : lines) std::printf("%s\n", line.c_str());
  };
  say(UndoLeftovers(*state_dir));
  RemoveStaleFolders();
  // What the nodes carry counts more than what the history says: a broken one is no reason not to
  // look.
  const absl::StatusOr<std::vector<std::string>> ended = EndLostRuns(*state_dir);
  if (ended.ok()) say(*ended);
  const int code = ended.ok() ? 0 : complain(ended.status());
  const std::vector<NodeLeftovers> left = Leftovers(*state_dir);
  bool needs_a_person = false;
  size_t living = 0;
  for (const NodeLeftovers& node : left) {
    living += node.carrying.size();
    if (node.owner != 0) living += node.entries.size();
    if (node.owner == 0 && (!node.entries.empty() || !node.trouble.empty())) needs_a_person = true;
  }
  if (needs_a_person) {
    std::printf("something is left that could not be undone: a person must look\n");
    return kUndoUnconfirmed;
  }
  if (living > 0) {
    say(Describe(left));
  } else {
    std::printf("no node of this machine carries anything (looked in %s)\n", state_dir->c_str());
  }
  return code;
}

}  // namespace firedrill
