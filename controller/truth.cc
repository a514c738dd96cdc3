// Folds samples and load windows into truth, and finds the stretches in which a condition held.
#include "controller/truth.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultOver = absl::Seconds(5);
// Of the requests that were due; above it the generator, not the system, is what was measured.
constexpr double kMostUnsent = 0.05;

absl::Duration Over(const v1::PlannedCheck& check) {
  const absl::Duration over = FromProto(check.over());
  return over > absl::ZeroDuration() ? over : kDefaultOver;
}

// The sum of a load's windows.
struct Tally {
  uint64_t due = 0;
  uint64_t sent = 0;
  uint64_t ok = 0;
  uint64_t errors = 0;
  absl::Duration covered;
  std::map<uint64_t, uint64_t> latency;
};

void Add(const v1::LoadWindow& window, Tally& tally) {
  tally.due += window.due();
  tally.sent += window.sent();
  tally.ok += window.ok();
  for (const auto& [name, count] : window.errors()) tally.errors += count;
  for (const auto& [bound, count] : window.latency()) tally.latency[bound] += count;
}

// The upper bound of the bucket that holds this share of the answers, in seconds.
double Percentile(const std::map<uint64_t, uint64_t>& latency, uint64_t answers, double share) {
  const auto rank = static_cast<uint64_t>(std::ceil(share * static_cast<double>(answers)));
  uint64_t seen = 0;
  double bound = 0;
  for (const auto& [upper, count] : latency) {
    if (count == 0) continue;
    seen += count;
    bound = static_cast<double>(upper) / 1e6;
    if (seen >= std::max<uint64_t>(rank, 1)) break;
  }
  return bound;
}

// The fields of a load. Shares are of the requests whose fate is known: a time-out is an error, a
// request still under way is neither.
std::map<std::string, double> Fields(const Tally& tally) {
  std::map<std::string, double> fields;
  const uint64_t known = tally.ok + tally.errors;
  if (known > 0) {
    fields["ok"] = 100.0 * static_cast<double>(tally.ok) / static_cast<double>(known);
    fields["errors"] = 100.0 * static_cast<double>(tally.errors) / static_cast<double>(known);
  }
  uint64_t answers = 0;
  for (const auto& [bound, count] : tally.latency) answers += count;
  if (answers > 0) {
    fields["p50"] = Percentile(tally.latency, answers, 0.50);
    fields["p95"] = Percentile(tally.latency, answers, 0.95);
    fields["p99"] = Percentile(tally.latency, answers, 0.99);
    fields["max"] = Percentile(tally.latency, answers, 1.00);
  }
  if (tally.covered > absl::ZeroDuration()) {
    fields["rate"] = static_cast<double>(answers) / absl::ToDoubleSeconds(tally.covered);
  }
  return fields;
}

// By the controller itself; what nodes ask goes on while it is away, and is told later.
bool AskedHere(const v1::Plan& plan, const v1::PlannedCheck& check) {
  return std::any_of(plan.probes().begin(), plan.probes().end(),
                     [&](const v1::PlannedProbe& probe) {
                       return probe.id() == check.probe() && probe.node().empty();
                     });
}

absl::Time EndOf(const v1::LoadWindow& window) {
  const absl::Duration length = FromProto(window.length());
  return FromProto(window.start()) + (length > absl::ZeroDuration() ? length : absl::Seconds(1));
}

}  // namespace

TruthTracker::TruthTracker(const v1::PlannedCheck& check) : check_(check) {
  absl::StatusOr<Condition> condition = ParseCondition(check.is());
  // Without a condition nothing is ever known: Evaluate() would call an empty one true.
  if (condition.ok()) condition_ = *std::move(condition);
}

std::optional<TruthPoint> TruthTracker::Feed(const v1::Event& event) {
  if (condition_.comparisons.empty()) return std::nullopt;
  if (!check_.probe().empty()) return FeedSample(event);
  if (check_.load().empty() || !event.has_load() || event.load().load() != check_.load()) {
    return std::nullopt;
  }
  if (!check_.request().empty() && event.load().request() != check_.request()) return std::nullopt;
  return FeedWindow(event.load());
}

std::optional<TruthPoint> TruthTracker::FeedSample(const v1::Event& event) {
  if (!event.has_sample() || event.sample().probe() != check_.probe()) return std::nullopt;
  const v1::Sample& sample = event.sample();
  TruthPoint point;
  point.at = FromProto(sample.has_asked() ? sample.asked() : event.at());
  if (!sample.unknown().empty()) {
    point.observed = absl::StrCat("unknown: ", sample.unknown());
    point.code = sample.late() ? "late" : "blind";
  } else if (sample.late()) {
    point.observed = absl::StrCat("unknown: answered too late, after ",
                                  firedrill::FormatDuration(FromProto(sample.took())));
    point.code = "late";
  } else {
    point.truth = Evaluate(condition_, sample.values());
    point.observed = Describe(sample.values(), condition_);
    point.values = {sample.values().begin(), sample.values().end()};
    if (point.truth == Truth::kUnknown) point.code = "blind";
  }
  return point;
}

