// The conductor's promises: nothing happens that is not written down first, events keep their
// order, and a history that cannot be written ends the run with everything undone.
#include "controller/conductor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "controller/replay.h"
#include "tests/controller/rehearsal.h"
#include "tests/testing/memory_store.h"
#include "tests/testing/sim_executor.h"

namespace firedrill {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Describe(const v1::Event& event) {
  switch (event.body_case()) {
    case v1::Event::kCreated:
      return "created";
    case v1::Event::kPhase:
      return absl::StrCat("phase ", v1::Phase_Name(event.phase().phase()).substr(6));
    case v1::Event::kCommand:
      return absl::StrCat(event.command().command().id().verb(), " ",
                          event.command().command().id().name());
    case v1::Event::kTimer:
      return absl::StrCat("timer ", event.timer().name());
    case v1::Event::kFault:
      return absl::StrCat("report ", event.fault().fault(), " ",
                          v1::FaultState_Name(event.fault().state()).substr(12));
    case v1::Event::kStop:
      return absl::StrCat("stop ", v1::StopRequested::Cause_Name(event.stop().cause()).substr(6));
    case v1::Event::kFinished:
      return absl::StrCat("finished ", v1::Outcome_Name(event.finished().outcome()).substr(8));
    case v1::Event::kPreflightFinished:
      return "preflight finished";
    case v1::Event::kNode:
      return absl::StrCat("node ", event.node().node(), event.node().connected() ? " on" : " off");
    default:
      return "other";
  }
}

// A store that says, in one order with everything else, when something is written.
class ListeningStore final : public MemoryStore {
 public:
  explicit ListeningStore(std::vector<std::string>& order) : order_(order) {}
  absl::Status Append(const std::string& run, uint64_t expected_seq, uint64_t epoch,
                      const std::vector<v1::Event>& events) override {
    const absl::Status status = MemoryStore::Append(run, expected_seq, epoch, events);
    for (const v1::Event& event : events) {
      order_.push_back(absl::StrCat(status.ok() ? "wrote " : "LOST ", Describe(event)));
    }
    return status;
  }

 private:
  std::vector<std::string>& order_;
};

class FakeSurroundings final : public Surroundings {
 public:
  FakeSurroundings(std::vector<std::string>& order, Sink& sink) : order_(order), sink_(sink) {}
  void Preflight(const v1::RunCreated&, Sink sink) override {
    order_.push_back("did preflight");
    sink_ = std::move(sink);
  }
  void StartProbes(const v1::RunCreated&, Sink) override { order_.push_back("did start probes"); }
  void StopProbes() override { order_.push_back("did stop probes"); }
  void Announce(const v1::RunCreated&, const std::string& what, const std::string&, Sink) override {
    order_.push_back(absl::StrCat("did announce ", what));
  }

