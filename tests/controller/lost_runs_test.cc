// Runs whose controller has died are ended truly and once; whose controller lives is left alone.
#include "controller/lost_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/time_proto.h"
#include "controller/epoch_lock.h"
#include "controller/going_marks.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "controller/words.h"
#include "tests/controller/rehearsal.h"
#include "tests/testing/child.h"
#include "tests/testing/memory_store.h"

namespace firedrill {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint64_t kEpoch = 5;

class LostRunsTest : public testing::Test {
 protected:
  // The store gives out epochs above those of the runs, as the one that gave them out would.
  LostRunsTest() {
    for (uint64_t i = 0; i < kEpoch; ++i) (void)store_.TakeEpoch();
  }
  void Keep(const Rehearsal& run, const std::string& id = "r1", uint64_t epoch = kEpoch) {
    std::vector<v1::Event> events = run.history();
    v1::RecoveryExpectation& back = *events[0]
                                         .mutable_created()
                                         ->mutable_experiment()
                                         ->mutable_spec()
                                         ->mutable_expect()
                                         ->add_recovery();
    back.set_name("back");
    back.mutable_probe()->set_probe("slots-free");
    back.set_since("leak.end");
    *back.mutable_within() = ToProto(absl::Seconds(10));
    events[0].mutable_created()->set_boot_id(boot_id_);
    *events[0].mutable_created()->mutable_boot() = ToProto(absl::Hours(1));
    for (size_t i = 0; i < events.size(); ++i) {
      events[i].set_run(id);
      events[i].set_seq(i + 1);
      events[i].set_epoch(epoch);
    }
    ASSERT_TRUE(store_.Append(id, 1, epoch, events).ok());
    kept_ = events.size();
    begun_ = FromProto(events[0].at());
    Later(run, absl::Minutes(5));
  }
  // So long after the last event, by both clocks.
  void Later(const Rehearsal& run, absl::Duration passed) {
    clock_.now = run.now() + passed;
    clock_.boot = absl::Hours(1) + (clock_.now - begun_);
  }
  // A run in which the leak is on.
  static Rehearsal Leaking() {
    Rehearsal run(RehearsalPlan());
    run.ToInject();
    run.Timer("apply/leak@db-1");
    run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
    return run;
  }
  std::vector<ClosedRun> Close(Whereabouts where = Whereabouts::kUnknown) {
    const auto closed =
        CloseLostRuns(store_, folder_.path(), clock_, [&](const v1::Command& apply) {
          asked_.push_back(apply.id().name() + "@" + apply.id().node());
          return where;
        });
    EXPECT_TRUE(closed.ok()) << closed.status();
    return closed.ok() ? *closed : std::vector<ClosedRun>();
  }
  std::vector<v1::Event> History(const std::string& run = "r1") { return *store_.Read(run, 1); }

