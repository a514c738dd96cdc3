// The words of judgement and report.
#include "controller/words.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"

namespace firedrill {

std::string Short(absl::Duration duration) {
  const absl::Duration size = absl::AbsDuration(duration);
  if (size < absl::Seconds(1)) return firedrill::FormatDuration(duration);
  if (size >= absl::Minutes(2)) {
    return firedrill::FormatDuration(absl::Seconds(std::llround(absl::ToDoubleSeconds(duration))));
  }
  const double tenths = std::round(absl::ToDoubleSeconds(duration) * 10) / 10;
  if (tenths == std::floor(tenths)) return absl::StrFormat("%.0fs", tenths);
  return absl::StrFormat("%.1fs", tenths);
}

std::string Signed(absl::Duration duration) {
  // Rounded first: -0.04 is +0.0.
  const int64_t tenths = std::llround(absl::ToDoubleSeconds(duration) * 10);
  return absl::StrFormat("%c%d.%ds", tenths < 0 ? '-' : '+', std::abs(tenths) / 10,
                         std::abs(tenths) % 10);
}

std::string After(absl::Duration duration, absl::string_view anchor) {
  if (absl::AbsDuration(duration) < absl::Milliseconds(1)) return absl::StrCat("at ", anchor);
  return absl::StrCat(Short(absl::AbsDuration(duration)),
                      duration < absl::ZeroDuration() ? " before " : " after ", anchor);
}

absl::string_view VerdictWord(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_PASSED:
      return "passed";
    case v1::VERDICT_INCONCLUSIVE:
      return "inconclusive";
    case v1::VERDICT_FAILED:
      return "FAILED";
    default:
      return "not judged";
  }
}

absl::string_view OutcomeWord(v1::Outcome outcome) {
  switch (outcome) {
    case v1::OUTCOME_COMPLETED:
      return "completed";
    case v1::OUTCOME_NOT_STARTED:
      return "not started";
    case v1::OUTCOME_ABORTED:
      return "aborted";
    case v1::OUTCOME_MISSED:
      return "missed";
    default:
      return "unfinished";
  }
}

absl::string_view PhaseWord(v1::Phase phase) {
  switch (phase) {
    case v1::PHASE_PREFLIGHT:
      return "preflight";
    case v1::PHASE_GATE:
      return "gate";
    case v1::PHASE_INJECT:
      return "inject";
    case v1::PHASE_REVERT:
      return "revert";
    case v1::PHASE_RECOVER:
      return "recover";
    case v1::PHASE_FINISHED:
      return "finished";
    default:
      return "";
  }
}

absl::string_view FaultStateWord(v1::FaultState state) {
  switch (state) {
    case v1::FAULT_STATE_APPLYING:
      return "applying";
    case v1::FAULT_STATE_ACTIVE:
      return "active";
    case v1::FAULT_STATE_REVERTING:
      return "reverting";
    case v1::FAULT_STATE_REVERTED:
      return "reverted";
    case v1::FAULT_STATE_UNKNOWN:
      return "unknown";
    case v1::FAULT_STATE_EXPIRED:
      return "expired";
    case v1::FAULT_STATE_SUPERSEDED:
      return "superseded";
    case v1::FAULT_STATE_STUCK:
      return "STUCK";
    case v1::FAULT_STATE_REFUSED:
      return "refused";
    default:
      return "not applied";
  }
}

absl::string_view KindWord(v1::ExpectationResult::Kind kind) {
  switch (kind) {
    case v1::ExpectationResult::KIND_IMPACT:
      return "impact";
    case v1::ExpectationResult::KIND_ALERT_FIRING:
      return "alert firing";
    case v1::ExpectationResult::KIND_ALERT_DELIVERED:
      return "alert delivered";
    case v1::ExpectationResult::KIND_ALERT_RESOLVED:
      return "alert resolved";
    case v1::ExpectationResult::KIND_ALERT_ORDER:
      return "alert order";
    case v1::ExpectationResult::KIND_FORBIDDEN_ALERT:
      return "forbidden alert";
    case v1::ExpectationResult::KIND_RECOVERY:
      return "recovery";
    case v1::ExpectationResult::KIND_EFFICACY:
      return "fault in force";
    default:
      return "preflight";
  }
}

absl::string_view CauseWord(v1::StopRequested::Cause cause) {
  switch (cause) {
    case v1::StopRequested::CAUSE_OPERATOR:
      return "an operator";
    case v1::StopRequested::CAUSE_GUARDRAIL:
      return "a guardrail";
    case v1::StopRequested::CAUSE_OWNER_LOST:
      return "the loss of the client that started it";
    case v1::StopRequested::CAUSE_INTERRUPT:
      return "Ctrl-C";
    case v1::StopRequested::CAUSE_LEVER:
      return "the emergency lever";
    case v1::StopRequested::CAUSE_NODE_LOST:
      return "the loss of a node";
    case v1::StopRequested::CAUSE_SHUTDOWN:
      return "the controller's end";
    case v1::StopRequested::CAUSE_FAULT_REFUSED:
      return "a fault that could not be applied";
    case v1::StopRequested::CAUSE_FAULT_STUCK:
      return "a fault that could not be undone";
    case v1::StopRequested::CAUSE_CONTROLLER_LOST:
      return "the loss of its controller";
    default:
      return "";
  }
}

std::string FailedWords(const v1::RemedyReport& report) {
  if (!report.failure().empty()) return absl::StrCat(": ", report.failure());
  // What is no program has no exit code.
  return report.exit_code() < 0 ? "" : absl::StrCat(" with exit code ", report.exit_code());
}

std::string StopWords(v1::StopRequested::Cause cause, absl::string_view reason) {
  if (cause == v1::StopRequested::CAUSE_INTERRUPT && !reason.empty()) return std::string(reason);
  return absl::StrCat(CauseWord(cause), reason.empty() ? "" : ": ", reason);
}

}  // namespace firedrill
