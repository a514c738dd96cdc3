// The controller's side of its injectors' streams: what is kept, what is sent again, what is taken
// once.
#include "controller/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"
#include "tests/testing/sim_executor.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// An injector's end: what it was sent, and whether it was closed.
struct Wire final : Link<v1::ConnectResponse> {
  void Send(const v1::ConnectResponse& message) override {
    if (!closed.has_value()) sent.push_back(message);
  }
  void Close(absl::Status why) override {
    if (!closed.has_value()) closed = std::move(why);
  }
  std::vector<v1::ConnectResponse> sent;
  std::optional<absl::Status> closed;
};

class FleetTest : public testing::Test {
 protected:
  struct Injector {
    std::shared_ptr<Wire> wire = std::make_shared<Wire>();
    Fleet::UpEvents up;

    // Commands as "apply leak 10s", with what remains of their time.
    std::vector<std::string> Commands() const {
      std::vector<std::string> commands;
      for (const v1::ConnectResponse& message : wire->sent) {
        if (!message.has_command()) continue;
        const v1::Command& command = message.command();
        std::string text = command.id().verb() + " " + command.id().name();
        if (command.has_apply()) {
          text += " " + absl::FormatDuration(FromProto(command.apply().remaining()));
        }
        commands.push_back(text);
      }
      return commands;
    }
    std::vector<uint64_t> Acks() const {
      std::vector<uint64_t> acks;
      for (const v1::ConnectResponse& message : wire->sent) {
        if (message.has_report_ack()) acks.push_back(message.report_ack().number());
      }
      return acks;
    }
    std::vector<uint64_t> Pings() const {
      std::vector<uint64_t> pings;
      for (const v1::ConnectResponse& message : wire->sent) {
        if (message.has_ping()) pings.push_back(message.ping().number());
      }
      return pings;
    }
    const v1::Registered* Registered() const {
      for (const v1::ConnectResponse& message : wire->sent) {
        if (message.has_registered()) return &message.registered();
      }
      return nullptr;
    }
    const v1::Refused* Refused() const {
      for (const v1::ConnectResponse& message : wire->sent) {
        if (message.has_refused()) return &message.refused();
      }
      return nullptr;
    }
    void Pong(absl::Time node_time = absl::FromUnixSeconds(1)) {
      v1::ConnectRequest message;
      message.mutable_pong()->set_number(Pings().back());
      *message.mutable_pong()->mutable_node_time() = ToProto(node_time);
      up.message(message);
    }
    void Report(uint64_t number, const std::string& what, const std::string& run = "r1") {
      v1::ConnectRequest message;
      message.mutable_report()->set_number(number);
      message.mutable_report()->mutable_event()->set_run(run);
      message.mutable_report()->mutable_event()->mutable_fault()->set_reason(what);
      up.message(message);
    }
    void Cut() { up.closed(absl::UnavailableError("the cable")); }
  };

  FleetTest() {
    fleet_.Subscribe(
        "r1", {.report =
                   [this](v1::Event event) {
                     if (!disk_full_) taken_.push_back(std::move(event));
                     return !disk_full_;
                   },
               .node =
                   [this](const v1::NodeReport& report) {
                     told_.push_back(report.node() + (report.connected() ? " on " : " off ") +
                                     (report.restarted() ? "again " : "") + report.reason());
                   }});
  }
  Injector Dial(const std::string& node, const std::string& instance, uint64_t epoch = 0,
                const std::string& group = "", const std::string& proven = "", bool fresh = false) {
    Injector injector;
    injector.up = fleet_.Accept(injector.wire, proven);
    v1::ConnectRequest message;
    message.mutable_registration()->set_node(node);
    message.mutable_registration()->set_instance(instance);
    message.mutable_registration()->set_pid(4711);
    message.mutable_registration()->set_epoch(epoch);
    message.mutable_registration()->set_group(group);
    message.mutable_registration()->set_fresh(fresh);
    injector.up.message(message);
    return injector;
  }
  static v1::Command Command(const std::string& verb, const std::string& name,
                             const std::string& run = "r1") {
    v1::Command command;
    command.mutable_id()->set_run(run);
    command.mutable_id()->set_node("db-1");
    command.mutable_id()->set_name(name);
    command.mutable_id()->set_verb(verb);
    if (verb == "apply") *command.mutable_apply()->mutable_remaining() = ToProto(absl::Seconds(10));
    if (verb == "revert") command.mutable_revert()->set_fault(name);
    if (verb == "stop") command.mutable_stop_load()->set_load(name);
    return command;
  }
  std::vector<std::string> Taken() const {
    std::vector<std::string> reasons;
    for (const v1::Event& event : taken_) reasons.push_back(event.fault().reason());
    return reasons;
  }