 private:
  std::vector<std::string>& order_;
  Sink& sink_;
};

// The node's end of its stream. With `honest` it does at once what it is asked to.
class FakeInjector final : public Link<v1::ConnectResponse>,
                           public std::enable_shared_from_this<FakeInjector> {
 public:
  FakeInjector(SimExecutor& executor, std::vector<std::string>& order, std::string node)
      : executor_(executor), order_(order), node_(std::move(node)) {}
  void Dial(Fleet& fleet) {
    up_ = fleet.Accept(shared_from_this());
    v1::ConnectRequest message;
    message.mutable_registration()->set_node(node_);
    message.mutable_registration()->set_instance("i");
    message.mutable_registration()->set_memory(memory);
    up_.message(message);
  }
  void Send(const v1::ConnectResponse& message) override {
    if (message.has_ping()) {
      v1::ConnectRequest pong;
      pong.mutable_pong()->set_number(message.ping().number());
      executor_.Post([this, pong] { up_.message(pong); });
    }
    if (message.has_report_ack()) acknowledged = message.report_ack().number();
    if (!message.has_command()) return;
    const v1::Command& command = message.command();
    order_.push_back(absl::StrCat("sent ", command.id().verb(), " ", command.id().name()));
    if (!honest) return;
    if (command.has_apply()) Report(command.id().name(), v1::FAULT_STATE_ACTIVE);
    if (command.has_revert()) Report(command.id().name(), v1::FAULT_STATE_REVERTED);
  }
  void Close(absl::Status) override {}
  // `ago`: on the node, which told it when it had dialled in.
  void Report(const std::string& fault, v1::FaultState state,
              std::optional<absl::Duration> ago = std::nullopt) {
    v1::ConnectRequest message;
    message.mutable_report()->set_number(++reports_);
    v1::Event& event = *message.mutable_report()->mutable_event();
    event.set_run("r1");
    if (ago.has_value()) {
      *event.mutable_source_time() = ToProto(executor_.clock().Now() - *ago);
    }
    event.mutable_fault()->set_fault(fault);
    event.mutable_fault()->set_node(node_);
    event.mutable_fault()->set_state(state);
    event.mutable_fault()->mutable_observation()->set_reached(state == v1::FAULT_STATE_ACTIVE);
    executor_.Post([this, message] { up_.message(message); });
  }
  void Cut() { up_.closed(absl::UnavailableError("cut")); }

  bool honest = true;
  // Of its state folder.
  std::string memory;
  uint64_t acknowledged = 0;

 private:
  SimExecutor& executor_;
  std::vector<std::string>& order_;
  const std::string node_;
  Fleet::UpEvents up_;
  uint64_t reports_ = 0;
};

class ConductorTest : public testing::Test {
 protected:
  ConductorTest() {
    injector_->Dial(fleet_);
    // Nothing but one fault of 10 s, and a gate that holds at once.
    plan_ = RehearsalPlan();
    plan_.mutable_faults()->DeleteSubrange(1, 1);
    *plan_.mutable_faults(0)->mutable_duration() = ToProto(absl::Seconds(10));
    plan_.clear_remedies();
    plan_.clear_loads();
    plan_.clear_probes();
    plan_.clear_gate();
    plan_.clear_guardrails();
    plan_.clear_waits();
    conductor_ = std::make_unique<Conductor>(
        executor_, store_, fleet_, std::make_unique<FakeSurroundings>(order_, sink_),
        Conductor::Watchers{.event = [this](const v1::Event& event) { seen_.push_back(event); },
                            .finished = [this] { ++finished_; }});
  }
  absl::Status Begin() {
    v1::RunCreated created;
    *created.mutable_plan() = plan_;
    return conductor_->Begin(std::move(created));
  }
  void PassPreflight() {
    v1::Event event;
    event.mutable_preflight_finished();
    sink_(std::move(event));
    time_.Settle();
  }
  void StartTheLeak() {
    ASSERT_TRUE(Begin().ok());
    PassPreflight();
    time_.RunFor(absl::Seconds(1));
    ASSERT_THAT(order_, Contains("sent apply leak"));
  }
  std::vector<v1::Event> History() { return *store_.Read("r1", 1); }
  std::vector<std::string> Written() {
    std::vector<std::string> written;
    for (const v1::Event& event : History()) written.push_back(Describe(event));
    return written;
  }
  // Where in the common order; -1 where it did not happen.
  int Place(const std::string& what) const {
    const auto found = std::find(order_.begin(), order_.end(), what);
    return found == order_.end() ? -1 : static_cast<int>(found - order_.begin());
  }

  SimTime time_;
  SimExecutor executor_{time_};
  std::vector<std::string> order_;
  ListeningStore store_{order_};
  Fleet fleet_{executor_, {.group = "test", .epoch = 3}};
  std::shared_ptr<FakeInjector> injector_ =
      std::make_shared<FakeInjector>(executor_, order_, "db-1");
  v1::Plan plan_;
  Surroundings::Sink sink_;
  std::vector<v1::Event> seen_;
  int finished_ = 0;
  std::unique_ptr<Conductor> conductor_;
};

TEST_F(ConductorTest, EverythingIsWrittenBeforeItIsDone) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(60));
  EXPECT_TRUE(conductor_->finished());
  EXPECT_EQ(order_.front(), "wrote created");
  for (const char* command : {"prepare leak", "apply leak", "revert leak"}) {
    const int wrote = Place(absl::StrCat("wrote ", command)),
              sent = Place(absl::StrCat("sent ", command));
    ASSERT_GE(wrote, 0) << command;
    EXPECT_LT(wrote, sent) << command;
  }
  EXPECT_LT(Place("wrote created"), Place("did preflight"));
  EXPECT_LT(Place("wrote preflight finished"), Place("did start probes"));
}

