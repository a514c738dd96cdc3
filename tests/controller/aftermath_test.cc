// What a run has left stays known, told and taken until its node or a person says that it is gone:
// across restarts of the controller, and for good once it is said.
#include "controller/aftermath.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"
#include "controller/figures.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "tests/controller/rehearsal.h"
#include "tests/testing/memory_store.h"
#include "tests/testing/sim_executor.h"

namespace firedrill {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Wire final : Link<v1::ConnectResponse> {
  void Send(const v1::ConnectResponse& message) override {
    if (message.has_report_ack()) acknowledged = message.report_ack().number();
  }
  void Close(absl::Status) override {}
  uint64_t acknowledged = 0;
};

class AftermathTest : public testing::Test {
 protected:
  AftermathTest() { Start(); }
  ~AftermathTest() override { End(); }

  // ---- the controller
  void Start() {
    Fleet::Options options;
    options.epoch = *store_.TakeEpoch();
    fleet_ = std::make_unique<Fleet>(executor_, options);
    subjects_ = std::make_unique<Subjects>();
    aftermath_ = std::make_unique<Aftermath>(executor_, store_, *fleet_, *subjects_);
    ASSERT_TRUE(aftermath_->Recall().ok());
  }
  void End() {
    aftermath_.reset();
    subjects_.reset();
    fleet_.reset();
  }
  void Restart() {
    End();
    Start();
  }

  // ---- a run on db-1 that ends with its leak on
  static v1::Plan PlanOf(v1::Ending ending) {
    v1::Plan plan = RehearsalPlan();
    v1::PlannedFault& leak = *plan.mutable_faults(0);
    leak.set_ending(ending);
    leak.mutable_subject()->set_identity("postgresql/77/5432");
    leak.mutable_subject()->set_words("the server of profile leaker");
    return plan;
  }
  static Rehearsal Leaking(v1::Ending ending, const std::string& memory) {
    Rehearsal run(PlanOf(ending));
    run.ToInject();
    if (!memory.empty()) {
      v1::Event event;
      *event.mutable_node() = Memories::Record("db-1", memory);
      run.Feed(std::move(event));
    }
    run.Timer("apply/leak@db-1");
    run.Report("leak", v1::FAULT_STATE_ACTIVE, true);
    return run;
  }
  // Its node dies, and nothing is heard of it until the lease is over.
  static Rehearsal Lost(v1::Ending ending = v1::ENDING_JOURNALLED, const std::string& memory = "") {
    Rehearsal run = Leaking(ending, memory);
    run.Node("db-1", false);
    run.Pass(absl::Seconds(10));
    EXPECT_TRUE(run.is_finished());
    return run;
  }
  static Rehearsal Stuck(const std::string& memory = "") {
    Rehearsal run = Leaking(v1::ENDING_JOURNALLED, memory);
    run.AskToStop();
    run.Report("leak", v1::FAULT_STATE_STUCK, false, "the server does not answer");
    EXPECT_TRUE(run.is_finished());
    return run;
  }
  // As a controller before this one has left it.
  void Keep(const Rehearsal& run) {
    std::vector<v1::Event> events = run.history();
    for (v1::Event& event : events) event.set_epoch(1);
    ASSERT_TRUE(store_.Append("r1", 1, 1, events).ok());
    Restart();
  }

