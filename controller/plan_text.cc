// A plan as a person reads it before anything is touched.
#include <algorithm>
#include <functional>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"

namespace firedrill {
namespace {

using planning::Kind;
using planning::KindOf;
using planning::KindText;
using planning::NodesOf;
using planning::Wrap;

constexpr size_t kWidth = 100;

std::string Length(const google::protobuf::Duration& duration) {
  return firedrill::FormatDuration(FromProto(duration));
}

std::string Padded(absl::string_view text, size_t width) {
  std::string padded(text);
  if (padded.size() < width) padded.resize(width, ' ');
  return padded;
}

// One entry of a list with a word in front: the word's column is as wide as the widest.
struct Row {
  std::string left;
  std::string right;
};

std::string Table(const std::vector<Row>& rows) {
  size_t widest = 0;
  for (const Row& row : rows) widest = std::max(widest, row.left.size());
  const size_t indent = widest + 4;
  std::string text;
  for (const Row& row : rows) {
    absl::StrAppend(&text, "  ", Padded(row.left, widest), "  ",
                    Wrap(row.right, indent, indent, kWidth), "\n");
  }
  return text;
}

std::string Heading(const v1::Experiment& experiment, const v1::Plan& plan) {
  std::string text = experiment.metadata().name();
  if (!plan.run().empty()) absl::StrAppend(&text, "  run ", plan.run());
  absl::StrAppend(&text, "  seed ", plan.seed(), "\n");
  absl::StrAppend(&text, "  ", Wrap(experiment.spec().hypothesis(), 2, 2, kWidth), "\n");
  return text;
}

std::string FindingsText(const v1::Plan& plan) {
  struct Group {
    v1::Finding::Kind kind;
    const char* title;
  };
  std::string text;
  for (const Group& group : {
           Group{v1::Finding::KIND_CIRCUMSTANCE, "It cannot start"},
           Group{v1::Finding::KIND_DEFECT, "Defects of the alerting under test: it would fail"},
           Group{v1::Finding::KIND_NOTE, "Worth knowing"},
       }) {
    std::vector<Row> rows;
    for (const v1::Finding& finding : plan.findings()) {
      if (finding.kind() != group.kind) continue;
      std::string words = finding.message();
      if (!finding.mend().empty()) absl::StrAppend(&words, ". To mend it: ", finding.mend());
      rows.push_back({finding.code(), std::move(words)});
    }
    if (!rows.empty()) absl::StrAppend(&text, "\n", group.title, "\n", Table(rows));
  }
  return text;
}

std::string WhoText(const v1::Plan& plan) {
  std::vector<Row> rows;
  for (const v1::TargetChoice& choice : plan.targets()) {
    rows.push_back({choice.target(),
                    choice.nodes_size() == 0 ? "nobody" : absl::StrJoin(choice.nodes(), ", ")});
    for (const v1::TargetChoice::Passed& passed : choice.passed()) {
      rows.push_back({"", absl::StrCat("not ", passed.node(), ": ", passed.reason())});
    }
  }
  return absl::StrCat("\nWho\n", Table(rows));
}

// Steps of one name on several nodes are one line.
struct Line {
  absl::Duration at;
  std::string name;
  std::string what;
  std::vector<std::string> nodes;
};

void Put(std::vector<Line>& lines, absl::Duration at, const std::string& name,
         const std::string& node, std::string what) {
  for (Line& line : lines) {
    if (line.name != name || line.at != at || line.what != what) continue;
    line.nodes.push_back(node);
    return;
  }
  lines.push_back({at, name, std::move(what), {node}});
}

std::string WhenText(const v1::Plan& plan) {
  std::vector<Line> lines;
  for (const v1::PlannedFault& fault : plan.faults()) {
    const absl::Duration at = FromProto(fault.at());
    const bool once = fault.ending() == v1::ENDING_ONE_SHOT;
    Put(lines, at, fault.name(), fault.node(),
        absl::StrCat(once ? "fault, once: " : "fault on: ", KindText(KindOf(fault.fault()))));
    if (once) continue;
    const auto reached = planning::NominalAnchor(plan, absl::StrCat(fault.name(), ".reached"));
    if (reached.has_value() && *reached > at) {
      Put(lines, *reached, fault.name(), fault.node(), "in full force");
    }
    Put(lines, at + FromProto(fault.duration()), fault.name(), fault.node(), "fault off");
  }
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    Put(lines, FromProto(remedy.at()), remedy.name(), remedy.node(),
        absl::StrCat("remedy: ", KindText(KindOf(remedy.remedy())),
                     remedy.leaves() == v1::LEAVES_CHANGED ? "; leaves the system changed" : ""));
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.at < b.at; });
  std::vector<Row> rows;
  for (const v1::PlannedLoad& load : plan.loads()) {
    rows.push_back({"before", absl::StrCat(load.name(), " on ", load.node(), ": load for the",
                                           " whole run, ", KindText(KindOf(load.load())))});
  }
  for (const v1::PlannedCheck& check : plan.gate()) {
    rows.push_back({"gate", absl::StrCat(check.name(), " must be ", check.is(), " for ",
                                         Length(check.for_()))});
  }
  rows.push_back(
      {"", absl::StrCat("within ", Length(plan.gate_timeout()), ", else nothing is broken")});
  for (const Line& line : lines) {
    rows.push_back({firedrill::FormatDuration(line.at),
                    absl::StrCat(line.name, " on ", JoinWords(line.nodes), ": ", line.what)});
  }
  rows.push_back(
      {absl::StrCat("~", firedrill::FormatDuration(planning::NominalEnd(plan))),
       absl::StrCat("everything is decided; at the latest after ", Length(plan.longest()))});
  return absl::StrCat("\nWhen (from the end of the gate)\n", Table(rows));
}

