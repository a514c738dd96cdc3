// Daily windows in which a node permits faults.
#include "experiment/hours.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/text.h"

namespace firedrill {
namespace {

// "HH:MM" as minutes since midnight; -1 where it is none.
int MinuteOf(absl::string_view text) {
  if (text.size() != 5 || text[2] != ':') return -1;
  for (const size_t i : {0, 1, 3, 4}) {
    if (text[i] < '0' || text[i] > '9') return -1;
  }
  const int hours = (text[0] - '0') * 10 + (text[1] - '0');
  const int minutes = (text[3] - '0') * 10 + (text[4] - '0');
  return hours > 24 || minutes > 59 ? -1 : hours * 60 + minutes;
}

// 0 = Sunday.
uint32_t DayOf(absl::CivilDay day) {
  return (static_cast<uint32_t>(absl::GetWeekday(day)) + 1) % 7;
}

bool InWindow(const v1::Hours& hours, absl::CivilMinute now, int from, int to) {
  const auto on = [&](absl::CivilDay day) {
    return hours.days().empty() ||
           std::find(hours.days().begin(), hours.days().end(), DayOf(day)) != hours.days().end();
  };
  const absl::CivilDay today(now);
  const int minute = now.hour() * 60 + now.minute();
  if (from < to) return on(today) && minute >= from && minute < to;
  // Over midnight: the day is the one on which the window opens.
  return (on(today) && minute >= from) || (on(today - 1) && minute < to);
}

// "08:00-10:00 Europe/Berlin on Tue and Wed"
std::string WindowText(const v1::Hours& hours) {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  std::string text = absl::StrCat(hours.from(), "-", hours.to(), " ", hours.time_zone());
  std::vector<std::string> days;
  for (const uint32_t day : hours.days()) {
    if (day < 7) days.emplace_back(kDays[day]);
  }
  if (!days.empty()) absl::StrAppend(&text, " on ", JoinWords(days));
  return text;
}

}  // namespace

absl::Status WithinHours(const v1::Policy& policy, absl::Time now) {
  if (policy.hours().empty()) return absl::OkStatus();
  std::vector<std::string> windows;
  absl::TimeZone zone;
  for (const v1::Hours& hours : policy.hours()) {
    if (!absl::LoadTimeZone(hours.time_zone(), &zone)) {
      return absl::FailedPreconditionError(
          absl::StrCat("policy.hours: the time zone ", hours.time_zone(), " is not known here"));
    }
    const int from = MinuteOf(hours.from()), to = MinuteOf(hours.to());
    if (from < 0 || to < 0) {
      return absl::FailedPreconditionError(absl::StrCat("policy.hours: ", hours.from(), " to ",
                                                        hours.to(),
                                                        " are no times; they look like 09:30"));
    }
    if (InWindow(hours, absl::ToCivilMinute(now, zone), from, to)) return absl::OkStatus();
    windows.push_back(WindowText(hours));
  }
  return absl::PermissionDeniedError(absl::StrCat("faults may start only within ",
                                                  JoinWords(windows), ", not on ",
                                                  absl::FormatTime("%a at %H:%M", now, zone)));
}

}  // namespace firedrill
