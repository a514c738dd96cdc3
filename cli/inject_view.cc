// One fault by hand, told line by line.
#include "cli/inject_view.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/inject_flags.h"
#include "cli/rpc/own_run.h"
#include "controller/report_parts.h"
#include "controller/words.h"

namespace firedrill {
namespace {

constexpr absl::Duration kLineEvery = absl::Seconds(1);
// As old as figures of a fault that goes on may be.
constexpr absl::Duration kFresh = absl::Seconds(2);

// The words on the command line are wrong, not what they meet.
bool IsMisspelt(const std::string& code) {
  return absl::StartsWith(code, "no-") || code == "protocol";
}

bool IsSenseless(int code) {
  const auto canonical = static_cast<absl::StatusCode>(code);
  return canonical == absl::StatusCode::kInvalidArgument ||
         canonical == absl::StatusCode::kNotFound || canonical == absl::StatusCode::kOutOfRange;
}

bool HasListen(const v1::Fault& fault) {
  const auto* arm = fault.GetReflection()->GetOneofFieldDescriptor(
      fault, fault.GetDescriptor()->FindOneofByName("kind"));
  const auto& kind = fault.GetReflection()->GetMessage(fault, arm);
  const auto* listen = arm->message_type()->FindFieldByName("listen");
  return listen != nullptr && !kind.GetReflection()->GetString(kind, listen).empty();
}

// It went off before its time though nobody had stopped it.
const v1::ExpectationResult* EndedEarly(const v1::Judgement& judgement) {
  for (const v1::ExpectationResult& result : judgement.results()) {
    if (result.code() == "ended-early") return &result;
  }
  return nullptr;
}

}  // namespace

void InjectView::Event(const v1::Event& event) {
  const absl::Time at = FromProto(event.at());
  if (event.has_created()) {
    const v1::Plan& plan = event.created().plan();
    one_shot_ = !plan.faults().empty() && plan.faults(0).ending() == v1::ENDING_ONE_SHOT;
    Say(absl::StrCat(
        "run ", plan.run(), ": ", KebabOf(options_.kind), ", seed ", plan.seed(), "; it ends ",
        one_shot_ ? "by itself" : absl::StrCat("after ", options_.duration), ", or with Ctrl-C"));
    if (options_.protocol_by_port) {
      Say(absl::StrCat("protocol: ", options_.protocol, ", which is usual at the port of ",
                       options_.upstream, "; --protocol names another"));
    }
  }
  if (event.has_finding() && event.finding().kind() == v1::Finding::KIND_CIRCUMSTANCE) {
    misspelt_ = misspelt_ || IsMisspelt(event.finding().code());
  }
  if (event.has_fault()) Fault(event.fault(), at);
}

bool InjectView::Shows(const v1::Event& event) {
  if (event.has_created() || event.has_phase() || event.has_finished()) return false;
  if (event.has_preflight_finished()) return false;
  // Why has been said by the fault itself.
  return !event.has_stop() || (event.stop().cause() != v1::StopRequested::CAUSE_FAULT_REFUSED &&
                               event.stop().cause() != v1::StopRequested::CAUSE_FAULT_STUCK);
}

void InjectView::Tick() {
  const std::string seconds = absl::StrCat(absl::ToInt64Seconds(absl::Now() - since_), "s");
  if (over_) return screen_.Status(absl::StrCat("  ", seconds, "  it is over"));
  if (screen_.terminal()) {
    const std::string head = absl::StrCat("  ", seconds, "  ");
    const std::string words =
        absl::StrCat(counters_.empty() ? "starting" : counters_, " (Ctrl-C ends it)");
    return screen_.Status(absl::StrCat(
        head, reporting::Wrap(words, screen_.style().width - 1, head.size(), head.size())));
  }
  if (counters_ == said_ || absl::Now() - said_at_ < kLineEvery) return;
  screen_.Line(absl::StrCat(seconds, "  ", counters_));
  said_ = counters_;
  said_at_ = absl::Now();
}

int InjectView::Judged(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                       int code) {
  screen_.Line("");
  code = SayHowItEnded(RunSteps(history).faults(), judgement, code);
  SayWhatWasTouched(ended_at_.value_or(FromProto(history.back().at())),
                    EndedEarly(judgement) != nullptr);
  return code;
}

void InjectView::Fault(const v1::FaultReport& report, absl::Time at) {
  on_ = on_ || report.state() == v1::FAULT_STATE_ACTIVE;
  switch (report.state()) {
    case v1::FAULT_STATE_REFUSED:
      refused_ = over_ = true;
      senseless_ = IsSenseless(report.code());
      forbidden_ =
          static_cast<absl::StatusCode>(report.code()) == absl::StatusCode::kPermissionDenied;
      break;
    case v1::FAULT_STATE_REVERTED:
    case v1::FAULT_STATE_SUPERSEDED:
      over_ = true;
      ended_at_ = at;
      break;
    default:
      break;
  }
  if (report.observation().detail().empty()) return;
  const bool on =
      report.state() == v1::FAULT_STATE_ACTIVE || report.state() == v1::FAULT_STATE_REVERTING;
  if (!on && !one_shot_) {
    after_ = report.observation().detail();
    return;
  }
  counters_ = report.observation().detail();
  counted_at_ = at;
  counted_last_ = report.state() != v1::FAULT_STATE_ACTIVE;
}

std::string InjectView::Ended(const v1::Judgement& judgement, int code) const {
  const bool sure = code != kUndoUnconfirmed;
  if (sure && refused_ && !on_) return "refused; nothing of it stays";
  if (sure && judgement.outcome() == v1::OUTCOME_NOT_STARTED) {
    return "not started; nothing was touched";
  }
  const char* undone = !sure       ? "; UNDO NOT CONFIRMED: a person must look"
                       : one_shot_ ? "; nothing to undo"
                                   : "; undone, and read back";
  if (EndedEarly(judgement) != nullptr) return absl::StrCat("it ended early", undone);
  if (judgement.outcome() == v1::OUTCOME_COMPLETED) {
    return absl::StrCat(one_shot_ ? "it has acted" : "its time is over", undone);
  }
  return absl::StrCat("ended by ",
                      judgement.cause() == v1::StopRequested::CAUSE_UNSPECIFIED
                          ? judgement.reason()
                          : StopWords(judgement.cause(), judgement.reason()),
                      undone);
}

int InjectView::SayHowItEnded(const std::vector<FaultCourse>& faults,
                              const v1::Judgement& judgement, int code) {
  const bool sure = code != kUndoUnconfirmed;
  const bool never = refused_ && !on_ && sure;
  if (sure && (misspelt_ || (never && senseless_))) code = kUsageError;
  if (never && forbidden_ && IsOnTheWire(options_.kind) && !HasListen(options_.fault) &&
      geteuid() != 0) {
    Say("add --listen 127.0.0.1:6432 (any free port) and have the clients come to that address: "
        "only root may redirect those that know nothing");
    code = kUsageError;
  }
  Say(absl::StrCat(Ended(judgement, code), " (exit ", code, ")"));
  for (const FaultCourse& fault : faults) {
    if (!sure && fault.apply_issued && !fault.end.has_value()) SayWhatToUndo(fault);
  }
  for (const v1::ExpectationResult& result : judgement.results()) {
    if (judgement.outcome() != v1::OUTCOME_COMPLETED) break;
    if (result.verdict() == v1::VERDICT_PASSED) continue;
    const std::string mend = result.mend().empty() ? "" : absl::StrCat("; ", result.mend());
    if (&result == EndedEarly(judgement)) {
      SayWhyEarly(faults, result.reason(), mend);
    } else {
      Say(absl::StrCat("it was not seen in force: ", result.reason(), mend));
    }
  }
  return code;
}

void InjectView::SayWhatToUndo(const FaultCourse& fault) {
  Say(absl::StrCat(fault.planned.name(), " is ", FaultStateWord(fault.last),
                   fault.reason.empty() ? "" : ": ", fault.reason));
  // In one line, to be pasted.
  screen_.Line(fault.undo_by_hand.empty() ? "look with: firedrill leftovers"
                                          : absl::StrCat("undo it with: ", fault.undo_by_hand));
}

void InjectView::SayWhyEarly(const std::vector<FaultCourse>& faults, const std::string& reason,
                             const std::string& mend) {
  for (const FaultCourse& fault : faults) {
    if (!fault.reached.has_value() || !fault.end.has_value()) {
      Say(absl::StrCat(reason, mend));
      continue;
    }
    const absl::Duration held = fault.end->at - fault.reached->at;
    Say(absl::StrCat("it was in force for ", Short(std::max(held, absl::ZeroDuration())), " of ",
                     options_.duration, fault.reason.empty() ? "" : ": ", fault.reason, mend));
  }
}

void InjectView::SayWhatWasTouched(absl::Time end, bool early) {
  if (!after_.empty()) Say(absl::StrCat("after: ", after_));
  if (counters_.empty()) return;
  const absl::Duration age = end - counted_at_;
  // Of one whose injector was lost nobody knows what came behind them.
  const bool old = !counted_last_ && (early || age >= kFresh);
  Say(absl::StrCat("touched",
                   old ? absl::StrCat(", as last seen ", Short(std::max(age, absl::ZeroDuration())),
                                      " before the end")
                       : "",
                   ": ", counters_));
}

void InjectView::Say(const std::string& line) {
  screen_.Line(screen_.terminal() ? reporting::Wrap(line, screen_.style().width, 2, 0) : line);
}

}  // namespace firedrill
