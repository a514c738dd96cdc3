// What ended injectors left on this machine.
#include "injector/leftovers.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "injector/disk.h"
#include "injector/state_dir.h"

namespace firedrill {
namespace {

std::string Says(const Journal::Entry& entry) {
  return absl::StrCat(entry.undo.resource, " (run ", entry.run, ", fault ", entry.fault, ")");
}

constexpr char kWorker[] = "firedrill-wire";

std::vector<std::string> NamesIn(const std::string& path) {
  std::vector<std::string> names;
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) names.emplace_back(entry->d_name);
  closedir(folder);
  return names;
}

std::string ReadWhole(const std::string& path) {
  // Not by an iterator: that throws when the process ends meanwhile.
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

int ParentOf(const std::string& pid) {
  const std::string stat = ReadWhole(absl::StrCat("/proc/", pid, "/stat"));
  // Behind the name, which may hold anything: state, parent.
  const std::vector<std::string> words =
      absl::StrSplit(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)), ' ');
  int parent = 0;
  return words.size() > 2 && absl::SimpleAtoi(words[2], &parent) ? parent : 0;
}

// Each connection has a socket on either side.
int ConnectionsOf(const std::string& pid) {
  const std::string folder = absl::StrCat("/proc/", pid, "/fd");
  int sockets = 0;
  for (const std::string& name : NamesIn(folder)) {
    char target[64] = {};
    const ssize_t size =
        readlink(absl::StrCat(folder, "/", name).c_str(), target, sizeof(target) - 1);
    if (size > 0 && absl::StartsWith(target, "socket:")) ++sockets;
  }
  return (sockets + 1) / 2;
}

// `owner` looks after its own children.
std::vector<CarryingWorker> WorkersLeftBy(const std::string& node_folder, int owner) {
  std::vector<CarryingWorker> found;
  for (const std::string& name : NamesIn("/proc")) {
    CarryingWorker worker;
    if (!absl::SimpleAtoi(name, &worker.pid)) continue;
    const std::vector<std::string> words =
        absl::StrSplit(ReadWhole(absl::StrCat("/proc/", name, "/cmdline")), '\0');
    if (words.size() < 3 || words[1] != node_folder || !absl::EndsWith(words[0], kWorker)) continue;
    if (owner != 0 && ParentOf(name) == owner) continue;
    worker.subject = words[2];
    worker.connections = ConnectionsOf(name);
    found.push_back(worker);
  }
  return found;
}

void AddDamaged(const Journal& journal, const std::string& node, NodeLeftovers& left) {
  for (const std::string& line : journal.damaged()) {
    v1::Leftover& leftover = left.entries.emplace_back();
    leftover.set_resource(absl::StrCat("journal of ", node));
    leftover.set_reason(absl::StrCat("a line of the journal is damaged: ", line));
    leftover.set_undo_by_hand("read the line, undo what it names, then delete it from the journal");
  }
}

}  // namespace

v1::Leftover ToLeftover(const Journal::Entry& entry, const std::string& reason) {
  v1::Leftover leftover;
  leftover.set_run(entry.run);
  leftover.set_fault(entry.fault);
  leftover.set_resource(entry.undo.resource);
  leftover.set_undo_by_hand(entry.undo.by_hand);
  leftover.set_reason(reason);
  return leftover;
}

NodeLeftovers ReplayJournal(Journal& journal, const std::string& node, bool forget_begun) {
  NodeLeftovers left;
  left.node = node;
  std::vector<Journal::Entry> before = journal.open();
  const Journal::RollbackResult result = journal.RollBackAll();
  for (const Journal::Problem& problem : result.problems) {
    left.entries.push_back(ToLeftover(problem.entry, problem.why));
    std::erase_if(
        before, [&](const Journal::Entry& entry) { return entry.number == problem.entry.number; });
  }
  for (const Journal::Entry& entry : before) left.undone.push_back(Says(entry));
  if (forget_begun) {
    for (const Journal::Begun& begun : journal.begun()) {
      journal.End(begun.run, begun.fault);
      left.undone.push_back(absl::StrCat("fault ", begun.fault, " of run ", begun.run,
                                         ", whose injector has ended, and what it held with it"));
    }
  }
  AddDamaged(journal, node, left);
  return left;
}

std::vector<NodeLeftovers> Leftovers(const std::string& state_dir) {
  std::vector<NodeLeftovers> all;
  for (const std::string& node : NodesIn(state_dir)) {
    NodeLeftovers left;
    left.node = node;
    left.owner = LockHolder(state_dir, node);
    FileDisk disk(NodeFolder(state_dir, node));
    const auto journal = Journal::Open(disk, node);
    if (!journal.ok()) {
      left.trouble = std::string(journal.status().message());
      all.push_back(std::move(left));
      continue;
    }
    for (const Journal::Entry& entry : (*journal)->open()) {
      left.entries.push_back(ToLeftover(
          entry, left.owner != 0
                     ? absl::StrCat("on, and owned by the injector, process ", left.owner)
                     : "its injector has ended without undoing it"));
    }
    for (const Journal::Begun& begun : (*journal)->begun()) {
      v1::Leftover& leftover = left.entries.emplace_back();
      leftover.set_run(begun.run);
      leftover.set_fault(begun.fault);
      leftover.set_reason(
          left.owner != 0
              ? absl::StrCat("on, and held by the injector, process ", left.owner)
              : "its injector has ended, and what it held with it; nobody has looked since");
      if (left.owner != 0) leftover.set_undo_by_hand(absl::StrCat("kill ", left.owner));
    }
    AddDamaged(**journal, node, left);
    left.carrying = WorkersLeftBy(NodeFolder(state_dir, node), left.owner);
    if (!left.entries.empty() || !left.carrying.empty()) all.push_back(std::move(left));
  }
  return all;
}

std::vector<NodeLeftovers> ReplayOwnerless(const std::string& state_dir, absl::Duration wait) {
  std::vector<NodeLeftovers> all;
  for (const std::string& node : NodesIn(state_dir)) {
    FileDisk disk(NodeFolder(state_dir, node));
    if (!disk.Exists(Journal::kFile)) continue;
    const absl::StatusOr<NodeLock> lock = NodeLock::Take(state_dir, node, wait);
    if (!lock.ok()) {
      // A living injector looks after its own journal; anything else is worth a word.
      if (absl::IsFailedPrecondition(lock.status())) continue;
      all.push_back({node, 0, {}, {}, std::string(lock.status().message())});
      continue;
    }
    const auto journal = Journal::Open(disk, node);
    if (!journal.ok()) {
      all.push_back({node, 0, {}, {}, std::string(journal.status().message())});
      continue;
    }
    NodeLeftovers left = ReplayJournal(**journal, node, /*forget_begun=*/true);
    if (!left.entries.empty() || !left.undone.empty()) all.push_back(std::move(left));
  }
  return all;
}

}  // namespace firedrill
