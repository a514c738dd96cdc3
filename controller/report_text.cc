// The summary that closes a run on a terminal, and the whole report.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report.h"
#include "controller/report_parts.h"
#include "controller/run_steps.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill {
namespace {

using reporting::Ink;
using reporting::Pad;
using reporting::Paint;
using reporting::Wrap;

std::string Heading(const ReportStyle& style, absl::string_view text) {
  return absl::StrCat("\n", Paint(style, Ink::kBold, text), "\n");
}

std::string UndoWords(const v1::Judgement& judgement) {
  if (!judgement.undo_confirmed()) return "undo NOT confirmed";
  return "every fault undone";
}

// Of a run that did not complete: why.
std::string Ended(const v1::Judgement& judgement) {
  std::string text(OutcomeWord(judgement.outcome()));
  if (judgement.cause() == v1::StopRequested::CAUSE_INTERRUPT) {
    const bool begun = judgement.outcome() == v1::OUTCOME_ABORTED;
    return absl::StrCat(text, begun ? " by " : ", stopped by ",
                        StopWords(judgement.cause(), judgement.reason()));
  }
  if (judgement.outcome() == v1::OUTCOME_ABORTED &&
      judgement.cause() != v1::StopRequested::CAUSE_UNSPECIFIED) {
    absl::StrAppend(&text, " by ", CauseWord(judgement.cause()));
  }
  // Defects stand above, each with its own words.
  const bool said =
      judgement.outcome() == v1::OUTCOME_NOT_STARTED && judgement.verdict() == v1::VERDICT_FAILED;
  if (judgement.outcome() != v1::OUTCOME_COMPLETED && !judgement.reason().empty() && !said) {
    absl::StrAppend(&text, " (", judgement.reason(), ")");
  }
  return text;
}

// One line for all that an aborted run could not judge any more.
std::string NotJudgedLine(const v1::Judgement& judgement, const ReportStyle& style) {
  const int count = static_cast<int>(
      std::count_if(judgement.results().begin(), judgement.results().end(),
                    [&](const auto& result) { return reporting::NotJudged(judgement, result); }));
  // Where nothing was injected the last line says all there is to say.
  if (count == 0 || judgement.outcome() != v1::OUTCOME_ABORTED) return "";
  std::string why = "the run was aborted";
  if (judgement.cause() == v1::StopRequested::CAUSE_INTERRUPT) {
    why = "the run was interrupted";
  } else if (judgement.cause() != v1::StopRequested::CAUSE_UNSPECIFIED) {
    why = absl::StrCat("the run was stopped by ", CauseWord(judgement.cause()));
  }
  const std::string line = absl::StrCat(
      count, count == 1 ? " expectation was" : " expectations were", " not judged (", why, ")");
  return absl::StrCat(Paint(style, Ink::kYellow, Wrap(line, style.width, 2, 0)), "\n");
}

std::string LastLine(absl::string_view output) {
  while (absl::ConsumeSuffix(&output, "\n")) {
  }
  return std::string(output.substr(output.rfind('\n') + 1));
}

bool Over(const std::vector<v1::Event>& history) {
  return std::any_of(history.begin(), history.end(),
                     [](const v1::Event& event) { return event.has_finished(); });
}

bool AnythingTouched(const std::vector<v1::Event>& history) {
  return std::any_of(history.begin(), history.end(), [](const v1::Event& event) {
    return event.has_command() || event.has_fault() || event.has_remedy() || event.has_load();
  });
}

std::string VerdictLine(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                        const ReportStyle& style) {
  const std::string undo = AnythingTouched(history) ? UndoWords(judgement) : "nothing was touched";
  const bool ended = Over(history);
  // Without an end there is no verdict yet, and nothing that an exit code could say.
  const std::string text =
      ended ? absl::StrCat(reporting::Tally(judgement), "; ", Ended(judgement), "; ", undo,
                           " (exit ", judgement.exit_code(), ")")
            : absl::StrCat(reporting::Tally(judgement), "; the run has no end yet");
  const absl::string_view verdict = ended ? VerdictWord(judgement.verdict()) : "so far";
  return absl::StrCat(Paint(style, reporting::InkOf(judgement.verdict()), verdict), ": ",
                      Wrap(text, style.width, 2, verdict.size() + 2), "\n");
}

// One finding as a sentence, with what to do about it.
std::string FindingLine(const v1::Finding& finding, const ReportStyle& style) {
  const char* kind = "";
  switch (finding.kind()) {
    case v1::Finding::KIND_DEFECT:
      kind = "defect: ";
      break;
    case v1::Finding::KIND_CIRCUMSTANCE:
      kind = "not now: ";
      break;
    default:
      break;
  }
  std::string text = absl::StrCat(kind, finding.message());
  if (!finding.mend().empty()) absl::StrAppend(&text, " (", finding.mend(), ")");
  return absl::StrCat("  - ", Wrap(text, style.width, 4, 4), "\n");
}

std::string Findings(const v1::Judgement& judgement, const ReportStyle& style) {
  std::string text;
  for (const v1::Finding& finding : judgement.findings()) {
    absl::StrAppend(&text, FindingLine(finding, style));
  }
  return text.empty() ? "" : absl::StrCat(Heading(style, "Findings"), text);
}

std::string Times(const v1::Judgement& judgement, const ReportStyle& style) {
  std::string text;
  for (const reporting::MeasuredTime& time : reporting::MeasuredTimes(judgement)) {
    absl::StrAppend(&text, "  ", Pad(time.name, 11), Pad(time.value, 9),
                    Paint(style, Ink::kDim, time.meaning), "\n");
  }
  return text.empty() ? "" : absl::StrCat(Heading(style, "Measured times"), text);
}

std::string Cell(bool has, const google::protobuf::Timestamp& time, absl::Time zero) {
  return absl::StrFormat("%10s", has ? Signed(FromProto(time) - zero) : "-");
}

std::string Between(absl::string_view name, bool has, const google::protobuf::Timestamp& from,
                    const google::protobuf::Timestamp& to) {
  if (!has) return "";
  return absl::StrCat(name, " ", Short(FromProto(to) - FromProto(from)));
}

// Where each alert's time went, in seconds after its anchor.
std::string AlertTable(const v1::RunCreated& created, const v1::Judgement& judgement,
                       const ReportStyle& style) {
  if (judgement.alerts().empty()) return "";
  size_t width = 11;
  for (const v1::AlertTimes& times : judgement.alerts())
    width = std::max(width, times.expectation().size());
  std::string text = absl::StrCat(
      Heading(style, "Alerts, since their anchor"), "  ", Pad("", width),
      Paint(style, Ink::kDim, "     pending    firing delivered  resolved  end told"), "\n");
  for (int i = 0; i < judgement.alerts_size(); ++i) {
    const v1::AlertTimes& times = judgement.alerts(i);
    const absl::Time zero = FromProto(times.anchor());
    absl::StrAppend(&text, "  ", Pad(times.expectation(), width), "  ",
                    Cell(times.has_pending(), times.pending(), zero),
                    Cell(times.has_firing(), times.firing(), zero),
                    Cell(times.has_notified(), times.notified(), zero),
                    Cell(times.has_resolved(), times.resolved(), zero),
                    Cell(times.has_resolve_notified(), times.resolve_notified(), zero), "\n");
    std::vector<std::string> parts;
    const auto add = [&](std::string part) {
      if (!part.empty()) parts.push_back(std::move(part));
    };
    add(Between("until seen", times.has_anchor() && times.has_pending(), times.anchor(),
                times.pending()));
    add(Between("`for`", times.has_pending() && times.has_firing(), times.pending(),
                times.firing()));
    add(Between("grouping and sending", times.has_firing() && times.has_notified(), times.firing(),
                times.notified()));
    const std::string since = created.experiment().spec().expect().alerts(i).since();
    const std::string where = absl::StrCat(times.alert(), " since ", since,
                                           parts.empty() ? "" : ": ", absl::StrJoin(parts, ", "));
    absl::StrAppend(&text, "    ", Paint(style, Ink::kDim, Wrap(where, style.width, 4, 4)), "\n");
  }
  return text;
}

std::string Amounts(const v1::Observation& seen) {
  std::string text;
  if (seen.requested() > 0) {
    text = absl::StrCat("asked for ", FormatValue(seen.requested(), Unit::kPlain), ", real ",
                        FormatValue(seen.real(), Unit::kPlain), seen.unit().empty() ? "" : " ",
                        seen.unit());
  }
  if (!seen.detail().empty()) absl::StrAppend(&text, text.empty() ? "" : ": ", seen.detail());
  return text;
}

// What was touched, and how it is known to be undone.
std::string Touched(const std::vector<v1::Event>& history, const ReportStyle& style) {
  absl::Time zero = FromProto(history.front().at());
  for (const v1::Event& event : history) {
    if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT)
      zero = FromProto(event.at());
  }
  if (!AnythingTouched(history)) {
    return absl::StrCat(Heading(style, "What was touched"), "  nothing\n");
  }
  const RunSteps steps(history);
  std::string text;
  const auto add = [&](const std::string& line) {
    absl::StrAppend(&text, "  ", Wrap(line, style.width, 6, 2), "\n");
  };
  for (const FaultCourse& fault : steps.faults()) {
    const std::string who = absl::StrCat(fault.planned.name(), " on ", fault.planned.node(), ": ");
    if (!fault.apply_issued && !fault.start.has_value()) {
      add(absl::StrCat(who, "never applied", fault.reason.empty() ? "" : ", ", fault.reason));
      continue;
    }
    const std::string amounts = Amounts(fault.best);
    std::string line = absl::StrCat(
        who,
        fault.start.has_value() ? absl::StrCat("on at ", Signed(fault.start->at - zero))
                                : "told to go on",
        fault.reached.has_value() ? absl::StrCat(", in force at ", Signed(fault.reached->at - zero))
                                  : std::string(", never in force"),
        amounts.empty() ? "" : " (", amounts, amounts.empty() ? "" : ")", "; ");
    if (fault.planned.ending() == v1::ENDING_ONE_SHOT && fault.end.has_value()) {
      absl::StrAppend(&line, "nothing to undo");
    } else if (fault.last == v1::FAULT_STATE_SUPERSEDED) {
      absl::StrAppend(&line, "left alone, because someone else changed it");
    } else if (fault.end.has_value()) {
      absl::StrAppend(&line, "off at ", Signed(fault.end->at - zero), ", read back",
                      fault.after.empty() ? "" : ": ", fault.after);
    } else {
      absl::StrAppend(&line, "NOT seen to be off: ", FaultStateWord(fault.last),
                      fault.reason.empty() ? "" : ", ", fault.reason);
    }
    add(line);
  }
  for (const RemedyCourse& remedy : steps.remedies()) {
    const std::string who =
        absl::StrCat(remedy.planned.name(), " on ", remedy.planned.node(), ": ");
    if (!remedy.running.has_value() && remedy.last.state() == v1::REMEDY_STATE_UNSPECIFIED) {
      add(absl::StrCat(who, "not run"));
      continue;
    }
    std::string line = who;
    if (remedy.done.has_value()) {
      absl::StrAppend(&line, "done at ", Signed(remedy.done->at - zero), " in ",
                      Short(remedy.done->at - remedy.running->at));
    } else if (remedy.last.state() == v1::REMEDY_STATE_FAILED) {
      const std::string output = LastLine(remedy.last.output());
      absl::StrAppend(&line, "FAILED", FailedWords(remedy.last), output.empty() ? "" : ": ",
                      output);
    } else if (Over(history)) {
      absl::StrAppend(&line, "begun, and its node did not say how it ended: look there");
    } else {
      absl::StrAppend(&line, "still running");
    }
    const bool may = remedy.last.state() != v1::REMEDY_STATE_DONE;
    switch (remedy.last.leaves()) {
      case v1::LEAVES_NOTHING:
        absl::StrAppend(&line, "; leaves nothing");
        break;
      case v1::LEAVES_RESTORED:
        absl::StrAppend(&line, "; what it changed is restored");
        break;
      case v1::LEAVES_CHANGED:
        absl::StrAppend(
            &line, may ? "; it may have left the system changed" : "; leaves the system changed");
        break;
      default:
        break;
    }
    add(line);
  }
  for (const v1::PlannedLoad& load : history.front().created().plan().loads()) {
    uint64_t sent = 0;
    for (const v1::Event& event : history) {
      if (event.has_load() && event.load().load() == load.name()) sent += event.load().sent();
    }
    add(absl::StrCat(load.name(), " on ", load.node(), ": ", sent, " requests sent"));
  }
  return text.empty() ? ""
                      : absl::StrCat(Heading(style, "What was touched, and how it ended"), text);
}

