// The injector's side of the stream, against a controller played by the test: a whole injector over
// simulated time, disk and wire.
#include "injector/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "base/time_proto.h"
#include "injector/injector.h"
#include "tests/testing/memory_disk.h"
#include "tests/testing/sim_executor.h"
#include "tests/testing/sim_fault.h"

namespace firedrill {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// The controller's end: keeps what comes, and answers only what the test tells it to.
class Wire final : public Dialler {
 public:
  explicit Wire(Executor& executor) : executor_(executor) {}

  struct Stream {
    LinkEvents<v1::ConnectResponse> events;
    std::vector<v1::ConnectRequest> got;
    bool open = true;
  };
  // Off: connections are refused.
  bool reachable = true;
  // On: nothing is answered, not even registrations.
  bool mute = false;
  uint64_t epoch = 1;
  std::string group = "main";
  // It goes on with these.
  std::vector<std::string> runs;
  std::vector<std::shared_ptr<Stream>> streams;
  // Dialling times.
  std::vector<absl::Duration> dialled;
  std::vector<uint64_t> reports;  // Numbers taken, in order, over all streams.
  std::vector<v1::Report> taken;
  bool acknowledge = true;

  std::shared_ptr<Link<v1::ConnectRequest>> Dial(LinkEvents<v1::ConnectResponse> events) override {
    auto stream = std::make_shared<Stream>(Stream{std::move(events)});
    streams.push_back(stream);
    dialled.push_back(executor_.clock().Boot());
    if (!reachable) Cut(stream);
    return std::make_shared<End>(*this, stream);
  }
  void Cut() { Cut(streams.back()); }
  void Push(const v1::ConnectResponse& message) {
    executor_.Post([stream = streams.back(), message] {
      if (stream->open) stream->events.message(message);
    });
  }
  void Ping() {
    v1::ConnectResponse response;
    response.mutable_ping()->set_number(++pings_);
    response.mutable_ping()->set_epoch(epoch);
    Push(response);
  }
  void Order(v1::Command command, const std::string& run = "r1") {
    command.mutable_id()->set_group(group);
    if (command.id().epoch() == 0) command.mutable_id()->set_epoch(epoch);
    command.mutable_id()->set_run(run);
    command.mutable_id()->set_node("db-1");
    v1::ConnectResponse response;
    *response.mutable_command() = command;
    Push(response);
  }

 private:
  class End final : public Link<v1::ConnectRequest> {
   public:
    End(Wire& wire, std::shared_ptr<Stream> stream) : wire_(wire), stream_(std::move(stream)) {}
    ~End() override { stream_->open = false; }
    void Send(const v1::ConnectRequest& message) override {
      if (stream_->open) wire_.Take(stream_, message);
    }
    void Close(absl::Status) override { wire_.Cut(stream_); }

   private:
    Wire& wire_;
    const std::shared_ptr<Stream> stream_;
  };

  void Cut(const std::shared_ptr<Stream>& stream) {
    if (!std::exchange(stream->open, false)) return;
    executor_.Post([stream] { stream->events.closed(absl::UnavailableError("cut")); });
  }
  void Take(const std::shared_ptr<Stream>& stream, const v1::ConnectRequest& message) {
    stream->got.push_back(message);
    if (mute) return;
    v1::ConnectResponse response;
    if (message.has_registration()) {
      response.mutable_registered()->set_group(group);
      response.mutable_registered()->set_epoch(epoch);
      for (const std::string& run : runs) response.mutable_registered()->add_runs(run);
      response.mutable_registered()->set_acknowledged(reports.empty() ? 0 : reports.back());
      Push(response);
    }
    if (message.has_report() && acknowledge) {
      const uint64_t number = message.report().number();
      if (number == (reports.empty() ? 1 : reports.back() + 1)) {
        reports.push_back(number);
        taken.push_back(message.report());
      }
      if (reports.empty()) return;
      response.mutable_report_ack()->set_number(reports.back());
      Push(response);
    }
  }

