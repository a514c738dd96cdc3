// The five fields of a schedule: minute, hour, day of month, month, day of week.
#pragma once

#include <bitset>
#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

struct Cron {
  std::bitset<60> minutes;
  std::bitset<24> hours;
  std::bitset<32> days;     // 1 to 31.
  std::bitset<13> months;   // 1 to 12.
  std::bitset<7> weekdays;  // 0 is Sunday; 7 is read as 0.
  // Both days restricted: either is enough, as in every cron.
  bool any_day = false;
  bool any_weekday = false;
  // Neither a wildcard nor a step in minute and hour: one instant of the local day, or several.
  bool fixed_time = false;
};

// InvalidArgument where the text is no schedule, or one that never comes (31 February); then
// `*error_offset`, if given, is where, from 0.
absl::StatusOr<Cron> ParseCron(absl::string_view text, size_t* error_offset = nullptr);

}  // namespace firedrill