  // ---- its node
  void Dial(const std::string& memory = "", bool carries = false, bool leftover = false) {
    wire_ = std::make_shared<Wire>();
    up_ = fleet_->Accept(wire_);
    v1::ConnectRequest message;
    v1::Registration& registration = *message.mutable_registration();
    registration.set_node("db-1");
    registration.set_instance(std::to_string(++instances_));
    registration.set_memory(memory);
    reports_ = 0;
    if (carries) {
      v1::ActiveFault& fault = *registration.add_active();
      fault.set_run("r1");
      fault.set_fault("leak");
      fault.set_state(v1::FAULT_STATE_STUCK);
    }
    if (leftover) {
      v1::Leftover& left = *registration.add_leftovers();
      left.set_run("r1");
      left.set_fault("leak");
      left.set_reason("the server refuses us");
      left.set_undo_by_hand("psql -c 'REINDEX'");
    }
    up_.message(message);
    time_.Settle();
  }
  void HangUp() {
    up_.closed(absl::UnavailableError("cut"));
    time_.Settle();
  }
  void Report(v1::FaultState state, const std::string& reason) {
    v1::ConnectRequest message;
    message.mutable_report()->set_number(++reports_);
    v1::Event& event = *message.mutable_report()->mutable_event();
    event.set_run("r1");
    event.mutable_fault()->set_fault("leak");
    event.mutable_fault()->set_node("db-1");
    event.mutable_fault()->set_state(state);
    event.mutable_fault()->set_reason(reason);
    up_.message(message);
    time_.Settle();
  }

  // ---- what is known of it
  // Why another run may not hit the same server; empty where it may.
  std::string Refusal() const {
    v1::Plan plan = PlanOf(v1::ENDING_JOURNALLED);
    plan.set_run("second");
    subjects_->Check(plan);
    return plan.findings().empty() ? ""
                                   : plan.findings(0).message() + "; " + plan.findings(0).mend();
  }
  v1::RunSummary Listed() const { return store_.List(1)->front(); }
  std::vector<v1::Event> History() const { return *store_.Read("r1", 1); }
  v1::FaultReport Newest() const { return History().back().fault(); }
  std::string Metrics() const {
    return FiguresText({.injectors = aftermath_->Complete(fleet_->Seen())}, {});
  }
  std::string SettleIt(const std::string& node = "", const std::string& reason = "scrapped") {
    const auto settled = aftermath_->Settle("r1", node, "alice", reason);
    return settled.ok() ? "" : std::string(settled.status().message());
  }