  Executor& executor_;
  uint64_t pings_ = 0;
};

v1::Command LoadCommand() {
  v1::Command command;
  command.mutable_id()->set_name("shoppers");
  command.mutable_id()->set_verb("start");
  v1::StartLoad& start = *command.mutable_start_load();
  start.mutable_load()->set_name("shoppers");
  start.mutable_load()->mutable_load()->mutable_send_requests()->add_requests()->set_name("login");
  *start.mutable_remaining() = ToProto(absl::Seconds(100));
  return command;
}

v1::Command ProbeCommand() {
  v1::Command command;
  command.mutable_id()->set_name("recovery/left");
  command.mutable_id()->set_verb("start");
  v1::StartProbe& start = *command.mutable_start_probe();
  start.mutable_probe()->set_id("recovery/left");
  start.mutable_probe()->mutable_probe()->mutable_tcp()->set_endpoint("shop");
  *start.mutable_remaining() = ToProto(absl::Seconds(100));
  return command;
}

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    CurrentSimSystem() = &system_;
    spdlog::set_level(spdlog::level::off);
    spec_.set_name("db-1");
    spec_.add_profiles()->set_name("leaker");
    spec_.mutable_profiles(0)->mutable_postgresql()->mutable_password()->set_file("/secret");
    spec_.add_programs()->set_name("restart");
    spec_.mutable_programs(0)->set_path("/usr/bin/restart-with-token-123");
    options_.instance = "i1";
    options_.session.grace = absl::Milliseconds(500);
  }
  ~SessionTest() override {
    injector_.reset();
    CurrentSimSystem() = nullptr;
  }

  void Start() {
    auto injector = Injector::Open(
        {executor_, disk_, wire_, spec_, SimFaults(system_, script_), SimWork(executor_, work_)},
        options_);
    ASSERT_TRUE(injector.ok()) << injector.status();
    injector_ = *std::move(injector);
    injector_->Start([this](Session::End end) { ended_ = end; });
    time_.RunFor(absl::Milliseconds(10));
  }
  void Live(absl::Duration length) {
    const absl::Duration end = time_.boot() + length;
    while (time_.boot() < end) {
      wire_.Ping();
      time_.RunFor(std::min(absl::Seconds(1), end - time_.boot()));
    }
  }
  v1::Command ApplyLeak() {
    v1::Command command;
    command.mutable_id()->set_name("leak");
    command.mutable_id()->set_verb("apply");
    v1::PlannedFault& planned = *command.mutable_apply()->mutable_fault();
    planned.set_name("leak");
    planned.set_node("db-1");
    planned.mutable_fault()->mutable_hold_connections()->set_profile("leaker");
    planned.set_ending(v1::ENDING_DIES_WITH_PROCESS);
    *command.mutable_apply()->mutable_remaining() = ToProto(absl::Seconds(100));
    return command;
  }
  bool On() const { return !system_.held.empty(); }
  v1::FaultState LastState() const {
    for (auto report = wire_.taken.rbegin(); report != wire_.taken.rend(); ++report) {
      if (report->event().has_fault()) return report->event().fault().state();
    }
    return v1::FAULT_STATE_UNSPECIFIED;
  }

  SimTime time_;
  SimExecutor executor_{time_};
  SimSystem system_;
  SimFaultScript script_;
  SimWorkScript work_;
  MemoryDisk disk_;
  Wire wire_{executor_};
  v1::NodeSpec spec_;
  Injector::Options options_;
  std::unique_ptr<Injector> injector_;
  std::optional<Session::End> ended_;
};

TEST_F(SessionTest, RegistersWithoutSecretsAndAnswersPings) {
  Start();
  ASSERT_THAT(wire_.streams, SizeIs(1));
  const v1::Registration& registration = wire_.streams[0]->got.at(0).registration();
  EXPECT_EQ(registration.node(), "db-1");
  EXPECT_EQ(registration.instance(), "i1");
  EXPECT_EQ(registration.profiles(0).name(), "leaker");
  EXPECT_THAT(registration.ShortDebugString(), testing::Not(HasSubstr("/secret")));
  EXPECT_THAT(registration.ShortDebugString(), testing::Not(HasSubstr("token-123")));
  wire_.Ping();
  time_.RunFor(absl::Milliseconds(10));
  ASSERT_TRUE(wire_.streams[0]->got.back().has_pong());
  EXPECT_EQ(wire_.streams[0]->got.back().pong().number(), 1u);
}

