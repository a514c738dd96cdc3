// Schedules over a clock that the test moves: what fires, how often, and what is written down of
// slots that do not.
#include "controller/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "tests/testing/memory_store.h"
#include "tests/testing/sim_executor.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

v1::AppliedExperiment Definition(const std::string& cron, const std::string& name = "nightly",
                                 absl::Duration deadline = absl::Seconds(60)) {
  v1::AppliedExperiment applied;
  applied.set_file(name + ".yaml");
  applied.set_applied_by("alice");
  applied.mutable_experiment()->mutable_metadata()->set_name(name);
  v1::Schedule& schedule = *applied.mutable_experiment()->mutable_spec()->mutable_schedule();
  schedule.set_cron(cron);
  schedule.set_time_zone("UTC");
  *schedule.mutable_starting_deadline() = ToProto(deadline);
  return applied;
}

class SchedulerTest : public testing::Test {
 protected:
  // 1'800'000'000 is 2027-01-15 08:00:00 UTC.
  SchedulerTest() { StartController(); }

  void StartController() {
    executor_ = std::make_unique<SimExecutor>(time_, wall_);
    scheduler_ = std::make_unique<Scheduler>(
        *executor_, store_, *store_.TakeEpoch(),
        Scheduler::Starting{
            .start =
                [this](const v1::StartRun& start, auto started, auto ended) {
                  started_.push_back(start);
                  if (!refusal_.ok()) return started(refusal_);
                  const std::string run = absl::StrCat("run-", started_.size());
                  const auto begin = [this, run, started, ended] {
                    going_.insert(run);
                    ended_[run] = ended;
                    started(run);
                  };
                  if (hold_) {
                    held_.push_back(begin);
                  } else {
                    begin();
                  }
                },
            .going = [this](const std::string& run) { return going_.count(run) > 0; },
            .watch =
                [this](const std::string& run, auto ended) {
                  ended_[run] = ended;
                  return going_.count(run) > 0;
                }});
    ASSERT_TRUE(scheduler_->Begin().ok());
  }
  // As SIGKILL: what it had not written down is lost.
  void KillController() {
    executor_->Kill();
    scheduler_.reset();
    executor_.reset();
    going_.clear();
    held_.clear();
  }
  void End(const std::string& run, v1::Outcome outcome = v1::OUTCOME_COMPLETED,
           const std::string& reason = "") {
    v1::Judgement judgement;
    judgement.set_outcome(outcome);
    judgement.set_reason(reason);
    going_.erase(run);
    ended_[run](judgement);
  }
  v1::ApplyExperimentResponse Apply(const v1::AppliedExperiment& applied) {
    const auto response = scheduler_->Apply(applied);
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *response : v1::ApplyExperimentResponse();
  }
  // "08:05 run-1", or "08:05 missed overlap"; oldest first.
  std::vector<std::string> Slots(const std::string& name = "nightly") {
    std::vector<std::string> texts;
    const std::vector<v1::Slot> slots = *store_.Slots(name, 1000);
    for (const v1::Slot& slot : slots) {
      const std::string at = absl::FormatTime("%H:%M", FromProto(slot.due()), absl::UTCTimeZone());
      texts.insert(texts.begin(), slot.missed().empty()
                                      ? absl::StrCat(at, " ", slot.run())
                                      : absl::StrCat(at, " missed ", slot.missed()));
    }
    return texts;
  }
  std::string Reason() { return store_.Slots("nightly", 1)->front().reason(); }

  SimTime time_;
  absl::Time wall_ = absl::FromUnixSeconds(1'800'000'000);
  MemoryStore store_;
  std::unique_ptr<SimExecutor> executor_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<v1::StartRun> started_;
  std::set<std::string> going_;
  std::map<std::string, std::function<void(const v1::Judgement&)>> ended_;
  absl::Status refusal_;
  // Runs are not begun until the test says so, as while a plan is made.
  bool hold_ = false;
  std::vector<std::function<void()>> held_;
};

TEST_F(SchedulerTest, ADefinitionNeverStartsByBeingApplied) {
  // Applied in the very minute in which it is due.
  time_.RunFor(absl::Seconds(10));
  Apply(Definition("* * * * *"));
  time_.RunFor(absl::Seconds(49));
  EXPECT_THAT(started_, IsEmpty());
  EXPECT_THAT(Slots(), IsEmpty());
}

TEST_F(SchedulerTest, AScheduledRunIsNobodysAndSaysWhoseScheduleItIs) {
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(6));
  ASSERT_EQ(started_.size(), 1u);
  EXPECT_EQ(started_[0].owner(), "schedule:nightly");
  EXPECT_TRUE(started_[0].detach());
  EXPECT_EQ(started_[0].file(), "nightly.yaml");
  EXPECT_THAT(Slots(), ElementsAre("08:05 run-1"));
  const v1::Slot slot = store_.Slots("nightly", 1)->front();
  EXPECT_EQ(FromProto(slot.decided()), FromProto(slot.due()));
}