std::optional<TruthPoint> TruthTracker::FeedWindow(const v1::LoadWindow& window) {
  const absl::Time start = FromProto(window.start());
  std::optional<TruthPoint> whole;
  // Compared by start, and not by order of coming: a window may be told again with what came later.
  const bool newer = windows_.empty() || start > FromProto(windows_.back().start());
  if (check_.request().empty() && newer && !windows_.empty())
    whole = PointAt(EndOf(windows_.back()));

  auto same = std::find_if(windows_.begin(), windows_.end(), [&](const v1::LoadWindow& known) {
    return known.request() == window.request() && FromProto(known.start()) == start;
  });
  if (same != windows_.end()) {
    *same = window;
  } else {
    auto place = std::upper_bound(
        windows_.begin(), windows_.end(), start,
        [](absl::Time at, const v1::LoadWindow& known) { return at < FromProto(known.start()); });
    windows_.insert(place, window);
  }
  const absl::Time newest = EndOf(windows_.back());
  while (EndOf(windows_.front()) <= newest - Over(check_) - absl::Seconds(1)) windows_.pop_front();
  if (check_.request().empty()) return whole;
  return newer ? std::optional<TruthPoint>(PointAt(EndOf(window))) : std::nullopt;
}

TruthPoint TruthTracker::PointAt(absl::Time end) const {
  Tally tally;
  absl::Time first = end;
  for (const v1::LoadWindow& window : windows_) {
    if (EndOf(window) > end || EndOf(window) <= end - Over(check_)) continue;
    Add(window, tally);
    first = std::min(first, FromProto(window.start()));
  }
  tally.covered = end - first;
  TruthPoint point;
  point.at = end;
  const uint64_t unsent = tally.due > tally.sent ? tally.due - tally.sent : 0;
  if (static_cast<double>(unsent) > kMostUnsent * static_cast<double>(tally.due)) {
    point.observed =
        absl::StrFormat("unknown: starved, %d of %d due requests were not sent", unsent, tally.due);
    point.code = "starved";
    return point;
  }
  const std::map<std::string, double> fields = Fields(tally);
  point.truth = Evaluate(condition_, fields);
  point.observed = Describe(fields, condition_);
  if (point.truth == Truth::kUnknown) point.code = "blind";
  point.values = fields;
  return point;
}

std::vector<TruthPoint> TruthOf(const v1::PlannedCheck& check,
                                const std::vector<v1::Event>& history) {
  TruthTracker tracker(check);
  std::vector<TruthPoint> points;
  const bool asked_here = !history.empty() && AskedHere(history.front().created().plan(), check);
  for (const v1::Event& event : history) {
    if (asked_here && event.has_resumed()) {
      points.push_back({.at = FromProto(event.at()),
                        .observed = "unknown: the controller was away, and nobody asked",
                        .code = "blind",
                        .away = true});
    }
    if (std::optional<TruthPoint> point = tracker.Feed(event)) points.push_back(*std::move(point));
  }
  std::stable_sort(points.begin(), points.end(),
                   [](const TruthPoint& a, const TruthPoint& b) { return a.at < b.at; });
  return points;
}

absl::Duration BlindAfter(const v1::Plan& plan, const v1::PlannedCheck& check) {
  absl::Duration every = absl::Seconds(1);
  for (const v1::PlannedProbe& probe : plan.probes()) {
    if (probe.id() == check.probe() && probe.has_every()) every = FromProto(probe.every());
  }
  return std::max(absl::Seconds(3), 3 * every);
}

std::optional<Hold> FirstHold(const std::vector<TruthPoint>& points, absl::Time from,
                              absl::Duration within, absl::Duration hold,
                              absl::Duration blind_after) {
  std::optional<Hold> stretch;
  const auto long_enough = [&] {
    return stretch.has_value() && stretch->end - stretch->begin >= hold;
  };
  for (const TruthPoint& point : points) {
    if (point.at < from || (point.truth == Truth::kUnknown && !point.away)) continue;
    const bool broken = point.truth != Truth::kTrue ||
                        (stretch.has_value() && point.at - stretch->end > blind_after);
    if (broken) {
      if (long_enough()) return stretch;
      stretch.reset();
    }
    if (point.truth != Truth::kTrue) continue;
    if (!stretch.has_value()) {
      if (point.at > from + within) return std::nullopt;
      stretch = Hold{point.at, point.at};
    }
    stretch->end = point.at;
  }
  return long_enough() ? stretch : std::nullopt;
}

std::optional<Hold> FirstPossibleHold(const std::vector<TruthPoint>& points, absl::Time from,
                                      absl::Duration within, absl::Duration hold,
                                      absl::Duration blind_after) {
  // Between two false points everything that was seen true, or not seen for long, may have been a
  // hold.
  std::optional<Hold> stretch;
  const auto extend = [&](absl::Time begin, absl::Time end) {
    if (!stretch.has_value()) {
      stretch = Hold{begin, end};
    } else {
      stretch->end = end;
    }
  };
  const auto possible = [&] {
    return stretch.has_value() && stretch->begin <= from + within &&
           stretch->end - stretch->begin >= hold;
  };
  absl::Time known = from;
  for (const TruthPoint& point : points) {
    if (point.at < from || (point.truth == Truth::kUnknown && !point.away)) continue;
    if (point.away || point.at - known > blind_after) extend(known, point.at);
    known = point.at;
    if (point.away) continue;
    if (point.truth == Truth::kTrue) {
      extend(point.at, point.at);
    } else {
      if (possible()) return stretch;
      stretch.reset();
    }
  }
  const absl::Time end = from + within + hold;
  // Shorter than `blind_after` too: what comes after the last point may have been anything.
  if (known < end) extend(known, absl::InfiniteFuture());
  return possible() ? stretch : std::nullopt;
}

absl::Time StretchBegin(const std::vector<TruthPoint>& points, absl::Time when) {
  absl::Time begin = absl::InfinitePast();
  for (const TruthPoint& point : points) {
    if (point.at > when) break;
    if (point.truth == Truth::kFalse) begin = absl::InfiniteFuture();
    if (point.truth == Truth::kTrue && begin == absl::InfiniteFuture()) begin = point.at;
  }
  return begin;
}

}  // namespace firedrill