TEST_F(SessionTest, AReconnectWithinTheGraceChangesNothing) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(2));
  wire_.Cut();
  Live(absl::Seconds(3));
  EXPECT_TRUE(On());
  ASSERT_THAT(wire_.streams, SizeIs(2));
  const v1::Registration& again = wire_.streams[1]->got.at(0).registration();
  EXPECT_EQ(again.instance(), "i1");
  ASSERT_THAT(again.active(), SizeIs(1));
  EXPECT_EQ(again.active(0).state(), v1::FAULT_STATE_ACTIVE);
  EXPECT_EQ(again.epoch(), 1u);
}

TEST_F(SessionTest, ALostStreamRevertsAfterTheGraceNotBefore) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(2));
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Milliseconds(490));
  EXPECT_TRUE(On());
  time_.RunFor(absl::Milliseconds(30));
  EXPECT_FALSE(On());
  // What happened meanwhile is told when the controller is back.
  wire_.reachable = true;
  Live(absl::Seconds(4));
  EXPECT_EQ(LastState(), v1::FAULT_STATE_REVERTED);
}

TEST_F(SessionTest, ASilentStreamIsAMatterOfTheLease) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.mute = true;
  time_.RunFor(absl::Milliseconds(3900));
  EXPECT_TRUE(On());
  time_.RunFor(absl::Milliseconds(200));
  EXPECT_FALSE(On());
}

TEST_F(SessionTest, AnotherControllerGroupDoesNotBringTheSessionBack) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.group = "others";
  wire_.Cut();
  Live(absl::Seconds(2));
  EXPECT_FALSE(On());
}

// Killed and started again within the grace: it used to renew for ever what it knew nothing of.
TEST_F(SessionTest, AControllerThatWasStartedAgainDoesNotBringItsRunsBack) {
  Start();
  wire_.Order(ApplyLeak());
  wire_.Order(LoadCommand());
  Live(absl::Seconds(1));
  ++wire_.epoch;
  wire_.Cut();
  Live(absl::Milliseconds(300));
  EXPECT_TRUE(injector_->session().registered());
  EXPECT_FALSE(On());
  EXPECT_EQ(work_.running, 0);
  // What it begins itself is its own.
  v1::Command again = ApplyLeak();
  again.mutable_id()->set_name("again");
  again.mutable_apply()->mutable_fault()->set_name("again");
  wire_.Order(again, "r2");
  Live(absl::Seconds(8));
  EXPECT_TRUE(On());
}

TEST_F(SessionTest, AControllerThatGoesOnWithARunKeepsWhatIsOnOfItAndNothingElse) {
  Start();
  EXPECT_TRUE(wire_.streams[0]->got.at(0).registration().fresh());
  wire_.Order(ApplyLeak());
  wire_.Order(LoadCommand());
  v1::Command other = ApplyLeak();
  other.mutable_id()->set_name("other");
  other.mutable_apply()->mutable_fault()->set_name("other");
  wire_.Order(other, "r2");
  Live(absl::Seconds(1));
  EXPECT_EQ(system_.held.size(), 2u);
  ++wire_.epoch;
  wire_.runs = {"r1"};
  wire_.Cut();
  // Longer than every lease: the new epoch renews what is kept.
  Live(absl::Seconds(12));
  EXPECT_FALSE(wire_.streams[1]->got.at(0).registration().fresh());
  EXPECT_EQ(system_.held.size(), 1u);
  EXPECT_EQ(work_.running, 1);
  EXPECT_EQ(system_.applies.begin()->second, 1);
  // The old life of the controller is over for good.
  v1::Command stale;
  stale.mutable_id()->set_name("leak");
  stale.mutable_id()->set_verb("revert");
  stale.mutable_id()->set_epoch(wire_.epoch - 1);
  stale.mutable_revert()->set_fault("leak");
  wire_.Order(stale);
  Live(absl::Seconds(1));
  EXPECT_TRUE(On());
  v1::Command revert = stale;
  revert.mutable_id()->clear_epoch();
  wire_.Order(revert);
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
}

