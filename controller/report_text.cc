// What a report says and in which order: one document of a run, whatever it is printed on. And the
// summary that closes a run on a terminal.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report.h"
#include "controller/report_document.h"
#include "controller/report_facts.h"
#include "controller/report_parts.h"
#include "controller/run_left.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill {
namespace {

using namespace reporting;  // NOLINT(google-build-using-namespace): nothing here is of anything
                            // else

// So many lines of findings close a run; the report has all.
constexpr size_t kMostFindingLines = 6;
constexpr size_t kMarkdownWidth = 96;
// So many ends of one alert have each a row; of more the first ones and the last.
constexpr size_t kMostEnds = 3;

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
  // Defects stand above, each with its own words; so does what stood against a fault.
  const bool said =
      judgement.outcome() == v1::OUTCOME_NOT_STARTED
          ? judgement.verdict() == v1::VERDICT_FAILED
          : std::any_of(judgement.results().begin(), judgement.results().end(), [&](const auto& r) {
              return r.kind() == v1::ExpectationResult::KIND_EFFICACY && !r.reason().empty() &&
                     !NotJudged(judgement, r) &&
                     absl::EndsWith(judgement.reason(), absl::StrCat(": ", r.reason()));
            });
  if (judgement.outcome() != v1::OUTCOME_COMPLETED && !judgement.reason().empty() && !said) {
    absl::StrAppend(&text, " (", judgement.reason(), ")");
  }
  return text;
}

// One line for all that an aborted run could not judge any more.
void AddNotJudged(const v1::Judgement& judgement, Document& document) {
  const auto count =
      std::count_if(judgement.results().begin(), judgement.results().end(),
                    [&](const auto& result) { return NotJudged(judgement, result); });
  // Where nothing was injected the last line says all there is to say.
  if (count == 0 || judgement.outcome() != v1::OUTCOME_ABORTED) return;
  std::string why = "the run was aborted";
  if (judgement.cause() == v1::StopRequested::CAUSE_INTERRUPT) {
    why = "the run was interrupted";
  } else if (judgement.cause() != v1::StopRequested::CAUSE_UNSPECIFIED) {
    why = absl::StrCat("the run was stopped by ", CauseWord(judgement.cause()));
  }
  const std::string line = absl::StrCat(
      count, count == 1 ? " expectation was" : " expectations were", " not judged (", why, ")");
  document.push_back(Paragraph{{{line, Ink::kYellow}}, 2});
}

Paragraph Verdict(const std::vector<v1::Event>& history, const v1::Judgement& judgement) {
  const std::string settled = LeftBy(history).empty() ? SettledWords(history) : "";
  const std::string undo = !AnythingTouched(history)    ? "nothing was touched"
                           : judgement.undo_confirmed() ? "every fault undone"
                           : !settled.empty()           ? absl::StrCat("undo settled by ", settled)
                                                        : "undo NOT confirmed";
  const bool ended = std::any_of(history.begin(), history.end(),
                                 [](const v1::Event& event) { return event.has_finished(); });
  // Without an end there is no verdict yet, and nothing that an exit code could say.
  const std::string text = ended ? absl::StrCat(Tally(judgement), "; ", Ended(judgement), "; ",
                                                undo, " (exit ", judgement.exit_code(), ")")
                                 : absl::StrCat(Tally(judgement), "; the run has no end yet");
  const absl::string_view verdict = ended ? VerdictWord(judgement.verdict()) : "so far";
  return {{{std::string(verdict), InkOf(judgement.verdict())}, {absl::StrCat(": ", text)}}, 2};
}

// Expected, observed, why and mend of one result.
Entry ResultEntry(const v1::RunCreated& created, const v1::ExpectationResult& result) {
  return {{{Pad(VerdictWord(result.verdict()), 13), InkOf(result.verdict())},
           {result.name(), Ink::kBold},
           {"  ", Ink::kPlain},
           {Place(created, result), Ink::kDim}},
          {{"expected", result.expected()},
           {"observed", result.observed()},
           {"why", result.reason()},
           {"mend", result.mend()}}};
}

