// When a schedule is due: against croniter on ordinary days; on days on which clocks are changed
// against a table written from the rule, and against a model that looks at every single minute.
#include "controller/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "experiment/zone.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Timetable Table(const std::string& cron, const std::string& zone) {
  v1::Schedule schedule;
  schedule.set_cron(cron);
  schedule.set_time_zone(zone);
  absl::StatusOr<Timetable> table = Timetable::Make(schedule);
  EXPECT_TRUE(table.ok()) << cron << " " << zone << ": " << table.status();
  return table.ok() ? *table : Timetable();
}

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime("%Y-%m-%d %H:%M %Ez", text, &time, &error)) << text << ": " << error;
  return time;
}

// "02-28 10:00+0100", as the clocks of the zone show it.
std::vector<std::string> Shown(const std::vector<absl::Time>& slots, const std::string& zone) {
  std::vector<std::string> texts;
  for (const absl::Time slot : slots)
    texts.push_back(absl::FormatTime("%m-%d %H:%M%z", slot, *LoadZone(zone)));
  return texts;
}

// ---------------------------------------------------------------- a table, from the rule

struct Change {
  const char* promise;
  const char* zone;
  const char* cron;
  const char* after;
  const char* until;
  std::vector<std::string> due;
};

const std::vector<Change>& Changes() {
  static const auto* const changes = new std::vector<Change>{
      {"a fixed time that is skipped is due at the end of the gap",
       "Europe/Berlin",
       "30 2 * * *",
       "2026-03-28 12:00 +00:00",
       "2026-03-30 12:00 +00:00",
       {"03-29 03:00+0200", "03-30 02:30+0200"}},
      {"two fixed times in one gap are due once",
       "Europe/Berlin",
       "10,40 2 * * *",
       "2026-03-28 12:00 +00:00",
       "2026-03-29 12:00 +00:00",
       {"03-29 03:00+0200"}},
      {"a skipped time that falls onto another slot is that slot",
       "Europe/Berlin",
       "0 2,3 * * *",
       "2026-03-28 12:00 +00:00",
       "2026-03-29 12:00 +00:00",
       {"03-29 03:00+0200"}},
      {"a fixed time that is repeated is due the first time only",
       "Europe/Berlin",
       "30 2 * * *",
       "2026-10-24 12:00 +00:00",
       "2026-10-26 12:00 +00:00",
       {"10-25 02:30+0200", "10-26 02:30+0100"}},
      {"every hour goes on by elapsed time over a gap",
       "Europe/Berlin",
       "30 * * * *",
       "2026-03-29 00:00 +00:00",
       "2026-03-29 02:00 +00:00",
       {"03-29 01:30+0100", "03-29 03:30+0200"}},
      {"every hour goes on by elapsed time through a repeated hour",
       "Europe/Berlin",
       "30 * * * *",
       "2026-10-25 00:00 +00:00",
       "2026-10-25 02:59 +00:00",
       {"10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"}},
      {"a step goes on by elapsed time through a repeated hour",
       "Europe/Berlin",
       "*/30 2 * * *",
       "2026-10-24 12:00 +00:00",
       "2026-10-25 12:00 +00:00",
       {"10-25 02:00+0200", "10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100"}},
      {"several slots that a gap skips become one at its end",
       "Europe/Berlin",
       "*/5 2 * * *",
       "2026-03-28 12:00 +00:00",
       "2026-03-29 12:00 +00:00",
       {"03-29 03:00+0200"}},
      {"every two hours: the skipped one is due at the end of the gap",
       "Europe/Berlin",
       "0 */2 * * *",
       "2026-03-28 22:30 +00:00",
       "2026-03-29 04:30 +00:00",
       {"03-29 00:00+0100", "03-29 03:00+0200", "03-29 04:00+0200", "03-29 06:00+0200"}},
      {"a gap at midnight: the day begins later",
       "Africa/Cairo",
       "0 0 * * *",
       "2026-04-23 12:00 +00:00",
       "2026-04-25 12:00 +00:00",
       {"04-24 01:00+0300", "04-25 00:00+0300"}},
      {"clocks set back over midnight: the day before is not repeated",
       "Africa/Cairo",
       "30 23 * * *",
       "2026-10-28 22:00 +00:00",
       "2026-10-30 12:00 +00:00",
       {"10-29 23:30+0300"}},
      {"a gap of half an hour",
       "Australia/Lord_Howe",
       "15 2 * * *",
       "2026-10-03 00:00 +00:00",
       "2026-10-04 00:00 +00:00",
       {"10-04 02:30+1100"}},
      {"a day that a zone has left out is due when the next begins",
       "Pacific/Apia",
       "0 12 30 12 *",
       "2011-12-28 00:00 +00:00",
       "2012-01-02 00:00 +00:00",
       {"12-31 00:00+1400"}},
      {"a zone without changes",
       "Asia/Kolkata",
       "30 2 * * *",
       "2026-03-28 12:00 +00:00",
       "2026-03-30 12:00 +00:00",
       {"03-29 02:30+0530", "03-30 02:30+0530"}},
  };
  return *changes;
}

