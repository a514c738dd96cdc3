// What people and pipelines read of a run, against files that a person has looked at.
// FIREDRILL_UPDATE_GOLDEN=1 writes them anew.
#include "controller/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <pugixml.hpp>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "controller/report_document.h"
#include "controller/report_parts.h"
#include "tests/testing/golden.h"
#include "tests/testing/history_builder.h"

namespace firedrill {
namespace {

using testing::HasSubstr;
using testing::Not;

// Late, with a recovery that does not stay, a gap and a forbidden alert: something of everything.
std::vector<v1::Event> Failing() {
  ShopCourse course;
  course.pending = 13.5;
  course.firing = 17.0;
  course.delivered = std::nullopt;
  course.logins = [](double t) { return t < 13 || (t >= 43 && t < 49) ? 100.0 : 20.0; };
  HistoryBuilder builder = ShopHistory(course);
  builder.Firing(33, "PossibleDDoS", {{"severity", "page"}}, 30);
  builder.Gap("prometheus", 24, 29, "connection refused");
  builder.Firing(30, "DiskFull", {}, 28);
  return builder.Build();
}

std::vector<v1::Event> Passing() {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (!event.has_fault() || event.fault().state() != v1::FAULT_STATE_REVERTED) continue;
    if (event.fault().fault() == "leak") {
      event.mutable_fault()->mutable_observation()->set_detail("0 sessions of this fault left");
    }
  }
  return builder.Build();
}

std::vector<v1::Event> Stuck() {
  HistoryBuilder builder = ShopHistory();
  for (v1::Event& event : builder.events()) {
    if (event.has_fault() && event.fault().state() == v1::FAULT_STATE_REVERTED &&
        event.fault().fault() == "leak") {
      event.mutable_fault()->set_state(v1::FAULT_STATE_STUCK);
      event.mutable_fault()->set_reason("the server does not answer");
      event.mutable_fault()->set_undo_by_hand(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
          "'firedrill:uc-7f3a:leak'");
    }
    if (event.has_finished()) {
      event.mutable_finished()->set_outcome(v1::OUTCOME_ABORTED);
      event.mutable_finished()->set_undo_confirmed(false);
      event.mutable_finished()->set_cause(v1::StopRequested::CAUSE_FAULT_STUCK);
      event.mutable_finished()->set_reason("leak on db-1 could not be undone");
    }
  }
  return builder.Build();
}

std::vector<v1::Event> Defective() {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Find(-14, v1::Finding::KIND_DEFECT, "rule-missing", "slots-page",
               "Prometheus has no rule PostgresConnectionsNearLimit",
               "add the rule, or correct its name: PostgresConnectionsHigh is near");
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true,
                 "defects of the alerting under test: Prometheus has no rule "
                 "PostgresConnectionsNearLimit");
  return builder.Build();
}

// Stopped in the middle, 22 s after the gate, when some was decided and most was not.
std::vector<v1::Event> Stopped(v1::StopRequested::Cause cause, const std::string& reason,
                               const ShopCourse& course) {
  HistoryBuilder builder = ShopHistory(course);
  builder.Stop(22, cause, reason).Phase(22, v1::PHASE_REVERT, reason);
  builder.Fault(22.1, "leak", v1::FAULT_STATE_REVERTED, false, "0 sessions of this fault left");
  builder.Finish(22.3, v1::OUTCOME_ABORTED, true, reason);
  return builder.Build();
}

std::vector<v1::Event> Interrupted() {
  ShopCourse course;
  course.firing = 20.0;
  course.delivered = std::nullopt;
  return Stopped(v1::StopRequested::CAUSE_INTERRUPT, "Ctrl-C", course);
}

// Lines that hold `words`.
int Lines(const std::string& text, absl::string_view words) {
  int count = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    count += absl::StrContains(line, words) ? 1 : 0;
  }
  return count;
}

