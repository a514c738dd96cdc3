// What a run has touched, and the proof that it is undone.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report_document.h"
#include "controller/run_left.h"
#include "controller/run_steps.h"
#include "controller/truth.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill::reporting {
namespace {

// "asked for 57, real 57 sessions: 57 of 57 usable slots taken".
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

// The most of it, which may have come later than what is told beside its expectation.
std::string Reached(const FaultCourse& fault, absl::Time zero) {
  const std::string most = Amounts(fault.best);
  const bool one_shot = fault.planned.ending() == v1::ENDING_ONE_SHOT;
  const bool then = one_shot || !fault.best_at.has_value() ||
                    (fault.reached.has_value() && fault.best_at->at == fault.reached->at);
  return then || most.empty() ? most
                              : absl::StrCat(most, ", at ", Signed(fault.best_at->at - zero));
}

std::string WhenOn(const FaultCourse& fault, absl::Time zero) {
  if (!fault.start.has_value()) return "told to go on, never seen on";
  std::string text = absl::StrCat("at ", Signed(fault.start->at - zero));
  const bool one_shot = fault.planned.ending() == v1::ENDING_ONE_SHOT;
  if (!fault.reached.has_value()) {
    absl::StrAppend(&text, ", never in force");
  } else if (one_shot) {
    absl::StrAppend(&text, ", hit");
  } else {
    absl::StrAppend(&text, ", in force at ", Signed(fault.reached->at - zero));
    if (fault.end.has_value()) {
      absl::StrAppend(&text, " for ", Short(fault.end->at - fault.reached->at));
    }
  }
  return text;
}

// As the run knew it: a node that is silent tells nothing of its lease.
v1::FaultState LastKnown(const FaultCourse& fault, const RunState& state) {
  const auto found = state.faults.find(FaultKey(fault.planned));
  if (found == state.faults.end()) return fault.last;
  const v1::FaultState known = found->second.state;
  const bool silent = known == v1::FAULT_STATE_UNKNOWN || known == v1::FAULT_STATE_EXPIRED;
  return silent && !fault.end.has_value() ? known : fault.last;
}

// By whom and why; empty where no person has.
std::string SettledBy(const std::vector<v1::Event>& history, const v1::PlannedFault& planned) {
  for (const v1::Event& event : history) {
    if (!IsSettlement(event) || event.fault().fault() != planned.name()) continue;
    if (event.fault().node() == planned.node()) return SettledWords({event});
  }
  return "";
}

std::string HowUndone(const FaultCourse& fault, const RunState& state, const std::string& settled,
                      absl::Time zero) {
  if (!settled.empty()) return absl::StrCat("NOT seen to be off: settled by ", settled);
  if (fault.planned.ending() == v1::ENDING_ONE_SHOT && fault.end.has_value()) {
    return "nothing to undo: it happened once";
  }
  if (fault.last == v1::FAULT_STATE_SUPERSEDED) {
    return "left alone, because someone else changed it";
  }
  if (!fault.end.has_value()) {
    return absl::StrCat("NOT seen to be off: ", FaultStateWord(LastKnown(fault, state)),
                        fault.reason.empty() ? "" : ", ", fault.reason);
  }
  std::string text = absl::StrCat("at ", Signed(fault.end->at - zero));
  if (fault.undo_begun.has_value() && fault.undo_begun->at <= fault.end->at) {
    absl::StrAppend(&text, ", ", Short(fault.end->at - fault.undo_begun->at),
                    " after that was asked for");
  }
  return text;
}

// In the words of whoever looked.
std::string ReadBack(const FaultCourse& fault) {
  if (!fault.end.has_value() || fault.planned.ending() == v1::ENDING_ONE_SHOT) return "";
  if (!fault.after.empty()) return fault.after;
  return "an independent look at the subject found nothing of it left";
}

// What the experiment itself asked of the system from the fault's end on, and what was answered.
std::string Asked(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                  const std::string& fault, absl::Time zero) {
  const v1::ExperimentSpec& spec = history.front().created().experiment().spec();
  std::string text;
  for (const v1::RecoveryExpectation& recovery : spec.expect().recovery()) {
    const auto kind = recovery.probe().question_case();
    if (kind == v1::Probe::kLoad || kind == v1::Probe::kProbe) continue;
    if (recovery.since() != absl::StrCat(fault, ".end")) continue;
    for (const v1::ExpectationResult& result : judgement.results()) {
      if (result.kind() != v1::ExpectationResult::KIND_RECOVERY ||
          result.name() != recovery.name()) {
        continue;
      }
      std::string seen = result.observed();
      // What cannot be judged may have been answered all the same.
      if (seen.empty()) {
        v1::PlannedCheck check;
        check.set_probe(absl::StrCat("recovery/", recovery.name()));
        check.set_is(recovery.is());
        for (const TruthPoint& point : TruthOf(check, history)) {
          if (point.truth == Truth::kUnknown) continue;
          seen = absl::StrCat("at last ", point.observed, " at ", Signed(point.at - zero));
        }
      }
      absl::StrAppend(&text, text.empty() ? "" : "; ", recovery.name(), " ", recovery.is(), ": ",
                      seen.empty() ? "no answer" : seen);
    }
  }
  return text;
}

Entry FaultEntry(const FaultCourse& fault, const RunState& state, const std::string& settled,
                 const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                 absl::Time zero) {
  Entry entry;
  entry.name = {{fault.planned.name(), Ink::kBold},
                {absl::StrCat(" on ", fault.planned.node()), Ink::kPlain}};
  if (!fault.apply_issued && !fault.start.has_value()) {
    entry.fields = {{"never on", fault.reason.empty() ? "it was not applied" : fault.reason}};
    return entry;
  }
  if (fault.last == v1::FAULT_STATE_REFUSED) {
    entry.fields = {{"refused", fault.reason.empty() ? "nothing stays of it" : fault.reason}};
    return entry;
  }
  entry.fields = {{"subject", fault.best.subject()},
                  {"on", WhenOn(fault, zero)},
                  {"reached", Reached(fault, zero)},
                  {"undone", HowUndone(fault, state, settled, zero)},
                  {"read back", ReadBack(fault)},
                  {"asked", Asked(history, judgement, fault.planned.name(), zero)}};
  if (!fault.end.has_value()) entry.fields.emplace_back("by hand", fault.undo_by_hand);
  return entry;
}

// `done`: it has said so itself.
std::string LeavesText(v1::Leaves leaves, bool done) {
  switch (leaves) {
    case v1::LEAVES_NOTHING:
      return "nothing";
    case v1::LEAVES_RESTORED:
      return "nothing: what it changed is restored";
    case v1::LEAVES_CHANGED:
      return done ? "the system CHANGED, as it declares" : "the system perhaps CHANGED";
    default:
      return "";
  }
}

// `over`: the run has ended.
Entry RemedyEntry(const RemedyCourse& remedy, bool over, absl::Time zero) {
  Entry entry;
  entry.name = {{remedy.planned.name(), Ink::kBold},
                {absl::StrCat(" on ", remedy.planned.node()), Ink::kPlain}};
  if (!remedy.running.has_value() && remedy.last.state() == v1::REMEDY_STATE_UNSPECIFIED) {
    entry.fields = {{"remedy", "not run"}};
    return entry;
  }
  std::string when = "still running";
  if (remedy.done.has_value()) {
    when = absl::StrCat("done at ", Signed(remedy.done->at - zero), ", in ",
                        Short(remedy.done->at - remedy.running->at));
  } else if (remedy.last.state() == v1::REMEDY_STATE_FAILED) {
    when = absl::StrCat("FAILED", FailedWords(remedy.last));
  } else if (over) {
    when = "begun, and its node did not say how it ended: look there";
  }
  const std::vector<std::string> output =
      absl::StrSplit(remedy.last.output(), '\n', absl::SkipEmpty());
  const v1::Leaves leaves = remedy.last.leaves() != v1::LEAVES_UNSPECIFIED
                                ? remedy.last.leaves()
                                : remedy.planned.leaves();
  entry.fields = {{"remedy", when},
                  {"it said", output.empty() ? "" : output.back()},
                  {"leaves", LeavesText(leaves, remedy.done.has_value())}};
  return entry;
}

// What was told of it after its end.
void AddNews(const std::vector<v1::Event>& history, Document& document) {
  const size_t length = LengthToEnd(history);
  for (size_t i = length; i < history.size(); ++i) {
    const v1::FaultReport& report = history[i].fault();
    const absl::Time at = FromProto(history[i].at());
    const std::string what =
        IsSettlement(history[i])
            ? absl::StrCat("is settled by ", SettledWords({history[i]}))
            : absl::StrCat("is ", FaultStateWord(report.state()),
                           report.reason().empty() ? "" : ": ", report.reason());
    document.push_back(Paragraph{
        Plain(absl::StrCat(
            firedrill::FormatTime(at), ", ", Short(at - FromProto(history[length - 1].at())),
            " after the run's end: ", report.fault(), " on ", report.node(), " ", what)),
        -1, 2});
  }
}

}  // namespace

