// How long a run takes: when each anchor comes, and for how long each expectation is watched after
// it.
#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"
#include "controller/run.h"
#include "experiment/anchor.h"

namespace firedrill::planning {
namespace {

// Beyond the longest `for`: for a load's window to fill, and for a shaky start.
constexpr absl::Duration kGatePatience = absl::Seconds(30);
// For starting and reverting faults, on top of every planned time.
constexpr absl::Duration kMargin = absl::Seconds(30);
constexpr absl::Duration kProgramTimeout = absl::Seconds(30);

bool IsOneShot(const v1::PlannedFault& fault) { return fault.ending() == v1::ENDING_ONE_SHOT; }

void Wait(v1::Plan& plan, const std::string& expectation, const std::string& since,
          absl::Duration lasting) {
  v1::PlannedWait& wait = *plan.add_waits();
  wait.set_expectation(expectation);
  wait.set_since(since);
  *wait.mutable_lasting() = ToProto(lasting);
}

template <typename Check>
void WaitForHold(v1::Plan& plan, const Check& check) {
  Wait(plan, check.name(), check.since(), FromProto(check.within()) + FromProto(check.for_()));
}

void PlanWaits(const v1::Expectations& expect, v1::Plan& plan) {
  for (const auto& check : expect.impact()) WaitForHold(plan, check);
  for (const v1::AlertExpectation& alert : expect.alerts()) {
    absl::Duration lasting = FromProto(alert.firing_within());
    if (alert.has_notification()) {
      lasting = std::max(lasting, FromProto(alert.notification().within()));
    }
    Wait(plan, alert.name(), alert.since(), lasting);
    if (alert.has_resolved()) {
      Wait(plan, alert.name(), alert.resolved().since(), FromProto(alert.resolved().within()));
    }
  }
  for (const auto& check : expect.recovery()) WaitForHold(plan, check);
}

absl::Duration TimeoutOf(const PlanInput& input, const v1::PlannedRemedy& remedy) {
  const Kind kind = KindOf(remedy.remedy());
  const v1::Registration* node = FindNode(input, remedy.node());
  if (kind.message == nullptr || node == nullptr) return kProgramTimeout;
  const v1::RemedyStatement* statement = RemedyStatementOf(*node, kind);
  if (statement != nullptr) return DurationOf(*statement, "timeout");
  absl::Duration length;
  if (kind.message->GetDescriptor()->FindFieldByName("timeout") != nullptr) {
    length = DurationOf(*kind.message, "timeout");
  }
  for (const std::string& name : NamesOf(*kind.message, "program")) {
    for (const v1::Program& program : node->programs()) {
      if (program.name() == name) length += DurationOf(program, "timeout");
    }
  }
  return length > absl::ZeroDuration() ? length : kProgramTimeout;
}

// The latest that a fault may end, from the gate's end.
absl::Duration LatestEnd(const v1::PlannedFault& fault) {
  return FromProto(fault.at()) + (IsOneShot(fault) ? kOneShotBound : FromProto(fault.duration()));
}

absl::Duration LatestAnchor(const PlanInput& input, const v1::Plan& plan,
                            const v1::PlannedWait& wait) {
  absl::Duration latest = absl::ZeroDuration();
  const auto anchor = ParseAnchor(wait.since());
  if (!anchor.ok()) return latest;
  for (const v1::PlannedFault& fault : plan.faults()) {
    if (fault.name() == anchor->step) latest = std::max(latest, LatestEnd(fault));
  }
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    if (remedy.name() != anchor->step) continue;
    latest = std::max(latest, FromProto(remedy.at()) + TimeoutOf(input, remedy));
  }
  return latest;
}

void CheckLimit(v1::Plan& plan) {
  if (plan.faults().empty()) return;
  const absl::Duration most = FromProto(plan.max_duration());
  absl::Duration first = absl::InfiniteDuration();
  for (const v1::PlannedFault& fault : plan.faults()) {
    first = std::min(first, FromProto(fault.at()));
  }
  for (const v1::PlannedFault& fault : plan.faults()) {
    const absl::Duration end = FromProto(fault.at()) + FromProto(fault.duration()) - first;
    if (end <= most) continue;
    AddFinding(plan, v1::Finding::KIND_CIRCUMSTANCE, "limit", fault.name(),
               absl::StrCat(fault.name(), " would end ", firedrill::FormatDuration(end),
                            " after the first fault's start; limits.maxDuration is ",
                            firedrill::FormatDuration(most)),
               "shorten it, or raise limits.maxDuration");
  }
}

// What the controller itself permits, whatever the experiment does.
void CheckRunLimits(const v1::RunLimits& limits, v1::Plan& plan) {
  const auto refuse = [&plan](absl::string_view key, const std::string& what, const std::string& is,
                              const std::string& most) {
    AddFinding(
        plan, v1::Finding::KIND_CIRCUMSTANCE, "limit", "",
        absl::StrCat(what, " ", is, "; the controller's limits.", key, " is ", most),
        absl::StrCat("ask for less, or raise limits.", key, " in the controller's own file"));
  };
  std::set<std::string> nodes;
  for (const v1::PlannedFault& fault : plan.faults()) nodes.insert(fault.node());
  const absl::Duration length = FromProto(plan.gate_timeout()) + FromProto(plan.longest());
  if (limits.faults() > 0 && plan.faults_size() > static_cast<int>(limits.faults())) {
    refuse("faults", "the faults of this run, each counted on every node, are",
           absl::StrCat(plan.faults_size()), absl::StrCat(limits.faults()));
  }
  if (limits.nodes() > 0 && nodes.size() > limits.nodes()) {
    refuse("nodes", "the nodes that this run's faults hit are", absl::StrCat(nodes.size()),
           absl::StrCat(limits.nodes()));
  }
  if (limits.has_length() && length > FromProto(limits.length())) {
    refuse("length", "this run may take", firedrill::FormatDuration(length),
           firedrill::FormatDuration(FromProto(limits.length())));
  }
}

}  // namespace