TEST_F(SessionTest, AControllerThatComesBackAfterTheGraceFindsNothingOnAndMayNotBeginAgain) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Seconds(1));
  EXPECT_FALSE(On());
  ++wire_.epoch;
  wire_.runs = {"r1"};
  wire_.reachable = true;
  Live(absl::Seconds(3));
  EXPECT_EQ(LastState(), v1::FAULT_STATE_REVERTED);
  v1::Command again = ApplyLeak();
  wire_.Order(again);
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_EQ(LastState(), v1::FAULT_STATE_REFUSED);
}

TEST_F(SessionTest, AControllerOfALowerEpochIsLeft) {
  wire_.epoch = 7;
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  v1::Command stale;
  stale.mutable_id()->set_name("leak");
  stale.mutable_id()->set_verb("revert");
  stale.mutable_id()->set_epoch(6);
  stale.mutable_revert()->set_fault("leak");
  wire_.Order(stale);
  Live(absl::Seconds(1));
  EXPECT_TRUE(On());
  EXPECT_GE(wire_.streams.size(), 2u);
  // A whole controller of the past: it never gets a session.
  wire_.epoch = 6;
  wire_.Cut();
  Live(absl::Seconds(3));
  EXPECT_FALSE(On());
  EXPECT_FALSE(injector_->session().registered());
}

// A controller that is superseded can tell at once, and does not take it for a node that comes and
// goes.
TEST_F(SessionTest, ARegistrationTellsTheHighestEpochOfTheGroupHeardOfLast) {
  wire_.epoch = 7;
  Start();
  EXPECT_EQ(wire_.streams[0]->got.at(0).registration().group(), "");
  wire_.epoch = 6;
  wire_.Cut();
  Live(absl::Seconds(1));
  ASSERT_GE(wire_.streams.size(), 2u);
  EXPECT_EQ(wire_.streams[1]->got.at(0).registration().group(), "main");
  EXPECT_EQ(wire_.streams[1]->got.at(0).registration().epoch(), 7u);
  // One of another group, that it does not know yet.
  wire_.group = "others";
  wire_.epoch = 2;
  Live(absl::Seconds(3));
  wire_.Cut();
  Live(absl::Seconds(1));
  EXPECT_EQ(wire_.streams.back()->got.at(0).registration().group(), "others");
  EXPECT_EQ(wire_.streams.back()->got.at(0).registration().epoch(), 2u);
}

TEST_F(SessionTest, ANewProcessTellsWhatTheOneBeforeItHasSeen) {
  wire_.epoch = 7;
  Start();
  injector_.reset();
  wire_.epoch = 6;
  Start();
  EXPECT_EQ(wire_.streams[1]->got.at(0).registration().group(), "main");
  EXPECT_EQ(wire_.streams[1]->got.at(0).registration().epoch(), 7u);
}

// The address may be the other controller's in the next moment.
TEST_F(SessionTest, AnInjectorThatASupersededControllerSendsAwayDialsSoonAgain) {
  Start();
  wire_.mute = true;
  wire_.Cut();
  Live(absl::Milliseconds(100));
  ASSERT_THAT(wire_.streams, SizeIs(2));
  wire_.streams.back()->open = false;
  wire_.streams.back()->events.closed(absl::FailedPreconditionError("epoch 1 is over"));
  wire_.mute = false;
  wire_.epoch = 2;
  Live(absl::Milliseconds(200));
  EXPECT_TRUE(injector_->session().registered());
}

TEST_F(SessionTest, ReportsAreSentAgainUntilTheyAreInTheHistory) {
  Start();
  wire_.acknowledge = false;
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.acknowledge = true;
  Live(absl::Seconds(4));
  ASSERT_FALSE(wire_.reports.empty());
  for (size_t i = 0; i < wire_.reports.size(); ++i) EXPECT_EQ(wire_.reports[i], i + 1);
  EXPECT_EQ(wire_.taken[0].event().fault().state(), v1::FAULT_STATE_APPLYING);
  EXPECT_EQ(wire_.taken[0].event().run(), "r1");
  EXPECT_TRUE(wire_.taken[0].event().has_source_time());
}

