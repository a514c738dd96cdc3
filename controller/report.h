// What a person or a pipeline reads of a run. Pure functions of its history and judgement.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct ReportStyle {
  bool color = false;
  size_t width = 100;
};

// The whole report as text: verdict, measured times, expectations (failures first), timeline, proof of undo.
std::string ReportText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                       const ReportStyle& style);
// The closing part of `firedrill run`: failures first, each with expected, observed, the line and the mend.
std::string SummaryText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                        const ReportStyle& style);
// JUnit XML: one test case an expectation; measured times as properties.
std::string ReportJUnit(const std::vector<v1::Event>& history, const v1::Judgement& judgement);
// The judgement and the plan as JSON, one object.
std::string ReportJson(const std::vector<v1::Event>& history, const v1::Judgement& judgement);

// One line of live output for an event, without the newline; empty for events that people need not see.
// `begin` is the run's first event's time: lines start with the seconds since the gate's end or begin.
class LiveLines {
 public:
  explicit LiveLines(const ReportStyle& style) : style_(style) {}
  std::string Line(const v1::Event& event);

 private:
  ReportStyle style_;
  v1::Plan plan_;
  std::optional<absl::Time> begin_;
  std::optional<absl::Time> gate_passed_;
};

}  // namespace firedrill