void AddExpectations(const v1::RunCreated& created, const v1::Judgement& judgement,
                     Document& document) {
  document.push_back(Heading{"Expectations"});
  Table passed{{{"verdict"}, {"expectation"}, {"observed", false, true}}, {}, false};
  std::vector<std::string> not_run;
  for (const v1::ExpectationResult* result : WorstFirst(judgement)) {
    if (NotJudged(judgement, *result)) {
      not_run.push_back(result->name());
    } else if (result->verdict() != v1::VERDICT_PASSED) {
      document.push_back(ResultEntry(created, *result));
    } else {
      std::string seen = result->observed();
      if (result->has_budget())
        absl::StrAppend(&seen, " (limit ", Short(FromProto(result->budget())), ")");
      passed.rows.push_back({{Pad("passed", 11), Ink::kGreen}, {result->name()}, {seen}});
    }
  }
  if (!passed.rows.empty()) document.push_back(std::move(passed));
  if (!not_run.empty()) {
    // All for the same reason, which stands in the second line.
    document.push_back(
        Paragraph{{{"not judged   ", Ink::kYellow}, {absl::StrJoin(not_run, ", ")}}, 15, 2});
  }
}

void AddFindings(const std::vector<RunFinding>& findings, Document& document) {
  if (findings.empty()) return;
  document.push_back(Heading{"Findings"});
  Bullets bullets;
  for (const RunFinding& finding : findings) {
    Words words = {{finding.text}};
    if (!finding.more.empty()) words.push_back({absl::StrCat(" ", finding.more), Ink::kDim});
    bullets.items.push_back(std::move(words));
  }
  document.push_back(std::move(bullets));
}

std::string ValueText(const Route& route, const Settled& settled) {
  if (!settled.value.has_value()) return settled.unknown.empty() ? "?" : settled.unknown;
  if (!route.is_load) return FormatValue(*settled.value, Unit::kPlain);
  std::string text = FormatValue(std::round(*settled.value), Unit::kPercent);
  if (settled.p95.has_value())
    absl::StrAppend(&text, " ", FormatValue(*settled.p95, Unit::kSeconds));
  return text;
}

// A row for each stretch, a column for each route: what a customer would have met.
void AddRoutes(const RunFacts& facts, Document& document) {
  if (facts.edges.empty() || facts.routes.empty()) return;
  document.push_back(Heading{"What each route had settled to"});
  Table table{{{"from", true}, {"after"}}, {}, true};
  for (const Route& route : facts.routes) table.columns.push_back({route.name, true});
  for (size_t i = 0; i < facts.stretches.size(); ++i) {
    const Stretch& stretch = facts.stretches[i];
    std::vector<Span> row = {{Signed(stretch.from - facts.zero)}, {stretch.label}};
    for (size_t j = 0; j < facts.routes.size(); ++j) {
      row.push_back({ValueText(facts.routes[j], facts.settled[i][j])});
    }
    table.rows.push_back(std::move(row));
  }
  document.push_back(std::move(table));
  document.push_back(Paragraph{{{"share answered well and p95 of all answers, over the last 8s of "
                                 "each row at most; of other probes the median",
                                 Ink::kDim}},
                               2});
}

// ", 10.9s after feature-off", where something was done since the last fault's end: it may be what
// it came back of.
std::string SinceWhat(const RunFacts& facts, absl::Time end, absl::Time back) {
  const bool done = std::any_of(facts.edges.begin(), facts.edges.end(), [&](const Edge& edge) {
    return edge.from > end && edge.to <= back;
  });
  return done ? SinceEdge(facts, back) : "";
}

// What had come back by the run's end, and had not yet held for as long as the gate asks.
std::vector<std::string> HeldTooShort(const RunFacts& facts, absl::Time end) {
  std::vector<std::string> parts;
  for (const Fate& fate : facts.fates) {
    if (fate.kind != Fate::Kind::kBack) continue;
    const absl::Time from = std::max(*fate.back, end);
    absl::Time last = from;
    for (const TruthPoint& point : fate.points) {
      if (point.truth == Truth::kTrue) last = std::max(last, point.at);
    }
    const absl::Duration asked = FromProto(fate.check.for_());
    if (last - from >= asked) continue;
    parts.push_back(absl::StrCat(fate.name, " held from ", Signed(*fate.back - facts.zero),
                                 " on, not yet for the ", Short(asked), " that are asked"));
  }
  return parts;
}

