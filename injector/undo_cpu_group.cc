// Undoes the move of processes into a control group of our own: they go back to the group that it
// was made in, with the children that were born in it, and it is removed.
#include "absl/strings/str_cat.h"
#include "injector/os/cgroup.h"
#include "injector/undo.h"

namespace firedrill {
namespace {

// Undo::access where the controller had to be passed on to it.
constexpr char kPassedOn[] = "controller";

UndoResult UndoCpuGroup(const Undo& undo, std::string* why) {
  const Cgroup inner(undo.resource);
  const Cgroup origin(undo.resource.substr(0, undo.resource.rfind('/')));
  const bool was_there = inner.IsThere();
  const auto limit = inner.Limit();
  if (limit.ok() && limit->quota_us.has_value() && inner.LimitText(*limit) != undo.after) {
    *why = absl::StrCat(inner.LimitFile(), " says \"", inner.LimitText(*limit),
                        "\", and we wrote \"", undo.after,
                        "\": somebody else has changed it since, so the group is left alone");
    return UndoResult::kSuperseded;
  }
  const absl::Status unmade = origin.Unmake(inner, undo.access == kPassedOn);
  if (unmade.ok()) return was_there ? UndoResult::kRestored : UndoResult::kUntouched;
  // A group cannot be removed while it has one in it.
  if (absl::IsNotFound(unmade) && !origin.IsThere()) return UndoResult::kUntouched;
  *why = std::string(unmade.message());
  return UndoResult::kFailed;
}

const UndoRegistration kCpuGroup("cpu_group", UndoCpuGroup);

}  // namespace
}  // namespace firedrill