TEST_F(SessionTest, NoReportIsLostOverManyCuts) {
  Start();
  wire_.Order(ApplyLeak());
  for (int i = 0; i < 30; ++i) {
    Live(absl::Milliseconds(700));
    wire_.Cut();
  }
  Live(absl::Seconds(3));
  for (size_t i = 0; i < wire_.reports.size(); ++i) ASSERT_EQ(wire_.reports[i], i + 1);
  EXPECT_GT(wire_.reports.size(), 15u);
  EXPECT_TRUE(On());
}

TEST_F(SessionTest, DialsWithGrowingBoundedPauses) {
  wire_.reachable = false;
  Start();
  time_.RunFor(absl::Seconds(20));
  ASSERT_GT(wire_.dialled.size(), 8u);
  EXPECT_LE(wire_.dialled[1] - wire_.dialled[0], absl::Milliseconds(60));
  for (size_t i = 1; i < wire_.dialled.size(); ++i) {
    EXPECT_LE(wire_.dialled[i] - wire_.dialled[i - 1], absl::Seconds(2) + absl::Milliseconds(1));
  }
  EXPECT_LT(wire_.dialled.size(), 20u);
  wire_.reachable = true;
  time_.RunFor(absl::Seconds(3));
  EXPECT_TRUE(injector_->session().registered());
}

TEST_F(SessionTest, AControllerThatDoesNotAnswerIsDialledAgain) {
  wire_.mute = true;
  Start();
  time_.RunFor(absl::Seconds(4));
  EXPECT_GE(wire_.streams.size(), 2u);
  EXPECT_FALSE(wire_.streams[0]->open);
}

TEST_F(SessionTest, ARefusedInjectorDoesNotHammer) {
  Start();
  v1::ConnectResponse response;
  response.mutable_refused()->set_reason("a node named db-1 is connected already");
  wire_.Push(response);
  wire_.mute = true;
  time_.RunFor(absl::Seconds(25));
  EXPECT_THAT(wire_.streams, SizeIs(1));
  wire_.mute = false;
  time_.RunFor(absl::Seconds(10));
  EXPECT_TRUE(injector_->session().registered());
}

// ---------------------------------------------------------------------- private

TEST_F(SessionTest, APrivateInjectorEndsWithItsController) {
  options_.session.is_private = true;
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Milliseconds(490));
  EXPECT_FALSE(ended_.has_value());
  time_.RunFor(absl::Milliseconds(100));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_TRUE(ended_->clean);
  EXPECT_FALSE(On());
}

// A controller that hung until the injector left its stream, and was then killed: the injector used
// to dial for ever, since no registered stream was lost.
TEST_F(SessionTest, APrivateInjectorEndsAlsoWhenItsControllerHungBeforeItDied) {
  options_.session.is_private = true;
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.mute = true;
  time_.RunFor(absl::Seconds(8));
  EXPECT_FALSE(On());
  EXPECT_FALSE(ended_.has_value());
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Seconds(3));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_TRUE(ended_->clean);
}

// Killed while its injectors started: they used to dial for 10 s.
TEST_F(SessionTest, APrivateInjectorEndsSoonWhenItsControllerDiedBeforeItWasReached) {
  options_.session.is_private = true;
  wire_.reachable = false;
  Start();
  time_.RunFor(absl::Milliseconds(400));
  EXPECT_FALSE(ended_.has_value()) << "within its grace";
  time_.RunFor(absl::Milliseconds(600));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_TRUE(ended_->clean);
  EXPECT_THAT(ended_->reason, HasSubstr("gone before it was reached"));
}

TEST_F(SessionTest, APrivateInjectorDoesNotWaitForEverForItsController) {
  options_.session.is_private = true;
  wire_.mute = true;
  Start();
  time_.RunFor(absl::Seconds(9));
  EXPECT_FALSE(ended_.has_value());
  time_.RunFor(absl::Seconds(2));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_THAT(ended_->reason, HasSubstr("no controller was there within 10s"));
}

TEST_F(SessionTest, APrivateInjectorThatIsRefusedSaysWhyAndEnds) {
  options_.session.is_private = true;
  Start();
  v1::ConnectResponse response;
  response.mutable_refused()->set_reason("a node named db-1 is connected already");
  wire_.Push(response);
  time_.RunFor(absl::Seconds(1));
  ASSERT_TRUE(ended_.has_value());
  EXPECT_TRUE(ended_->refused);
  EXPECT_THAT(ended_->reason, HasSubstr("connected already"));
}

