// A run's state in words.
#include "tests/simulation/state_text.h"

#include "absl/strings/str_cat.h"

namespace firedrill::simulation {
namespace {

std::string Text(const std::optional<absl::Time>& time) {
  return time.has_value() ? absl::StrCat(absl::ToUnixNanos(*time)) : "-";
}

void Append(const char* what, const std::map<std::string, CheckProgress>& checks,
            std::string& text) {
  for (const auto& [name, check] : checks) {
    absl::StrAppend(&text, what, " ", name, ": ", Text(check.holding_since), " ",
                    Text(check.holding_until), " ", Text(check.broken_since), " ",
                    Text(check.known), " ", check.observed, "\n");
  }
}

}  // namespace

std::string StateText(const RunState& state) {
  std::string text = absl::StrCat(
      "phase ", state.phase, " gate ", Text(state.gate_passed), " stopping ", state.stopping,
      " stop ", state.stop.has_value() ? state.stop->ShortDebugString() : "-", " time_is_up ",
      state.time_is_up, " limit ", state.limit_set, " over ", Text(state.all_over), " everything ",
      state.everything_stopped, " anyway ", state.inject_anyway, " findings ", state.defects, " ",
      state.circumstances, " ", state.first_defect, " ", state.first_circumstance, " finishing ",
      state.finishing, " finished ",
      state.finished.has_value() ? state.finished->ShortDebugString() : "-", "\n");
  for (const auto& [key, fault] : state.faults) {
    absl::StrAppend(&text, "fault ", key, ": ", fault.state, " ", fault.prepared,
                    fault.apply_issued, fault.revert_issued, " ", Text(fault.started), " ",
                    Text(fault.reached), " ", Text(fault.ended), " ", Text(fault.due), " ",
                    fault.attempts, "\n");
  }
  for (const auto& [key, remedy] : state.remedies)
    absl::StrAppend(&text, "remedy ", key, ": ", remedy, "\n");
  for (const auto& [key, done] : state.remedies_done)
    absl::StrAppend(&text, "done ", key, ": ", Text(done), "\n");
  Append("gate", state.gate, text);
  Append("guardrail", state.guardrails, text);
  for (const auto& [node, silence] : state.silent_nodes) {
    absl::StrAppend(&text, "silent ", node, ": ", silence.why, " ",
                    absl::FormatDuration(silence.patience), "\n");
  }
  for (const auto& [node, restarts] : state.restarts)
    absl::StrAppend(&text, "restarts ", node, ": ", restarts, "\n");
  return text;
}

}  // namespace firedrill::simulation