std::string Live(const std::vector<v1::Event>& history, bool color = false) {
  LiveLines live(ReportStyle{color});
  std::string text;
  for (const v1::Event& event : history) {
    const std::string line = live.Line(event);
    if (!line.empty()) absl::StrAppend(&text, line, "\n");
  }
  return text;
}

TEST(Report, OfAPassedRun) {
  const auto history = Passing();
  ExpectGolden("tests/controller/golden/report_passed.txt",
               ReportText(history, Judge(history), {}));
}

TEST(Report, OfAFailedRun) {
  const auto history = Failing();
  ExpectGolden("tests/controller/golden/report_failed.txt",
               ReportText(history, Judge(history), {}));
}

TEST(Report, OfARunThatWasNotStarted) {
  const auto history = Defective();
  ExpectGolden("tests/controller/golden/report_defect.txt",
               ReportText(history, Judge(history), {}));
}

TEST(Summary, OfAPassedRun) {
  const auto history = Passing();
  ExpectGolden("tests/controller/golden/report_summary_passed.txt",
               SummaryText(history, Judge(history), {}));
}

TEST(Summary, OfAFailedRunNamesFailuresFirst) {
  const auto history = Failing();
  const std::string text = SummaryText(history, Judge(history), {});
  ExpectGolden("tests/controller/golden/report_summary_failed.txt", text);
  EXPECT_LT(text.rfind("FAILED       "), text.find("inconclusive "));
}

TEST(Summary, OfADefectIsShort) {
  const auto history = Defective();
  ExpectGolden("tests/controller/golden/report_summary_defect.txt",
               SummaryText(history, Judge(history), {}));
}

TEST(Summary, SaysWhatToPasteWhereTheUndoIsNotConfirmed) {
  const auto history = Stuck();
  const std::string text = SummaryText(history, Judge(history), {});
  ExpectGolden("tests/controller/golden/report_summary_stuck.txt", text);
  EXPECT_THAT(text, HasSubstr("SELECT pg_terminate_backend(pid)"));
}

// Without breaks and columns.
std::string Flowing(const HistoryBuilder& builder) {
  const auto history = builder.Build();
  return absl::StrJoin(absl::StrSplit(ReportText(history, Judge(history), {}),
                                      absl::ByAnyChar(" \n"), absl::SkipEmpty()),
                       " ");
}

// It had neither a time nor "not recovered".
TEST(Report, OfWhatCameBackTooShortlyBeforeTheEndSaysThatItIsNotRecovered) {
  ShopCourse course;
  course.logins = [](double t) { return t < 13 || t >= 71 ? 100.0 : 20.0; };
  EXPECT_THAT(
      Flowing(ShopHistory(course)),
      HasSubstr("recover - not recovered by the run's end (+75.0s), 34.9s after the end of "
                "leak: logins-answer held from +73.0s on, not yet for the 5s that are asked"));
}

// It ended in nothing: "asked no-leftovers == 0:".
TEST(Report, SaysWhatWasAnsweredAlsoWhereItCannotBeJudged) {
  ShopCourse course;
  course.leak_in_force = false;
  EXPECT_THAT(Flowing(ShopHistory(course)),
              HasSubstr("asked no-leftovers == 0: at last 0 at +73.4s"));
}

// Only the first was shown, and it was told before it had ended.
TEST(Report, HasEachEndOfAnAlertThatCameAgain) {
  HistoryBuilder builder = ShopHistory();
  builder.Change([](v1::RunCreated& created) {
    created.mutable_experiment()
        ->mutable_spec()
        ->mutable_expect()
        ->mutable_alerts(0)
        ->clear_resolved();
  });
  const char* const why = "ended: when we next looked, which may be after the end was told";
  EXPECT_THAT(Flowing(builder), Not(HasSubstr(why)));
  const char* const alert = "PostgresConnectionsNearLimit";
  builder.Firing(60, alert, SlotsLabels(), 58).Delivered(60.5, "oncall", alert, SlotsLabels(), 60);
  EXPECT_THAT(Flowing(builder), HasSubstr("+3.0s +40.0s +41.0s again - -"));
  builder.Delivered(64.6, "oncall", alert, SlotsLabels(), 60, false);
  builder.Inactive(65, alert, SlotsLabels(), 58);
  EXPECT_THAT(Flowing(builder), HasSubstr("+3.0s +40.0s +41.0s again +60.0s +59.6s"));
  EXPECT_THAT(Flowing(builder), HasSubstr(why));
}