std::string Expectations(const v1::RunCreated& created, const v1::Judgement& judgement,
                         const ReportStyle& style) {
  std::string text = Heading(style, "Expectations");
  size_t width = 0;
  std::vector<std::string> not_run;
  for (const v1::ExpectationResult& result : judgement.results()) {
    if (result.verdict() == v1::VERDICT_PASSED) width = std::max(width, result.name().size());
  }
  for (const v1::ExpectationResult* result : reporting::WorstFirst(judgement)) {
    if (reporting::NotJudged(judgement, *result)) {
      not_run.push_back(result->name());
      continue;
    }
    if (result->verdict() != v1::VERDICT_PASSED) {
      absl::StrAppend(&text, reporting::ResultBlock(created, *result, style));
      continue;
    }
    std::string seen = result->observed();
    if (result->has_budget())
      absl::StrAppend(&seen, " (limit ", Short(FromProto(result->budget())), ")");
    absl::StrAppend(&text, "  ", Paint(style, Ink::kGreen, Pad("passed", 13)),
                    Pad(result->name(), width), "  ",
                    Wrap(seen, style.width, 17 + width, 17 + width), "\n");
  }
  if (!not_run.empty()) {
    // All for the same reason, which stands in the second line.
    absl::StrAppend(&text, "  ", Paint(style, Ink::kYellow, Pad("not judged", 13)),
                    Wrap(absl::StrJoin(not_run, ", "), style.width, 15, 15), "\n");
  }
  return text;
}

