// The runs that go on, each an empty file of its name in the state folder. A history alone does not
// say that a run goes on: its end may be what the disk had no room for, or it was put back from a
// copy. The file is made before the first event is written, and removed, which takes no space, as
// soon as the history is not the whole truth any more, or the run has ended. A controller that is
// started again goes on with a run that has its mark, and only sees others undone. They outlive no
// reboot, as runs do not: they are not synced.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"

namespace firedrill {

class GoingMarks {
 public:
  // None are kept where `state_dir` is empty: nobody goes on with these runs.
  explicit GoingMarks(const std::string& state_dir);
  absl::Status Make(const std::string& run) const;
  void Remove(const std::string& run) const;
  bool Has(const std::string& run) const;
  // Removes those of all other runs.
  absl::Status KeepOnly(const std::set<std::string>& runs) const;

 private:
  std::string folder_;
};

}  // namespace firedrill