TEST_F(ConductorTest, AWholeRunIsInItsHistoryInOrder) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(60));
  EXPECT_THAT(
      Written(),
      ElementsAre("created", "phase PREFLIGHT", "preflight finished", "phase GATE", "prepare leak",
                  "phase INJECT", "timer apply/leak@db-1", "apply leak", "report leak ACTIVE",
                  "timer revert/leak@db-1", "revert leak", "phase REVERT", "report leak REVERTED",
                  "phase RECOVER", "timer end", "finished COMPLETED"));
  const std::vector<v1::Event> history = History();
  for (size_t i = 0; i < history.size(); ++i) {
    EXPECT_EQ(history[i].seq(), i + 1);
    EXPECT_EQ(history[i].run(), "r1");
    EXPECT_EQ(history[i].epoch(), 3u);
    EXPECT_FALSE(history[i].source().empty());
    EXPECT_GE(FromProto(history[i].at()), FromProto(history[i > 0 ? i - 1 : 0].at()));
  }
  // Whoever watches sees the same, and the same can be had again from the history.
  ASSERT_EQ(seen_.size(), history.size());
  for (size_t i = 0; i < seen_.size(); ++i) {
    EXPECT_EQ(seen_[i].SerializeAsString(), history[i].SerializeAsString());
  }
  EXPECT_EQ(Fold(history).phase, conductor_->state().phase);
  EXPECT_EQ(finished_, 1);
  EXPECT_TRUE(history.back().finished().undo_confirmed());
}

TEST_F(ConductorTest, TheFaultLastsAsLongAsItIsPlanned) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(60));
  absl::Time on, off;
  for (const v1::Event& event : History()) {
    if (Describe(event) == "report leak ACTIVE") on = FromProto(event.at());
    if (Describe(event) == "revert leak") off = FromProto(event.at());
  }
  EXPECT_EQ(off - on, absl::Seconds(10));
}

TEST_F(ConductorTest, EventTimesDoNotJumpWithTheWallClock) {
  StartTheLeak();
  const absl::Time before = FromProto(History().back().at());
  executor_.JumpWall(-absl::Hours(5));
  time_.RunFor(absl::Seconds(60));
  EXPECT_EQ(History().back().has_finished(), true);
  EXPECT_GT(FromProto(History().back().at()), before);
  EXPECT_LT(FromProto(History().back().at()), before + absl::Minutes(2));
}

TEST_F(ConductorTest, ARunWhoseBeginCannotBeWrittenDoesNothing) {
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  const absl::Status begun = Begin();
  EXPECT_THAT(begun.message(), HasSubstr("starting a run"));
  EXPECT_THAT(begun.message(), HasSubstr("the disk is full"));
  time_.RunFor(absl::Seconds(60));
  EXPECT_THAT(order_, ElementsAre("LOST created"));
  EXPECT_EQ(finished_, 0);
  EXPECT_THAT(seen_, IsEmpty());
}

