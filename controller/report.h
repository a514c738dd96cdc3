// What a person or a pipeline reads of a run. Pure functions of its history and judgement.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/truth.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

struct ReportStyle {
  bool color = false;
  size_t width = 100;
};

// The whole report as text: verdict, findings in plain sentences, timeline, expectations (failures
// first), what each route was like, where the alerts' time went, proof of undo.
std::string ReportText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                       const ReportStyle& style);
// The same as Markdown, for a pull request or the page of an incident.
std::string ReportMarkdown(const std::vector<v1::Event>& history, const v1::Judgement& judgement);
// The closing part of `firedrill run`: failures first, each with expected, observed, the line and
// the mend; then the most important findings and the measured times; the last line is the verdict.
std::string SummaryText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                        const ReportStyle& style);
// JUnit XML: one test case an expectation; measured times as properties. A run that did not
// complete, or whose undo is not confirmed, has one more case "run" with an error, so that a
// pipeline does not take it for green.
std::string ReportJUnit(const std::vector<v1::Event>& history, const v1::Judgement& judgement);
// The judgement and the plan as JSON, one object.
std::string ReportJson(const std::vector<v1::Event>& history, const v1::Judgement& judgement);

// Lines of live output for an event, without the last newline; empty for events that people need
// not see. Lines start with the time: since the run's begin, and with a sign, since the gate was
// passed. To be fed every event of one run, in order.
class LiveLines {
 public:
  // `wrap`: broken at the style's width, for a terminal. Else an event is a line however long, for
  // programs.
  explicit LiveLines(const ReportStyle& style, bool wrap = false) : style_(style), wrap_(wrap) {}
  std::string Line(const v1::Event& event);
  // Words of the reader's own, beneath those of events.
  std::string Beneath(absl::string_view words) const;

 private:
  // A steady-state check and what was last said of it.
  struct Watched {
    std::string name;
    std::string is;
    TruthTracker tracker;
    std::optional<Truth> said;
    int unknown = 0;
  };

  std::string Words(const v1::Event& event);
  bool Told(absl::string_view reason) const;
  std::string BecauseOfMore(const std::string& reason) const;
  std::string Created(const v1::RunCreated& created);
  std::string Fault(const v1::FaultReport& report);
  std::string Alert(const v1::AlertTransition& alert);
  std::string Gap(const v1::MonitorGap& gap, const std::string& source);
  std::string Truths(const v1::Event& event);
  std::string OneTruth(Watched& check, const TruthPoint& point);
  std::string Role(const std::string& alert) const;
  std::string Stamp(absl::Time at) const;
  // True the first time.
  bool First(const std::string& what) { return said_.insert(what).second; }

  ReportStyle style_;
  bool wrap_;
  v1::ExperimentSpec spec_;
  std::set<std::string> one_shots_;
  std::vector<Watched> checks_;
  std::optional<absl::Time> begin_;
  std::optional<absl::Time> gate_passed_;
  std::set<std::string> said_;
  // Why the run was stopped, and what stood against faults.
  std::vector<std::string> told_reasons_;
  bool applied_ = false;
};

}  // namespace firedrill
