// What every store promises, asked of each of them with the same words: the SQLite file of real
// runs, and the memory in which simulations keep theirs. A simulation over a kinder store would
// prove nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/time_proto.h"
#include "controller/run_left.h"
#include "controller/sqlite_store.h"
#include "tests/testing/child.h"
#include "tests/testing/memory_store.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Kind {
  const char* name;
  std::function<std::unique_ptr<Store>(const std::string& folder)> make;
  friend std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }
};

class StoreContract : public testing::TestWithParam<Kind> {
 protected:
  static v1::Event Created(const std::string& experiment = "leak", int64_t at = 1000) {
    v1::Event event;
    *event.mutable_at() = ToProto(absl::FromUnixSeconds(at));
    event.mutable_created()->mutable_experiment()->mutable_metadata()->set_name(experiment);
    return event;
  }
  static v1::Event Timer(const std::string& name) {
    v1::Event event;
    event.mutable_timer()->set_name(name);
    return event;
  }
  static v1::Event Phase(v1::Phase phase) {
    v1::Event event;
    event.mutable_phase()->set_phase(phase);
    return event;
  }
  static v1::Event Finished(v1::Outcome outcome) {
    v1::Event event;
    event.mutable_finished()->set_outcome(outcome);
    return event;
  }
  std::vector<std::string> Timers(const std::string& run, uint64_t from = 1) {
    std::vector<std::string> names;
    const auto events = store_->Read(run, from);
    EXPECT_TRUE(events.ok()) << events.status();
    if (!events.ok()) return names;
    for (const v1::Event& event : *events) names.push_back(event.timer().name());
    return names;
  }
  std::vector<std::string> Listed(uint32_t at_most) {
    std::vector<std::string> runs;
    const auto listed = store_->List(at_most);
    EXPECT_TRUE(listed.ok()) << listed.status();
    if (!listed.ok()) return runs;
    for (const v1::RunSummary& run : *listed) runs.push_back(run.run());
    return runs;
  }

  TempDir folder_{"firedrill-store"};
  std::unique_ptr<Store> store_ = GetParam().make(folder_.path());
};

TEST_P(StoreContract, ReadsBackWhatWasAppendedInOrderFromWhereItIsAsked) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created(), Timer("a")}).ok());
  ASSERT_TRUE(store_->Append("r1", 3, 1, {Timer("b")}).ok());
  EXPECT_THAT(Timers("r1", 0), ElementsAre("", "a", "b"));
  EXPECT_THAT(Timers("r1", 1), ElementsAre("", "a", "b"));
  EXPECT_THAT(Timers("r1", 3), ElementsAre("b"));
  EXPECT_THAT(Timers("r1", 4), IsEmpty());
  EXPECT_THAT(Timers("r1", 400), IsEmpty());
}

TEST_P(StoreContract, EveryFieldOfAnEventComesBack) {
  v1::Event event = Timer("apply/leak@db-1");
  event.set_run("r1");
  event.set_seq(2);
  event.set_epoch(7);
  event.set_source("injector/db-1");
  *event.mutable_source_time() = ToProto(absl::FromUnixNanos(1'234'567'890'123'456'789));
  ASSERT_TRUE(store_->Append("r1", 1, 7, {Created(), event}).ok());
  EXPECT_EQ(store_->Read("r1", 2)->front().SerializeAsString(), event.SerializeAsString());
}

TEST_P(StoreContract, NothingIsAppendedWhereTheNextEventIsAnother) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created(), Timer("first")}).ok());
  for (const uint64_t seq : {0, 1, 2, 4, 100}) {
    const absl::Status status = store_->Append("r1", seq, 1, {Timer("second"), Timer("third")});
    EXPECT_TRUE(absl::IsAborted(status)) << seq << ": " << status;
  }
  EXPECT_THAT(Timers("r1"), ElementsAre("", "first"));
}