// From what to what the time to recover is, or why there is none: "the end of batch (+12.1s) to
// steady state (+47.0s, 10.9s after feature-off)". Empty where nothing had to.
std::string RecoveryText(const RunFacts& facts, const std::vector<v1::Event>& history,
                         const v1::Judgement& judgement) {
  const RunSteps steps(history);
  const std::optional<Instant> end = steps.LastEnd();
  if (!end.has_value()) return "";
  std::vector<std::string> last, broken;
  for (const FaultCourse& fault : steps.faults()) {
    const std::string& name = fault.planned.name();
    const bool known = std::find(last.begin(), last.end(), name) != last.end();
    if (fault.end.has_value() && fault.end->at == end->at && !known) last.push_back(name);
  }
  const auto at = [&](absl::Time time) { return Signed(time - facts.zero); };
  const std::string from = absl::StrCat("the end of ", JoinWords(last), " (", at(end->at), ")");
  if (judgement.has_time_to_recover()) {
    const absl::Time back = end->at + FromProto(judgement.time_to_recover());
    if (back < end->at) {
      return absl::StrCat("steady state was back (", at(back), ") before ", from);
    }
    return absl::StrCat(from, " to steady state (", at(back), SinceWhat(facts, end->at, back), ")");
  }
  for (const Fate& fate : facts.fates) {
    if (fate.kind == Fate::Kind::kStillBroken) broken.push_back(fate.name);
  }
  if (broken.empty()) broken = HeldTooShort(facts, end->at);
  if (broken.empty()) return "";
  return absl::StrCat("not recovered by the run's end (", at(facts.end), "), ",
                      Short(facts.end - end->at), " after the end of ", JoinWords(last), ": ",
                      JoinWords(broken));
}

void AddTimes(const RunFacts& facts, const std::vector<v1::Event>& history,
              const v1::Judgement& judgement, Document& document) {
  Table table{{{"time to"}, {"took"}, {"meaning", false, true}}, {}, false};
  const std::string recovery = RecoveryText(facts, history, judgement);
  for (const MeasuredTime& time : MeasuredTimes(judgement)) {
    const std::string& meaning = time.name == "recover" ? recovery : time.meaning;
    table.rows.push_back({{time.name}, {time.value}, {meaning, Ink::kDim}});
  }
  if (!judgement.has_time_to_recover() && !recovery.empty()) {
    table.rows.push_back({{"recover"}, {"-"}, {recovery, Ink::kDim}});
  }
  if (table.rows.empty()) return;
  document.push_back(Heading{"Measured times"});
  document.push_back(std::move(table));
}

Span Since(bool has, const google::protobuf::Timestamp& time, absl::Time zero) {
  return {has ? Signed(FromProto(time) - zero) : "-"};
}

// When it had ended and when that was told, of each time that it came. The end is told also where
// nobody expects one.
std::vector<std::pair<std::string, std::string>> EndsOf(const RunFacts& facts,
                                                        const v1::AlertTimes& times,
                                                        absl::Time zero) {
  std::vector<std::pair<std::string, std::string>> ends;
  const auto text = [&](const std::optional<absl::Time>& end) {
    return end.has_value() ? Signed(*end - zero) : "-";
  };
  for (const AlertSeen& alert : facts.alerts) {
    if (alert.expectation != times.expectation()) continue;
    for (size_t i = 0; i < alert.ends.size(); ++i) {
      const std::pair<std::string, std::string> end = {text(alert.ends[i]),
                                                       text(alert.ends_told[i])};
      // Several instances may end at once.
      if (ends.empty() || ends.back() != end) ends.push_back(end);
    }
    break;
  }
  if (ends.size() > 1) return ends;
  // What was judged, where that is one.
  if (ends.empty()) ends.emplace_back("-", "-");
  if (times.has_resolved()) ends[0].first = Signed(FromProto(times.resolved()) - zero);
  if (times.has_resolve_notified()) {
    ends[0].second = Signed(FromProto(times.resolve_notified()) - zero);
  }
  return ends;
}

// Whoever asks for it hears of an end at the next look, a receiver as soon as it is sent.
bool ToldFirst(const RunFacts& facts, const v1::AlertTimes& times) {
  if (times.has_resolved() && times.has_resolve_notified() &&
      FromProto(times.resolve_notified()) < FromProto(times.resolved())) {
    return true;
  }
  return std::any_of(facts.alerts.begin(), facts.alerts.end(), [&](const AlertSeen& alert) {
    if (alert.expectation != times.expectation()) return false;
    for (size_t i = 0; i < alert.ends.size(); ++i) {
      const std::optional<absl::Time>& told = alert.ends_told[i];
      if (told.has_value() && alert.ends[i].has_value() && *told < *alert.ends[i]) return true;
    }
    return false;
  });
}