TEST(Report, OfAnInterruptedRun) {
  const auto history = Interrupted();
  ExpectGolden("tests/controller/golden/report_interrupted.txt",
               ReportText(history, Judge(history), {}));
}

TEST(Summary, OfAnInterruptedRunShowsWhatWasCertainAndCountsTheRest) {
  const auto history = Interrupted();
  const std::string text = SummaryText(history, Judge(history), {});
  ExpectGolden("tests/controller/golden/report_summary_interrupted.txt", text);
  EXPECT_THAT(text, HasSubstr("FAILED       slots-page"));
  EXPECT_THAT(text, Not(HasSubstr("inconclusive back-after-leak")));
  EXPECT_EQ(Lines(text, "expectations were not judged (the run was interrupted)"), 1) << text;
  EXPECT_EQ(Lines(text, "Ctrl-C"), 1) << text;
  EXPECT_THAT(text, HasSubstr("every fault undone (exit 130)"));
}

TEST(Summary, OfARunThatAGuardrailStoppedCountsTheRest) {
  const auto history =
      Stopped(v1::StopRequested::CAUSE_GUARDRAIL, "slots-free is broken", ShopCourse());
  const std::string text = SummaryText(history, Judge(history), {});
  EXPECT_EQ(Lines(text, "expectations were not judged (the run was stopped by a guardrail)"), 1)
      << text;
  EXPECT_THAT(text, HasSubstr("aborted by a guardrail (slots-free is broken)"));
  EXPECT_LT(Lines(text, ""), 8 + 6) << text;  // Six of findings.
}

// It hangs on nothing that a stop could have cut short.
TEST(Summary, OfAnAbortedRunStillTellsWhatStoodAgainstAFault) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(0, v1::PHASE_INJECT).Apply(0, "leak");
  builder.Fault(0.2, "leak", v1::FAULT_STATE_REFUSED);
  builder.Last().mutable_fault()->set_reason("no free slot");
  const char* const why = "db-1 refuses leak: no free slot";
  builder.Stop(0.3, v1::StopRequested::CAUSE_FAULT_REFUSED, why).Phase(0.3, v1::PHASE_REVERT, why);
  builder.Finish(0.5, v1::OUTCOME_ABORTED, true, why);
  const auto history = builder.Build();
  const std::string text = SummaryText(history, Judge(history), {});
  EXPECT_THAT(text, HasSubstr("inconclusive leak"));
  EXPECT_EQ(Lines(text, "inconclusive "), 1) << text;
  // Once each, however many events have it for their reason.
  EXPECT_EQ(Lines(text, "no free slot"), 1) << text;
  const std::string live = Live(history);
  EXPECT_EQ(Lines(live, "no free slot"), 1) << live;
  EXPECT_EQ(Lines(live, "fault leak is refused on db-1: no free slot"), 1) << live;
  EXPECT_THAT(live, HasSubstr("stopped by a fault that could not be applied\n"));
}

TEST(Summary, OfARunThatARefusalKeptFromStartingHasItOnce) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_GATE);
  builder.Fault(-14, "leak", v1::FAULT_STATE_REFUSED);
  builder.Last().mutable_fault()->set_reason("no free slot");
  builder.Finish(-14, v1::OUTCOME_NOT_STARTED, true, "db-1 refuses leak: no free slot");
  const auto history = builder.Build();
  EXPECT_THAT(SummaryText(history, Judge(history), {}),
              HasSubstr("not started (db-1 refuses leak: no free slot)"));
  const std::string live = Live(history);
  EXPECT_EQ(Lines(live, "no free slot"), 1) << live;
  EXPECT_THAT(live, HasSubstr("not started\n"));
}

