// Draws a run: lanes of faults, remedies, alerts, conditions and what was measured for them, time
// from left to right.
#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/alert_episodes.h"
#include "controller/report_document.h"
#include "controller/report_facts.h"
#include "controller/report_parts.h"
#include "controller/run_steps.h"
#include "controller/truth.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill::reporting {
namespace {

constexpr size_t kLongestLabel = 30;
// A lane has one byte a column; these stand for eight heights, the lowest first.
constexpr char kLowest = '\x01';
constexpr int kHeights = 8;
constexpr const char* kBars[kHeights] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
// Through a silence that is longer no value is drawn.
constexpr absl::Duration kHeld = absl::Seconds(3);
// What was healthy must be seen too.
constexpr absl::Duration kBefore = absl::Seconds(3);

class Canvas {
 public:
  Canvas(absl::Time begin, absl::Time end, size_t columns)
      : begin_(begin), end_(end), columns_(columns) {}

  std::string Blank() const { return std::string(columns_, ' '); }

  // At least one column, wherever it falls.
  void Fill(std::string& lane, absl::Time from, absl::Time to, char mark) const {
    if (to < begin_ || from > end_) return;
    const size_t first = Column(from);
    const size_t last = std::max(first, Column(to - absl::Milliseconds(1)));
    for (size_t i = first; i <= last; ++i) lane[i] = mark;
  }
  void Put(std::string& lane, absl::Time at, char mark) const {
    if (at >= begin_ && at <= end_) lane[Column(at)] = mark;
  }
  bool Holds(absl::Time at) const { return at >= begin_ && at <= end_; }

  // "0s        10s       20s", with a mark under each.
  std::string Axis(absl::Time zero) const {
    constexpr int kSteps[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600};
    const double column_seconds =
        absl::ToDoubleSeconds(end_ - begin_) / static_cast<double>(columns_);
    int step = kSteps[std::size(kSteps) - 1];
    for (int candidate : kSteps) {
      if (candidate / column_seconds >= 8) {
        step = candidate;
        break;
      }
    }
    std::string axis = Blank();
    for (int64_t tick = 0;; tick += step) {
      const absl::Time at = zero + absl::Seconds(tick);
      if (at >= end_) break;
      const std::string label = Short(absl::Seconds(tick));
      const size_t column = Column(at);
      if (column + label.size() + 1 > columns_) break;
      axis.replace(column, label.size() + 1, absl::StrCat("|", label));
    }
    return axis;
  }

 private:
  size_t Column(absl::Time time) const {
    const double share = absl::FDivDuration(time - begin_, end_ - begin_);
    const auto column = static_cast<int64_t>(std::floor(share * static_cast<double>(columns_)));
    return static_cast<size_t>(std::clamp<int64_t>(column, 0, static_cast<int64_t>(columns_) - 1));
  }