TEST(ScheduleTest, OnDaysOnWhichTheClocksAreChangedTheRuleHolds) {
  for (const Change& change : Changes()) {
    SCOPED_TRACE(absl::StrCat(change.promise, ": ", change.cron, " ", change.zone));
    const Timetable table = Table(change.cron, change.zone);
    EXPECT_EQ(Shown(table.Between(At(change.after), At(change.until)), change.zone), change.due);
  }
}

// ---------------------------------------------------------------- a model, minute by minute

// True where the local minute is one of the cron's; days and lists only as the tests below have
// them.
bool Model(const Cron& cron, absl::CivilMinute minute) {
  const absl::CivilDay day(minute);
  const int weekday = (static_cast<int>(absl::GetWeekday(day)) + 1) % 7;
  const bool by_date = cron.days[static_cast<size_t>(day.day())];
  const bool by_weekday = cron.weekdays[static_cast<size_t>(weekday)];
  bool on = by_date || by_weekday;
  if (cron.any_day) on = by_weekday && by_date;
  if (cron.any_weekday) on = by_date && by_weekday;
  return on && cron.months[static_cast<size_t>(day.month())] &&
         cron.hours[static_cast<size_t>(minute.hour())] &&
         cron.minutes[static_cast<size_t>(minute.minute())];
}

// Walks through real minutes and looks at a clock on the wall, as a person would.
std::vector<absl::Time> WalkMinutes(const Cron& cron, absl::TimeZone zone, absl::Time after,
                                    absl::Time until) {
  const absl::Duration minute = absl::Minutes(1);
  std::vector<absl::Time> slots;
  std::set<absl::CivilMinute> seen;
  for (absl::Time now = after - absl::Hours(48); now <= until; now += minute) {
    const absl::CivilMinute before = absl::ToCivilMinute(now - minute, zone);
    const absl::CivilMinute shown = absl::ToCivilMinute(now, zone);
    bool due = Model(cron, shown) && (!cron.fixed_time || seen.count(shown) == 0);
    seen.insert(shown);
    // The clock has jumped: what it never showed.
    const int64_t gap = shown - before - 1;
    for (absl::CivilMinute never = before + 1; never < shown; ++never) {
      if (Model(cron, never) && (cron.fixed_time || !Model(cron, never + gap))) due = true;
    }
    if (due && now > after) slots.push_back(now);
  }
  return slots;
}

TEST(ScheduleTest, AgreesWithAModelThatLooksAtEveryMinute) {
  const std::vector<std::string> crons = {
      "* * * * *",    "*/7 * * * *",     "30 2 * * *",          "0,30 1,2,3 * * *", "*/5 2 * * *",
      "15 0 * * *",   "59 23 * * *",     "0 */3 * * *",         "20-40 2 * * *",    "0 0 * * 0",
      "30 2 29 3 0",  "30 1-3 25 10 *",  "*/20 1-2 * 3,10 sun", "5 2 1-7 * 1",      "0 0 1 * *",
      "45 * * * 6,7", "0 3 28-31 mar *", "10 0,1,2,3 */2 * *",  "30 0-4/2 * 10 *",  "0 2 * * sun"};
  struct Day {
    const char* zone;
    const char* change;
  };
  const std::vector<Day> days = {{"Europe/Berlin", "2026-03-29 01:00 +00:00"},
                                 {"Europe/Berlin", "2026-10-25 01:00 +00:00"},
                                 {"America/New_York", "2026-03-08 07:00 +00:00"},
                                 {"America/New_York", "2026-11-01 06:00 +00:00"},
                                 {"America/Havana", "2026-03-08 05:00 +00:00"},
                                 {"America/Havana", "2026-11-01 05:00 +00:00"},
                                 {"Africa/Cairo", "2026-04-23 22:00 +00:00"},
                                 {"Africa/Cairo", "2026-10-29 21:00 +00:00"},
                                 {"Australia/Lord_Howe", "2026-04-04 15:00 +00:00"},
                                 {"Australia/Lord_Howe", "2026-10-03 15:30 +00:00"},
                                 {"Pacific/Apia", "2011-12-30 10:00 +00:00"},
                                 {"Africa/Casablanca", "2026-02-15 02:00 +00:00"},
                                 {"America/Santiago", "2026-09-06 04:00 +00:00"},
                                 {"Antarctica/Troll", "2026-03-29 01:00 +00:00"},
                                 {"Antarctica/Troll", "2026-10-25 01:00 +00:00"},
                                 {"UTC", "2026-03-29 01:00 +00:00"}};
  int compared = 0;
  for (const Day& day : days) {
    const absl::Time after = At(day.change) - absl::Hours(40);
    const absl::Time until = At(day.change) + absl::Hours(40);
    for (const std::string& text : crons) {
      const auto expected = WalkMinutes(*ParseCron(text), *LoadZone(day.zone), after, until);
      const Timetable table = Table(text, day.zone);
      ASSERT_EQ(Shown(table.Between(after, until), day.zone), Shown(expected, day.zone))
          << text << " " << day.zone << " " << day.change;
      compared += static_cast<int>(expected.size());
      // One by one they are the same; of many it would take long.
      if (expected.size() > 200) continue;
      absl::Time at = after;
      for (const absl::Time slot : expected) {
        ASSERT_EQ(table.Next(at), slot) << text << " " << day.zone << " after " << at;
        at = slot;
      }
      EXPECT_GT(table.Next(at), until);
    }
  }
  EXPECT_GT(compared, 50000);
}