  TempDir folder_{"firedrill-lost"};
  MemoryStore store_;
  size_t kept_ = 0;
  absl::Time begun_;
  std::string boot_id_ = BootId();
  struct : Clock {
    absl::Time Now() const override { return now; }
    absl::Duration Boot() const override { return boot; }
    absl::Time now;
    absl::Duration boot;
  } clock_;
  std::vector<std::string> asked_;
};

TEST_F(LostRunsTest, IsAbortedAndItsUndoIsNotConfirmedWhereNobodyCanTell) {
  Keep(Leaking());
  ASSERT_THAT(Close(), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("leak@db-1"));
  const std::vector<v1::Event> history = History();
  ASSERT_EQ(history.size(), kept_ + 2);
  const v1::Event& stop = history[kept_];
  EXPECT_EQ(stop.stop().cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
  EXPECT_EQ(stop.seq(), kept_ + 1);
  EXPECT_GT(stop.epoch(), kEpoch);
  EXPECT_EQ(FromProto(stop.at()), clock_.now);
  EXPECT_THAT(stop.stop().reason(), HasSubstr("its controller ended before the run did"));
  const v1::RunFinished& finished = history.back().finished();
  EXPECT_EQ(finished.outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ(finished.cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
  EXPECT_FALSE(finished.undo_confirmed());
  EXPECT_EQ(store_.List(10)->front().outcome(), v1::OUTCOME_ABORTED);
  const v1::Judgement judgement = Judge(history);
  EXPECT_EQ(judgement.exit_code(), 5);
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_INCONCLUSIVE);
  const std::string summary = SummaryText(history, judgement, {});
  EXPECT_THAT(summary, HasSubstr("aborted by the loss of its controller"));
  EXPECT_THAT(summary, HasSubstr("UNDO NOT CONFIRMED"));
}

// Whoever finds it days later does not make it last for days.
TEST_F(LostRunsTest, TheReportTellsHowLongItWentOn) {
  Rehearsal run = Leaking();
  const absl::Duration lasted = run.now() - FromProto(run.history().front().at());
  Keep(run);
  Later(run, absl::Hours(50));
  Close();
  EXPECT_THAT(ReportText(History(), Judge(History()), {}), HasSubstr("for " + Short(lasted)));
}

TEST_F(LostRunsTest, IsConfirmedWhereItWasLookedForAndIsGone) {
  Keep(Leaking());
  const std::vector<ClosedRun> closed = Close(Whereabouts::kGone);
  ASSERT_THAT(closed, SizeIs(1));
  EXPECT_TRUE(closed[0].undo_confirmed);
  const v1::Judgement judgement = Judge(History());
  EXPECT_TRUE(judgement.undo_confirmed());
  EXPECT_EQ(judgement.exit_code(), 4);
  EXPECT_EQ(judgement.verdict(), v1::VERDICT_INCONCLUSIVE);
  // Folding the history again comes to the same.
  const RunState state = Fold(History());
  EXPECT_EQ(state.faults.at("leak@db-1").state, v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(state.finished.has_value());
}

TEST_F(LostRunsTest, WaitsWhileSomebodyIsUndoingIt) {
  Keep(Leaking());
  EXPECT_THAT(Close(Whereabouts::kBeingUndone), IsEmpty());
  EXPECT_EQ(History().size(), kept_);
  EXPECT_THAT(Close(Whereabouts::kGone), SizeIs(1));
}

TEST_F(LostRunsTest, WhereNothingWasAppliedThereIsNothingToConfirm) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  Keep(run);
  ASSERT_THAT(Close(), SizeIs(1));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_TRUE(History().back().finished().undo_confirmed());
  EXPECT_EQ(Judge(History()).exit_code(), 4);
}

TEST_F(LostRunsTest, WhatWasReportedAsUndoneIsNotAskedFor) {
  Rehearsal run = Leaking();
  run.Timer("revert/leak@db-1");
  run.Report("leak", v1::FAULT_STATE_REVERTED);
  Keep(run);
  ASSERT_THAT(Close(), SizeIs(1));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_TRUE(History().back().finished().undo_confirmed());
}

TEST_F(LostRunsTest, AOneShotFaultLeavesNothing) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  Keep(run);
  ASSERT_THAT(Close(Whereabouts::kGone), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("leak@db-1"));
  EXPECT_TRUE(History().back().finished().undo_confirmed());
}

// It was told to act a second before its controller died: it may be at it.
TEST_F(LostRunsTest, AOneShotFaultThatMayStillActIsLookedForLikeAnyOther) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  Keep(run);
  Later(run, absl::Seconds(1));
  ASSERT_THAT(Close(Whereabouts::kUnknown), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("cut@db-1", "leak@db-1"));
  for (const v1::Event& event : History()) {
    EXPECT_NE(event.fault().state(), v1::FAULT_STATE_REVERTED);
  }
}

TEST_F(LostRunsTest, AWallClockThatWasSetSaysNothingOfAOneShotFault) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  Keep(run);
  Later(run, absl::Seconds(1));
  clock_.now += absl::Minutes(20);
  ASSERT_THAT(Close(Whereabouts::kUnknown), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("cut@db-1", "leak@db-1"));
}