  SimTime time_;
  SimExecutor executor_{time_};
  bool disk_full_ = false;
  std::vector<v1::Event> taken_;
  std::vector<std::string> told_;
  Fleet fleet_{executor_, {.group = "test", .epoch = 7}};
};

class SubjectsOfNodes : public FleetTest {
 protected:
  static v1::PlannedFault Fault(const std::string& name, const std::string& node) {
    v1::PlannedFault fault;
    fault.set_name(name);
    fault.set_node(node);
    return fault;
  }
  // What was asked last, answered with "<node>/<fault>".
  static void Answer(const Injector& injector, const std::string& node) {
    const v1::SubjectsAsked& asked = injector.wire->sent.back().subjects_asked();
    v1::ConnectRequest message;
    message.mutable_subjects_told()->set_number(asked.number());
    for (const v1::PlannedFault& fault : asked.faults()) {
      message.mutable_subjects_told()->add_subjects()->set_identity(node + "/" + fault.name());
    }
    injector.up.message(message);
  }
  void Ask(const std::vector<v1::PlannedFault>& faults) {
    fleet_.AskSubjects(faults, [this](std::vector<v1::Subject> subjects) {
      ++times_told_;
      for (const v1::Subject& subject : subjects) {
        told_.push_back(subject.unsure().empty() ? subject.identity() : "? " + subject.unsure());
      }
    });
  }
  int times_told_ = 0;
};

TEST_F(SubjectsOfNodes, AreAskedOfEachNodeOnceAndToldInTheFaultsOrder) {
  const Injector one = Dial("db-1", "a");
  const Injector two = Dial("db-2", "b");
  told_.clear();
  Ask({Fault("a", "db-1"), Fault("b", "db-2"), Fault("c", "db-1")});
  Answer(two, "db-2");
  EXPECT_EQ(times_told_, 0);
  Answer(one, "db-1");
  EXPECT_THAT(told_, ElementsAre("db-1/a", "db-2/b", "db-1/c"));
  // What comes again is not told again.
  Answer(one, "db-1");
  time_.RunFor(absl::Seconds(10));
  EXPECT_EQ(times_told_, 1);
}

TEST_F(SubjectsOfNodes, AreUnsureWhereANodeIsAwayOrSaysNothing) {
  const Injector one = Dial("db-1", "a");
  told_.clear();
  Ask({Fault("a", "db-1"), Fault("b", "away")});
  EXPECT_EQ(times_told_, 0);
  time_.RunFor(absl::Seconds(7));
  EXPECT_EQ(times_told_, 1);
  // It was given up for its silence before.
  ASSERT_EQ(told_.size(), 3u);
  EXPECT_THAT(told_[1], HasSubstr("? node db-1 did not say what it is within 6s"));
  EXPECT_THAT(told_[2], HasSubstr("? node away did not say what it is"));
  Answer(one, "db-1");
  EXPECT_EQ(times_told_, 1);
}

TEST_F(FleetTest, TellsAnInjectorWhoItsControllerIs) {
  const Injector injector = Dial("db-1", "a");
  ASSERT_NE(injector.Registered(), nullptr);
  EXPECT_EQ(injector.Registered()->group(), "test");
  EXPECT_EQ(injector.Registered()->epoch(), 7u);
  EXPECT_EQ(injector.Registered()->acknowledged(), 0u);
  EXPECT_THAT(told_, ElementsAre("db-1 on "));
  ASSERT_EQ(fleet_.Connected().size(), 1u);
}

