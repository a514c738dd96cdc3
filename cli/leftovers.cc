// `firedrill leftovers`, and the look at journals with which every run begins.
#include "cli/leftovers.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/state_dir.h"
#include "cli/commands.h"
#include "cli/private_run.h"
#include "injector/leftovers.h"

namespace firedrill {
namespace {

// An injector that is just ending may hold its node's lock a moment longer.
constexpr absl::Duration kLockWait = absl::Seconds(1);

std::string Describe(const NodeLeftovers& node, const v1::Leftover& entry) {
  std::string text = absl::StrCat("node ", node.node, ": fault ", entry.fault(), " of run ", entry.run());
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
    if (!node.trouble.empty()) {
      lines.push_back(absl::StrCat("node ", node.node, ": ", node.trouble));
    }
  }
  return lines;
}

}  // namespace

std::vector<std::string> DescribeLeftovers(const std::string& state_dir) {
  return Describe(Leftovers(state_dir));
}

std::vector<std::string> UndoLeftovers(const std::string& state_dir) {
  return Describe(ReplayOwnerless(state_dir, kLockWait));
}

int LeftoversCommand(const Places& places) {
  const absl::StatusOr<std::string> state_dir = StateDir(places.state_dir);
  if (!state_dir.ok()) {
    std::fprintf(stderr, "firedrill: %s\n", std::string(state_dir.status().message()).c_str());
    return kUsageError;
  }
  RemoveStaleFolders();
  for (const std::string& line : UndoLeftovers(*state_dir)) std::printf("%s\n", line.c_str());
  const std::vector<NodeLeftovers> left = Leftovers(*state_dir);
  bool needs_a_person = false;
  size_t owned = 0;
  for (const NodeLeftovers& node : left) {
    if (node.owner != 0) owned += node.entries.size();
    if (node.owner == 0 && (!node.entries.empty() || !node.trouble.empty())) needs_a_person = true;
  }
  if (needs_a_person) {
    std::printf("something is left that could not be undone: a person must look\n");
    return kUndoUnconfirmed;
  }
  if (owned > 0) {
    for (const std::string& line : Describe(left)) std::printf("%s\n", line.c_str());
    return 0;
  }
  std::printf("no node of this machine carries anything (looked in %s)\n", state_dir->c_str());
  return 0;
}

}  // namespace firedrill