TEST(Summary, OfARunThatWasInterruptedBeforeItBeganSaysSoOnce) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Stop(-14, v1::StopRequested::CAUSE_INTERRUPT, "Ctrl-C");
  builder.Finish(-14, v1::OUTCOME_NOT_STARTED, true, "Ctrl-C");
  const auto history = builder.Build();
  EXPECT_EQ(SummaryText(history, Judge(history), {}),
            "inconclusive: 11 not judged; not started, stopped by Ctrl-C; nothing was touched "
            "(exit 130)\n");
}

// The lane that begins like this, without its label.
std::string LaneOf(const std::vector<v1::Event>& history, absl::string_view label) {
  for (const std::string& line : reporting::Timeline(history, 98).lines) {
    if (absl::StartsWith(line, label)) return line.substr(label.size());
  }
  ADD_FAILURE() << "no lane " << label;
  return "";
}

// On-call was told that it is over in the very column in which its series went.
TEST(Timeline, ThatTheSeriesAreGoneIsSeenThoughTheEndWasTold) {
  const HistoryBuilder::Labels labels = {{"severity", "page"}};
  HistoryBuilder builder = ShopHistory();
  builder.Firing(20, "PossibleDDoS", labels, 18);
  builder.Delivered(20.5, "oncall", "PossibleDDoS", labels, 20);
  builder.Inactive(29.5, "PossibleDDoS", labels, 18, /*series_present=*/false);
  builder.Delivered(29.7, "oncall", "PossibleDDoS", labels, 20, /*firing=*/false);
  const std::string lane = LaneOf(builder.Build(), "x PossibleDDoS");
  EXPECT_THAT(lane, HasSubstr("N"));
  EXPECT_THAT(lane, HasSubstr("!?"));
  EXPECT_THAT(lane, Not(HasSubstr("E")));
}

TEST(Timeline, ABarIsFullOnlyForWhatRoundsToAll) {
  const auto bars = [](double ok) {
    ShopCourse course;
    course.logins = [=](double t) { return t < 13 ? 100.0 : ok; };
    return LaneOf(ShopHistory(course).Build(), "    ok >= 99%, top 100%");
  };
  EXPECT_TRUE(absl::EndsWith(bars(100), "██"));
  EXPECT_TRUE(absl::EndsWith(bars(97.5), "▇▇")) << bars(97.5);
  EXPECT_TRUE(absl::EndsWith(bars(87.5), "▇▇"));
  EXPECT_TRUE(absl::EndsWith(bars(50), "▄▄"));
  EXPECT_TRUE(absl::EndsWith(bars(0), "▁▁"));
}

TEST(Report, ColourIsOnlyThereWhenAskedFor) {
  const auto history = Failing();
  const v1::Judgement judgement = Judge(history);
  for (const bool color : {false, true}) {
    const ReportStyle style{color};
    const std::string all =
        absl::StrCat(ReportText(history, judgement, style), SummaryText(history, judgement, style),
                     Live(history, color));
    EXPECT_EQ(all.find('\x1b') != std::string::npos, color);
  }
}

TEST(Report, KeepsToItsWidth) {
  const auto history = Failing();
  for (const size_t width : {80, 100, 140}) {
    ReportStyle style;
    style.width = width;
    for (absl::string_view line :
         absl::StrSplit(ReportText(history, Judge(history), style), '\n')) {
      EXPECT_LE(reporting::Visible(line), width) << line;
    }
  }
}

TEST(LiveLines, TellWhatMeansSomethingAndNotEverySample) {
  const auto history = Failing();
  const std::string text = Live(history);
  ExpectGolden("tests/controller/golden/report_live.txt", text);
  EXPECT_LT(std::count(text.begin(), text.end(), '\n'), 50);
}