TEST_F(FleetTest, WhatIsSentToAnAbsentNodeComesWhenItIsThere) {
  fleet_.Send(Command("apply", "leak"));
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("apply leak 10s"));
}

TEST_F(FleetTest, SendsAgainAfterAReconnectAndTheEndDoesNotMove) {
  Injector injector = Dial("db-1", "a");
  fleet_.Send(Command("apply", "leak"));
  EXPECT_THAT(injector.Commands(), ElementsAre("apply leak 10s"));
  injector.Cut();
  time_.RunFor(absl::Seconds(3));
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("apply leak 7s"));
  EXPECT_THAT(told_, ElementsAre("db-1 on ", "db-1 off the cable", "db-1 on "));
}

TEST_F(FleetTest, WhatRemainsIsNeverBelowNothing) {
  fleet_.Send(Command("apply", "leak"));
  time_.RunFor(absl::Seconds(30));
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("apply leak 0"));
}

// Nobody may come back and apply what is to be undone.
TEST_F(FleetTest, ARevertTakesBackAnApplyThatWasNotSentYet) {
  fleet_.Send(Command("apply", "leak"));
  fleet_.Send(Command("apply", "cut"));
  fleet_.Send(Command("revert", "leak"));
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("apply cut 10s", "revert leak"));
}

TEST_F(FleetTest, ARevertTakesBackNothingOfAnotherRun) {
  fleet_.Send(Command("apply", "leak", "r2"));
  fleet_.Send(Command("revert", "leak", "r1"));
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("apply leak 10s", "revert leak"));
}

// A new process knows nothing of the fault: what the run still wants must be asked for anew, but
// undoing holds.
TEST_F(FleetTest, ARestartedInjectorIsAskedOnlyToUndo) {
  Injector first = Dial("db-1", "a");
  fleet_.Send(Command("apply", "leak"));
  fleet_.Send(Command("apply", "cut"));
  fleet_.Send(Command("revert", "cut"));
  first.Cut();
  EXPECT_THAT(Dial("db-1", "b").Commands(), ElementsAre("revert cut"));
  EXPECT_THAT(told_, ElementsAre("db-1 on ", "db-1 off the cable",
                                 "db-1 on again its injector was started again"));
}

// A node that was away when its run ended would go on with a load, or hold a prepared connection,
// as long as it is pinged.
TEST_F(FleetTest, OfAnEndedRunOnlyWhatEndsSomethingIsSentAgain) {
  fleet_.Send(Command("apply", "leak"));
  fleet_.Send(Command("stop", "shoppers"));
  fleet_.Send(Command("revert", "cut"));
  fleet_.Unsubscribe("r1");
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("stop shoppers", "revert cut"));
}

TEST_F(FleetTest, NothingOfAnEndedRunIsSentWhenEveryLeaseIsOver) {
  fleet_.Send(Command("revert", "leak", "r1"));
  fleet_.Send(Command("revert", "leak", "r2"));
  fleet_.Unsubscribe("r1");
  time_.RunFor(absl::Seconds(67));
  const Injector injector = Dial("db-1", "a");
  ASSERT_EQ(injector.Commands().size(), 1u);
  EXPECT_EQ(injector.wire->sent.back().command().id().run(), "r2");
}

TEST_F(FleetTest, AReportIsTakenOnceAndAcknowledgedEachTime) {
  Injector injector = Dial("db-1", "a");
  injector.Report(1, "one");
  injector.Report(1, "one");
  injector.Report(2, "two");
  EXPECT_THAT(Taken(), ElementsAre("one", "two"));
  EXPECT_THAT(injector.Acks(), ElementsAre(1, 1, 2));
  EXPECT_EQ(taken_[0].source(), "injector/db-1");
  // The same after a reconnect, which says how far it had come.
  injector.Cut();
  Injector again = Dial("db-1", "a");
  EXPECT_EQ(again.Registered()->acknowledged(), 2u);
  again.Report(2, "two");
  again.Report(3, "three");
  EXPECT_THAT(Taken(), ElementsAre("one", "two", "three"));
}