// ---------------------------------------------------------------- ordinary days

TEST(ScheduleTest, OnOrdinaryDaysItIsWhatCroniterSays) {
  constexpr int kSlots = 40;
  const std::vector<std::string> crons = {
      "* * * * *",     "*/15 * * * *",        "0 10 * * 2",
      "0 10 * * tue",  "30 4 1,15 * 5",       "0 0 13 * fri",
      "0 0 29 2 *",    "5,25,45 6-9 * * 1-5", "0 12 1-7 * *",
      "0 22 * * 0",    "0 22 * * 7",          "17 3-23/5 * * *",
      "0 0 31 * *",    "1-59/2 0 1 1 *",      "0 9 * jan-mar mon,wed",
      "59 23 31 12 *", "0 0 1 */3 *",         "10 5 10-20 6,7 *"};
  const std::string in = TestFolder() + "/crons", out = TestFolder() + "/slots";
  const std::vector<int64_t> begins = {1'767'225'600, 1'772'323'199, 1'798'761'540, 1'835'395'200};
  {
    std::ofstream file(in);
    for (const int64_t begin : begins) {
      for (const std::string& cron : crons) file << begin << "|" << kSlots << "|" << cron << "\n";
    }
  }
  const std::string command =
      absl::StrCat("/usr/bin/python3 -B ", FIREDRILL_SOURCE_DIR,
                   "/tests/controller/schedule_oracle.py < ", in, " > ", out);
  ASSERT_EQ(std::system(command.c_str()), 0) << "install the package python3-croniter";
  std::ifstream answers(out);
  for (const int64_t begin : begins) {
    for (const std::string& cron : crons) {
      std::string line;
      ASSERT_TRUE(std::getline(answers, line));
      const Timetable table = Table(cron, "UTC");
      absl::Time at = absl::FromUnixSeconds(begin);
      std::vector<int64_t> slots;
      for (int i = 0; i < kSlots; ++i) {
        at = table.Next(at);
        slots.push_back(absl::ToUnixSeconds(at));
      }
      EXPECT_EQ(absl::StrJoin(slots, " "), line) << cron << " from " << begin;
    }
  }
}

// ---------------------------------------------------------------- the edges

TEST(ScheduleTest, AZoneThatDoesNotLoadIsAnErrorAndNeverUtc) {
  v1::Schedule schedule;
  schedule.set_cron("0 10 * * 2");
  for (const char* zone :
       {"Europe/Berlyn", "", "localtime", "/etc/localtime", "Fixed/UTC+01:00:00"}) {
    schedule.set_time_zone(zone);
    const absl::Status refused = Timetable::Make(schedule).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << zone;
    EXPECT_THAT(refused.message(), HasSubstr("does not load"));
  }
}

TEST(ScheduleTest, ASlotIsLaterThanWhatItIsAskedAfter) {
  const Timetable table = Table("0 10 * * *", "UTC");
  const absl::Time ten = At("2026-05-05 10:00 +00:00");
  EXPECT_EQ(table.Next(ten - absl::Nanoseconds(1)), ten);
  EXPECT_EQ(table.Next(ten), ten + absl::Hours(24));
  EXPECT_THAT(table.Between(ten, ten), ElementsAre());
  EXPECT_THAT(table.Between(ten - absl::Seconds(1), ten), ElementsAre(ten));
}

TEST(ScheduleTest, ALeapDayIsAwaitedForYears) {
  EXPECT_EQ(Table("0 12 29 2 *", "UTC").Next(At("2096-03-01 00:00 +00:00")),
            At("2104-02-29 12:00 +00:00"));
}

TEST(ScheduleTest, DaysThatAreLeftOutAreThoseOfTheZone) {
  v1::Schedule schedule;
  schedule.set_cron("0 1 * * *");
  schedule.set_time_zone("Pacific/Auckland");
  schedule.mutable_not_on()->add_dates("2026-12-24");
  const Timetable table = *Timetable::Make(schedule);
  EXPECT_EQ(table.PassedOver(At("2026-12-23 12:00 +00:00")), "the schedule leaves out 2026-12-24");
  EXPECT_EQ(table.PassedOver(At("2026-12-24 12:00 +00:00")), "");
  EXPECT_EQ(table.Text(At("2026-12-23 12:00 +00:00")), "Thu 2026-12-24 01:00 Pacific/Auckland");
}

}  // namespace
}  // namespace firedrill
