// From cron's fields and a zone to instants.
#include "controller/schedule.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "experiment/zone.h"

namespace firedrill {
namespace {

// 29 February on one weekday comes after 28 years at the latest, and 40 where a century has no
// leap day; with no weekday after 8.
constexpr int kMostDays = 41 * 366;

// 0 = Sunday.
int DayOf(absl::CivilDay day) { return (static_cast<int>(absl::GetWeekday(day)) + 1) % 7; }

}  // namespace

absl::StatusOr<Timetable> Timetable::Make(const v1::Schedule& schedule) {
  Timetable table;
  ASSIGN_OR_RETURN(table.cron_, ParseCron(schedule.cron()));
  ASSIGN_OR_RETURN(table.zone_, LoadZone(schedule.time_zone()));
  for (const std::string& date : schedule.not_on().dates()) {
    absl::CivilDay day;
    if (!absl::ParseCivilTime(date, &day))
      return absl::InvalidArgumentError(absl::StrCat("'", date, "' is no day of the calendar"));
    table.left_out_.push_back(day);
  }
  return table;
}

bool Timetable::IsOn(absl::CivilDay day) const {
  if (!cron_.months[static_cast<size_t>(day.month())]) return false;
  const bool date = cron_.days[static_cast<size_t>(day.day())];
  const bool weekday = cron_.weekdays[static_cast<size_t>(DayOf(day))];
  // Both restricted: either is enough.
  return cron_.any_day || cron_.any_weekday ? date && weekday : date || weekday;
}

bool Timetable::IsAt(absl::CivilMinute minute) const {
  return cron_.minutes[static_cast<size_t>(minute.minute())] &&
         cron_.hours[static_cast<size_t>(minute.hour())] && IsOn(absl::CivilDay(minute));
}

void Timetable::AddMinute(absl::CivilMinute minute, std::vector<absl::Time>& slots) const {
  const absl::TimeZone::TimeInfo at = zone_.At(absl::CivilSecond(minute));
  switch (at.kind) {
    case absl::TimeZone::TimeInfo::UNIQUE:
      slots.push_back(at.pre);
      return;
    case absl::TimeZone::TimeInfo::REPEATED:
      slots.push_back(at.pre);
      if (!cron_.fixed_time) slots.push_back(at.post);
      return;
    case absl::TimeZone::TimeInfo::SKIPPED:
      // `pre` is as much later as the gap is long.
      if (cron_.fixed_time || !IsAt(absl::ToCivilMinute(at.pre, zone_))) slots.push_back(at.trans);
      return;
  }
}

void Timetable::AddDay(absl::CivilDay day, std::vector<absl::Time>& slots) const {
  if (!IsOn(day)) return;
  for (int hour = 0; hour < 24; ++hour) {
    if (!cron_.hours[static_cast<size_t>(hour)]) continue;
    for (int minute = 0; minute < 60; ++minute) {
      if (!cron_.minutes[static_cast<size_t>(minute)]) continue;
      AddMinute(absl::CivilMinute(day.year(), day.month(), day.day(), hour, minute), slots);
    }
  }
}

absl::Time Timetable::Next(absl::Time after) const {
  // A change of the clocks may carry a slot over midnight, in both directions.
  const absl::CivilDay begin = absl::ToCivilDay(after, zone_) - 1;
  for (absl::CivilDay day = begin; day < begin + kMostDays; ++day) {
    std::vector<absl::Time> slots;
    AddDay(day, slots);
    const bool later =
        std::any_of(slots.begin(), slots.end(), [after](absl::Time slot) { return slot > after; });
    if (!later) continue;
    AddDay(day + 1, slots);
    absl::Time first = absl::InfiniteFuture();
    for (const absl::Time slot : slots) {
      if (slot > after) first = std::min(first, slot);
    }
    return first;
  }
  return absl::InfiniteFuture();
}

std::vector<absl::Time> Timetable::Between(absl::Time after, absl::Time until) const {
  std::vector<absl::Time> slots;
  const absl::CivilDay end = absl::ToCivilDay(until, zone_) + 1;
  for (absl::CivilDay day = absl::ToCivilDay(after, zone_) - 1; day <= end; ++day) {
    AddDay(day, slots);
  }
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  slots.erase(std::remove_if(slots.begin(), slots.end(),
                             [&](absl::Time slot) { return slot <= after || slot > until; }),
              slots.end());
  return slots;
}

std::string Timetable::PassedOver(absl::Time slot) const {
  const absl::CivilDay day = absl::ToCivilDay(slot, zone_);
  if (std::find(left_out_.begin(), left_out_.end(), day) == left_out_.end()) return "";
  return absl::StrCat("the schedule leaves out ", absl::FormatCivilTime(day));
}

std::string Timetable::Text(absl::Time slot) const {
  return absl::StrCat(absl::FormatTime("%a %Y-%m-%d %H:%M ", slot, zone_), zone_.name());
}

}  // namespace firedrill