void PlanTimes(const PlanInput& input, v1::Plan& plan) {
  const v1::ExperimentSpec& spec = input.experiment.spec();
  *plan.mutable_max_duration() = spec.limits().max_duration();
  PlanWaits(spec.expect(), plan);
  absl::Duration hold = absl::ZeroDuration();
  for (const v1::PlannedCheck& check : plan.gate()) {
    hold =
        std::max(hold, FromProto(check.for_()) +
                           (check.load().empty() ? absl::ZeroDuration() : FromProto(check.over())));
  }
  *plan.mutable_gate_timeout() = ToProto(hold + kGatePatience);
  absl::Duration longest = absl::ZeroDuration();
  for (const v1::PlannedFault& fault : plan.faults()) {
    longest = std::max(longest, LatestEnd(fault));
  }
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    longest = std::max(longest, FromProto(remedy.at()) + TimeoutOf(input, remedy));
  }
  // Steady state has as long to come back as it has to hold at first.
  longest += FromProto(plan.gate_timeout());
  for (const v1::PlannedWait& wait : plan.waits()) {
    longest = std::max(longest, LatestAnchor(input, plan, wait) + FromProto(wait.lasting()));
  }
  *plan.mutable_longest() = ToProto(longest + kMargin);
  CheckLimit(plan);
  CheckRunLimits(input.limits, plan);
}

std::optional<absl::Duration> NominalAnchor(const v1::Plan& plan, absl::string_view text) {
  const auto anchor = ParseAnchor(text);
  if (!anchor.ok()) return std::nullopt;
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    if (anchor->point == AnchorPoint::kDone && remedy.name() == anchor->step) {
      return FromProto(remedy.at());
    }
  }
  for (const v1::PlannedFault& fault : plan.faults()) {
    if (fault.name() != anchor->step) continue;
    const absl::Duration at = FromProto(fault.at());
    if (anchor->point == AnchorPoint::kStart || IsOneShot(fault)) return at;
    if (anchor->point == AnchorPoint::kEnd) return at + FromProto(fault.duration());
    const Kind kind = KindOf(fault.fault());
    return at +
           (kind.message == nullptr ? absl::ZeroDuration() : DurationOf(*kind.message, "ramp"));
  }
  return std::nullopt;
}

absl::Duration NominalEnd(const v1::Plan& plan) {
  absl::Duration end = absl::ZeroDuration();
  for (const v1::PlannedFault& fault : plan.faults()) {
    end = std::max(end, FromProto(fault.at()) + FromProto(fault.duration()));
  }
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    end = std::max(end, FromProto(remedy.at()));
  }
  absl::Duration hold = absl::ZeroDuration();
  for (const v1::PlannedCheck& check : plan.gate()) hold = std::max(hold, FromProto(check.for_()));
  end += hold;
  for (const v1::PlannedWait& wait : plan.waits()) {
    const auto since = NominalAnchor(plan, wait.since());
    if (since.has_value()) end = std::max(end, *since + FromProto(wait.lasting()));
  }
  return end + kLateAnswers;
}

}  // namespace firedrill::planning