  SimTime time_;
  SimExecutor executor_{time_};
  MemoryStore store_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<Subjects> subjects_;
  std::unique_ptr<Aftermath> aftermath_;
  std::shared_ptr<Wire> wire_;
  Fleet::UpEvents up_;
  uint64_t reports_ = 0;
  int instances_ = 0;
};

// A node died for good with a lost index on its server. 11.8 s later its lease was over, and
// another run was let into the same server through another node, with the index still gone.
TEST_F(AftermathTest, ANodeThatDiesForGoodKeepsItsServerTaken) {
  Keep(Lost());
  const std::string words = Refusal();
  EXPECT_THAT(words, HasSubstr("postgresql/77/5432"));
  EXPECT_THAT(words, HasSubstr("that run has ended, and leak on db-1 is expired: nothing was heard "
                               "of it until its lease was over"));
  EXPECT_THAT(words, HasSubstr("firedrill settle r1 --reason WHY"));
  time_.RunFor(absl::Hours(30));
  EXPECT_EQ(Refusal(), words);
  EXPECT_FALSE(Listed().undo_confirmed());
}

TEST_F(AftermathTest, WhatDiesWithItsProcessIsBelievedToBeOffButNotUndone) {
  Keep(Lost(v1::ENDING_DIES_WITH_PROCESS));
  EXPECT_EQ(Refusal(), "");
  EXPECT_FALSE(Listed().undo_confirmed());
  EXPECT_THAT(Metrics(), HasSubstr("firedrill_faults{node=\"db-1\",state=\"unknown\"} 1"));
}

// A run was stuck, and then undone by its node, which was alive all the time. After a restart of
// the controller with that node away its server was taken again, for ever.
TEST_F(AftermathTest, WhatItsNodeHasUndoneStaysUndoneAfterARestart) {
  Keep(Stuck());
  EXPECT_THAT(Refusal(), HasSubstr("leak on db-1 is STUCK: the server does not answer"));
  Dial("", /*carries=*/true);
  EXPECT_NE(Refusal(), "");
  Report(v1::FAULT_STATE_REVERTED, "a predecessor had left this, and it is undone");
  EXPECT_EQ(wire_->acknowledged, 1u);
  EXPECT_EQ(Refusal(), "");
  EXPECT_TRUE(Listed().undo_confirmed());
  EXPECT_EQ(Newest().reason(), "a predecessor had left this, and it is undone");
  EXPECT_EQ(History().back().source(), "injector/db-1");
  EXPECT_EQ(History().back().epoch(), fleet_->options().epoch);
  Restart();
  EXPECT_EQ(Refusal(), "");
  EXPECT_THAT(aftermath_->left(), IsEmpty());
  EXPECT_EQ(Judge(History()).exit_code(), 4);
  EXPECT_TRUE(Judge(History()).undo_confirmed());
  const std::string report = ReportText(History(), Judge(History()), {});
  EXPECT_THAT(report, HasSubstr("after the run's end: leak on db-1 is reverted: a predecessor"));
  EXPECT_THAT(report, Not(HasSubstr("UNDO NOT CONFIRMED")));
  // Nothing keeps it for ever any more.
  EXPECT_EQ(*store_.Forget(0, absl::InfiniteFuture()), 1u);
}

TEST_F(AftermathTest, ANodeThatIsBackAndCarriesNothingHasUndoneIt) {
  Keep(Lost());
  Dial();
  EXPECT_EQ(Refusal(), "");
  EXPECT_TRUE(Listed().undo_confirmed());
  EXPECT_EQ(Newest().state(), v1::FAULT_STATE_REVERTED);
  Restart();
  EXPECT_EQ(Refusal(), "");
}

// In the moment in which a run ends its node's last word is heard by nobody.
TEST_F(AftermathTest, ANodeThatIsThereIsLookedAtAgain) {
  Keep(Stuck());
  Dial("", /*carries=*/true);
  time_.RunFor(absl::Seconds(3));
  EXPECT_NE(Refusal(), "");
  v1::ConnectRequest pong;
  pong.mutable_pong()->set_number(1);
  for (int i = 0; i < 20; ++i) {
    up_.message(pong);
    time_.RunFor(absl::Seconds(1));
  }
  EXPECT_EQ(Refusal(), "");
  EXPECT_TRUE(Listed().undo_confirmed());
}

TEST_F(AftermathTest, WhatItsNodeCannotUndoIsStuckAndSaysHow) {
  Keep(Lost(v1::ENDING_DIES_WITH_PROCESS));
  Dial("", /*carries=*/false, /*leftover=*/true);
  EXPECT_EQ(Newest().state(), v1::FAULT_STATE_STUCK);
  EXPECT_THAT(Refusal(), HasSubstr("leak on db-1 is STUCK: the server refuses us"));
  HangUp();
  Restart();
  EXPECT_THAT(Refusal(), HasSubstr("leak on db-1 is STUCK: the server refuses us"));
  EXPECT_THAT(ReportText(History(), Judge(History()), {}), HasSubstr("psql -c 'REINDEX'"));
}

// An injector of the same name with an empty state folder knows nothing of the old journal.
TEST_F(AftermathTest, ANodeWithAnotherStateFolderIsNotBelieved) {
  Keep(Lost(v1::ENDING_JOURNALLED, "folder-a"));
  for (int life = 0; life < 2; ++life) {
    Dial("folder-b");
    Report(v1::FAULT_STATE_REVERTED, "");
    time_.RunFor(absl::Seconds(3));
    EXPECT_NE(Refusal(), "");
    EXPECT_FALSE(Listed().undo_confirmed());
    HangUp();
    Restart();
  }
  Dial("folder-a");
  EXPECT_EQ(Refusal(), "");
}

TEST_F(AftermathTest, APersonSettlesWhatNobodyElseCan) {
  Keep(Lost());
  const size_t before = History().size();
  EXPECT_THAT(SettleIt("db-2"), HasSubstr("it has left nothing on db-2, but on: db-1"));
  EXPECT_THAT(SettleIt("", ""), HasSubstr("--reason"));
  EXPECT_EQ(History().size(), before);
  EXPECT_EQ(SettleIt("db-1"), "");
  ASSERT_EQ(History().size(), before + 1);
  EXPECT_TRUE(IsSettlement(History().back()));
  EXPECT_GE(FromProto(History().back().at()), FromProto(History()[before - 1].at()));
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(Refusal(), "");
    EXPECT_EQ(Listed().settled(), "alice: scrapped");
    EXPECT_TRUE(Listed().undo_confirmed());
    EXPECT_THAT(SettleIt(), HasSubstr("it is settled already, by alice: scrapped"));
    EXPECT_THAT(Metrics(), Not(HasSubstr("db-1")));
    Restart();
  }
  // Nobody has seen it undone: that stays so.
  const v1::Judgement judgement = Judge(History());
  EXPECT_EQ(judgement.exit_code(), 5);
  const std::string report = ReportText(History(), judgement, {});
  EXPECT_THAT(report, HasSubstr("settled by alice: scrapped (exit 5)"));
  EXPECT_THAT(report, HasSubstr("NOT seen to be off: settled by alice: scrapped"));
  EXPECT_THAT(report, Not(HasSubstr("UNDO NOT CONFIRMED")));
  EXPECT_EQ(*store_.Forget(0, absl::InfiniteFuture()), 1u);
}