TEST_F(LostRunsTest, TimePassesAlsoWhereTheWallClockWasSetBack) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  Keep(run);
  Later(run, absl::Seconds(40));
  clock_.now -= absl::Minutes(20);
  ASSERT_THAT(Close(Whereabouts::kGone), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("leak@db-1"));
}

TEST_F(LostRunsTest, AfterAnotherStartOfTheMachineItsUptimeHasPassed) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  boot_id_ = "the one before";
  Keep(run);
  clock_.boot = absl::Seconds(20);
  EXPECT_THAT(Close(Whereabouts::kBeingUndone), IsEmpty());
  EXPECT_THAT(asked_, testing::ElementsAre("cut@db-1"));
  asked_.clear();
  clock_.boot = absl::Seconds(40);
  EXPECT_THAT(Close(Whereabouts::kGone), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("leak@db-1"));
}

TEST_F(LostRunsTest, AOneShotFaultThatItsControllerOutlivedHasActed) {
  Rehearsal run = Leaking();
  run.Pass(absl::Seconds(13));
  run.Answer("guardrails/shop-gone", 200, "status");
  for (int i = 0; i < 31; ++i) run.Healthy(absl::Seconds(1));
  boot_id_ = "";
  Keep(run);
  ASSERT_THAT(Close(Whereabouts::kGone), SizeIs(1));
  EXPECT_THAT(asked_, testing::ElementsAre("leak@db-1"));
}

TEST_F(LostRunsTest, ARunIsClosedOnce) {
  Keep(Leaking());
  EXPECT_THAT(Close(), SizeIs(1));
  EXPECT_THAT(Close(), IsEmpty());
  EXPECT_EQ(History().size(), kept_ + 2);
}

// Should it live after all, somewhere: its epoch is over.
TEST_F(LostRunsTest, TheLostControllerIsShutOut) {
  Keep(Leaking());
  Close();
  v1::Event event;
  event.mutable_timer()->set_name("from the grave");
  EXPECT_TRUE(absl::IsAborted(store_.Append("r1", kept_ + 3, kEpoch, {event})));
}

TEST_F(LostRunsTest, WhoseControllerLivesIsLeftAlone) {
  Keep(Leaking(), "r1", 5);
  Keep(Leaking(), "r2", 4);
  auto alive = EpochLock::Take(folder_.path(), 5);
  ASSERT_TRUE(alive.ok()) << alive.status();
  const std::vector<ClosedRun> closed = Close();
  ASSERT_THAT(closed, SizeIs(1));
  EXPECT_EQ(closed[0].run, "r2");
  EXPECT_EQ(History("r1").size(), kept_);
  const auto open = OpenRuns(store_, folder_.path());
  ASSERT_THAT(*open, SizeIs(1));
  EXPECT_TRUE((*open)[0].alive);
}

TEST_F(LostRunsTest, ARunThatHasEndedIsNotOpen) {
  Rehearsal run(RehearsalPlan());
  run.ToGate();
  run.AskToStop();
  ASSERT_TRUE(run.is_finished());
  Keep(run);
  EXPECT_THAT(*OpenRuns(store_, folder_.path()), IsEmpty());
  EXPECT_THAT(Close(), IsEmpty());
}

TEST_F(LostRunsTest, OnlyARunThatWasGoingOnGoesOn) {
  const Rehearsal run = Leaking();
  for (const char* id : {"going", "ended"}) Keep(run, id);
  Later(run, absl::Seconds(1));
  const GoingMarks marks(folder_.path());
  ASSERT_TRUE(marks.Make("going").ok());
  const auto left = RunsToGoOnWith(store_, folder_.path(), clock_, std::nullopt);
  ASSERT_TRUE(left.ok()) << left.status();
  std::map<std::string, Fate::What> fates;
  for (const LeftRun& each : *left) fates[each.history.front().run()] = each.fate.what;
  EXPECT_THAT(fates, testing::ElementsAre(testing::Pair("ended", Fate::What::kUndo),
                                          testing::Pair("going", Fate::What::kGoOn)));
}