TEST_F(SchedulerTest, EverySlotFiresOnce) {
  Apply(Definition("*/10 * * * *"));
  for (int i = 1; i <= 6; ++i) {
    time_.RunFor(absl::Minutes(10));
    ASSERT_EQ(started_.size(), static_cast<size_t>(i));
    End(absl::StrCat("run-", i));
  }
  EXPECT_EQ(scheduler_->missed().at("nightly"), 0u);
}

TEST_F(SchedulerTest, FiresOnceAcrossRestarts) {
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(5));
  EXPECT_THAT(Slots(), ElementsAre("08:05 run-1"));
  for (int i = 0; i < 3; ++i) {
    KillController();
    StartController();
    time_.RunFor(absl::Seconds(8));
  }
  EXPECT_EQ(started_.size(), 1u);
  EXPECT_THAT(Slots(), ElementsAre("08:05 run-1"));
}

// A retention that is shorter than the deadline.
TEST_F(SchedulerTest, WhatWasForgottenIsNotFiredAgain) {
  Apply(Definition("0 9 * * *", "nightly", absl::Hours(12)));
  time_.RunFor(absl::Hours(2));
  End("run-1");
  ASSERT_TRUE(store_.Forget(1, wall_ + absl::Hours(2)).ok());
  KillController();
  StartController();
  time_.RunFor(absl::Minutes(1));
  EXPECT_EQ(started_.size(), 1u);
  EXPECT_THAT(Slots(), ElementsAre("09:00 run-1"));
}

TEST_F(SchedulerTest, ASlotOfATimeWithoutAControllerFiresWhereItsDeadlineIsNotOver) {
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(4));
  KillController();
  time_.RunFor(absl::Seconds(90));
  StartController();
  // The injectors have to dial first.
  time_.RunFor(absl::Seconds(1));
  EXPECT_THAT(started_, IsEmpty());
  time_.RunFor(absl::Seconds(5));
  EXPECT_THAT(Slots(), ElementsAre("08:05 run-1"));
}

TEST_F(SchedulerTest, ASlotWhoseDeadlineIsOverIsMissed) {
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(4));
  KillController();
  time_.RunFor(absl::Minutes(3));
  StartController();
  time_.RunFor(absl::Seconds(5));
  EXPECT_THAT(started_, IsEmpty());
  EXPECT_THAT(Slots(), ElementsAre("08:05 missed down"));
  EXPECT_EQ(Reason(), "no controller was there to start it: 2m3s late, the startingDeadline is 1m");
  EXPECT_EQ(scheduler_->missed().at("nightly"), 1u);
  // The next one is as ever.
  time_.RunFor(absl::Hours(1));
  EXPECT_THAT(Slots(), ElementsAre("08:05 missed down", "09:05 run-1"));
}

TEST_F(SchedulerTest, OfManyMissedSlotsTheNewestHundredAreKept) {
  Apply(Definition("* * * * *"));
  time_.RunFor(absl::Seconds(30));
  KillController();
  time_.RunFor(absl::Hours(24 * 90));
  StartController();
  time_.RunFor(absl::Seconds(5));
  const std::vector<v1::Slot> slots = *store_.Slots("nightly", 1000);
  EXPECT_EQ(slots.size(), 100u);
  EXPECT_THAT(slots.back().reason(), HasSubstr("as were 44541 slots and more before it"));
  EXPECT_THAT(slots.front().missed(), "");
  EXPECT_EQ(started_.size(), 1u);
}

TEST_F(SchedulerTest, AYearlySlotThatWasMissedLongAgoIsARecord) {
  Apply(Definition("0 12 1 2 *"));
  KillController();
  time_.RunFor(absl::Hours(24 * 100));
  StartController();
  time_.RunFor(absl::Seconds(5));
  EXPECT_THAT(Slots(), ElementsAre("12:00 missed down"));
}

