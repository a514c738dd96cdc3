// When a schedule is due. Pure: told the time, never asks for it.
//
// On days on which a zone's clocks are changed:
// - Minute and hour both fixed: a local time that is skipped is due once, at the end of the gap;
// one
//   that is repeated is due once, the first time.
// - A wildcard or a step in one of them follows elapsed time: every minute whose local time
// matches,
//   in both passes of a repeated hour. Local times that a gap skips, and that do not come as much
//   later as the gap is long, become one slot at its end.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "experiment/cron.h"
#include "firedrill/v1/experiment.pb.h"

namespace firedrill {

class Timetable {
 public:
  // INVALID_ARGUMENT for a cron that is none, and for a zone that does not load: never UTC instead.
  static absl::StatusOr<Timetable> Make(const v1::Schedule& schedule);

  // The first slot later than `after`; InfiniteFuture where none comes within 41 years.
  absl::Time Next(absl::Time after) const;
  // The slots later than `after` and not later than `until`, oldest first.
  std::vector<absl::Time> Between(absl::Time after, absl::Time until) const;
  // Why the schedule leaves this slot out; empty where it does not.
  std::string PassedOver(absl::Time slot) const;
  // "Tue 2026-03-31 10:00 Europe/Berlin".
  std::string Text(absl::Time slot) const;

 private:
  bool IsOn(absl::CivilDay day) const;
  bool IsAt(absl::CivilMinute minute) const;
  // All slots of the local times of one day, in no order; the same one may be there twice.
  void AddDay(absl::CivilDay day, std::vector<absl::Time>& slots) const;
  void AddMinute(absl::CivilMinute minute, std::vector<absl::Time>& slots) const;

  Cron cron_;
  absl::TimeZone zone_;
  std::vector<absl::CivilDay> left_out_;
};

}  // namespace firedrill