TEST_P(StoreContract, AnEpochThatIsOverAppendsNothing) {
  ASSERT_TRUE(store_->Append("r1", 1, 5, {Created()}).ok());
  EXPECT_TRUE(absl::IsAborted(store_->Append("r1", 2, 4, {Timer("stale")})));
  EXPECT_TRUE(store_->Append("r1", 2, 6, {Timer("taken over")}).ok());
  EXPECT_TRUE(absl::IsAborted(store_->Append("r1", 3, 5, {Timer("stale again")})));
  EXPECT_TRUE(store_->Append("r1", 3, 6, {Timer("goes on")}).ok());
  EXPECT_THAT(Timers("r1"), ElementsAre("", "taken over", "goes on"));
}

TEST_P(StoreContract, AnEpochIsOfOneRun) {
  ASSERT_TRUE(store_->Append("r1", 1, 9, {Created()}).ok());
  EXPECT_TRUE(store_->Append("r2", 1, 3, {Created()}).ok());
}

TEST_P(StoreContract, ARunBeginsWithItsCreationAndAtOne) {
  EXPECT_TRUE(absl::IsNotFound(store_->Append("r1", 1, 1, {Timer("a")})));
  EXPECT_TRUE(absl::IsAborted(store_->Append("r1", 2, 1, {Created()})));
  EXPECT_TRUE(absl::IsNotFound(store_->Read("r1", 1).status()));
  EXPECT_THAT(Listed(10), IsEmpty());
}

TEST_P(StoreContract, NothingToAppendIsNoError) {
  EXPECT_TRUE(store_->Append("r1", 1, 1, {}).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Read("r1", 1).status()));
}

TEST_P(StoreContract, ListsTheNewestFirst) {
  // By when they were created, not by name nor by which was written first.
  ASSERT_TRUE(store_->Append("zz-middle", 1, 1, {Created("leak", 2000)}).ok());
  ASSERT_TRUE(store_->Append("aa-oldest", 1, 1, {Created("leak", 1000)}).ok());
  ASSERT_TRUE(store_->Append("mm-newest", 1, 1, {Created("leak", 3000)}).ok());
  EXPECT_THAT(Listed(10), ElementsAre("mm-newest", "zz-middle", "aa-oldest"));
  EXPECT_THAT(Listed(2), ElementsAre("mm-newest", "zz-middle"));
  EXPECT_THAT(Listed(0), IsEmpty());
}

TEST_P(StoreContract, ListsWhereEachRunIsAndHowItEnded) {
  ASSERT_TRUE(store_->Append("going", 1, 1, {Created("first", 3000), Phase(v1::PHASE_GATE)}).ok());
  ASSERT_TRUE(
      store_->Append("over", 1, 1, {Created("second", 2000), Phase(v1::PHASE_INJECT)}).ok());
  ASSERT_TRUE(store_->Append("over", 3, 1, {Finished(v1::OUTCOME_ABORTED)}).ok());
  ASSERT_TRUE(store_->Append("new", 1, 1, {Created("third", 1000)}).ok());
  const auto runs = store_->List(10);
  ASSERT_TRUE(runs.ok()) << runs.status();
  ASSERT_EQ(runs->size(), 3u);
  EXPECT_EQ((*runs)[0].phase(), v1::PHASE_GATE);
  EXPECT_EQ((*runs)[0].outcome(), v1::OUTCOME_UNSPECIFIED);
  EXPECT_EQ((*runs)[0].experiment(), "first");
  EXPECT_EQ(FromProto((*runs)[0].created()), absl::FromUnixSeconds(3000));
  EXPECT_EQ((*runs)[1].phase(), v1::PHASE_FINISHED);
  EXPECT_EQ((*runs)[1].outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ((*runs)[2].phase(), v1::PHASE_UNSPECIFIED);
}

TEST_P(StoreContract, AVerdictIsListed) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created(), Finished(v1::OUTCOME_COMPLETED)}).ok());
  ASSERT_TRUE(store_->NoteVerdict("r1", v1::VERDICT_FAILED).ok());
  EXPECT_TRUE(store_->NoteVerdict("nobody", v1::VERDICT_FAILED).ok());
  EXPECT_EQ(store_->List(1)->front().verdict(), v1::VERDICT_FAILED);
}