TEST(GoingMarksTest, AreMadeRemovedAndSweptWithoutATrace) {
  const TempDir folder("firedrill-marks");
  const GoingMarks marks(folder.path());
  EXPECT_TRUE(marks.KeepOnly({}).ok());
  for (const char* run : {"r1", "r2", "r3"}) {
    EXPECT_FALSE(marks.Has(run));
    EXPECT_TRUE(marks.Make(run).ok());
    EXPECT_TRUE(marks.Has(run));
  }
  marks.Remove("r1");
  marks.Remove("r1");
  EXPECT_FALSE(marks.Has("r1"));
  ASSERT_TRUE(marks.KeepOnly({"r3", "r4"}).ok());
  EXPECT_FALSE(marks.Has("r2"));
  EXPECT_TRUE(marks.Has("r3"));
  EXPECT_FALSE(marks.Has("r4"));
  // Of whom none are kept.
  const GoingMarks none("");
  EXPECT_TRUE(none.Make("r1").ok());
  EXPECT_FALSE(none.Has("r1"));
}

TEST(GoingMarksTest, OneThatCannotBeMadeSaysWhereAndWhatToDo) {
  const TempDir folder("firedrill-marks");
  std::ofstream(folder.path() + "/going") << "in the way";
  const absl::Status made = GoingMarks(folder.path()).Make("r1");
  EXPECT_THAT(made.message(),
              HasSubstr("noting in " + folder.path() + "/going/r1 that it goes on"));
  EXPECT_THAT(made.message(), HasSubstr("free space"));
}

TEST_F(LostRunsTest, AClockThatWasSetBackMakesNoEventBeforeTheLast) {
  Keep(Leaking());
  clock_.now -= absl::Hours(9);
  Close();
  EXPECT_EQ(FromProto(History().back().at()), FromProto(History()[kept_ - 1].at()));
}

TEST_F(LostRunsTest, AHistoryThatCannotBeWrittenIsAnError) {
  Keep(Leaking());
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  EXPECT_TRUE(absl::IsResourceExhausted(
      CloseLostRuns(store_, folder_.path(), clock_, [](const v1::Command&) {
        return Whereabouts::kUnknown;
      }).status()));
}

TEST(EpochLockTest, IsHeldUntilItsProcessEndsInWhateverWay) {
  const TempDir folder("firedrill-epoch");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = EpochLock::Take(folder.path(), 7);
    (void)!write(ready[1], lock.ok() ? "y" : "n", 1);
    pause();
    _exit(1);
  }
  char held = 0;
  ASSERT_EQ(read(ready[0], &held, 1), 1);
  ASSERT_EQ(held, 'y');
  EXPECT_TRUE(EpochLock::Held(folder.path(), 7));
  EXPECT_TRUE(absl::IsFailedPrecondition(EpochLock::Take(folder.path(), 7).status()));
  kill(child, SIGSTOP);
  EXPECT_TRUE(EpochLock::Held(folder.path(), 7)) << "it only hangs";
  EpochLock::Sweep(folder.path());
  EXPECT_TRUE(EpochLock::Held(folder.path(), 7));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(EpochLock::Held(folder.path(), 7));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/controllers/7"));
  EpochLock::Sweep(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/controllers/7"));
  close(ready[0]);
  close(ready[1]);
}

TEST(EpochLockTest, LeavesNoFileAndSaysWhatItCannotDo) {
  const TempDir folder("firedrill-epoch");
  EXPECT_FALSE(EpochLock::Held(folder.path(), 1));
  {
    auto first = EpochLock::Take(folder.path(), 1);
    ASSERT_TRUE(first.ok()) << first.status();
    const EpochLock moved = *std::move(first);
    EXPECT_TRUE(EpochLock::Held(folder.path(), 1));
    EXPECT_FALSE(EpochLock::Held(folder.path(), 2));
  }
  EXPECT_FALSE(EpochLock::Held(folder.path(), 1));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path() + "/controllers"));
  WriteFile(folder.path() + "/file", "");
  EXPECT_THAT(EpochLock::Take(folder.path() + "/file", 1).status().message(),
              HasSubstr("making the folder of"));
}

}  // namespace
}  // namespace firedrill