TEST_F(ConductorTest, AHistoryThatCannotBeWrittenStopsTheRunAndEverythingIsUndone) {
  StartTheLeak();
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  const size_t kept = History().size();
  time_.RunFor(absl::Seconds(60));
  EXPECT_THAT(order_, Contains("sent revert leak"));
  EXPECT_TRUE(conductor_->finished());
  EXPECT_EQ(finished_, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(conductor_->store_status()));
  EXPECT_EQ(History().size(), kept);
  // Who watches sees the end that the history could not take.
  ASSERT_FALSE(seen_.empty());
  EXPECT_EQ(Describe(seen_.back()), "finished ABORTED");
  EXPECT_TRUE(seen_.back().finished().undo_confirmed());
  EXPECT_THAT(seen_.back().finished().reason(),
              HasSubstr("the history cannot be written: the disk is full"));
  const v1::Judgement judgement = Judge(seen_);
  EXPECT_EQ(judgement.exit_code(), 4);
  // Numbers go on without gaps, so that what was seen is one history.
  for (size_t i = 0; i < seen_.size(); ++i) EXPECT_EQ(seen_[i].seq(), i + 1);
  const std::vector<v1::Event> unwritten = conductor_->TakeUnwritten();
  ASSERT_EQ(kept + unwritten.size(), seen_.size());
  EXPECT_EQ(unwritten.front().seq(), kept + 1);
  EXPECT_TRUE(unwritten.back().has_finished());
}

// The first space on the disk is for what has happened meanwhile, in its order.
TEST_F(ConductorTest, WhatCouldNotBeWrittenIsWrittenAsSoonAsItCanBe) {
  injector_->honest = false;
  StartTheLeak();
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.Settle();
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  conductor_->Stop({});
  time_.RunFor(absl::Seconds(2));
  EXPECT_FALSE(conductor_->finished());
  store_.FailWrites(absl::OkStatus());
  injector_->Report("leak", v1::FAULT_STATE_REVERTED);
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(conductor_->finished());
  EXPECT_THAT(conductor_->TakeUnwritten(), IsEmpty());
  const std::vector<v1::Event> history = History();
  ASSERT_EQ(history.size(), seen_.size());
  for (size_t i = 0; i < seen_.size(); ++i) {
    EXPECT_EQ(seen_[i].SerializeAsString(), history[i].SerializeAsString());
  }
  EXPECT_EQ(Describe(history.back()), "finished ABORTED");
  // The run is stopped all the same.
  EXPECT_TRUE(absl::IsResourceExhausted(conductor_->store_status()));
}

TEST_F(ConductorTest, WhereAnotherControllerHasTakenOverNothingIsWrittenAnyMore) {
  StartTheLeak();
  v1::Event resumed;
  resumed.mutable_resumed();
  const size_t kept = History().size();
  ASSERT_TRUE(store_.Append("r1", kept + 1, 4, {resumed}).ok());
  time_.RunFor(absl::Seconds(60));
  EXPECT_TRUE(conductor_->finished());
  EXPECT_THAT(conductor_->TakeUnwritten(), IsEmpty());
  EXPECT_EQ(History().size(), kept + 1);
}

// Its controller is killed, and another one goes on with what is in the history.
class ResumedTest : public ConductorTest {
 protected:
  // With the events of the history up to `kept`, the rest of which died with the controller.
  void KilledAndResumed(absl::Duration away, std::optional<size_t> kept = std::nullopt,
                        const std::optional<v1::StopRequested>& stop = std::nullopt) {
    std::vector<v1::Event> history = History();
    if (kept.has_value()) history.resize(*kept);
    if (conductor_ != nullptr) injector_->Cut();
    conductor_.reset();
    time_.RunFor(away);
    order_.clear();
    next_ = std::make_unique<Conductor>(
        executor_, *memory_, fleet2_, std::make_unique<FakeSurroundings>(order_, sink_),
        Conductor::Watchers{.event = [this](const v1::Event& event) { seen_.push_back(event); },
                            .finished = [this] { ++finished_; }});
    ASSERT_TRUE(memory_->Append("r1", 1, 3, history).ok());
    ASSERT_TRUE(next_->Resume(history, stop).ok());
    fleet2_.GoOnWith("r1");
  }
  // For another try with the same history.
  void SetUpNext() {
    if (next_ == nullptr) return;
    injector_->Cut();
    next_.reset();
    memory_ = std::make_unique<MemoryStore>();
  }
  std::vector<v1::Event> Written2() { return *memory_->Read("r1", 1); }
  int Count(const std::string& what) {
    int count = 0;
    for (const v1::Event& event : Written2()) count += Describe(event) == what ? 1 : 0;
    return count;
  }