TEST_P(StoreContract, OldRunsAreForgottenButNoneThatGoesOnOrIsNotUndone) {
  const auto finish = [this](const std::string& run, int64_t at, bool confirmed) {
    v1::Event finished = Finished(v1::OUTCOME_COMPLETED);
    finished.mutable_finished()->set_undo_confirmed(confirmed);
    ASSERT_TRUE(store_->Append(run, 1, 1, {Created("leak", at), finished}).ok());
  };
  finish("oldest", 1000, true);
  finish("stuck", 2000, false);
  ASSERT_TRUE(store_->Append("going", 1, 1, {Created("leak", 3000)}).ok());
  finish("middle", 4000, true);
  finish("newest", 5000, true);
  EXPECT_EQ(*store_->Forget(5, absl::FromUnixSeconds(1000)), 0u);
  EXPECT_EQ(*store_->Forget(5, absl::FromUnixSeconds(1001)), 1u);
  EXPECT_TRUE(absl::IsNotFound(store_->Read("oldest", 1).status()));
  EXPECT_THAT(Listed(10), ElementsAre("newest", "middle", "going", "stuck"));
  EXPECT_EQ(*store_->Forget(1, absl::InfinitePast()), 1u);
  EXPECT_THAT(Listed(10), ElementsAre("newest", "going", "stuck"));
  EXPECT_EQ(*store_->Forget(0, absl::InfiniteFuture()), 1u);
  EXPECT_THAT(Listed(10), ElementsAre("going", "stuck"));
  // A new run may have the name of one that is forgotten.
  EXPECT_TRUE(store_->Append("oldest", 1, 1, {Created()}).ok());
}

// Where its nodes said after its end that it is undone, it was kept for ever as one that is not.
TEST_P(StoreContract, WhatIsUndoneOrSettledAfterItsEndIsListedAndMayBeForgotten) {
  for (const std::string& run : {std::string("told"), std::string("settled")}) {
    v1::Event finished = Finished(v1::OUTCOME_ABORTED);
    ASSERT_TRUE(store_->Append(run, 1, 1, {Created("leak", 1000), finished}).ok());
    v1::PlannedFault planned;
    planned.set_name("leak");
    planned.set_node("db-1");
    v1::Event news = Settlement(planned, "alice", "scrapped");
    if (run == "told") news.set_source("injector/db-1");
    ASSERT_TRUE(store_->Append(run, 3, 2, {news}).ok());
  }
  EXPECT_EQ(*store_->Forget(0, absl::InfiniteFuture()), 0u);
  ASSERT_TRUE(store_->NoteUndone("told", false).ok());
  ASSERT_TRUE(store_->NoteUndone("settled", true).ok());
  EXPECT_TRUE(store_->NoteUndone("nobody", true).ok());
  const auto runs = store_->List(10);
  ASSERT_TRUE(runs.ok()) << runs.status();
  ASSERT_EQ(runs->size(), 2u);
  for (const v1::RunSummary& run : *runs) {
    EXPECT_TRUE(run.undo_confirmed());
    EXPECT_EQ(run.phase(), v1::PHASE_FINISHED);
    EXPECT_EQ(run.outcome(), v1::OUTCOME_ABORTED);
    EXPECT_EQ(run.settled(), run.run() == "settled" ? "alice: scrapped" : "");
  }
  EXPECT_EQ(*store_->Forget(0, absl::InfiniteFuture()), 2u);
}

TEST_P(StoreContract, ADefinitionIsKeptUnderItsNameUntilItIsDeleted) {
  v1::AppliedExperiment applied;
  applied.set_name("leak");
  applied.set_text("kind: Experiment\n");
  (*applied.mutable_positions())["spec"].set_line(4);
  ASSERT_TRUE(store_->PutExperiment(applied).ok());
  applied.set_version(2);
  ASSERT_TRUE(store_->PutExperiment(applied).ok());
  v1::AppliedExperiment other;
  other.set_name("cut");
  ASSERT_TRUE(store_->PutExperiment(other).ok());
  const auto all = store_->Experiments();
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].name(), "cut");
  EXPECT_EQ((*all)[1].SerializeAsString(), applied.SerializeAsString());
  EXPECT_TRUE(*store_->DeleteExperiment("leak"));
  EXPECT_FALSE(*store_->DeleteExperiment("leak"));
  EXPECT_EQ(store_->Experiments()->size(), 1u);
}

