// Reads the courses of faults and remedies out of a history.
#include "controller/run_steps.h"

#include <algorithm>

#include "base/time_proto.h"
#include "controller/run_left.h"

namespace firedrill {
namespace {

bool Over(v1::FaultState state) {
  return state == v1::FAULT_STATE_REVERTED || state == v1::FAULT_STATE_SUPERSEDED;
}

// The earliest, or the latest; the latest is empty until every one is there.
template <typename Course>
std::optional<Instant> First(const std::vector<const Course*>& courses,
                             std::optional<Instant> Course::*point) {
  std::optional<Instant> first;
  for (const Course* course : courses) {
    const std::optional<Instant>& instant = course->*point;
    if (instant.has_value() && (!first.has_value() || instant->at < first->at)) first = instant;
  }
  return first;
}

template <typename Course>
std::optional<Instant> Last(const std::vector<const Course*>& courses,
                            std::optional<Instant> Course::*point) {
  std::optional<Instant> last;
  for (const Course* course : courses) {
    const std::optional<Instant>& instant = course->*point;
    if (!instant.has_value()) return std::nullopt;
    if (!last.has_value() || instant->at > last->at) last = instant;
  }
  return last;
}

template <typename Course>
std::vector<const Course*> Named(const std::vector<Course>& courses, const std::string& step) {
  std::vector<const Course*> named;
  for (const Course& course : courses) {
    if (course.planned.name() == step) named.push_back(&course);
  }
  return named;
}

}  // namespace

Instant InstantOf(const v1::Event& event) {
  if (!event.has_source_time()) return {FromProto(event.at()), absl::ZeroDuration()};
  return InstantOf(event, event.source_time());
}

Instant InstantOf(const v1::Event& event, const google::protobuf::Timestamp& time) {
  return {FromProto(time) - FromProto(event.clock_offset()),
          absl::AbsDuration(FromProto(event.clock_error()))};
}

RunSteps::RunSteps(const std::vector<v1::Event>& history) {
  if (history.empty()) return;
  const v1::Plan& plan = history.front().created().plan();
  for (const v1::PlannedFault& planned : plan.faults()) faults_.push_back({planned});
  for (const v1::PlannedRemedy& planned : plan.remedies()) remedies_.push_back({planned});
  for (const v1::Event& event : history) {
    if (event.has_fault()) TakeFault(event);
    if (event.has_remedy()) TakeRemedy(event);
    if (event.has_command() && event.command().command().has_revert()) TakeRevert(event);
    if (event.has_command() && event.command().command().has_apply()) {
      const v1::PlannedFault& applied = event.command().command().apply().fault();
      for (FaultCourse& fault : faults_) {
        if (fault.planned.name() == applied.name() && fault.planned.node() == applied.node()) {
          fault.apply_issued = true;
          if (!fault.ordered.has_value()) fault.ordered = InstantOf(event);
        }
      }
    }
  }
}

void RunSteps::TakeRevert(const v1::Event& event) {
  const v1::Command& command = event.command().command();
  for (FaultCourse& fault : faults_) {
    if (fault.planned.name() != command.revert().fault()) continue;
    if (fault.planned.node() != command.id().node() || fault.undo_begun.has_value()) continue;
    fault.undo_begun = InstantOf(event);
  }
}

void RunSteps::TakeFault(const v1::Event& event) {
  const v1::FaultReport& report = event.fault();
  for (FaultCourse& fault : faults_) {
    if (fault.planned.name() != report.fault() || fault.planned.node() != report.node()) continue;
    // Nothing was seen of it by that.
    if (IsSettlement(event)) continue;
    fault.last = report.state();
    if (!report.reason().empty()) fault.reason = report.reason();
    if (!report.undo_by_hand().empty()) fault.undo_by_hand = report.undo_by_hand();
    const Instant now = InstantOf(event);
    const bool one_shot = fault.planned.ending() == v1::ENDING_ONE_SHOT;
    // A one-shot fault may say everything in its last report.
    const bool on = report.state() == v1::FAULT_STATE_ACTIVE ||
                    (one_shot && report.has_observation() && Over(report.state()));
    if (on && !fault.start.has_value()) fault.start = now;
    if (on && report.observation().reached() && !fault.reached.has_value()) {
      fault.reached = now;
      fault.in_force = report.observation();
    }
    // What was counted until it was let go, too.
    const bool counted = on || report.state() == v1::FAULT_STATE_REVERTING;
    if (counted && report.has_observation() &&
        (report.observation().real() >= fault.best.real() || fault.best.unit().empty())) {
      fault.best = report.observation();
      fault.best_at = now;
    }
    if (!one_shot && Over(report.state()) && report.has_observation()) {
      fault.after = report.observation().detail();
    }
    if (report.state() == v1::FAULT_STATE_REVERTING && !fault.undo_begun.has_value()) {
      fault.undo_begun = now;
    }
    // "superseded" may be followed by "reverted" of what was ours: the first end counts.
    if (Over(report.state()) && !fault.end.has_value()) fault.end = now;
  }
}

void RunSteps::TakeRemedy(const v1::Event& event) {
  const v1::RemedyReport& report = event.remedy();
  for (RemedyCourse& remedy : remedies_) {
    if (remedy.planned.name() != report.remedy() || remedy.planned.node() != report.node())
      continue;
    remedy.last = report;
    const Instant now = InstantOf(event);
    if (report.state() == v1::REMEDY_STATE_RUNNING && !remedy.running.has_value()) {
      remedy.running = now;
    }
    if (report.state() == v1::REMEDY_STATE_DONE && !remedy.done.has_value()) {
      remedy.done = now;
      if (!remedy.running.has_value()) {
        remedy.running = Instant{now.at - FromProto(report.took()), now.error};
      }
    }
  }
}

std::optional<Instant> RunSteps::Find(const Anchor& anchor) const {
  const auto faults = Named(faults_, anchor.step);
  switch (anchor.point) {
    case AnchorPoint::kStart:
      return First(faults, &FaultCourse::start);
    case AnchorPoint::kReached:
      return Last(faults, &FaultCourse::reached);
    case AnchorPoint::kEnd:
      return Last(faults, &FaultCourse::end);
    case AnchorPoint::kDone:
      return Last(Named(remedies_, anchor.step), &RemedyCourse::done);
  }
  return std::nullopt;
}

bool RunSteps::IsFault(const std::string& step) const { return !Named(faults_, step).empty(); }

bool RunSteps::InForce(const std::string& step) const {
  return Find({step, AnchorPoint::kReached}).has_value();
}

bool RunSteps::Applied(const std::string& step) const {
  for (const FaultCourse* fault : Named(faults_, step)) {
    if (fault->apply_issued || fault->start.has_value()) return true;
  }
  return false;
}

std::optional<Instant> RunSteps::FirstStart() const {
  std::vector<const FaultCourse*> all;
  for (const FaultCourse& fault : faults_) all.push_back(&fault);
  return First(all, &FaultCourse::start);
}

std::optional<Instant> RunSteps::LastEnd() const {
  std::vector<const FaultCourse*> begun;
  for (const FaultCourse& fault : faults_) {
    if (fault.start.has_value()) begun.push_back(&fault);
  }
  return Last(begun, &FaultCourse::end);
}

}  // namespace firedrill