  Fleet fleet2_{executor_, {.group = "test", .epoch = 4}};
  std::unique_ptr<MemoryStore> memory_ = std::make_unique<MemoryStore>();
  std::unique_ptr<Conductor> next_;
};

TEST_F(ResumedTest, TheRunEndsAsItWouldHave) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(3));
  KilledAndResumed(absl::Seconds(2));
  EXPECT_THAT(order_, Contains("did start probes"));
  injector_->Dial(fleet2_);
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(next_->finished());
  EXPECT_EQ(finished_, 1);
  EXPECT_EQ(Describe(Written2().back()), "finished COMPLETED");
  EXPECT_TRUE(Written2().back().finished().undo_confirmed());
  // On as long as it was planned, and put on once.
  EXPECT_EQ(Count("apply leak"), 1);
  EXPECT_THAT(order_, Not(Contains("sent apply leak")));
  absl::Time on, off;
  for (const v1::Event& event : Written2()) {
    if (Describe(event) == "report leak ACTIVE") on = FromProto(event.at());
    if (Describe(event) == "revert leak") off = FromProto(event.at());
  }
  EXPECT_EQ(off - on, absl::Seconds(10));
  EXPECT_EQ(Fold(Written2()).phase, v1::PHASE_FINISHED);
}

TEST_F(ResumedTest, WhatWasDueMeanwhileIsDoneAtOnce) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(8));
  KilledAndResumed(absl::Seconds(4));
  injector_->Dial(fleet2_);
  time_.RunFor(absl::Milliseconds(10));
  EXPECT_THAT(order_, Contains("sent revert leak"));
}

// A command is an event before it is sent: one that is not in the history was never sent.
TEST_F(ResumedTest, WhatWasDecidedAndNotWrittenIsDone) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(15));
  const std::vector<std::string> written = Written();
  const size_t decided =
      std::find(written.begin(), written.end(), "timer revert/leak@db-1") - written.begin() + 1;
  ASSERT_EQ(written[decided], "revert leak");
  KilledAndResumed(absl::Seconds(1), decided);
  injector_->Dial(fleet2_);
  time_.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(Count("revert leak"), 1);
  EXPECT_THAT(order_, Contains("sent revert leak"));
  EXPECT_EQ(Count("phase REVERT"), 1);
}

// It was written, and nobody knows whether it was sent.
TEST_F(ResumedTest, ARevertThatWasWrittenIsSentAgain) {
  injector_->honest = false;
  StartTheLeak();
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.RunFor(absl::Seconds(11));
  ASSERT_THAT(Written(), Contains("revert leak"));
  KilledAndResumed(absl::Seconds(1));
  injector_->honest = true;
  injector_->Dial(fleet2_);
  time_.RunFor(absl::Milliseconds(100));
  EXPECT_THAT(order_, Contains("sent revert leak"));
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(next_->finished());
  EXPECT_TRUE(Written2().back().finished().undo_confirmed());
}

TEST_F(ResumedTest, ToBeUndoneNothingOfItBeginsAndEverythingGoesOff) {
  StartTheLeak();
  const std::vector<std::string> written = Written();
  const size_t timer =
      std::find(written.begin(), written.end(), "timer apply/leak@db-1") - written.begin() + 1;
  ASSERT_EQ(written[timer], "apply leak");
  v1::StopRequested lever;
  lever.set_cause(v1::StopRequested::CAUSE_LEVER);
  lever.set_reason("pulled");
  // The apply was decided, and died with the controller; or it was written, and was heard.
  for (const size_t kept : {timer, timer + 1}) {
    SetUpNext();
    KilledAndResumed(absl::Seconds(1), kept, lever);
    injector_->Dial(fleet2_);
    time_.RunFor(absl::Seconds(60));
    ASSERT_TRUE(next_->finished()) << kept;
    EXPECT_THAT(order_, Not(Contains("sent apply leak")));
    EXPECT_THAT(order_, Contains("sent revert leak"));
    EXPECT_EQ(Written2().back().finished().cause(), v1::StopRequested::CAUSE_LEVER);
    EXPECT_TRUE(Written2().back().finished().undo_confirmed());
  }
}

