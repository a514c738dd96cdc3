// Where a node keeps what must outlive its injector: <state
// dir>/nodes/<node>/{lock,journal,epochs,memory,STOP}.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/state_dir.h"
#include "base/unique_fd.h"

namespace firedrill {

// The nodes that have a folder here, by name.
std::vector<std::string> NodesIn(const std::string& state_dir);

std::string NodeFolder(const std::string& state_dir, absl::string_view node);

// The token for "this process is the injector of this node": one per node and user. Released by the
// destructor, and by the kernel when the process ends in any way.
class NodeLock {
 public:
  // Makes the folder. Waits at most `wait` for another holder; then FAILED_PRECONDITION says which
  // process holds it, and what to do. INVALID_ARGUMENT for a name that is none.
  static absl::StatusOr<NodeLock> Take(const std::string& state_dir, const std::string& node,
                                       absl::Duration wait = absl::ZeroDuration());

  const std::string& folder() const { return folder_; }

 private:
  NodeLock(std::string folder, UniqueFd fd) : folder_(std::move(folder)), fd_(std::move(fd)) {}

  std::string folder_;
  UniqueFd fd_;
};

// What an injector exits with where another process has the node: no reason to start it again.
inline constexpr int kExitNodeInUse = 6;

// The process that holds the node's lock; 0 where nobody does. Takes and makes nothing.
int LockHolder(const std::string& state_dir, const std::string& node);

}  // namespace firedrill