bool AnythingTouched(const std::vector<v1::Event>& history) {
  return std::any_of(history.begin(), history.end(), [](const v1::Event& event) {
    return event.has_command() || event.has_fault() || event.has_remedy() || event.has_load();
  });
}

Document Touched(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                 absl::Time zero) {
  Document document;
  if (!AnythingTouched(history)) {
    document.push_back(Bullets{{Plain("nothing")}});
    return document;
  }
  const RunSteps steps(history);
  const RunState state = Fold(history);
  for (const FaultCourse& fault : steps.faults()) {
    document.push_back(
        FaultEntry(fault, state, SettledBy(history, fault.planned), history, judgement, zero));
  }
  const bool over = std::any_of(history.begin(), history.end(),
                                [](const v1::Event& event) { return event.has_finished(); });
  for (const RemedyCourse& remedy : steps.remedies()) {
    document.push_back(RemedyEntry(remedy, over, zero));
  }
  for (const v1::PlannedLoad& load : history.front().created().plan().loads()) {
    uint64_t sent = 0;
    for (const v1::Event& event : history) {
      if (event.has_load() && event.load().load() == load.name()) sent += event.load().sent();
    }
    document.push_back(Entry{{{load.name(), Ink::kBold}, {absl::StrCat(" on ", load.node())}},
                             {{"load", absl::StrCat(sent, " requests sent")}}});
  }
  return document;
}