// When the run's last word was written by whoever conducted it; what was added later is not of it.
absl::Time LastWord(const std::vector<v1::Event>& history) {
  const v1::Event& last = history.back();
  if (last.finished().cause() != v1::StopRequested::CAUSE_CONTROLLER_LOST)
    return FromProto(last.at());
  absl::Time latest = FromProto(history.front().at());
  for (const v1::Event& event : history) {
    if (event.epoch() < last.epoch()) latest = FromProto(event.at());
  }
  return latest;
}

// Which file, when, and by whom.
std::string Head(const std::vector<v1::Event>& history, const v1::RunCreated& created) {
  const absl::Time begin = FromProto(history.front().at());
  return absl::StrCat(created.file(), ", ", firedrill::FormatTime(begin), ", for ",
                      Short(LastWord(history) - begin), ", seed ", created.plan().seed(),
                      created.owner().empty() ? "" : ", started by ", created.owner());
}

}  // namespace

std::string SummaryText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                        const ReportStyle& style) {
  if (history.empty()) return "";
  const v1::RunCreated& created = history.front().created();
  std::string text;
  for (const v1::ExpectationResult* result : reporting::WorstFirst(judgement)) {
    if (result->verdict() == v1::VERDICT_PASSED) continue;
    // They are all in doubt for the same reason, which the last lines say.
    if (reporting::NotJudged(judgement, *result)) continue;
    absl::StrAppend(&text, reporting::ResultBlock(created, *result, style), "\n");
  }
  for (const v1::Finding& finding : judgement.findings()) {
    // Defects stand above; what was seen besides must not be missed.
    if (finding.kind() == v1::Finding::KIND_DEFECT || finding.kind() == v1::Finding::KIND_NOTE)
      continue;
    absl::StrAppend(&text, FindingLine(finding, style));
  }
  std::vector<std::string> times;
  for (const reporting::MeasuredTime& time : reporting::MeasuredTimes(judgement)) {
    times.push_back(time.name == "first page"
                        ? absl::StrCat("first page ", time.value, " (", judgement.any_alert(), ")")
                        : absl::StrCat(time.name, " ", time.value));
  }
  if (!times.empty()) {
    absl::StrAppend(&text, Paint(style, Ink::kDim, "time to   "),
                    Wrap(absl::StrJoin(times, ", "), style.width, 10, 10), "\n");
  }
  absl::StrAppend(&text, NotJudgedLine(judgement, style),
                  reporting::UndoWarning(history, judgement, style),
                  VerdictLine(history, judgement, style));
  return text;
}

std::string ReportText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                       const ReportStyle& style) {
  if (history.empty()) return "";
  const v1::RunCreated& created = history.front().created();
  std::string text =
      absl::StrCat(Paint(style, Ink::kBold, created.experiment().metadata().name()), "  run ",
                   judgement.run(), "\n", VerdictLine(history, judgement, style), "\n",
                   Wrap(created.experiment().spec().hypothesis(), style.width, 0, 0), "\n\n",
                   Paint(style, Ink::kDim, Wrap(Head(history, created), style.width, 0, 0)), "\n");
  absl::StrAppend(&text, reporting::UndoWarning(history, judgement, style));
  absl::StrAppend(&text, Expectations(created, judgement, style), Times(judgement, style),
                  AlertTable(created, judgement, style));
  const std::string timeline = reporting::Timeline(history, judgement, style);
  if (!timeline.empty()) absl::StrAppend(&text, Heading(style, "Timeline"), timeline);
  absl::StrAppend(&text, Findings(judgement, style), Touched(history, style));
  return text;
}

}  // namespace firedrill
