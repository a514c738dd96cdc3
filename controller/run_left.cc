// What a run has left when it ended.
#include "controller/run_left.h"

#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/time_proto.h"
#include "controller/words.h"

namespace firedrill {
namespace {

constexpr char kPerson[] = "person/";
constexpr char kFolder[] = "its state folder is ";

std::string KeyOf(const v1::FaultReport& report) {
  return absl::StrCat(report.fault(), "@", report.node());
}

// Its effect ends without the injector, the reaper and the journal of its node.
bool EndsByItself(v1::Ending ending) {
  return ending == v1::ENDING_ONE_SHOT || ending == v1::ENDING_DIES_WITH_PROCESS ||
         ending == v1::ENDING_EXPIRES;
}

}  // namespace

v1::NodeReport Memories::Record(const std::string& node, const std::string& memory) {
  v1::NodeReport report;
  report.set_node(node);
  report.set_connected(true);
  report.set_reason(absl::StrCat(kFolder, memory));
  return report;
}

void Memories::Take(const v1::Event& event) {
  absl::string_view memory = event.node().reason();
  if (event.has_node() && absl::ConsumePrefix(&memory, kFolder)) {
    nodes_[event.node().node()] = std::string(memory);
  }
  if (event.has_command() && event.command().command().has_apply()) {
    const v1::PlannedFault& planned = event.command().command().apply().fault();
    faults_[FaultKey(planned)] = Of(planned.node());
  }
}

std::string Memories::Of(const std::string& node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? "" : found->second;
}

bool Memories::Knows(const std::string& memory, const std::string& fault_key) const {
  const auto found = faults_.find(fault_key);
  return found == faults_.end() || found->second.empty() || found->second == memory;
}

bool LeftFault::MayBeOn() const {
  if (state == v1::FAULT_STATE_SUPERSEDED) return false;
  return state != v1::FAULT_STATE_EXPIRED || !EndsByItself(planned.ending());
}

std::string LeftFault::Words() const {
  return absl::StrCat(planned.name(), " on ", planned.node(), " is ", FaultStateWord(state),
                      reason.empty() ? "" : ": ", reason);
}

std::map<std::string, LeftFault> LeftBy(const std::vector<v1::Event>& history) {
  std::map<std::string, LeftFault> left;
  const size_t end = LengthToEnd(history);
  if (!HasEnded(history)) return left;
  const RunState state = Fold(history);
  for (const auto& [key, fault] : state.faults) {
    if (!fault.apply_issued || fault.state == v1::FAULT_STATE_REVERTED ||
        fault.state == v1::FAULT_STATE_REFUSED) {
      continue;
    }
    left[key] = {
        .planned = fault.planned, .state = fault.state, .heard = FromProto(history.front().at())};
  }
  for (size_t i = 0; i < history.size(); ++i) {
    const v1::Event& event = history[i];
    const auto of_node = absl::StripPrefix(event.source(), "injector/");
    for (auto& [key, fault] : left) {
      if (of_node != event.source() && of_node == fault.planned.node()) {
        fault.heard = FromProto(event.at());
      }
    }
    if (!event.has_fault()) continue;
    const auto found = left.find(KeyOf(event.fault()));
    if (found == left.end()) continue;
    if (i >= end) {
      if (IsSettlement(event) || event.fault().state() == v1::FAULT_STATE_REVERTED) {
        left.erase(found);
        continue;
      }
      found->second.state = event.fault().state();
    }
    found->second.reason = event.fault().reason();
    found->second.undo_by_hand = event.fault().undo_by_hand();
  }
  for (auto& [key, fault] : left) {
    if (fault.state == v1::FAULT_STATE_EXPIRED && fault.reason.empty()) {
      fault.reason = "nothing was heard of it until its lease was over";
    }
  }
  return left;
}

v1::Event Settlement(const v1::PlannedFault& planned, const std::string& by,
                     const std::string& reason) {
  v1::Event event;
  event.set_source(absl::StrCat(kPerson, by));
  v1::FaultReport& report = *event.mutable_fault();
  report.set_fault(planned.name());
  report.set_node(planned.node());
  report.set_state(v1::FAULT_STATE_SUPERSEDED);
  report.set_reason(reason);
  return event;
}

bool IsSettlement(const v1::Event& event) {
  return event.has_fault() && absl::StartsWith(event.source(), kPerson);
}

std::string SettledWords(const std::vector<v1::Event>& history) {
  const auto newest = std::find_if(history.rbegin(), history.rend(), IsSettlement);
  if (newest == history.rend()) return "";
  return absl::StrCat(absl::StripPrefix(newest->source(), kPerson), ": ", newest->fault().reason());
}

bool HasEnded(const std::vector<v1::Event>& history) {
  return absl::c_any_of(history, [](const v1::Event& event) { return event.has_finished(); });
}

size_t LengthToEnd(const std::vector<v1::Event>& history) {
  const auto end =
      absl::c_find_if(history, [](const v1::Event& event) { return event.has_finished(); });
  return end == history.end() ? history.size() : static_cast<size_t>(end - history.begin()) + 1;
}

std::vector<v1::Event> UpToEnd(const std::vector<v1::Event>& history) {
  return {history.begin(), history.begin() + static_cast<ptrdiff_t>(LengthToEnd(history))};
}

}  // namespace firedrill