TEST_F(SchedulerTest, WhileItsLastRunGoesOnASlotIsMissed) {
  Apply(Definition("* * * * *"));
  time_.RunFor(absl::Minutes(3));
  EXPECT_THAT(Slots(), ElementsAre("08:01 run-1", "08:02 missed overlap", "08:03 missed overlap"));
  EXPECT_EQ(Reason(), "run run-1 of this schedule is still going on");
  End("run-1");
  time_.RunFor(absl::Minutes(1));
  EXPECT_EQ(Slots().back(), "08:04 run-2");
  EXPECT_EQ(scheduler_->missed().at("nightly"), 2u);
}

TEST_F(SchedulerTest, WhileItsLastRunIsBeingStartedASlotIsMissed) {
  hold_ = true;
  Apply(Definition("* * * * *"));
  time_.RunFor(absl::Minutes(2));
  EXPECT_EQ(started_.size(), 1u);
  EXPECT_EQ(Reason(), "the run of the slot before it is still being started");
  held_[0]();
  EXPECT_THAT(Slots(), ElementsAre("08:01 run-1", "08:02 missed overlap"));
}

TEST_F(SchedulerTest, OfSeveralLateSlotsTheLastIsStarted) {
  Apply(Definition("* * * * *", "nightly", absl::Minutes(10)));
  time_.RunFor(absl::Seconds(30));
  KillController();
  time_.RunFor(absl::Minutes(3));
  StartController();
  time_.RunFor(absl::Seconds(5));
  EXPECT_THAT(Slots(), ElementsAre("08:01 missed overlap", "08:02 missed overlap", "08:03 run-1"));
}

TEST_F(SchedulerTest, ARunThatIsRefusedIsAMissedSlotWithTheReason) {
  refusal_ = absl::FailedPreconditionError("the emergency lever is pulled (bob: a real outage)");
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(6));
  EXPECT_THAT(Slots(), ElementsAre("08:05 missed refused"));
  EXPECT_EQ(Reason(), "the emergency lever is pulled (bob: a real outage)");
  EXPECT_EQ(scheduler_->missed().at("nightly"), 1u);
}

TEST_F(SchedulerTest, ARunThatDoesNotStartIsAMissedSlotWithItsRun) {
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(6));
  End("run-1", v1::OUTCOME_NOT_STARTED, "the gate was not passed");
  EXPECT_THAT(Slots(), ElementsAre("08:05 missed not-started"));
  EXPECT_EQ(Reason(), "the gate was not passed");
  EXPECT_EQ(store_.Slots("nightly", 1)->front().run(), "run-1");
}

// Its gate was not passed after the controller was started again, or while none was there.
TEST_F(SchedulerTest, ARunThatDoesNotStartIsAMissedSlotForTheNextControllerToo) {
  for (const bool goes_on : {true, false}) {
    store_ = MemoryStore();
    Apply(Definition("* * * * *"));
    time_.RunFor(absl::Minutes(1));
    const std::string run = store_.Slots("nightly", 1)->front().run();
    ASSERT_NE(run, "");
    KillController();
    if (goes_on) {
      going_.insert(run);
    } else {
      v1::Event created, finished;
      created.mutable_created()->mutable_plan()->set_run(run);
      created.set_seq(1);
      finished.mutable_finished()->set_outcome(v1::OUTCOME_NOT_STARTED);
      finished.mutable_finished()->set_reason("the gate was not passed");
      finished.set_seq(2);
      ASSERT_TRUE(store_.Append(run, 1, 1, {created, finished}).ok());
    }
    StartController();
    if (goes_on) End(run, v1::OUTCOME_NOT_STARTED, "the gate was not passed");
    const v1::Slot slot = store_.Slots("nightly", 1)->front();
    EXPECT_EQ(slot.missed(), "not-started") << goes_on;
    EXPECT_THAT(slot.reason(), HasSubstr("the gate was not passed"));
    EXPECT_EQ(slot.run(), run);
    EXPECT_EQ(scheduler_->missed().at("nightly"), 1u);
    KillController();
    StartController();
  }
}

