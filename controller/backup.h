// The whole store in one file, for another disk; and back.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace firedrill {

// Copies the store of `state_dir` as it is at one instant, also while controllers write it. `file`
// is replaced when the copy is whole, synced and checked; INVALID_ARGUMENT where it is there and no
// database, or the store itself.
absl::Status BackUp(const std::string& state_dir, const std::string& file);

struct Restored {
  uint64_t runs = 0;
  uint64_t experiments = 0;
  // Of the controller that comes next.
  uint64_t epoch = 0;
};
// Puts a copy in the place of the store of `state_dir`. FAILED_PRECONDITION while a controller
// lives, and for a copy of a newer firedrill; DATA_LOSS for a file that is damaged, or none of
// ours: nothing is changed then. Injectors obey who comes next, whatever epochs they have seen
// since the copy was made; no run of the copy goes on, whatever it says; slots up to now are
// nobody's, since nobody knows any more which of them were fired.
absl::StatusOr<Restored> Restore(const std::string& state_dir, const std::string& file,
                                 const Clock& clock);

}  // namespace firedrill
