// Faults of a dead predecessor: looked for until they are seen to be gone, or told as left over.
#include <google/protobuf/util/json_util.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "injector/warden.h"

namespace firedrill {

std::vector<v1::Leftover> Warden::Adopt(const std::vector<Journal::Begun>& begun) {
  std::vector<v1::Leftover> left;
  for (const Journal::Begun& record : begun) {
    const Key key(record.run, record.fault);
    v1::PlannedFault planned;
    google::protobuf::util::JsonParseOptions lenient;
    lenient.ignore_unknown_fields = true;
    absl::Status made = absl::OkStatus();
    if (!google::protobuf::util::JsonStringToMessage(record.planned, &planned, lenient).ok()) {
      made = absl::DataLossError("its record in the journal cannot be read");
    } else if (entries_.count(key) == 0) {
      made = NewEntry(key, planned, "").status();
    }
    if (!made.ok()) {
      v1::Leftover& leftover = left.emplace_back();
      leftover.set_run(record.run);
      leftover.set_fault(record.fault);
      leftover.set_reason(
          absl::StrCat("its injector has ended, and nobody can look for it: ", made.message()));
      continue;
    }
    Entry& entry = entries_.at(key);
    if (entry.state != v1::FAULT_STATE_UNSPECIFIED) continue;
    entry.touched = true;
    entry.running->Adopt();
    BeginRevert(entry, "its injector had ended; it was looked for, and is gone", /*stop_run=*/true);
  }
  return left;
}

void Warden::AddLeftovers(std::vector<v1::Leftover> leftovers) {
  for (v1::Leftover& leftover : leftovers) leftovers_.push_back(std::move(leftover));
}

}  // namespace firedrill
