// What a controller that was started again does with a run, in each state in which the one before
// it may have left it; and that what comes out is what would have come out.
#include "controller/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"
#include "tests/controller/rehearsal.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using What = Fate::What;

constexpr char kBoot[] = "boot-1";
constexpr absl::Duration kBegun = absl::Hours(1);

Rehearsal Planned() {
  Rehearsal run(RehearsalPlan());
  run.Create();
  return run;
}
Rehearsal InGate() {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  return run;
}
Rehearsal Applying() {
  Rehearsal run(RehearsalPlan());
  run.ToInject();
  run.Timer("apply/leak@db-1");
  return run;
}
Rehearsal InForce() {
  Rehearsal run = Applying();
  run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
  return run;
}
Rehearsal Reverting() {
  Rehearsal run = InForce();
  run.AskToStop();
  return run;
}
Rehearsal Judged() {
  Rehearsal run = Reverting();
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(run.is_finished());
  return run;
}

std::vector<v1::Event> HistoryOf(const Rehearsal& run) {
  std::vector<v1::Event> history = run.history();
  history.front().mutable_created()->set_boot_id(kBoot);
  *history.front().mutable_created()->mutable_boot() = ToProto(kBegun);
  return history;
}

// `away` after its last event.
Fate Of(const std::vector<v1::Event>& history, absl::Duration away = absl::Seconds(3),
        const std::optional<std::string>& lever = std::nullopt, const std::string& boot = kBoot,
        bool was_going = true) {
  const absl::Duration lived = FromProto(history.back().at()) - FromProto(history.front().at());
  return FateOf(history, {boot, kBegun + lived + away}, lever, was_going);
}

std::vector<std::string> Names(const std::deque<v1::Event>& events) {
  std::vector<std::string> names;
  for (const v1::Event& event : events) {
    names.push_back(event.has_command() ? event.command().command().id().verb() + " " +
                                              event.command().command().id().name()
                    : event.has_stop()     ? "stop"
                    : event.has_finished() ? "finished"
                                           : "phase");
  }
  return names;
}

TEST(FateTest, OfEachStateWithinTheGrace) {
  EXPECT_EQ(Of(HistoryOf(Planned())).what, What::kClose);
  for (const Rehearsal& run : {InGate(), Applying(), InForce(), Reverting()}) {
    const Fate fate = Of(HistoryOf(run));
    EXPECT_EQ(fate.what, What::kGoOn) << run.history().size();
    EXPECT_FALSE(fate.stop.has_value());
  }
  EXPECT_EQ(Of(HistoryOf(Judged())).what, What::kNothing);
}

