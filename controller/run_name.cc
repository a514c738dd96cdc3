// Finds a run by what somebody has written of its name.
#include "controller/run_name.h"

#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr size_t kMostNamed = 5;

}  // namespace

absl::StatusOr<std::string> FindRun(const Store& store, const std::string& name) {
  const bool last = name == "last";
  ASSIGN_OR_RETURN(const std::vector<v1::RunSummary> runs,
                   store.List(last ? 1 : std::numeric_limits<int32_t>::max()));
  if (last) return runs.empty() ? name : runs.front().run();
  std::vector<std::string> meant;
  for (const v1::RunSummary& run : runs) {
    if (run.run() == name) return name;
    if (!name.empty() && absl::StartsWith(run.run(), name)) meant.push_back(run.run());
  }
  if (meant.empty()) return name;
  if (meant.size() == 1) return meant.front();
  const size_t count = meant.size();
  if (count > kMostNamed) meant.resize(kMostNamed);
  return absl::InvalidArgumentError(
      absl::StrCat("run ", name, ": ", count, " runs begin so: ", absl::StrJoin(meant, ", "),
                   count > kMostNamed ? ", ..." : "", "; write more of the one that you mean"));
}

}  // namespace firedrill
