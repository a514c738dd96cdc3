// The highest epoch seen of each controller group: lines "<epoch> <group>".
#include "injector/epochs.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace firedrill {

absl::StatusOr<Epochs> Epochs::Open(Disk& disk) {
  Epochs epochs(disk);
  const absl::StatusOr<std::string> text = disk.Read(kFile);
  if (absl::IsNotFound(text.status())) return epochs;
  RETURN_IF_ERROR(Annotate(text.status(), "reading the epochs seen"));
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    uint64_t epoch = 0;
    std::string group;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &epoch) ||
        !absl::CUnescape(parts[1], &group)) {
      return absl::DataLossError(
          absl::StrCat("reading the epochs seen: \"", line,
                       "\" is not one; delete the file once no old controller can be running"));
    }
    epochs.seen_.emplace_back(std::move(group), epoch);
  }
  return epochs;
}

uint64_t Epochs::Highest(const std::string& group) const {
  const auto found = std::find_if(seen_.begin(), seen_.end(),
                                  [&](const auto& entry) { return entry.first == group; });
  return found == seen_.end() ? 0 : found->second;
}

absl::Status Epochs::Admit(const std::string& group, uint64_t epoch) {
  const uint64_t highest = Highest(group);
  if (epoch < highest) {
    return absl::FailedPreconditionError(absl::StrCat(
        "epoch ", epoch, " of the controller group ", group, " is over: this node has seen ",
        highest, "; another controller has taken over: end the one that still says this"));
  }
  if (epoch == highest && epoch != 0 && kept_) return absl::OkStatus();
  // Also where the disk cannot keep it: as long as this process lives, the old one is not obeyed.
  std::erase_if(seen_, [&](const auto& entry) { return entry.first == group; });
  if (seen_.size() >= kMostGroups) seen_.erase(seen_.begin());
  seen_.emplace_back(group, epoch);
  std::string text;
  for (const auto& [name, value] : seen_) {
    absl::StrAppend(&text, value, " ", absl::CEscape(name), "\n");
  }
  const absl::Status kept = disk_->Replace(kFile, text);
  kept_ = kept.ok();
  return Annotate(kept,
                  absl::StrCat("keeping the epoch ", epoch, " of the controller group ", group));
}

}  // namespace firedrill