TEST_F(SessionTest, CloseRevertsAndGetsTheLastWordsOut) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  std::optional<Session::End> end;
  injector_->Close("the injector was asked to end", [&](Session::End how) { end = how; });
  time_.RunFor(absl::Seconds(1));
  ASSERT_TRUE(end.has_value());
  EXPECT_TRUE(end->clean);
  EXPECT_FALSE(On());
  EXPECT_EQ(LastState(), v1::FAULT_STATE_REVERTED);
  EXPECT_FALSE(wire_.streams.back()->open);
  // And it does not dial any more.
  time_.RunFor(absl::Seconds(10));
  EXPECT_THAT(wire_.streams, SizeIs(1));
}

TEST_F(SessionTest, CloseDoesNotWaitForAControllerThatTakesNothing) {
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  wire_.acknowledge = false;
  bool ended = false;
  injector_->Close("the injector was asked to end", [&](Session::End) { ended = true; });
  time_.RunFor(absl::Seconds(2));
  EXPECT_TRUE(ended);
}

// ------------------------------------------------------------------------- work

TEST_F(SessionTest, ALoadRunsUntilItIsStopped) {
  Start();
  wire_.Order(LoadCommand());
  Live(absl::Seconds(5));
  EXPECT_EQ(work_.running, 1);
  int windows = 0;
  for (const v1::Report& report : wire_.taken) windows += report.event().has_load() ? 1 : 0;
  EXPECT_GE(windows, 4);
  EXPECT_TRUE(wire_.taken[0].event().load_report().running());
  v1::Command stop;
  stop.mutable_id()->set_name("shoppers");
  stop.mutable_id()->set_verb("stop");
  stop.mutable_stop_load()->set_load("shoppers");
  wire_.Order(stop);
  Live(absl::Seconds(2));
  EXPECT_EQ(work_.running, 0);
  EXPECT_FALSE(wire_.taken.back().event().load_report().running());
}

TEST_F(SessionTest, WorkEndsWithTheControllerAndWithItsTime) {
  Start();
  v1::Command load = LoadCommand();
  *load.mutable_start_load()->mutable_remaining() = ToProto(absl::Seconds(3));
  wire_.Order(load);
  Live(absl::Seconds(4));
  EXPECT_EQ(work_.running, 0);
  load = LoadCommand();
  load.mutable_id()->set_attempt(2);
  wire_.Order(load);
  Live(absl::Seconds(1));
  EXPECT_EQ(work_.running, 1);
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Seconds(1));
  EXPECT_EQ(work_.running, 0);
}

TEST_F(SessionTest, WorkEndsWhenNothingIsHeardForALease) {
  Start();
  wire_.Order(LoadCommand());
  Live(absl::Seconds(1));
  wire_.mute = true;
  time_.RunFor(absl::Seconds(6));
  EXPECT_EQ(work_.running, 0);
}

TEST_F(SessionTest, AProbeThatEndsWithTheConnectionSaysSo) {
  Start();
  wire_.Order(ProbeCommand());
  Live(absl::Seconds(2));
  EXPECT_EQ(work_.running, 1);
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Seconds(1));
  EXPECT_EQ(work_.running, 0);
  wire_.reachable = true;
  Live(absl::Seconds(4));
  const v1::Sample& last = wire_.taken.back().event().sample();
  EXPECT_EQ(last.probe(), "recovery/left");
  EXPECT_EQ(last.unknown(), "the connection to its controller was lost");
}

TEST_F(SessionTest, AProbeThatWasToldToEndSaysNothing) {
  Start();
  wire_.Order(ProbeCommand());
  Live(absl::Seconds(2));
  v1::Command stop;
  stop.mutable_id()->set_name("recovery/left");
  stop.mutable_id()->set_verb("stop");
  stop.mutable_stop_probe()->set_probe("recovery/left");
  wire_.Order(stop);
  Live(absl::Seconds(2));
  EXPECT_EQ(work_.running, 0);
  for (const v1::Report& report : wire_.taken) EXPECT_EQ(report.event().sample().unknown(), "");
}

