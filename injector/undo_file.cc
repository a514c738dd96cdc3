// Undoes a change of a file that holds one small value.
#include "absl/strings/str_cat.h"
#include "injector/small_file.h"
#include "injector/undo.h"

namespace firedrill {
namespace {

UndoResult UndoFile(const Undo& undo, std::string* why) {
  const absl::StatusOr<std::string> now = ReadSmallFile(undo.resource);
  if (absl::IsNotFound(now.status())) {
    *why = absl::StrCat(undo.resource, " is not there any more");
    return UndoResult::kSuperseded;
  }
  if (!now.ok()) {
    *why = std::string(now.status().message());
    return UndoResult::kFailed;
  }
  if (*now == undo.before) return UndoResult::kUntouched;
  if (*now != undo.after) {
    *why = absl::StrCat(undo.resource, " holds \"", *now, "\", and we wrote \"", undo.after,
                        "\": somebody else has changed it since, so it is left alone");
    return UndoResult::kSuperseded;
  }
  absl::Status written = WriteSmallFile(undo.resource, undo.before);
  if (written.ok()) {
    const absl::StatusOr<std::string> back = ReadSmallFile(undo.resource);
    if (back.ok() && *back == undo.before) return UndoResult::kRestored;
    written = back.ok() ? absl::UnavailableError(
                              absl::StrCat(undo.resource, " does not keep \"", undo.before, "\""))
                        : back.status();
  }
  *why = std::string(written.message());
  return UndoResult::kFailed;
}

const UndoRegistration kFile("file", UndoFile);

}  // namespace
}  // namespace firedrill
