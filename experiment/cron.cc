// Parses cron's five fields: *, a, a-b, */n, a-b/n, lists of these, and names of months and days.
#include "experiment/cron.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace firedrill {
namespace {

struct FieldSpec {
  const char* name;
  int low;
  int high;
  // Names for low, low + 1, ...; empty where the field has none.
  std::vector<const char*> names;
};

const FieldSpec& SpecOf(int index) {
  static const auto* const specs = new std::vector<FieldSpec>{
      {"minute", 0, 59, {}},
      {"hour", 0, 23, {}},
      {"day of month", 1, 31, {}},
      {"month",
       1,
       12,
       {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
      {"day of week", 0, 7, {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
  };
  return (*specs)[index];
}

absl::StatusOr<int> ParseValue(absl::string_view text, const FieldSpec& spec) {
  for (size_t i = 0; i < spec.names.size(); ++i) {
    if (absl::EqualsIgnoreCase(text, spec.names[i])) return spec.low + static_cast<int>(i);
  }
  int value = 0;
  bool digits = !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos;
  if (!digits || !absl::SimpleAtoi(text, &value) || value < spec.low || value > spec.high) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is no ", spec.name, ": ", spec.low, " to ", spec.high));
  }
  return value;
}

// One part of a comma list; `take` is called with each value.
template <typename Take>
absl::Status ParsePart(absl::string_view part, const FieldSpec& spec, Take take) {
  std::vector<absl::string_view> halves = absl::StrSplit(part, absl::MaxSplits('/', 1));
  int step = 1;
  if (halves.size() == 2 &&
      (!absl::SimpleAtoi(halves[1], &step) || step < 1 ||
       halves[1].find_first_not_of("0123456789") != absl::string_view::npos)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", halves[1], "' is no step: a whole number from 1"));
  }
  int low = spec.low, high = spec.high;
  if (halves[0] != "*") {
    std::vector<absl::string_view> ends = absl::StrSplit(halves[0], absl::MaxSplits('-', 1));
    absl::StatusOr<int> first = ParseValue(ends[0], spec);
    if (!first.ok()) return first.status();
    low = high = *first;
    if (ends.size() == 2) {
      absl::StatusOr<int> last = ParseValue(ends[1], spec);
      if (!last.ok()) return last.status();
      high = *last;
      if (high < low) {
        return absl::InvalidArgumentError(
            absl::StrCat("the range '", halves[0], "' ends before it begins"));
      }
    } else if (halves.size() == 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "': a step needs * or a range in front of it"));
    }
  }
  for (int value = low; value <= high; value += step) take(value);
  return absl::OkStatus();
}

template <size_t N>
absl::Status ParseField(absl::string_view text, int index, std::bitset<N>* set) {
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    absl::Status status = ParsePart(
        part, SpecOf(index), [&](int value) { set->set(index == 4 && value == 7 ? 0 : value); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// False where no month of the schedule is long enough for any of its days.
bool CanCome(const Cron& cron) {
  constexpr int kLongest[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (!cron.any_weekday) return true;
  for (int month = 1; month <= 12; ++month) {
    for (int day = 1; day <= kLongest[month]; ++day) {
      if (cron.months[month] && cron.days[day]) return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Cron> ParseCron(absl::string_view text, size_t* error_offset) {
  size_t unused;
  size_t& at = error_offset != nullptr ? *error_offset : unused;
  at = 0;
  std::vector<absl::string_view> fields = absl::StrSplit(text, ' ', absl::SkipEmpty());
  if (fields.size() != 5) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a schedule has five fields (minute, hour, day of month, month, day of week), not ",
        fields.size()));
  }
  Cron cron;
  for (int i = 0; i < 5; ++i) {
    at = fields[i].data() - text.data();
    absl::Status status = i == 0   ? ParseField(fields[i], i, &cron.minutes)
                          : i == 1 ? ParseField(fields[i], i, &cron.hours)
                          : i == 2 ? ParseField(fields[i], i, &cron.days)
                          : i == 3 ? ParseField(fields[i], i, &cron.months)
                                   : ParseField(fields[i], i, &cron.weekdays);
    if (!status.ok()) return status;
  }
  cron.any_day = absl::StartsWith(fields[2], "*");
  cron.any_weekday = absl::StartsWith(fields[4], "*");
  cron.fixed_time = fields[0].find_first_of("*/") == absl::string_view::npos &&
                    fields[1].find_first_of("*/") == absl::string_view::npos;
  if (!CanCome(cron)) {
    at = fields[2].data() - text.data();
    return absl::InvalidArgumentError("no month of this schedule has such a day: it never comes");
  }
  return cron;
}

}  // namespace firedrill