// It was listed as two defects: as what was found, and as what became of the canary.
TEST(LiveLines, ALostCanaryIsOneDefect) {
  HistoryBuilder builder(ShopRun());
  builder.Phase(-15, v1::PHASE_PREFLIGHT);
  builder.Find(-14, v1::Finding::KIND_DEFECT, "canary-lost", "canary",
               "the canary alert was lost: not at our webhook within 5s", "add a route");
  builder.Find(-14, v1::Finding::KIND_NOTE, "note", "x", "a note");
  v1::Event canary = builder.Last();
  canary.mutable_canary()->set_reason("not at our webhook within 5s");
  builder.events().push_back(canary);
  builder.Find(-14, v1::Finding::KIND_NOTE, "end", "x", "the end");
  builder.Last().mutable_preflight_finished()->set_defects(1);
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true,
                 "defects of the alerting under test: the canary alert was lost: not at our "
                 "webhook within 5s");
  const auto history = builder.Build();
  const std::string live = Live(history);
  EXPECT_EQ(Lines(live, "canary"), 2) << live;  // The defect, and why the run was not started.
  EXPECT_EQ(Lines(live, "preflight: 1 defect of the alerting under test"), 1) << live;
  const v1::Judgement judgement = Judge(history);
  EXPECT_EQ(Lines(SummaryText(history, judgement, {}), "FAILED       "), 1);
  EXPECT_EQ(Lines(ReportText(history, judgement, {}), "  - Defect: "), 1);
  // Of a canary about which nothing was found the event speaks for itself.
  HistoryBuilder other(ShopRun());
  other.events().push_back(canary);
  EXPECT_EQ(Lines(Live(other.Build()), "canary alert not delivered: not at our webhook"), 1);
}

TEST(LiveLines, SayOnceThatAFaultCannotBeMeasured) {
  HistoryBuilder builder(ShopRun());
  builder.Fault(1, "leak", v1::FAULT_STATE_ACTIVE, true, "57 of 57 slots taken");
  for (int at : {2, 3}) {
    builder.Fault(at, "leak", v1::FAULT_STATE_ACTIVE);
    builder.Last().mutable_fault()->clear_observation();
    builder.Last().mutable_fault()->set_reason("it could not be measured: the table is not there");
  }
  const std::string text = Live(builder.Build());
  EXPECT_EQ(Lines(text, "it could not be measured: the table is not there"), 1) << text;
  EXPECT_EQ(Lines(text, "fault leak at "), 1) << text;
}

TEST(LiveLines, TellAStopOnceAndThatEverythingIsUndone) {
  const std::string text = Live(Interrupted());
  EXPECT_EQ(Lines(text, "stopped by Ctrl-C"), 1) << text;
  EXPECT_EQ(Lines(text, "Ctrl-C"), 1) << text;
  EXPECT_THAT(text, HasSubstr("revert\n"));
  EXPECT_THAT(text, HasSubstr("aborted; every fault undone\n"));
  const std::string guarded =
      Live(Stopped(v1::StopRequested::CAUSE_GUARDRAIL, "slots-free is broken", ShopCourse()));
  EXPECT_EQ(Lines(guarded, "stopped by a guardrail: slots-free is broken"), 1) << guarded;
  EXPECT_EQ(Lines(guarded, "slots-free is broken"), 2) << guarded;
}

TEST(LiveLines, SayWhatIsNotYetKnownOfASteadyStateOnlyWhenItLasts) {
  const auto of = [](int unknown) {
    HistoryBuilder builder(ShopRun());
    builder.Sample(-9, "steadyState/slots-free", 0.2);
    for (int i = 0; i < unknown; ++i)
      builder.NoSample(-8 + i, "steadyState/slots-free", "no series");
    return Live(builder.Build());
  };
  EXPECT_THAT(of(2), Not(HasSubstr("unknown")));
  EXPECT_THAT(of(3), HasSubstr("slots-free is unknown: no series"));
}