// When each alert did what, and where the time of its page went.
void AddAlerts(const RunFacts& facts, const v1::Judgement& judgement, Document& document) {
  if (judgement.alerts().empty()) return;
  document.push_back(Heading{"Expected alerts, since their anchor"});
  Table table{{{"expectation"},
               {"alert"},
               {"since"},
               {"pending", true},
               {"firing", true},
               {"told", true},
               {"ended", true},
               {"end told", true}},
              {},
              true};
  const v1::Judgement& out = judgement;
  bool told_first = false;
  for (int i = 0; i < out.alerts_size(); ++i) {
    const v1::AlertTimes& times = out.alerts(i);
    const absl::Time zero = FromProto(times.anchor());
    const std::string since =
        i < static_cast<int>(facts.breakdowns.size()) ? facts.breakdowns[i].since : "";
    const auto ends = EndsOf(facts, times, zero);
    table.rows.push_back({{times.expectation()},
                          {times.alert()},
                          {since},
                          Since(times.has_pending(), times.pending(), zero),
                          Since(times.has_firing(), times.firing(), zero),
                          Since(times.has_notified(), times.notified(), zero),
                          {ends[0].first},
                          {ends[0].second}});
    for (size_t j = 1; j < ends.size(); ++j) {
      const bool last = j + 1 == ends.size();
      if (j + 1 >= kMostEnds && !last) continue;
      const absl::string_view which = last && ends.size() > kMostEnds ? "  at last" : "  again";
      table.rows.push_back(
          {{std::string(which)}, {}, {}, {}, {}, {}, {ends[j].first}, {ends[j].second}});
    }
    told_first = told_first || ToldFirst(facts, times);
  }
  document.push_back(std::move(table));
  if (told_first) {
    document.push_back(Paragraph{
        {{"ended: when we next looked, which may be after the end was told", Ink::kDim}}, 2});
  }
  for (const AlertBreakdown& breakdown : facts.breakdowns) {
    if (breakdown.parts.empty()) continue;
    document.push_back(Heading{absl::StrCat("Where the time of ", breakdown.expectation,
                                            " went, since ", breakdown.since)});
    Table parts{{{"took", true}, {"part", false, true}, {"how it is known"}}, {}, true};
    for (const AlertPart& part : breakdown.parts) {
      const Ink ink = part.within ? Ink::kDim : Ink::kPlain;
      const std::string took = part.took.has_value() ? Short(*part.took) : "";
      std::string name = part.name;
      // What lies within the part above has its amount beside its name: it is no summand.
      if (!part.amount.empty() && part.amount != "-") {
        name = absl::StrCat(part.within ? "· " : "", name, ": ", part.amount);
      }
      parts.rows.push_back({{took.empty() ? part.amount == "-" ? "-" : "" : took, ink},
                            {name, ink},
                            {part.source, ink}});
    }
    if (breakdown.total.has_value()) {
      parts.rows.push_back({{Short(*breakdown.total->took), Ink::kBold},
                            {breakdown.total->name, Ink::kBold},
                            {breakdown.total->source}});
    }
    document.push_back(std::move(parts));
  }
}

// Which file, when, and by whom.
std::string Head(const std::vector<v1::Event>& history, const v1::RunCreated& created) {
  const absl::Time begin = FromProto(history.front().at());
  std::string text =
      absl::StrCat(created.file(), ", ", firedrill::FormatTime(begin), ", for ",
                   Short(LastWord(history) - begin), ", seed ", created.plan().seed(),
                   created.owner().empty() ? "" : ", started by ", created.owner());
  for (const auto& [name, value] : created.experiment().metadata().annotations()) {
    absl::StrAppend(&text, ", ", name, " ", value);
  }
  return text;
}

void Append(Document more, Document& document) {
  for (Block& block : more) document.push_back(std::move(block));
}