TEST(FateTest, AfterTheGraceItIsOnlySeenUndone) {
  for (const Rehearsal& run : {InGate(), Applying(), InForce(), Reverting()}) {
    const std::vector<v1::Event> history = HistoryOf(run);
    EXPECT_EQ(Of(history, kLongestAway).what, What::kGoOn);
    const Fate fate = Of(history, kLongestAway + absl::Seconds(1));
    ASSERT_EQ(fate.what, What::kUndo) << history.size();
    EXPECT_EQ(fate.stop->cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
    EXPECT_EQ(fate.stop->reason(),
              "its controller was away for 1m1s, and no node waits for longer than 1m");
  }
  EXPECT_EQ(Of(HistoryOf(Planned()), absl::Hours(1)).what, What::kClose);
  EXPECT_EQ(Of(HistoryOf(Judged()), absl::Hours(1)).what, What::kNothing);
}

// Its end was not written, or it was put back from a copy: an open history alone brings nothing
// back.
TEST(FateTest, WhatWasNotGoingOnIsOnlySeenUndone) {
  for (const Rehearsal& run : {InGate(), Applying(), InForce(), Reverting()}) {
    const Fate fate =
        Of(HistoryOf(run), absl::Seconds(1), std::nullopt, kBoot, /*was_going=*/false);
    ASSERT_EQ(fate.what, What::kUndo) << run.history().size();
    EXPECT_EQ(fate.stop->cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
    EXPECT_THAT(fate.stop->reason(), HasSubstr("it was not going on any more"));
  }
  const auto of = [](const Rehearsal& run) {
    return Of(HistoryOf(run), absl::Seconds(1), std::nullopt, kBoot, /*was_going=*/false).what;
  };
  EXPECT_EQ(of(Planned()), What::kClose);
  EXPECT_EQ(of(Judged()), What::kNothing);
}

TEST(FateTest, NothingGoesOnWhereTheLeverWasPulledMeanwhile) {
  for (const Rehearsal& run : {InGate(), Applying(), InForce(), Reverting()}) {
    const Fate fate = Of(HistoryOf(run), absl::Seconds(1), "alice: a real outage");
    ASSERT_EQ(fate.what, What::kUndo);
    EXPECT_EQ(fate.stop->cause(), v1::StopRequested::CAUSE_LEVER);
    EXPECT_THAT(fate.stop->reason(), HasSubstr("alice: a real outage"));
  }
  EXPECT_EQ(Of(HistoryOf(Planned()), absl::Seconds(1), "x").what, What::kClose);
  EXPECT_EQ(Of(HistoryOf(Judged()), absl::Seconds(1), "x").what, What::kNothing);
}

TEST(FateTest, NobodyGoesOnWithAPrivateOne) {
  std::vector<v1::Event> history = HistoryOf(InForce());
  for (v1::Event& event : history) {
    if (event.has_command()) {
      event.mutable_command()->mutable_command()->mutable_id()->set_group("private-17");
    }
  }
  EXPECT_EQ(Of(history).what, What::kClose);
  EXPECT_EQ(Of(history, absl::Seconds(1), "alice: a real outage").what, What::kClose);
}

TEST(FateTest, AfterAnotherBootNobodyCanTellItsTimes) {
  const Fate fate = Of(HistoryOf(InForce()), absl::Seconds(1), std::nullopt, "boot-2");
  EXPECT_EQ(fate.what, What::kClose);
  EXPECT_THAT(fate.why, HasSubstr("started again"));
  EXPECT_EQ(FateOf({}, {kBoot, kBegun}, std::nullopt, /*was_going=*/true).what, What::kClose);
}

// Its verdict is in the history: only the last word is missing.
TEST(FateTest, WhatWasDecidedToEndEndsHoweverLateAndWhateverThePeopleDo) {
  std::vector<v1::Event> history = HistoryOf(Judged());
  ASSERT_TRUE(history.back().has_finished());
  const v1::RunFinished finished = history.back().finished();
  history.pop_back();
  EXPECT_EQ(Of(history, absl::Hours(2), "x").what, What::kGoOn);
  const Replayed replayed = Replay(history);
  ASSERT_THAT(Names(replayed.decided), ElementsAre("finished"));
  EXPECT_EQ(replayed.decided.back().finished().DebugString(), finished.DebugString());
}

TEST(ReplayTest, EveryBeginOfAHistoryLeavesWhatIsMissingToItsEnd) {
  const std::vector<v1::Event> whole = HistoryOf(Judged());
  for (size_t kept = 1; kept <= whole.size(); ++kept) {
    const std::vector<v1::Event> history(whole.begin(), whole.begin() + kept);
    const Replayed replayed = Replay(history);
    // What was decided is what comes next in the history, but for what comes from outside.
    std::deque<v1::Event> next;
    for (size_t i = kept; i < whole.size() && next.size() < replayed.decided.size(); ++i) {
      const v1::Event& event = whole[i];
      if (event.has_command() || event.has_phase() || event.has_stop() || event.has_finished()) {
        next.push_back(event);
      } else {
        break;
      }
    }
    EXPECT_EQ(Names(replayed.decided), Names(next)) << "after event " << kept;
  }
}

TEST(ReplayTest, AfterAStopNothingThatWasDecidedBeforeItBegins) {
  const std::vector<v1::Event> whole = HistoryOf(Applying());
  // Decided, and not written: the apply.
  ASSERT_EQ(whole.back().command().command().id().verb(), "apply");
  std::vector<v1::Event> history(whole.begin(), whole.end() - 1);
  ASSERT_THAT(Names(Replay(history).decided), ElementsAre("apply leak"));
  v1::Event& stop = history.emplace_back();
  *stop.mutable_at() = history.front().at();
  stop.mutable_stop()->set_cause(v1::StopRequested::CAUSE_LEVER);
  for (const std::string& name : Names(Replay(history).decided)) {
    EXPECT_THAT(name, testing::Not(HasSubstr("apply")));
  }
}

TEST(ReplayTest, TimersGoOnWhereTheyWere) {
  const Rehearsal run = InForce();
  const Replayed replayed = Replay(HistoryOf(run));
  ASSERT_TRUE(run.TimerIsSet("revert/leak@db-1"));
  ASSERT_EQ(replayed.timers.count("revert/leak@db-1"), 1u);
  EXPECT_EQ(replayed.timers.at("revert/leak@db-1") - run.now(), run.TimerIn("revert/leak@db-1"));
  EXPECT_TRUE(replayed.asking);
  EXPECT_THAT(replayed.decided, IsEmpty());
}

TEST(ReplayTest, WhatWasToldToEndIsToldAgainUntilItHasSaidSo) {
  const auto names = [](const Replayed& replayed) {
    std::vector<std::string> named;
    for (const v1::Command& command : replayed.unheard) {
      named.push_back(command.id().verb() + " " + command.id().name());
    }
    return named;
  };
  EXPECT_THAT(names(Replay(HistoryOf(InForce()))), IsEmpty());
  Rehearsal run = Reverting();
  EXPECT_THAT(names(Replay(HistoryOf(run))),
              testing::IsSupersetOf({"revert leak", "stop shoppers"}));
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  EXPECT_THAT(names(Replay(HistoryOf(run))), testing::Not(testing::Contains("revert leak")));
}

TEST(ResumedRunTest, WhatItsNodeHasEndedMeanwhileEndsItAndSaysWhen) {
  Rehearsal run = InForce();
  run.Pass(absl::Seconds(5));
  v1::Event resumed;
  *resumed.mutable_resumed()->mutable_gap() = ToProto(absl::Seconds(3));
  run.Feed(std::move(resumed));
  run.Node("db-1", true);
  v1::Event off;
  *off.mutable_source_time() = ToProto(run.now() - absl::Milliseconds(2400));
  off.mutable_fault()->set_fault("leak");
  off.mutable_fault()->set_node("db-1");
  off.mutable_fault()->set_state(v1::FAULT_STATE_REVERTED);
  off.mutable_fault()->set_reason("it has been gone for 500ms");
  run.Feed(std::move(off));
  ASSERT_TRUE(run.is_finished());
  EXPECT_EQ(run.finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ(run.finished().cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
  EXPECT_EQ(run.finished().reason(),
            "leak on db-1 was ended by its node while the controller was away (3s), 600ms after "
            "it was last heard: it has been gone for 500ms");
}

// Long after the controller is back that is no matter of its absence.
TEST(ResumedRunTest, WhatItsNodeEndsLaterIsAsEver) {
  Rehearsal run = InForce();
  v1::Event resumed;
  *resumed.mutable_resumed()->mutable_gap() = ToProto(absl::Seconds(3));
  run.Feed(std::move(resumed));
  run.Node("db-1", true);
  run.Pass(absl::Seconds(5));
  run.Report("leak", v1::FAULT_STATE_REVERTED, false, "its worker has died");
  EXPECT_FALSE(run.state().stopping);
}

}  // namespace
}  // namespace firedrill
