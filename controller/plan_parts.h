// The parts of MakePlan(), divided by meaning. Nobody but plan*.cc includes this.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/plan.h"
#include "google/protobuf/message.h"

namespace firedrill::planning {

// What is set in a message such as Fault or Probe.
struct Kind {
  // As it is written in a definition: "holdConnections"; empty where nothing is set.
  std::string name;
  // Null where it is a mere name, as in `load: shoppers`.
  const google::protobuf::Message* message = nullptr;
};

// ---- plan_words.cc: reads messages by what their options say about them.
Kind KindOf(const google::protobuf::Message& holder);
v1::KindRule RuleOf(const Kind& kind);
// The field's duration; its default, as the option says it, where it is left out.
absl::Duration DurationOf(const google::protobuf::Message& message, const std::string& field);
// The names that fields with this `refers_to` hold: the profile of a fault, the endpoint of a
// probe.
std::vector<std::string> NamesOf(const google::protobuf::Message& message, absl::string_view what);
// Magnitudes that are set, by name: "fillTo" and 0.95.
std::vector<std::pair<std::string, double>> MagnitudesOf(const google::protobuf::Message& message);
// A boolean field of this name that is set.
bool SaysYes(const google::protobuf::Message& message, const std::string& field);
// "holdConnections {profile: leaker, fillTo: 1, ramp: 5s}"; secrets are left out.
std::string KindText(const Kind& kind);
// The text in lines of at most `width`; all but the first begin with `indent` spaces.
std::string Wrap(absl::string_view text, size_t first, size_t indent, size_t width);

void AddFinding(v1::Plan& plan, v1::Finding::Kind kind, absl::string_view code,
                absl::string_view subject, std::string message, std::string mend);

// ---- plan_nodes.cc: who is chosen, and why the others are not.
void ChooseNodes(const PlanInput& input, v1::Plan& plan);
std::vector<std::string> NodesOf(const v1::Plan& plan, absl::string_view target);
// Of the run's seed, and of what draws: two that draw from as many do not always draw the same.
uint64_t SeedFor(uint64_t seed, absl::string_view what);
const v1::Registration* FindNode(const PlanInput& input, absl::string_view node);

// ---- plan_steps.cc: faults, remedies, loads and questions, each on its nodes.
void PlanSteps(const PlanInput& input, v1::Plan& plan);
void PlanQuestions(const PlanInput& input, v1::Plan& plan);
// What a remedy leaves behind on this node; unspecified where neither the definition nor the node
// says it.
v1::Leaves LeavesOf(const v1::Registration& node, const Kind& remedy);
// The statement that a remedy names in the profile it names; null where it names none, or one that
// this node has not. The kind's message is set.
const v1::RemedyStatement* RemedyStatementOf(const v1::Registration& node, const Kind& remedy);

// ---- plan_permits.cc: what the chosen nodes cannot do, or do not permit.
void CheckNodes(const PlanInput& input, v1::Plan& plan);
void CheckOverlaps(v1::Plan& plan);

// ---- plan_times.cc: how long the run takes.
void PlanTimes(const PlanInput& input, v1::Plan& plan);
// From the gate's end to an anchor if all goes as planned; empty where no such step is planned.
std::optional<absl::Duration> NominalAnchor(const v1::Plan& plan, absl::string_view anchor);
// From the gate's end until the last expectation is decided, if all goes as planned.
absl::Duration NominalEnd(const v1::Plan& plan);

// ---- plan_alerts.cc: whether each alert can fire in time.
void PlanAlerts(const PlanInput& input, v1::Plan& plan);

}  // namespace firedrill::planning