// `whole` goes on behind the run's end where something was told of it after that.
Document ReportOf(const std::vector<v1::Event>& whole, const v1::Judgement& judgement,
                  size_t width) {
  const std::vector<v1::Event> history = UpToEnd(whole);
  const v1::RunCreated& created = history.front().created();
  const RunFacts facts = FactsOf(history, judgement);
  Document document;
  document.push_back(Title{{{created.experiment().metadata().name(), Ink::kBold},
                            {absl::StrCat("  run ", judgement.run())}}});
  document.push_back(Verdict(whole, judgement));
  document.push_back(Paragraph{});
  document.push_back(Paragraph{Plain(created.experiment().spec().hypothesis())});
  document.push_back(Paragraph{});
  document.push_back(Paragraph{{{Head(history, created), Ink::kDim}}});
  Append(UndoWarning(whole, judgement), document);
  AddFindings(FindingsOf(facts, history, judgement), document);
  Picture timeline = Timeline(history, width - 2);
  if (!timeline.lines.empty()) {
    document.push_back(Heading{"Timeline"});
    document.push_back(std::move(timeline));
  }
  AddExpectations(created, judgement, document);
  AddRoutes(facts, document);
  AddTimes(facts, history, judgement, document);
  AddAlerts(facts, judgement, document);
  document.push_back(Heading{"What was touched, and the proof that it is undone"});
  Append(Touched(whole, judgement, facts.zero), document);
  return document;
}

// As many findings as there is room for, and how many there are besides.
void AddFindingsInShort(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                        const RunFacts& facts, const ReportStyle& style, Document& document) {
  Bullets bullets;
  size_t lines = 0, left_out = 0;
  for (const RunFinding& finding : FindingsOf(facts, history, judgement)) {
    // Defects and failures stand above, each with its own words; notes are for the report.
    if (!finding.in_short) continue;
    const std::string text = ToText({Bullets{{Plain(finding.text)}}}, style);
    const auto needed = static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
    // What matters most is not left out for being long.
    if (lines > 0 && lines + needed > kMostFindingLines) {
      ++left_out;
      continue;
    }
    lines += needed;
    bullets.items.push_back(Plain(finding.text));
  }
  if (!bullets.items.empty()) document.push_back(std::move(bullets));
  if (left_out > 0) {
    document.push_back(Paragraph{
        {{absl::StrCat(left_out, " more: firedrill report ", judgement.run()), Ink::kDim}}, 2, 2});
  }
}

}  // namespace

std::string SummaryText(const std::vector<v1::Event>& whole, const v1::Judgement& judgement,
                        const ReportStyle& style) {
  if (whole.empty()) return "";
  const std::vector<v1::Event> history = UpToEnd(whole);
  const v1::RunCreated& created = history.front().created();
  Document document;
  for (const v1::ExpectationResult* result : WorstFirst(judgement)) {
    if (result->verdict() == v1::VERDICT_PASSED) continue;
    // They are all in doubt for the same reason, which the last lines say.
    if (NotJudged(judgement, *result)) continue;
    document.push_back(ResultEntry(created, *result));
    document.push_back(Paragraph{});
  }
  const RunFacts facts = FactsOf(history, judgement);
  AddFindingsInShort(history, judgement, facts, style, document);
  const std::optional<Instant> end = RunSteps(history).LastEnd();
  std::vector<std::string> times;
  for (const MeasuredTime& time : MeasuredTimes(judgement)) {
    std::string text = absl::StrCat(time.name, " ", time.value);
    if (time.name == "first page") absl::StrAppend(&text, " (", judgement.any_alert(), ")");
    if (time.name == "recover" && end.has_value()) {
      const absl::Time back = end->at + FromProto(judgement.time_to_recover());
      const std::string since = SinceWhat(facts, end->at, back);
      if (!since.empty()) absl::StrAppend(&text, " (", since.substr(2), ")");
    }
    times.push_back(std::move(text));
  }
  if (!times.empty()) {
    document.push_back(Paragraph{{{"time to ", Ink::kDim}, {absl::StrJoin(times, ", ")}}, 8});
  }
  AddNotJudged(judgement, document);
  Append(UndoWarning(whole, judgement), document);
  document.push_back(Verdict(whole, judgement));
  return ToText(document, style);
}

std::string ReportText(const std::vector<v1::Event>& history, const v1::Judgement& judgement,
                       const ReportStyle& style) {
  if (history.empty()) return "";
  return ToText(ReportOf(history, judgement, style.width), style);
}

std::string ReportMarkdown(const std::vector<v1::Event>& history, const v1::Judgement& judgement) {
  if (history.empty()) return "";
  return ToMarkdown(ReportOf(history, judgement, kMarkdownWidth));
}

}  // namespace firedrill