TEST_P(StoreContract, ASlotIsClaimedOnceAndSettledByWhoHasClaimedIt) {
  v1::Slot slot;
  slot.set_experiment("leak");
  *slot.mutable_due() = ToProto(absl::FromUnixSeconds(1000));
  slot.set_epoch(3);
  EXPECT_TRUE(*store_->ClaimSlot(slot));
  v1::Slot second = slot;
  second.set_epoch(4);
  EXPECT_FALSE(*store_->ClaimSlot(second));
  second.set_run("theirs");
  EXPECT_TRUE(absl::IsAborted(store_->SettleSlot(second)));
  slot.set_run("ours");
  EXPECT_TRUE(store_->SettleSlot(slot).ok());
  v1::Slot later = slot;
  *later.mutable_due() = ToProto(absl::FromUnixSeconds(2000));
  later.set_missed("down");
  later.set_reason("no controller was there");
  EXPECT_TRUE(*store_->ClaimSlot(later));
  v1::Slot other = slot;
  other.set_experiment("cut");
  EXPECT_TRUE(*store_->ClaimSlot(other));
  const auto slots = store_->Slots("leak", 10);
  ASSERT_TRUE(slots.ok()) << slots.status();
  ASSERT_EQ(slots->size(), 2u);
  EXPECT_EQ((*slots)[0].reason(), "no controller was there");
  EXPECT_EQ((*slots)[1].run(), "ours");
  EXPECT_EQ(FromProto((*slots)[1].due()), absl::FromUnixSeconds(1000));
  EXPECT_EQ(store_->Slots("leak", 1)->size(), 1u);
  EXPECT_EQ(*store_->MissedSlots(), (std::map<std::string, uint64_t>{{"leak", 1}}));
  EXPECT_EQ(*store_->Forget(10, absl::FromUnixSeconds(1500)), 0u);
  EXPECT_EQ(store_->Slots("leak", 10)->size(), 1u);
  // Without its newest slot a schedule could not tell what it has fired already.
  EXPECT_EQ(*store_->Forget(10, absl::InfiniteFuture()), 0u);
  EXPECT_EQ(FromProto(store_->Slots("leak", 10)->front().due()), absl::FromUnixSeconds(2000));
  EXPECT_EQ(store_->Slots("cut", 10)->size(), 1u);
}

TEST_P(StoreContract, ADeliveryIsTakenOnce) {
  const absl::Time at = absl::FromUnixMillis(1234);
  EXPECT_TRUE(*store_->Deliver("oncall", "f", at, "firing"));
  EXPECT_FALSE(*store_->Deliver("oncall", "f", at, "firing"));
  EXPECT_TRUE(*store_->Deliver("oncall", "f", at, "resolved"));
  EXPECT_TRUE(*store_->Deliver("oncall", "f", at + absl::Milliseconds(1), "firing"));
  EXPECT_TRUE(*store_->Deliver("oncall", "g", at, "firing"));
  EXPECT_TRUE(*store_->Deliver("sre", "f", at, "firing"));
  EXPECT_FALSE(*store_->Deliver("oncall", "f", at, "resolved"));
}

TEST_P(StoreContract, EpochsGrow) {
  const uint64_t first = *store_->TakeEpoch();
  EXPECT_GT(first, 0u);
  EXPECT_GT(*store_->TakeEpoch(), first);
}

INSTANTIATE_TEST_SUITE_P(
    Stores, StoreContract,
    testing::Values(Kind{"Sqlite",
                         [](const std::string& folder) -> std::unique_ptr<Store> {
                           auto store = SqliteStore::Open(folder + "/history.db");
                           EXPECT_TRUE(store.ok()) << store.status();
                           return store.ok() ? *std::move(store) : nullptr;
                         }},
                    Kind{"Memory",
                         [](const std::string&) -> std::unique_ptr<Store> {
                           return std::make_unique<MemoryStore>();
                         }}),
    [](const testing::TestParamInfo<Kind>& info) { return info.param.name; });

}  // namespace
}  // namespace firedrill