TEST_F(SchedulerTest, AControllerThatDiesWhileItStartsARunLeavesARecord) {
  hold_ = true;
  Apply(Definition("5 * * * *"));
  time_.RunFor(absl::Minutes(5));
  ASSERT_EQ(started_.size(), 1u);
  KillController();
  hold_ = false;
  StartController();
  time_.RunFor(absl::Seconds(10));
  // Nothing was begun, and it is not tried twice.
  EXPECT_EQ(started_.size(), 1u);
  EXPECT_THAT(Slots(), ElementsAre("08:05 missed cut-short"));
  EXPECT_EQ(scheduler_->missed().at("nightly"), 1u);
}

TEST_F(SchedulerTest, OfTwoControllersOfOneStoreOneFires) {
  SimExecutor other_executor(time_, wall_);
  int others = 0;
  Scheduler other(other_executor, store_, *store_.TakeEpoch(),
                  {.start =
                       [&](const v1::StartRun&, auto started, auto) {
                         ++others;
                         started(absl::StrCat("other-", others));
                       },
                   .going = [](const std::string&) { return false; },
                   .watch = [](const std::string&, auto) { return false; }});
  Apply(Definition("*/10 * * * *"));
  ASSERT_TRUE(other.Begin().ok());
  for (int i = 0; i < 6; ++i) {
    time_.RunFor(absl::Minutes(10));
    for (const std::string& run : std::set<std::string>(going_)) End(run);
  }
  EXPECT_EQ(started_.size() + static_cast<size_t>(others), 6u);
  EXPECT_EQ(store_.Slots("nightly", 100)->size(), 6u);
}

TEST_F(SchedulerTest, AClockThatIsSetBackFiresNothingTwice) {
  Apply(Definition("*/10 * * * *"));
  time_.RunFor(absl::Minutes(10));
  End("run-1");
  executor_->JumpWall(-absl::Minutes(5));
  time_.RunFor(absl::Minutes(14));
  EXPECT_EQ(started_.size(), 1u);
  time_.RunFor(absl::Minutes(2));
  EXPECT_THAT(Slots(), ElementsAre("08:10 run-1", "08:20 run-2"));
}

TEST_F(SchedulerTest, AClockThatIsSetForwardIsNoticedWithinSeconds) {
  Apply(Definition("0 9 * * *"));
  time_.RunFor(absl::Minutes(1));
  executor_->JumpWall(absl::Minutes(59));
  time_.RunFor(absl::Seconds(6));
  EXPECT_THAT(Slots(), ElementsAre("09:00 run-1"));
}

TEST_F(SchedulerTest, AStoreThatCannotBeWrittenStartsNothing) {
  Apply(Definition("5 * * * *"));
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  time_.RunFor(absl::Minutes(6));
  EXPECT_THAT(started_, IsEmpty());
  EXPECT_EQ(scheduler_->missed().at("nightly"), 1u);
}

TEST_F(SchedulerTest, ADayThatIsLeftOutIsARecord) {
  v1::AppliedExperiment applied = Definition("5 * * * *");
  applied.mutable_experiment()->mutable_spec()->mutable_schedule()->mutable_not_on()->add_dates(
      "2027-01-15");
  Apply(applied);
  time_.RunFor(absl::Minutes(6));
  EXPECT_THAT(started_, IsEmpty());
  EXPECT_EQ(Reason(), "the schedule leaves out 2027-01-15");
}

TEST_F(SchedulerTest, WhatIsNotObeyedIsRefused) {
  v1::AppliedExperiment applied = Definition("5 * * * *");
  applied.mutable_experiment()
      ->mutable_spec()
      ->mutable_schedule()
      ->mutable_not_on()
      ->add_while_alert("severity=\"page\"");
  const absl::Status refused = scheduler_->Apply(applied).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(refused.message(), HasSubstr("whileAlert"));
  EXPECT_THAT(*store_.Experiments(), IsEmpty());
}