v1::Command RemedyCommand(uint32_t attempt = 1) {
  v1::Command command;
  command.mutable_id()->set_name("restart-shop");
  command.mutable_id()->set_verb("run");
  command.mutable_id()->set_attempt(attempt);
  v1::PlannedRemedy& remedy = *command.mutable_run_remedy()->mutable_remedy();
  remedy.set_name("restart-shop");
  remedy.mutable_remedy()->mutable_run_program()->set_program("restart");
  return command;
}

TEST_F(SessionTest, ARemedyRunsOnceForAnId) {
  Start();
  wire_.Order(RemedyCommand());
  Live(absl::Seconds(1));
  wire_.Order(RemedyCommand());
  Live(absl::Seconds(1));
  EXPECT_EQ(work_.remedies["restart-shop"], 1);
  ASSERT_THAT(wire_.taken, SizeIs(3));
  EXPECT_EQ(wire_.taken[0].event().remedy().state(), v1::REMEDY_STATE_RUNNING);
  EXPECT_EQ(wire_.taken[1].event().remedy().state(), v1::REMEDY_STATE_DONE);
  EXPECT_EQ(wire_.taken[2].event().remedy().state(), v1::REMEDY_STATE_DONE);
}

v1::Command StopRemedyCommand(const std::string& name) {
  v1::Command command;
  command.mutable_id()->set_name(name);
  command.mutable_id()->set_verb("interrupt");
  command.mutable_stop_remedy()->set_remedy(name);
  return command;
}