// Its acknowledgement was lost with the controller, and the node tells it again.
TEST_F(ResumedTest, AReportThatIsInTheHistoryIsNotWrittenTwice) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(2));
  ASSERT_THAT(Written(), Contains("report leak ACTIVE"));
  KilledAndResumed(absl::Seconds(1));
  injector_->Dial(fleet2_);
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.RunFor(absl::Milliseconds(10));
  EXPECT_EQ(Count("report leak ACTIVE"), 1);
  // The next one that says the same is news.
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.RunFor(absl::Milliseconds(10));
  EXPECT_EQ(Count("report leak ACTIVE"), 2);
}

// What is restarted again and again ends as it would have, with each of its gaps told.
TEST_F(ResumedTest, IsResumedOnceMore) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(3));
  KilledAndResumed(absl::Seconds(1));
  injector_->Dial(fleet2_);
  time_.RunFor(absl::Seconds(1));
  const std::vector<v1::Event> twice = Written2();
  const Replayed replayed = Replay(twice);
  EXPECT_EQ(replayed.state.phase, next_->state().phase);
  EXPECT_THAT(replayed.decided, IsEmpty());
  EXPECT_EQ(replayed.timers.count("revert/leak@db-1"), 1u);
}

TEST_F(ResumedTest, ANodeThatDoesNotComeBackEndsTheRunWithItsLease) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(2));
  KilledAndResumed(absl::Seconds(1));
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(next_->finished());
  EXPECT_EQ(Written2().back().finished().outcome(), v1::OUTCOME_ABORTED);
  EXPECT_FALSE(Written2().back().finished().undo_confirmed());
}

TEST_F(ResumedTest, ANodeThatHasHealedItselfMeanwhileEndsTheRun) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(2));
  KilledAndResumed(absl::Seconds(1));
  injector_->Dial(fleet2_);
  injector_->Report("leak", v1::FAULT_STATE_REVERTED, absl::Milliseconds(300));
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(next_->finished());
  const v1::RunFinished finished = Written2().back().finished();
  EXPECT_EQ(finished.outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ(finished.cause(), v1::StopRequested::CAUSE_CONTROLLER_LOST);
  EXPECT_TRUE(finished.undo_confirmed());
  EXPECT_THAT(finished.reason(), HasSubstr("was ended by its node while the controller was away"));
}

// A node that came back with an empty state folder said that nothing was on, and was believed.
TEST_F(ConductorTest, ANodeThatHasLostItsStateFolderProvesNothing) {
  injector_->memory = "folder-a";
  injector_->Dial(fleet_);
  StartTheLeak();
  time_.RunFor(absl::Seconds(2));
  EXPECT_EQ(conductor_->state().faults.at("leak@db-1").state, v1::FAULT_STATE_ACTIVE);
  injector_->Cut();
  injector_->memory = "folder-b";
  injector_->Dial(fleet_);
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(conductor_->finished());
  EXPECT_EQ(conductor_->state().faults.at("leak@db-1").state, v1::FAULT_STATE_STUCK);
  EXPECT_FALSE(History().back().finished().undo_confirmed());
  EXPECT_THAT(History().back().finished().reason(),
              HasSubstr("db-1 came back with another state folder, and knows nothing of it"));
}

TEST_F(ConductorTest, ANodeThatHasKeptItsStateFolderIsBelieved) {
  injector_->memory = "folder-a";
  injector_->Dial(fleet_);
  StartTheLeak();
  time_.RunFor(absl::Seconds(2));
  injector_->Cut();
  injector_->Dial(fleet_);
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(conductor_->finished());
  EXPECT_TRUE(History().back().finished().undo_confirmed());
}

