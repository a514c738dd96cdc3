// Draws a run: one lane a fault, remedy, alert and steady-state check, time from left to right.
#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/alert_episodes.h"
#include "controller/report_parts.h"
#include "controller/run_steps.h"
#include "controller/truth.h"
#include "controller/words.h"

namespace firedrill::reporting {
namespace {

constexpr size_t kLongestLabel = 28;

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
  absl::Time TimeOf(size_t column) const {
    return begin_ + (end_ - begin_) * (static_cast<double>(column) / static_cast<double>(columns_));
  }
  size_t columns() const { return columns_; }

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

void AddFaults(const RunSteps& steps, const Canvas& canvas, absl::Time end,
               std::vector<Lane>& lanes) {
  for (const FaultCourse& fault : steps.faults()) {
    Lane lane{fault.planned.name(), canvas.Blank()};
    if (fault.start.has_value()) {
      const absl::Time off = fault.end.has_value() ? fault.end->at : end;
      canvas.Fill(lane.marks, fault.start->at, off, '.');
      if (fault.reached.has_value()) canvas.Fill(lane.marks, fault.reached->at, off, '#');
    }
    lanes.push_back(std::move(lane));
  }
  for (const RemedyCourse& remedy : steps.remedies()) {
    Lane lane{remedy.planned.name(), canvas.Blank()};
    if (remedy.running.has_value()) {
      const absl::Time done = remedy.done.has_value() ? remedy.done->at : remedy.running->at;
      canvas.Fill(lane.marks, remedy.running->at, done, 'r');
    }
    lanes.push_back(std::move(lane));
  }
}

void AddAlerts(const std::vector<v1::Event>& history, const Canvas& canvas, absl::Time end,
               std::vector<Lane>& lanes) {
  const std::vector<AlertEpisode> episodes = AlertEpisodes(history);
  const v1::Expectations& expect = history.front().created().experiment().spec().expect();
  std::vector<std::string> names;
  for (const v1::AlertExpectation& alert : expect.alerts()) names.push_back(alert.alert());
  // Then whatever else fired, in the order in which it did.
  for (const AlertEpisode& episode : episodes) {
    if (episode.firing.has_value()) names.push_back(episode.alert);
  }
  std::set<std::string> drawn;
  for (const std::string& name : names) {
    if (!drawn.insert(name).second) continue;
    Lane lane{name, canvas.Blank()};
    const auto each = [&](const auto& draw) {
      for (const AlertEpisode& episode : episodes) {
        if (episode.alert == name) draw(episode);
      }
    };
    const auto gone = [&](const AlertEpisode& episode) {
      if (episode.ended.has_value()) return episode.ended->at;
      return episode.vanished.has_value() ? episode.vanished->at : end;
    };
    each([&](const AlertEpisode& episode) {
      canvas.Fill(lane.marks, episode.Begin().at, gone(episode), '-');
    });
    each([&](const AlertEpisode& episode) {
      if (episode.firing.has_value()) {
        canvas.Fill(lane.marks, episode.firing->at, gone(episode), '!');
      }
    });
    each([&](const AlertEpisode& episode) {
      for (const auto& [receiver, delivery] : episode.deliveries) {
        if (delivery.firing.has_value()) canvas.Put(lane.marks, *delivery.firing, 'N');
      }
    });
    lanes.push_back(std::move(lane));
  }
}

void AddSteadyState(const std::vector<v1::Event>& history, const Canvas& canvas,
                    std::vector<Lane>& lanes) {
  for (const v1::PlannedCheck& check : history.front().created().plan().gate()) {
    Lane lane{check.name(), canvas.Blank()};
    const std::vector<TruthPoint> points = TruthOf(check, history);
    for (size_t i = 0; i < points.size(); ++i) {
      const char mark = points[i].truth == Truth::kTrue    ? '='
                        : points[i].truth == Truth::kFalse ? 'x'
                                                           : '?';
      // Until the next answer, but not through a silence.
      const absl::Time next = points[i].at + absl::Seconds(3);
      const absl::Time until =
          i + 1 < points.size() ? std::min(points[i + 1].at, next) : points[i].at;
      canvas.Fill(lane.marks, points[i].at, until, mark);
    }
    // What is broken must be seen, however short it was.
    for (const TruthPoint& point : points) {
      if (point.truth == Truth::kFalse) canvas.Put(lane.marks, point.at, 'x');
    }
    lanes.push_back(std::move(lane));
  }
}

std::string Trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace

std::string Timeline(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                     const ReportStyle& style) {
  std::optional<absl::Time> zero;
  for (const v1::Event& event : history) {
    if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT && !zero.has_value()) {
      zero = FromProto(event.at());
    }
  }
  const absl::Time end = FromProto(history.back().at());
  if (!zero.has_value() || end <= *zero) return "";

  const RunSteps steps(history);
  size_t label_width = 0;
  const auto lanes_on = [&](const Canvas& canvas) {
    std::vector<Lane> lanes;
    AddFaults(steps, canvas, end, lanes);
    AddAlerts(history, canvas, end, lanes);
    AddSteadyState(history, canvas, lanes);
    for (Lane& lane : lanes) {
      if (lane.label.size() > kLongestLabel) {
        lane.label = absl::StrCat(lane.label.substr(0, kLongestLabel - 2), "..");
      }
      label_width = std::max(label_width, lane.label.size());
    }
    return lanes;
  };
  lanes_on(Canvas(*zero, end, 1));  // For the labels' width.
  const size_t left = label_width + 4;
  const Canvas canvas(*zero, end, style.width > left + 20 ? style.width - left : 20);
  std::string text = absl::StrCat(
      std::string(left, ' '), Trimmed(Paint(style, Ink::kDim, Trimmed(canvas.Axis(*zero)))), "\n");
  for (const Lane& lane : lanes_on(canvas)) {
    absl::StrAppend(
        &text, Trimmed(absl::StrCat("  ", Pad(lane.label, label_width), "  ", lane.marks)), "\n");
  }
  for (const char* legend :
       {"faults: . on, # in force; r remedy; alerts: - pending, ! firing, N notified",
        "steady state: = holds, x broken, ? unknown"}) {
    absl::StrAppend(&text, "  ", Paint(style, Ink::kDim, legend), "\n");
  }
  return text;
}

}  // namespace firedrill::reporting