TEST_F(SessionTest, ARemedyThatIsStoppedIsWaitedForAndSaysWhatBecameOfIt) {
  size_t told_meanwhile = 0;
  // It is told at once, and takes a second to end in good order.
  work_.remedy = [&](const std::stop_token& stop, v1::RemedyReport& report) {
    ASSERT_TRUE(time_.RunUntil([&] { return stop.stop_requested(); }, absl::Milliseconds(1500)));
    time_.RunFor(absl::Seconds(1));
    told_meanwhile = wire_.taken.size();
    report.set_state(v1::REMEDY_STATE_FAILED);
    report.set_failure("interrupted");
  };
  Start();
  wire_.Order(RemedyCommand());
  executor_.After(absl::Seconds(1), [&] {
    wire_.Order(StopRemedyCommand("another"));
    wire_.Order(StopRemedyCommand("restart-shop"));
  });
  executor_.After(absl::Milliseconds(1100), [&] { wire_.Order(RemedyCommand(2)); });
  Live(absl::Seconds(3));
  EXPECT_EQ(work_.remedies["restart-shop"], 1);
  ASSERT_THAT(wire_.taken, SizeIs(3));
  EXPECT_EQ(wire_.taken[0].event().remedy().state(), v1::REMEDY_STATE_RUNNING);
  // Nobody has forgotten it, nor said that it was over, while it was ending.
  EXPECT_EQ(told_meanwhile, 2u);
  EXPECT_THAT(wire_.taken[1].event().remedy().output(), HasSubstr("running already"));
  EXPECT_EQ(wire_.taken[1].answers().attempt(), 2u);
  EXPECT_EQ(wire_.taken[2].event().remedy().state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(wire_.taken[2].event().remedy().failure(), "interrupted");
  EXPECT_EQ(wire_.taken[2].answers().attempt(), 1u);
}

TEST_F(SessionTest, ToStopARemedyThatIsOverOrUnknownDoesNothing) {
  Start();
  wire_.Order(StopRemedyCommand("restart-shop"));
  Live(absl::Seconds(1));
  EXPECT_THAT(wire_.taken, SizeIs(0));
  // Also not to one that begins later.
  wire_.Order(RemedyCommand());
  Live(absl::Seconds(1));
  wire_.Order(StopRemedyCommand("restart-shop"));
  Live(absl::Seconds(1));
  ASSERT_THAT(wire_.taken, SizeIs(2));
  EXPECT_EQ(wire_.taken[1].event().remedy().state(), v1::REMEDY_STATE_DONE);
  EXPECT_TRUE(injector_->session().registered());
  EXPECT_THAT(wire_.streams, SizeIs(1));
}

TEST_F(SessionTest, ARemedyThatThePolicyForbidsDoesNotRun) {
  work_.leaves = v1::LEAVES_CHANGED;
  Start();
  wire_.Order(RemedyCommand());
  Live(absl::Seconds(1));
  EXPECT_EQ(work_.remedies["restart-shop"], 0);
  EXPECT_EQ(wire_.taken.at(0).event().remedy().state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(wire_.taken[0].event().remedy().output(), HasSubstr("policy.lastingRemedies"));
}

TEST_F(SessionTest, NoRemedyStartsAfterTheRunWasLost) {
  Start();
  wire_.Order(ApplyLeak());
  wire_.Order(LoadCommand());
  Live(absl::Seconds(1));
  wire_.reachable = false;
  wire_.Cut();
  time_.RunFor(absl::Seconds(2));
  wire_.reachable = true;
  Live(absl::Seconds(4));
  wire_.Order(RemedyCommand());
  Live(absl::Seconds(1));
  EXPECT_EQ(work_.remedies["restart-shop"], 0);
  EXPECT_THAT(wire_.taken.back().event().remedy().output(),
              HasSubstr("connection to its controller was lost"));
}

TEST_F(SessionTest, AProbeThatMayNotBeAskedIsUnknown) {
  Start();
  v1::Command command;
  command.mutable_id()->set_name("steadyState/x");
  command.mutable_id()->set_verb("start");
  v1::StartProbe& start = *command.mutable_start_probe();
  start.mutable_probe()->set_id("steadyState/x");
  start.mutable_probe()->mutable_probe()->mutable_sql()->set_profile("leaker");
  start.mutable_probe()->mutable_probe()->mutable_sql()->set_query("select 1");
  *start.mutable_remaining() = ToProto(absl::Seconds(100));
  wire_.Order(command);
  Live(absl::Seconds(1));
  ASSERT_THAT(wire_.taken, SizeIs(1));
  EXPECT_EQ(wire_.taken[0].event().sample().probe(), "steadyState/x");
  EXPECT_THAT(wire_.taken[0].event().sample().unknown(), HasSubstr("a query of its own"));
}

// -------------------------------------------------------------------- restart

TEST_F(SessionTest, ARestartedInjectorUndoesBeforeItServes) {
  script_.lasting = true;
  Start();
  wire_.Order(ApplyLeak());
  Live(absl::Seconds(1));
  EXPECT_EQ(system_.settings["db-1/setting"], "broken by r1/leak");
  // kill -9: what lasts stays, what was held goes.
  const MemoryDisk disk = disk_;
  executor_.Kill();
  // A killed process runs no destructors: not before everything else here has ended.
  const std::unique_ptr<Injector> killed = std::move(injector_);
  system_.ProcessDied("db-1");
  disk_ = disk;
  SimExecutor executor(time_);
  Wire wire(executor);
  auto again = Injector::Open(
      {executor, disk_, wire, spec_, SimFaults(system_, script_), SimWork(executor, work_)},
      options_);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(system_.Clean());
  EXPECT_THAT((*again)->found().undone, SizeIs(1));
  EXPECT_THAT((*again)->found().undone, Contains(HasSubstr("db-1/setting")));
  EXPECT_THAT(wire.streams, SizeIs(0));
}

TEST_F(SessionTest, WhatARestartCannotUndoIsRegisteredAndAnsweredStuck) {
  {
    auto journal = *Journal::Open(disk_, "db-1");
    ASSERT_TRUE(journal->Record("r1", "leak", {"unheard-of", "/x", "1", "2", "echo 1 > /x"}).ok());
  }
  Start();
  const v1::Registration& registration = wire_.streams[0]->got.at(0).registration();
  ASSERT_THAT(registration.leftovers(), SizeIs(1));
  EXPECT_EQ(registration.leftovers(0).undo_by_hand(), "echo 1 > /x");
  v1::Command revert;
  revert.mutable_id()->set_name("leak");
  revert.mutable_id()->set_verb("revert");
  revert.mutable_revert()->set_fault("leak");
  wire_.Order(revert);
  Live(absl::Seconds(1));
  EXPECT_EQ(LastState(), v1::FAULT_STATE_STUCK);
}

}  // namespace
}  // namespace firedrill