TEST_F(FleetTest, AReportIsNotTakenBeforeTheOneThatIsMissing) {
  Injector injector = Dial("db-1", "a");
  injector.Report(1, "one");
  injector.Report(3, "three");
  EXPECT_THAT(Taken(), ElementsAre("one"));
  injector.Report(2, "two");
  injector.Report(3, "three");
  EXPECT_THAT(Taken(), ElementsAre("one", "two", "three"));
}

// An injector that a predecessor of this controller has known goes on from its own number.
TEST_F(FleetTest, TheFirstReportOfAnInstanceMayHaveAnyNumber) {
  Injector injector = Dial("db-1", "a");
  injector.Report(40, "forty");
  injector.Report(41, "forty-one");
  EXPECT_THAT(Taken(), ElementsAre("forty", "forty-one"));
  injector.Cut();
  Injector restarted = Dial("db-1", "b");
  EXPECT_EQ(restarted.Registered()->acknowledged(), 0u);
  restarted.Report(1, "one again");
  EXPECT_THAT(Taken(), ElementsAre("forty", "forty-one", "one again"));
}

TEST_F(FleetTest, WhatCouldNotBeKeptIsNotAcknowledgedAndIsTakenWhenItComesAgain) {
  Injector injector = Dial("db-1", "a");
  disk_full_ = true;
  injector.Report(1, "one");
  EXPECT_THAT(injector.Acks(), IsEmpty());
  disk_full_ = false;
  injector.Report(1, "one");
  EXPECT_THAT(injector.Acks(), ElementsAre(1));
  EXPECT_THAT(Taken(), ElementsAre("one"));
}

TEST_F(FleetTest, AReportOfARunThatIsOverNeedNotComeAgain) {
  Injector injector = Dial("db-1", "a");
  injector.Report(1, "late", "gone");
  EXPECT_THAT(injector.Acks(), ElementsAre(1));
  EXPECT_THAT(Taken(), IsEmpty());
}

TEST_F(FleetTest, ANodeRegistersUnderTheNameOfItsCertificateOnly) {
  const Injector other = Dial("db-1", "a", 0, "", "db-2");
  ASSERT_NE(other.Refused(), nullptr);
  EXPECT_THAT(other.Refused()->reason(), HasSubstr("the certificate is that of the injector db-2"));
  EXPECT_THAT(fleet_.Connected(), IsEmpty());
  const Injector itself = Dial("db-1", "a", 0, "", "db-1");
  EXPECT_EQ(itself.Refused(), nullptr);
}

TEST_F(FleetTest, ASecondInjectorOfOneNameIsRefusedAndTheFirstStays) {
  Injector first = Dial("db-1", "a");
  const Injector second = Dial("db-1", "b");
  ASSERT_NE(second.Refused(), nullptr);
  EXPECT_THAT(second.Refused()->reason(),
              HasSubstr("a node named db-1 is connected already (process 4711)"));
  EXPECT_THAT(second.Refused()->next(), HasSubstr("give this one another --node"));
  EXPECT_TRUE(second.wire->closed.has_value());
  EXPECT_EQ(second.Registered(), nullptr);
  EXPECT_FALSE(first.wire->closed.has_value());
  fleet_.Send(Command("revert", "leak"));
  EXPECT_THAT(first.Commands(), ElementsAre("revert leak"));
  EXPECT_THAT(second.Commands(), IsEmpty());
}

// The old stream of the same process may still look open here.
TEST_F(FleetTest, TheSameInjectorMayDialAgain) {
  Injector first = Dial("db-1", "a");
  const Injector again = Dial("db-1", "a");
  EXPECT_EQ(again.Refused(), nullptr);
  EXPECT_TRUE(first.wire->closed.has_value());
  // The end of the old stream, and what comes late on it, are nothing to the new one.
  first.Report(1, "late");
  first.Cut();
  EXPECT_THAT(Taken(), IsEmpty());
  EXPECT_EQ(fleet_.Connected().size(), 1u);
  EXPECT_THAT(told_, ElementsAre("db-1 on ", "db-1 on "));
}