TEST_F(SchedulerTest, AZoneThatIsGoneKeepsTheOthersGoing) {
  v1::AppliedExperiment gone = Definition("* * * * *", "gone");
  gone.set_name("gone");
  gone.mutable_experiment()->mutable_spec()->mutable_schedule()->set_time_zone("Mars/Olympus");
  ASSERT_TRUE(store_.PutExperiment(gone).ok());
  Apply(Definition("5 * * * *"));
  KillController();
  executor_ = std::make_unique<SimExecutor>(time_, wall_);
  scheduler_ = std::make_unique<Scheduler>(
      *executor_, store_, *store_.TakeEpoch(),
      Scheduler::Starting{.start =
                              [this](const v1::StartRun& start, auto started, auto) {
                                started_.push_back(start);
                                started("r");
                              },
                          .going = [](const std::string&) { return false; },
                          .watch = [](const std::string&, auto) { return false; }});
  EXPECT_THAT(scheduler_->Begin().message(),
              HasSubstr("going on with the schedule of gone: the time zone 'Mars/Olympus' does "
                        "not load"));
  time_.RunFor(absl::Minutes(6));
  EXPECT_EQ(started_.size(), 1u);
  v1::ListExperimentsRequest request;
  request.set_name("gone");
  EXPECT_THAT(scheduler_->List(request)->experiments(0).problem(), HasSubstr("does not load"));
}

TEST_F(SchedulerTest, TheSameIsUnchangedAndAnotherSaysWhatChanged) {
  EXPECT_EQ(Apply(Definition("5 * * * *")).change(), v1::ApplyExperimentResponse::CHANGE_CREATED);
  time_.RunFor(absl::Minutes(1));
  const auto same = Apply(Definition("5 * * * *"));
  EXPECT_EQ(same.change(), v1::ApplyExperimentResponse::CHANGE_UNCHANGED);
  EXPECT_EQ(same.version(), 1u);
  EXPECT_THAT(same.differences(), IsEmpty());
  v1::AppliedExperiment other = Definition("7 * * * *", "nightly", absl::Seconds(30));
  other.set_applied_by("bob");
  const auto changed = Apply(other);
  EXPECT_EQ(changed.change(), v1::ApplyExperimentResponse::CHANGE_CHANGED);
  EXPECT_EQ(changed.version(), 2u);
  EXPECT_THAT(changed.differences(), ElementsAre("schedule.cron: 5 * * * * -> 7 * * * *",
                                                 "schedule.startingDeadline: 1m -> 30s"));
  EXPECT_EQ(FromProto(changed.next_slot()), wall_ + absl::Minutes(7));
  time_.RunFor(absl::Minutes(7));
  EXPECT_THAT(Slots(), ElementsAre("08:07 run-1"));
  EXPECT_EQ(store_.Experiments()->front().applied_by(), "bob");
}

TEST_F(SchedulerTest, WhatIsDeletedIsNotStarted) {
  Apply(Definition("5 * * * *"));
  ASSERT_TRUE(scheduler_->Delete("nightly").ok());
  EXPECT_TRUE(absl::IsNotFound(scheduler_->Delete("nightly")));
  time_.RunFor(absl::Minutes(6));
  EXPECT_THAT(started_, IsEmpty());
  KillController();
  StartController();
  EXPECT_THAT(scheduler_->List({})->experiments(), IsEmpty());
}

TEST_F(SchedulerTest, OneThatEndsStartsNothingMore) {
  Apply(Definition("* * * * *"));
  time_.RunFor(absl::Seconds(30));
  scheduler_->End();
  time_.RunFor(absl::Minutes(2));
  EXPECT_THAT(started_, IsEmpty());
  EXPECT_THAT(Slots(), IsEmpty());
}

TEST_F(SchedulerTest, ListsTheLastSlotsAndTheNext) {
  Apply(Definition("*/5 * * * *"));
  Apply(Definition("0 0 * * *", "another"));
  v1::AppliedExperiment by_hand;
  by_hand.mutable_experiment()->mutable_metadata()->set_name("by-hand");
  Apply(by_hand);
  time_.RunFor(absl::Minutes(11));
  v1::ListExperimentsRequest request;
  request.set_slots(5);
  const v1::ListExperimentsResponse all = *scheduler_->List(request);
  ASSERT_EQ(all.experiments_size(), 3);
  EXPECT_EQ(all.experiments(1).name(), "by-hand");
  EXPECT_FALSE(all.experiments(1).has_next_slot());
  EXPECT_EQ(all.experiments(2).slots_size(), 2);
  EXPECT_EQ(all.experiments(2).slots(0).missed(), "overlap");
  EXPECT_EQ(FromProto(all.experiments(2).next_slot()), wall_ + absl::Minutes(15));
  request.set_name("none");
  EXPECT_TRUE(absl::IsNotFound(scheduler_->List(request).status()));
}

}  // namespace
}  // namespace firedrill