  absl::Time begin_;
  absl::Time end_;
  size_t columns_;
};

struct Lane {
  std::string label;
  std::string marks;
};
using Lanes = std::vector<Lane>;

std::string Drawn(absl::string_view marks) {
  std::string text;
  for (const char mark : marks) {
    const int height = mark - kLowest;
    if (height >= 0 && height < kHeights) {
      absl::StrAppend(&text, kBars[height]);
    } else {
      text.push_back(mark);
    }
  }
  return text;
}

Lanes StepLanes(const RunSteps& steps, const Canvas& canvas, absl::Time end) {
  Lanes lanes;
  for (const FaultCourse& fault : steps.faults()) {
    Lane lane{absl::StrCat("  ", fault.planned.name()), canvas.Blank()};
    if (fault.start.has_value()) {
      const absl::Time off = fault.end.has_value() ? fault.end->at : end;
      canvas.Fill(lane.marks, fault.start->at, off, '.');
      if (fault.reached.has_value()) canvas.Fill(lane.marks, fault.reached->at, off, '#');
    }
    lanes.push_back(std::move(lane));
  }
  for (const RemedyCourse& remedy : steps.remedies()) {
    Lane lane{absl::StrCat("  ", remedy.planned.name()), canvas.Blank()};
    if (remedy.running.has_value()) {
      const absl::Time done = remedy.done.has_value() ? remedy.done->at : remedy.running->at;
      canvas.Fill(lane.marks, remedy.running->at, done, 'r');
    }
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

void DrawEpisode(const AlertEpisode& episode, const Canvas& canvas, absl::Time end,
                 std::string& marks) {
  // What only Alertmanager has ends there.
  const bool only_there = episode.labels.empty() && episode.left_alertmanager.has_value();
  const absl::Time gone = episode.ended.has_value()      ? episode.ended->at
                          : episode.vanished.has_value() ? episode.vanished->at
                          : only_there                   ? episode.left_alertmanager->at
                                                         : end;
  if (episode.pending.has_value()) canvas.Fill(marks, episode.pending->at, gone, '-');
  if (episode.firing.has_value()) canvas.Fill(marks, episode.firing->at, gone, '!');
}

void DrawTold(const AlertEpisode& episode, const Canvas& canvas, bool firing, std::string& marks) {
  for (const auto& [receiver, delivery] : episode.deliveries) {
    const std::optional<absl::Time>& told = firing ? delivery.firing : delivery.resolved;
    if (told.has_value()) canvas.Put(marks, *told, firing ? 'N' : 'E');
  }
}

Lanes AlertLanes(const std::vector<v1::Event>& history, const Canvas& canvas, absl::Time end) {
  const std::vector<AlertEpisode> episodes = AlertEpisodes(history);
  const v1::Expectations& expect = history.front().created().experiment().spec().expect();
  std::vector<std::string> names;
  std::set<std::string> expected;
  for (const v1::AlertExpectation& alert : expect.alerts()) {
    names.push_back(alert.alert());
    expected.insert(alert.alert());
  }
  const std::set<std::string> forbidden(expect.must_not_fire().begin(),
                                        expect.must_not_fire().end());
  // Then whatever else fired, in the order in which it did.
  std::vector<const AlertEpisode*> fired;
  for (const AlertEpisode& episode : episodes) {
    if (episode.firing.has_value()) fired.push_back(&episode);
  }
  std::stable_sort(fired.begin(), fired.end(),
                   [](const auto* a, const auto* b) { return a->firing->at < b->firing->at; });
  for (const AlertEpisode* episode : fired) names.push_back(episode->alert);
  std::set<std::string> drawn;
  Lanes lanes;
  for (const std::string& name : names) {
    if (!drawn.insert(name).second) continue;
    const char* role = expected.count(name) > 0 ? "+ " : forbidden.count(name) > 0 ? "x " : "  ";
    Lane lane{absl::StrCat(role, name), canvas.Blank()};
    std::vector<const AlertEpisode*> of_it;
    for (const AlertEpisode& episode : episodes) {
      if (episode.alert == name) of_it.push_back(&episode);
    }
    for (const AlertEpisode* episode : of_it) DrawEpisode(*episode, canvas, end, lane.marks);
    // Where several fall into one column, what counts more is drawn later: that the series were
    // gone says what the end was worth; that somebody was called is the most.
    for (const AlertEpisode* episode : of_it) DrawTold(*episode, canvas, false, lane.marks);
    for (const AlertEpisode* episode : of_it) {
      if (episode->vanished.has_value()) canvas.Put(lane.marks, episode->vanished->at, '?');
    }
    for (const AlertEpisode* episode : of_it) DrawTold(*episode, canvas, true, lane.marks);
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

void DrawTruth(const std::vector<TruthPoint>& points, const Canvas& canvas, std::string& marks) {
  for (size_t i = 0; i < points.size(); ++i) {
    const char mark = points[i].truth == Truth::kTrue    ? '='
                      : points[i].truth == Truth::kFalse ? 'x'
                                                         : '?';
    // Until the next answer, but not through a silence.
    const absl::Time next = points[i].at + kHeld;
    const absl::Time until =
        i + 1 < points.size() ? std::min(points[i + 1].at, next) : points[i].at;
    canvas.Fill(marks, points[i].at, until, mark);
  }
  // What is broken must be seen, however short it was.
  for (const TruthPoint& point : points) {
    if (point.truth == Truth::kFalse) canvas.Put(marks, point.at, 'x');
  }
}

// Full is only what rounds to all of it: what is broken at 88 % must not look whole.
int HeightOf(double share) {
  constexpr int kFull = kHeights - 1;
  return share >= 0.995 ? kFull : static_cast<int>(share * kFull);
}

// The field of one comparison over time, and how high the highest bar is.
Lane ValueLane(const std::string& label, const Comparison& comparison, bool limit,
               const std::vector<TruthPoint>& points, const Canvas& canvas) {
  const std::string field = comparison.field.empty() ? kValueField : comparison.field;
  double top = limit ? comparison.value : 0;
  const auto value = [&](const TruthPoint& point) {
    const auto found = point.values.find(field);
    const bool known = found != point.values.end() && std::isfinite(found->second);
    return known ? std::optional<double>(found->second) : std::nullopt;
  };
  for (const TruthPoint& point : points) {
    if (!canvas.Holds(point.at)) continue;
    if (const auto seen = value(point)) top = std::max(top, *seen);
  }
  if (comparison.unit == Unit::kPercent) top = 100;
  Lane lane{absl::StrCat(label, ", top ", FormatValue(top, comparison.unit)), canvas.Blank()};
  for (size_t i = 0; i < points.size(); ++i) {
    const auto seen = value(points[i]);
    if (!seen.has_value()) continue;
    const double share = top > 0 ? std::clamp(*seen / top, 0.0, 1.0) : 0;
    const int height = HeightOf(share);
    const absl::Time next = points[i].at + kHeld;
    const absl::Time until =
        i + 1 < points.size() ? std::min(points[i + 1].at, next) : points[i].at;
    canvas.Fill(lane.marks, points[i].at, until, static_cast<char>(kLowest + height));
  }
  return lane;
}

std::string LimitText(const Comparison& comparison) {
  return absl::StrCat(comparison.field, comparison.field.empty() ? "" : " ",
                      RelationText(comparison.relation), " ",
                      FormatValue(comparison.value, comparison.unit));
}

// Steady state with what was measured for it; then routes that nobody asked about, and the
// questions of recoveries.
Lanes ValueLanes(const std::vector<v1::Event>& history, const Canvas& canvas) {
  Lanes lanes;
  const v1::RunCreated& created = history.front().created();
  std::set<std::string> asked;
  for (const v1::PlannedCheck& check : created.plan().gate()) {
    const std::vector<TruthPoint> points = TruthOf(check, history);
    Lane lane{absl::StrCat("  ", check.name()), canvas.Blank()};
    DrawTruth(points, canvas, lane.marks);
    lanes.push_back(std::move(lane));
    asked.insert(absl::StrCat(check.load(), "/", check.request()));
    const auto condition = ParseCondition(check.is());
    if (!condition.ok()) continue;
    for (const Comparison& comparison : condition->comparisons) {
      lanes.push_back(
          ValueLane(absl::StrCat("    ", LimitText(comparison)), comparison, true, points, canvas));
    }
  }
  for (const Route& route : RoutesOf(history)) {
    const std::string name = absl::StrCat(route.check.load(), "/", route.check.request());
    if (!route.is_load || asked.count(name) > 0) continue;
    v1::PlannedCheck check = route.check;
    check.set_is("ok >= 0%");
    *check.mutable_over() = ToProto(absl::Seconds(3));
    const auto condition = ParseCondition(check.is());
    lanes.push_back(ValueLane(absl::StrCat("  ", route.name, " ok"), condition->comparisons.front(),
                              false, TruthOf(check, history), canvas));
  }
  for (const v1::RecoveryExpectation& recovery : created.experiment().spec().expect().recovery()) {
    const auto kind = recovery.probe().question_case();
    if (kind == v1::Probe::kProbe || kind == v1::Probe::kLoad || recovery.is().empty()) continue;
    v1::PlannedCheck check;
    check.set_probe(absl::StrCat("recovery/", recovery.name()));
    check.set_is(recovery.is());
    const std::vector<TruthPoint> points = TruthOf(check, history);
    if (points.empty()) continue;
    Lane lane{absl::StrCat("  ", recovery.name()), canvas.Blank()};
    DrawTruth(points, canvas, lane.marks);
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

std::string Trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace

Picture Timeline(const std::vector<v1::Event>& history, size_t width) {
  Picture picture;
  std::optional<absl::Time> zero;
  for (const v1::Event& event : history) {
    if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT && !zero.has_value()) {
      zero = FromProto(event.at());
    }
  }
  const absl::Time end = LastWord(history);
  if (!zero.has_value() || end <= *zero) return picture;
  const absl::Time begin = std::max(FromProto(history.front().at()), *zero - kBefore);

  const RunSteps steps(history);
  size_t label_width = 0;
  const auto lanes_on = [&](const Canvas& canvas) {
    std::vector<Lanes> groups = {StepLanes(steps, canvas, end), AlertLanes(history, canvas, end),
                                 ValueLanes(history, canvas)};
    for (Lanes& lanes : groups) {
      for (Lane& lane : lanes) {
        if (lane.label.size() > kLongestLabel) {
          lane.label = absl::StrCat(lane.label.substr(0, kLongestLabel - 2), "..");
        }
        label_width = std::max(label_width, lane.label.size());
      }
    }
    return groups;
  };
  lanes_on(Canvas(begin, end, 1));  // For the labels' width.
  const size_t left = label_width + 2;
  const Canvas canvas(begin, end, width > left + 20 ? width - left : 20);
  picture.lines.push_back(absl::StrCat(std::string(left, ' '), Trimmed(canvas.Axis(*zero))));
  bool any_alert = false;
  const std::vector<Lanes> groups = lanes_on(canvas);
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].empty()) continue;
    if (i > 0) picture.lines.push_back("");
    any_alert = any_alert || i == 1;
    for (const Lane& lane : groups[i]) {
      picture.lines.push_back(
          Drawn(Trimmed(absl::StrCat(Pad(lane.label, label_width), "  ", lane.marks))));
    }
  }
  picture.legend.push_back("faults: . on, # in force; r remedy");
  if (any_alert) {
    picture.legend.push_back(
        "alerts: + expected, x misleads; - pending, ! firing, N told, E end told, ? series gone");
  }
  picture.legend.push_back("conditions: = hold, x broken, ? unknown; beneath, what was measured");
  return picture;
}

}  // namespace firedrill::reporting