TEST_F(AftermathTest, WhatANodeStillCarriesIsNotSettledOverItsHead) {
  Keep(Stuck());
  Dial("", /*carries=*/true);
  EXPECT_THAT(SettleIt(), HasSubstr("db-1 is connected, and says that it carries leak still"));
  HangUp();
  Dial("", /*carries=*/false, /*leftover=*/true);
  EXPECT_THAT(SettleIt(), HasSubstr("(psql -c 'REINDEX')"));
  EXPECT_NE(Refusal(), "");
  HangUp();
  EXPECT_EQ(SettleIt(), "");
  // Nothing pages for a node that is gone for good.
  EXPECT_THAT(Metrics(), AllOf(HasSubstr("firedrill_faults{node=\"db-1\",state=\"stuck\"} 0"),
                               HasSubstr("firedrill_leftovers{node=\"db-1\"} 0")));
}

TEST_F(AftermathTest, NothingIsToBeSettledInARunThatGoesOnOrIsUndone) {
  Rehearsal run = Leaking(v1::ENDING_JOURNALLED, "");
  Keep(run);
  EXPECT_THAT(SettleIt(), HasSubstr("it is going on; end it first: firedrill stop r1"));
  EXPECT_THAT(std::string(aftermath_->Settle("r2", "", "alice", "x").status().message()),
              HasSubstr("no such run"));
  v1::Event finished;
  finished.mutable_finished()->set_undo_confirmed(true);
  ASSERT_TRUE(store_.Append("r1", run.history().size() + 1, 9, {finished}).ok());
  EXPECT_THAT(SettleIt(), HasSubstr("every fault of it is undone"));
}

// With its node dead the controller was started again, and no metric knew of it any more.
TEST_F(AftermathTest, ARestartSilencesNoPage) {
  Keep(Stuck());
  Restart();
  EXPECT_THAT(Metrics(), AllOf(HasSubstr("firedrill_faults{node=\"db-1\",state=\"stuck\"} 1"),
                               HasSubstr("firedrill_injector_connected{node=\"db-1\"} 0"),
                               HasSubstr("firedrill_leftovers{node=\"db-1\"} 0"),
                               HasSubstr("firedrill_faults{node=\"db-1\",state=\"unknown\"} 0")));
  // Its node counts it itself: it is one.
  Dial("", /*carries=*/true);
  EXPECT_THAT(Metrics(), AllOf(HasSubstr("firedrill_faults{node=\"db-1\",state=\"stuck\"} 1"),
                               HasSubstr("firedrill_injector_connected{node=\"db-1\"} 1")));
}