Document UndoWarning(const std::vector<v1::Event>& history, const v1::Judgement& judgement) {
  Document document;
  if (judgement.outcome() == v1::OUTCOME_UNSPECIFIED) return document;
  const bool open = !judgement.undo_confirmed() && SettledWords(history).empty();
  if (open) {
    document.push_back(Paragraph{{{"UNDO NOT CONFIRMED: a person must look.", Ink::kRed}}});
  }
  const RunSteps steps(history);
  const RunState state = Fold(history);
  for (const FaultCourse& fault : steps.faults()) {
    if (judgement.undo_confirmed()) break;
    if (!fault.apply_issued || fault.end.has_value()) continue;
    if (!SettledBy(history, fault.planned).empty()) continue;
    const v1::FaultState last = LastKnown(fault, state);
    if (last == v1::FAULT_STATE_REFUSED) continue;
    const bool expired = last == v1::FAULT_STATE_EXPIRED && fault.last != last;
    const std::string reason =
        expired ? "nothing was heard of it until its lease was over" : fault.reason;
    document.push_back(
        Paragraph{Plain(absl::StrCat(fault.planned.name(), " on ", fault.planned.node(), " is ",
                                     FaultStateWord(last), reason.empty() ? "" : ": ", reason)),
                  -1, 2});
    // In one line, to be pasted.
    document.push_back(
        Picture{{fault.undo_by_hand.empty() ? "  look there with: firedrill leftovers"
                                            : absl::StrCat("  undo it with: ", fault.undo_by_hand)},
                {}});
  }
  AddNews(history, document);
  return document;
}

}  // namespace firedrill::reporting