// It would find that out at the answer, and leave; its run would see the node come and go for ever.
TEST_F(FleetTest, AnInjectorThatHasSeenAHigherEpochOfTheGroupIsNotTaken) {
  Injector first = Dial("db-1", "a");
  first.Cut();
  told_.clear();
  const Injector superseded = Dial("db-1", "a", 8, "test");
  EXPECT_THAT(superseded.wire->sent, IsEmpty());
  ASSERT_TRUE(superseded.wire->closed.has_value());
  EXPECT_TRUE(absl::IsFailedPrecondition(*superseded.wire->closed));
  EXPECT_THAT(superseded.wire->closed->message(),
              HasSubstr("epoch 7 of the controller group test is over"));
  EXPECT_THAT(superseded.wire->closed->message(), HasSubstr("end this one, or start it again"));
  EXPECT_THAT(told_, IsEmpty());
  EXPECT_THAT(fleet_.Connected(), IsEmpty());
}

TEST_F(FleetTest, NodesAreToldWhichRunsAreGoneOnWithAsLongAsTheyAre) {
  EXPECT_THAT(Dial("db-1", "a").Registered()->runs(), IsEmpty());
  fleet_.GoOnWith("r1");
  fleet_.GoOnWith("ended");
  EXPECT_THAT(Dial("db-2", "b").Registered()->runs(), ElementsAre("r1"));
  fleet_.Unsubscribe("r1");
  EXPECT_THAT(Dial("db-3", "c").Registered()->runs(), IsEmpty());
}

// The controller before this one knew it; this one cannot tell by the name of its process.
TEST_F(FleetTest, ANodeThatWasStartedAgainWhileTheControllerWasAwayIsToldAsThat) {
  fleet_.GoOnWith("r1");
  Dial("db-1", "a");
  Dial("db-2", "b", 0, "", "", /*fresh=*/true);
  EXPECT_THAT(told_, ElementsAre("db-1 on ", "db-2 on again its injector was started again"));
}

TEST_F(FleetTest, EpochsOfAnotherGroupAndEpochsThatAreOverAreNothingToIt) {
  EXPECT_NE(Dial("db-1", "a", 8, "another").Registered(), nullptr);
  EXPECT_NE(Dial("db-2", "b", 7, "test").Registered(), nullptr);
  EXPECT_NE(Dial("db-3", "c", 3, "test").Registered(), nullptr);
}

// A release later something was added to these messages, and one message is new.
TEST_F(FleetTest, WhatALaterReleaseHasAddedIsPassedOver) {
  const auto add = [](google::protobuf::Message& message) {
    message.GetReflection()->MutableUnknownFields(&message)->AddLengthDelimited(999, "new");
  };
  Injector injector;
  injector.up = fleet_.Accept(injector.wire);
  v1::ConnectRequest message;
  message.mutable_registration()->set_node("db-1");
  message.mutable_registration()->set_instance("a");
  add(*message.mutable_registration());
  add(message);
  injector.up.message(message);
  ASSERT_NE(injector.Registered(), nullptr);
  v1::ConnectRequest unheard_of;
  add(unheard_of);
  injector.up.message(unheard_of);
  injector.Report(1, "active");
  EXPECT_THAT(Taken(), ElementsAre("active"));
  EXPECT_EQ(injector.Refused(), nullptr);
}

TEST_F(FleetTest, RefusesWhoDoesNotSayItsName) {
  const Injector nameless = Dial("", "a");
  ASSERT_NE(nameless.Refused(), nullptr);
  EXPECT_THAT(nameless.Refused()->next(), HasSubstr("--node NAME"));
  Injector rude;
  rude.up = fleet_.Accept(rude.wire);
  rude.Report(1, "no registration before");
  ASSERT_NE(rude.Refused(), nullptr);
  EXPECT_THAT(Taken(), IsEmpty());
}