TEST(LiveLines, AStuckFaultComesWithItsUndo) {
  EXPECT_THAT(Live(Stuck()), HasSubstr("undo it with: SELECT"));
}

TEST(JUnit, HasACaseForEveryExpectation) {
  const auto history = Failing();
  const v1::Judgement judgement = Judge(history);
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(ReportJUnit(history, judgement).c_str()));
  const pugi::xml_node suite = document.child("testsuites").child("testsuite");
  EXPECT_STREQ(suite.attribute("name").value(), "unclosed-connections");
  EXPECT_EQ(suite.attribute("tests").as_int(), judgement.results_size());
  int cases = 0, failures = 0, skipped = 0;
  for (const pugi::xml_node test : suite.children("testcase")) {
    ++cases;
    failures += test.child("failure") ? 1 : 0;
    skipped += test.child("skipped") ? 1 : 0;
    EXPECT_GE(test.attribute("time").as_double(), 0);
  }
  EXPECT_EQ(cases, judgement.results_size());
  EXPECT_EQ(failures, suite.attribute("failures").as_int());
  EXPECT_EQ(skipped, suite.attribute("skipped").as_int());
  EXPECT_GT(failures, 0);
  const pugi::xml_node late = suite.find_child_by_attribute("testcase", "name", "slots-page");
  EXPECT_STREQ(late.attribute("line").value(), "44");
  EXPECT_STREQ(late.child("failure").attribute("type").value(), "late");
  EXPECT_THAT(late.child("failure").text().get(), HasSubstr("mend: allow more time"));
  EXPECT_TRUE(
      suite.child("properties").find_child_by_attribute("property", "name", "time_to_detect"));
}

TEST(JUnit, IsNotGreenForARunThatWasNotStarted) {
  HistoryBuilder builder(ShopRun());
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true, "node db-1 is silent");
  const auto history = builder.Build();
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(ReportJUnit(history, Judge(history)).c_str()));
  const pugi::xml_node suite = document.child("testsuites").child("testsuite");
  EXPECT_EQ(suite.attribute("errors").as_int(), 1);
  EXPECT_STREQ(suite.find_child_by_attribute("testcase", "name", "run")
                   .child("error")
                   .attribute("message")
                   .value(),
               "not started: node db-1 is silent");
}

TEST(JUnit, SurvivesWhatXmlCannotHold) {
  HistoryBuilder builder(ShopRun());
  builder.Finish(-13, v1::OUTCOME_NOT_STARTED, true, "a \x1b[31m<red> & \"quoted\" reason");
  const auto history = builder.Build();
  const std::string text = ReportJUnit(history, Judge(history));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  pugi::xml_document document;
  EXPECT_TRUE(document.load_string(text.c_str()));
}

TEST(Json, IsOneObjectWithJudgementAndPlan) {
  const auto history = Failing();
  const auto json = nlohmann::json::parse(ReportJson(history, Judge(history)));
  EXPECT_EQ(json["judgement"]["verdict"], "VERDICT_FAILED");
  EXPECT_EQ(json["judgement"]["exitCode"], 1);
  EXPECT_EQ(json["judgement"]["results"].size(), 13u);
  EXPECT_EQ(json["plan"]["run"], "uc-7f3a");
  EXPECT_EQ(json["experiment"], "unclosed-connections");
}

TEST(Report, OfAnEmptyHistoryIsEmpty) {
  EXPECT_EQ(ReportText({}, Judge({}), {}), "");
  EXPECT_EQ(SummaryText({}, Judge({}), {}), "");
  EXPECT_THAT(ReportJUnit({}, Judge({})), HasSubstr("<testsuite"));
  EXPECT_THAT(ReportJson({}, Judge({})), HasSubstr("VERDICT_INCONCLUSIVE"));
}

}  // namespace
}  // namespace firedrill