// A disk that heals must not get a history with a hole in it.
TEST_F(ConductorTest, AfterALostEventNothingMoreIsWritten) {
  StartTheLeak();
  store_.FailWrites(absl::ResourceExhaustedError("the disk is full"));
  time_.RunFor(absl::Seconds(10));
  const size_t kept = History().size();
  store_.FailWrites(absl::OkStatus());
  time_.RunFor(absl::Seconds(60));
  EXPECT_TRUE(conductor_->finished());
  EXPECT_EQ(History().size(), kept);
}

// Another controller has taken the run over: its events are the truth, ours are lost.
TEST_F(ConductorTest, AFencedConductorStopsAndUndoes) {
  StartTheLeak();
  v1::Event foreign;
  foreign.mutable_timer()->set_name("by another controller");
  ASSERT_TRUE(store_.MemoryStore::Append("r1", History().size() + 1, 9, {foreign}).ok());
  conductor_->Stop({});
  time_.RunFor(absl::Seconds(5));
  EXPECT_TRUE(absl::IsAborted(conductor_->store_status()));
  EXPECT_THAT(order_, Contains("sent revert leak"));
  EXPECT_TRUE(conductor_->finished());
  EXPECT_EQ(Written().back(), "timer by another controller");
}

TEST_F(ConductorTest, AStopUndoesAndTheTimersOfTheFaultAreSilentAfterwards) {
  StartTheLeak();
  v1::StopRequested stop;
  stop.set_cause(v1::StopRequested::CAUSE_OPERATOR);
  stop.set_reason("enough");
  conductor_->Stop(stop);
  conductor_->Stop(stop);
  time_.RunFor(absl::Seconds(60));
  EXPECT_TRUE(conductor_->finished());
  const std::vector<std::string> written = Written();
  EXPECT_EQ(std::count(written.begin(), written.end(), "stop OPERATOR"), 1);
  EXPECT_THAT(written, Not(Contains("timer revert/leak@db-1")));
  EXPECT_EQ(written.back(), "finished ABORTED");
  EXPECT_EQ(finished_, 1);
}

TEST_F(ConductorTest, AReportIsAcknowledgedOnceItIsInTheHistory) {
  injector_->honest = false;
  StartTheLeak();
  EXPECT_EQ(injector_->acknowledged, 0u);
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.Settle();
  EXPECT_EQ(injector_->acknowledged, 1u);
  EXPECT_THAT(Written(), Contains("report leak ACTIVE"));
}

TEST_F(ConductorTest, ANodeThatGoesSilentIsInTheHistory) {
  StartTheLeak();
  injector_->Cut();
  time_.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(Written().back(), "node db-1 off");
  injector_->Dial(fleet_);
  time_.RunFor(absl::Milliseconds(100));
  EXPECT_THAT(Written(), Contains("node db-1 on"));
}

TEST_F(ConductorTest, AfterItsEndARunHearsAndDoesNothing) {
  StartTheLeak();
  time_.RunFor(absl::Seconds(60));
  ASSERT_TRUE(conductor_->finished());
  const std::vector<std::string> before = order_;
  v1::Event event;
  event.mutable_timer()->set_name("apply/leak@db-1");
  sink_(std::move(event));
  conductor_->Stop({});
  injector_->Report("leak", v1::FAULT_STATE_STUCK);
  time_.RunFor(absl::Seconds(60));
  EXPECT_EQ(order_, before);
  EXPECT_EQ(finished_, 1);
}

// The surroundings' threads may speak a moment longer than the run lives.
TEST_F(ConductorTest, WhatIsSaidToAConductorThatIsGoneIsDropped) {
  StartTheLeak();
  conductor_.reset();
  v1::Event event;
  event.mutable_timer()->set_name("too late");
  sink_(std::move(event));
  injector_->Report("leak", v1::FAULT_STATE_ACTIVE);
  time_.RunFor(absl::Seconds(60));
  EXPECT_THAT(Written(), Not(Contains("timer too late")));
}

}  // namespace
}  // namespace firedrill
