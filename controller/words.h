// How results are put into words: the same in judgement, report, live lines and plan.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// "12.3s", "1m30s": a tenth of a second below two minutes, whole seconds above, milliseconds below
// a second.
std::string Short(absl::Duration duration);
// "+12.3s", "-0.4s", "+0.0s": always a sign and a tenth, so that columns line up.
std::string Signed(absl::Duration duration);
// "3.1s after leak.end", "3.1s before leak.end", "at leak.end".
std::string After(absl::Duration duration, absl::string_view anchor);

// "passed", "inconclusive", "FAILED".
absl::string_view VerdictWord(v1::Verdict verdict);
// "completed", "not started", "aborted", "missed"; "unfinished" where there is none.
absl::string_view OutcomeWord(v1::Outcome outcome);
absl::string_view PhaseWord(v1::Phase phase);
absl::string_view FaultStateWord(v1::FaultState state);
// "alert firing", "recovery", ...
absl::string_view KindWord(v1::ExpectationResult::Kind kind);
// "an operator", "a guardrail", "Ctrl-C".
absl::string_view CauseWord(v1::StopRequested::Cause cause);
// How a remedy failed, behind "failed": ": HTTP 503", ": interrupted", " with exit code 3"; empty
// where only its output says it.
std::string FailedWords(const v1::RemedyReport& report);
// Who or what stopped a run, and why where that says more: "Ctrl-C", "a guardrail: slots-free is
// broken". Of an interruption the reason is what interrupted.
std::string StopWords(v1::StopRequested::Cause cause, absl::string_view reason);

}  // namespace firedrill