const char* EndingText(v1::Ending ending) {
  switch (ending) {
    case v1::ENDING_ONE_SHOT:
      return "one-shot";
    case v1::ENDING_DIES_WITH_PROCESS:
      return "dies with the process";
    case v1::ENDING_EXPIRES:
      return "expires by itself";
    case v1::ENDING_JOURNALLED:
      return "journalled";
    default:
      return "not stated";
  }
}

std::string EndingsText(const v1::Plan& plan) {
  std::map<std::string, std::string> seen;
  std::vector<Row> rows;
  for (const v1::PlannedFault& fault : plan.faults()) {
    if (!seen.emplace(fault.name(), "").second) continue;
    std::string words = EndingText(fault.ending());
    const v1::KindRule rule = planning::RuleOf(KindOf(fault.fault()));
    if (!rule.ends().empty()) absl::StrAppend(&words, ". ", rule.ends());
    if (fault.ending() != v1::ENDING_ONE_SHOT) {
      absl::StrAppend(&words, " Reverted after ", Length(fault.duration()), ", at any stop, and ",
                      fault.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE
                          ? "when its lease is over: "
                          : "when its injector hears nothing for ",
                      Length(fault.lease()), ".");
    }
    rows.push_back({fault.name(), std::move(words)});
  }
  return rows.empty() ? "" : absl::StrCat("\nWhat ends each fault\n", Table(rows));
}

std::string LimitsText(const v1::Experiment& experiment, const v1::Plan& plan) {
  std::vector<Row> rows;
  const auto& environments = experiment.spec().limits().environments();
  rows.push_back({"environments", JoinWords({environments.begin(), environments.end()})});
  rows.push_back(
      {"maxDuration", absl::StrCat(Length(plan.max_duration()), " from the first fault's start")});
  for (const v1::PlannedCheck& check : plan.guardrails()) {
    if (check.unexpected_page()) {
      rows.push_back({check.name(), plan.known_alerts().empty()
                                        ? "stops at any page"
                                        : absl::StrCat("stops at any page but ",
                                                       JoinWords({plan.known_alerts().begin(),
                                                                  plan.known_alerts().end()}))});
      continue;
    }
    rows.push_back({check.name(), absl::StrCat("stops when not ", check.is(),
                                               FromProto(check.for_()) > absl::ZeroDuration()
                                                   ? absl::StrCat(" for ", Length(check.for_()))
                                                   : std::string())});
  }
  return absl::StrCat("\nLimits and guardrails\n", Table(rows));
}

std::string AlertText(const v1::AlertExpectation& alert, const v1::AlertArithmetic& sum) {
  const bool certain = FromProto(sum.latest_firing()) <= FromProto(sum.limit());
  std::string words = absl::StrCat(alert.alert(), " fires ", Length(sum.earliest_firing()), " to ",
                                   Length(sum.latest_firing()), " after ", alert.since(), ": ",
                                   sum.explanation(), ".");
  if (!sum.possible()) {
    absl::StrAppend(&words, " It cannot pass.");
  } else if (!certain) {
    absl::StrAppend(&words, " It may be too late.");
  }
  if (alert.has_notification()) {
    absl::StrAppend(&words, " Then ", Length(sum.group_wait()), " group_wait until ",
                    alert.notification().receiver(), " is told; limit ",
                    Length(alert.notification().within()), ".");
  }
  return words;
}

std::string AlertsText(const v1::Experiment& experiment, const v1::Plan& plan) {
  std::vector<Row> rows;
  for (const v1::AlertExpectation& alert : experiment.spec().expect().alerts()) {
    const auto sum = std::find_if(
        plan.arithmetic().begin(), plan.arithmetic().end(),
        [&alert](const v1::AlertArithmetic& a) { return a.expectation() == alert.name(); });
    rows.push_back({alert.name(),
                    sum == plan.arithmetic().end()
                        ? absl::StrCat(alert.alert(), ": no such rule was found, so nothing can be",
                                       " said about its times")
                        : AlertText(alert, *sum)});
  }
  return rows.empty() ? "" : absl::StrCat("\nAlerts\n", Table(rows));
}

bool CanStart(const v1::Plan& plan) {
  return std::none_of(plan.findings().begin(), plan.findings().end(), [](const auto& finding) {
    return finding.kind() == v1::Finding::KIND_CIRCUMSTANCE;
  });
}

}  // namespace

std::string PlanText(const v1::Experiment& experiment, const v1::Plan& plan,
                     absl::string_view arguments) {
  std::string text =
      absl::StrCat(Heading(experiment, plan), FindingsText(plan), WhoText(plan), WhenText(plan),
                   EndingsText(plan), LimitsText(experiment, plan), AlertsText(experiment, plan));
  if (CanStart(plan)) {
    absl::StrAppend(&text, "\nNothing was touched. Start it: firedrill run ", arguments,
                    "\nStop it, and undo everything: Ctrl-C there\n");
  } else {
    absl::StrAppend(&text, "\nNothing was touched, and it cannot start as things are.\n");
  }
  return text;
}

}  // namespace firedrill