// It is told again until it is written: a full disk frees nothing, and forgets nothing.
TEST_F(AftermathTest, ADiskThatIsFullKeepsItTaken) {
  Keep(Stuck());
  Dial("", /*carries=*/true);
  store_.FailWrites(absl::ResourceExhaustedError("disk full"));
  Report(v1::FAULT_STATE_REVERTED, "undone");
  EXPECT_EQ(wire_->acknowledged, 0u);
  EXPECT_NE(Refusal(), "");
  EXPECT_THAT(SettleIt(), HasSubstr("connected"));
  store_.FailWrites(absl::OkStatus());
  --reports_;
  Report(v1::FAULT_STATE_REVERTED, "undone");
  EXPECT_EQ(wire_->acknowledged, 1u);
  EXPECT_EQ(Refusal(), "");
}

// It ended on a full disk.
class UnwrittenTest : public AftermathTest {
 protected:
  // All but its last events could be written.
  void EndOnAFullDisk(const Rehearsal& run, size_t lost) {
    all_ = run.history();
    for (size_t i = 0; i < all_.size(); ++i) {
      all_[i].set_run("r1");
      all_[i].set_seq(i + 1);
      all_[i].set_epoch(fleet_->options().epoch);
    }
    const auto cut = all_.end() - static_cast<ptrdiff_t>(lost);
    ASSERT_TRUE(store_.Append("r1", 1, all_.front().epoch(), {all_.begin(), cut}).ok());
    store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
    aftermath_->KeepUnwritten("r1",
                              {{cut, all_.end()}, absl::ResourceExhaustedError("it was full")});
    aftermath_->Begin("r1", all_);
  }
  std::vector<v1::Event> all_;
};

TEST_F(UnwrittenTest, IsToldAsItWasAndWrittenWhenThereIsSpace) {
  EndOnAFullDisk(Lost(), 3);
  time_.RunFor(absl::Seconds(30));
  EXPECT_EQ(History().size(), all_.size() - 3);
  EXPECT_EQ(aftermath_->unwritten().at("r1").why.message(), "the disk is full");
  v1::RunSummary summary = Listed();
  EXPECT_EQ(summary.outcome(), v1::OUTCOME_UNSPECIFIED);
  aftermath_->AddUnwritten(summary);
  EXPECT_EQ(summary.phase(), v1::PHASE_FINISHED);
  EXPECT_EQ(summary.outcome(), v1::OUTCOME_ABORTED);
  std::vector<v1::Event> history = History();
  aftermath_->AddUnwritten("r1", history);
  EXPECT_EQ(history.size(), all_.size());
  store_.FailWrites(absl::OkStatus());
  time_.RunFor(absl::Seconds(2));
  EXPECT_THAT(aftermath_->unwritten(), IsEmpty());
  ASSERT_EQ(History().size(), all_.size());
  EXPECT_EQ(History().back().SerializeAsString(), all_.back().SerializeAsString());
  EXPECT_EQ(Listed().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ(Listed().verdict(), Judge(all_).verdict());
}

// What its node says once there is space again comes after the end, not in its place.
TEST_F(UnwrittenTest, ComesBeforeWhatIsHeardOfItLater) {
  EndOnAFullDisk(Lost(), 3);
  store_.FailWrites(absl::OkStatus());
  Dial();
  EXPECT_EQ(Refusal(), "");
  ASSERT_EQ(History().size(), all_.size() + 1);
  EXPECT_TRUE(History()[all_.size() - 1].has_finished());
  EXPECT_EQ(Newest().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(Listed().undo_confirmed());
}

TEST_F(UnwrittenTest, AnotherControllerHasTakenOver) {
  EndOnAFullDisk(Lost(), 3);
  store_.FailWrites(absl::OkStatus());
  v1::Event resumed;
  resumed.mutable_resumed();
  const size_t kept = History().size();
  ASSERT_TRUE(store_.Append("r1", kept + 1, fleet_->options().epoch + 1, {resumed}).ok());
  time_.RunFor(absl::Seconds(5));
  EXPECT_THAT(aftermath_->unwritten(), IsEmpty());
  EXPECT_EQ(History().size(), kept + 1);
}

}  // namespace
}  // namespace firedrill