TEST_F(FleetTest, PingsEveryNodeSoThatItsLeasesAreRenewed) {
  Injector injector = Dial("db-1", "a");
  for (int second = 0; second < 10; ++second) {
    time_.RunFor(absl::Seconds(1));
    injector.Pong();
  }
  const std::vector<uint64_t> pings = injector.Pings();
  ASSERT_EQ(pings.size(), 10u);
  // A lease is renewed by a higher number only, and by the epoch that holds it.
  for (size_t i = 1; i < pings.size(); ++i) EXPECT_EQ(pings[i], pings[i - 1] + 1);
  EXPECT_EQ(injector.wire->sent.back().ping().epoch(), 7u);
}

TEST_F(FleetTest, ANodeThatIsSilentIsTakenForGoneAndToldAsThat) {
  Injector talks = Dial("app-1", "x");
  Injector silent = Dial("db-1", "a");
  for (int second = 0; second < 6; ++second) {
    time_.RunFor(absl::Seconds(1));
    talks.Pong();
  }
  EXPECT_THAT(told_,
              ElementsAre("app-1 on ", "db-1 on ", "db-1 off nothing was heard from it for 4s"));
  EXPECT_TRUE(silent.wire->closed.has_value());
  EXPECT_FALSE(talks.wire->closed.has_value());
  ASSERT_EQ(fleet_.Connected().size(), 1u);
  // What is said to it now waits for it, and it may come back.
  fleet_.Send(Command("revert", "leak"));
  EXPECT_THAT(silent.Commands(), IsEmpty());
  EXPECT_THAT(Dial("db-1", "a").Commands(), ElementsAre("revert leak"));
}

TEST_F(FleetTest, ANodesTimesAreMovedToTheControllersClock) {
  Injector injector = Dial("db-1", "a");
  time_.RunFor(absl::Seconds(1));
  time_.RunFor(absl::Milliseconds(20));
  // Its clock is an hour ahead; the answer took 20 ms there and back.
  injector.Pong(executor_.clock().Now() + absl::Hours(1) - absl::Milliseconds(10));
  v1::ConnectRequest message;
  message.mutable_report()->set_number(1);
  v1::Event& event = *message.mutable_report()->mutable_event();
  event.set_run("r1");
  *event.mutable_sample()->mutable_asked() = ToProto(executor_.clock().Now() + absl::Hours(1));
  injector.up.message(message);
  ASSERT_EQ(taken_.size(), 1u);
  EXPECT_EQ(FromProto(taken_[0].sample().asked()), executor_.clock().Now());
  EXPECT_EQ(FromProto(taken_[0].clock_offset()), absl::Hours(1));
  EXPECT_EQ(FromProto(taken_[0].clock_error()), absl::Milliseconds(10));
}

TEST_F(FleetTest, TooManyThatDoNotRegisterAreSentAway) {
  std::vector<Injector> waiting(300);
  for (Injector& each : waiting) each.up = fleet_.Accept(each.wire);
  EXPECT_FALSE(waiting[0].wire->closed.has_value());
  EXPECT_TRUE(waiting.back().wire->closed.has_value());
}

TEST_F(FleetTest, AListenerMayLeaveWhileItHears) {
  fleet_.Subscribe("r2", {.report = [](v1::Event) { return true; },
                          .node = [this](const v1::NodeReport&) { fleet_.Unsubscribe("r2"); }});
  Dial("db-1", "a");
  Dial("db-2", "b");
  EXPECT_THAT(told_, ElementsAre("db-1 on ", "db-2 on "));
}

// Minutes after its fault was undone a node was described as one that is undoing it.
TEST_F(FleetTest, WhatANodeHasOnIsAsOfItsLastAnswer) {
  Injector node = Dial("db-1", "i1");
  time_.RunFor(absl::Seconds(1));
  v1::ConnectRequest pong;
  pong.mutable_pong()->set_number(node.Pings().back());
  pong.mutable_pong()->mutable_figures()->add_faults()->set_fault("leak");
  node.up.message(pong);
  EXPECT_EQ(fleet_.Seen()[0].registration().active_size(), 1);
  EXPECT_EQ(fleet_.Connected()[0].active_size(), 1);
  node.Pong();
  EXPECT_EQ(fleet_.Seen()[0].registration().active_size(), 0);
  EXPECT_EQ(fleet_.Connected()[0].active_size(), 0);
}

}  // namespace
}  // namespace firedrill
