// The warden: what goes on, what goes off, and what is said about it, rule by rule, over simulated
// time.
#include "injector/warden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/time_proto.h"
#include "injector/node_file.h"
#include "tests/testing/memory_disk.h"
#include "tests/testing/sim_executor.h"
#include "tests/testing/sim_fault.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kPing = absl::Seconds(1);

class WardenTest : public testing::Test {
 protected:
  WardenTest() {
    CurrentSimSystem() = &system_;
    spec_.set_name("db-1");
    spec_.add_profiles()->set_name("leaker");
    spec_.mutable_policy()->set_until_lease(true);
    options_.give_up = [this](const std::string& why) { gave_up_ = why; };
    Open();
  }
  ~WardenTest() override {
    warden_.reset();
    CurrentSimSystem() = nullptr;
  }

  void Open() {
    node_ = std::make_unique<FileNode>(spec_);
    journal_ = *Journal::Open(disk_, "db-1");
    epochs_ = *Epochs::Open(disk_);
    executor_.block_latency = [] { return absl::Milliseconds(1); };
    warden_ = std::make_unique<Warden>(
        executor_, node_->spec(), disk_, *epochs_,
        SimFaults(system_, script_)(executor_, *node_, *journal_),
        [this](v1::Report report) { reports_.push_back(std::move(report)); }, options_);
  }

  v1::PlannedFault Planned(const std::string& name = "leak") {
    v1::PlannedFault planned;
    planned.set_name(name);
    planned.set_node("db-1");
    planned.mutable_fault()->mutable_hold_connections()->set_profile("leaker");
    planned.mutable_fault()->mutable_hold_connections()->set_count(5);
    *planned.mutable_duration() = ToProto(absl::Seconds(40));
    planned.set_ending(v1::ENDING_DIES_WITH_PROCESS);
    return planned;
  }
  v1::CommandId Id(const std::string& verb, const std::string& name = "leak", uint32_t attempt = 1,
                   uint64_t epoch = 3) {
    v1::CommandId id;
    id.set_group("main");
    id.set_epoch(epoch);
    id.set_run("r1");
    id.set_name(name);
    id.set_verb(verb);
    id.set_attempt(attempt);
    id.set_node("db-1");
    return id;
  }
  v1::Command ApplyOf(const v1::PlannedFault& planned, absl::Duration remaining = absl::Seconds(40),
                      uint32_t attempt = 1, uint64_t epoch = 3) {
    v1::Command command;
    *command.mutable_id() = Id("apply", planned.name(), attempt, epoch);
    *command.mutable_apply()->mutable_fault() = planned;
    *command.mutable_apply()->mutable_remaining() = ToProto(remaining);
    return command;
  }
  v1::Command RevertOf(const std::string& name = "leak", uint32_t attempt = 1, uint64_t epoch = 3) {
    v1::Command command;
    *command.mutable_id() = Id("revert", name, attempt, epoch);
    command.mutable_revert()->set_fault(name);
    command.mutable_revert()->set_reason("the run says so");
    return command;
  }
  v1::Command PrepareOf(const v1::PlannedFault& planned) {
    v1::Command command;
    *command.mutable_id() = Id("prepare", planned.name());
    *command.mutable_prepare()->mutable_fault() = planned;
    *command.mutable_prepare()->mutable_remaining() = ToProto(absl::Seconds(120));
    return command;
  }
  void Handle(const v1::Command& command) { EXPECT_TRUE(warden_->Handle(command).ok()); }

  // Time passes, and the controller pings.
  void Live(absl::Duration length) {
    const absl::Duration end = time_.boot() + length;
    while (time_.boot() < end) {
      warden_->Renew("main", 3);
      time_.RunFor(std::min(kPing, end - time_.boot()));
    }
  }
  // Time passes in silence.
  void Wait(absl::Duration length) { time_.RunFor(length); }

  std::vector<v1::FaultState> States(const std::string& fault = "leak") const {
    std::vector<v1::FaultState> states;
    for (const v1::Report& report : reports_) {
      const v1::FaultReport& said = report.event().fault();
      if (said.fault() != fault) continue;
      if (states.empty() || states.back() != said.state()) states.push_back(said.state());
    }
    return states;
  }
  const v1::FaultReport& Last() const { return reports_.back().event().fault(); }
  bool On() const { return !system_.held.empty(); }

  SimTime time_;
  SimExecutor executor_{time_};
  SimSystem system_;
  SimFaultScript script_;
  MemoryDisk disk_;
  v1::NodeSpec spec_;
  Warden::Options options_;
  std::string gave_up_;
  std::vector<v1::Report> reports_;
  std::unique_ptr<FileNode> node_;
  std::unique_ptr<Journal> journal_;
  std::optional<Epochs> epochs_;
  std::unique_ptr<Warden> warden_;
};

TEST_F(WardenTest, TellsWhatWasCountedUntilTheFaultWasLetGo) {
  script_.counts = true;
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(2));
  Handle(RevertOf());
  Live(absl::Seconds(1));
  // States() leaves out what was said before.
  EXPECT_THAT(States(), ElementsAre(v1::FAULT_STATE_APPLYING, v1::FAULT_STATE_ACTIVE,
                                    v1::FAULT_STATE_REVERTING, v1::FAULT_STATE_REVERTED));
  ASSERT_GE(reports_.size(), 2u);
  const v1::FaultReport& counted = reports_[reports_.size() - 2].event().fault();
  EXPECT_EQ(counted.state(), v1::FAULT_STATE_REVERTING);
  EXPECT_EQ(counted.observation().detail(), "counted");
  EXPECT_EQ(counted.observation().real(), 1) << "asked when it was over already";
  EXPECT_FALSE(Last().has_observation());
}

TEST_F(WardenTest, AppliesObservesAndReverts) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(2));
  EXPECT_TRUE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_ACTIVE);
  EXPECT_TRUE(Last().observation().reached());
  EXPECT_THAT(warden_->active(), SizeIs(1));
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_THAT(States(), ElementsAre(v1::FAULT_STATE_APPLYING, v1::FAULT_STATE_ACTIVE,
                                    v1::FAULT_STATE_REVERTING, v1::FAULT_STATE_REVERTED));
  EXPECT_EQ(Last().reason(), "the run says so");
  EXPECT_EQ(reports_.back().answers().verb(), "revert");
  EXPECT_TRUE(warden_->idle());
  EXPECT_TRUE(journal_->empty());
}

TEST_F(WardenTest, WhatTheLookAfterwardsSawIsTold) {
  script_.after = "all as before";
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(2));
  EXPECT_EQ(Last().observation().detail(), "");
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_EQ(Last().observation().detail(), "all as before");
  EXPECT_FALSE(Last().observation().reached());
}

TEST_F(WardenTest, ReachedIsSaidWithinAFewHundredMilliseconds) {
  script_.observations_until_reached = 4;
  Handle(ApplyOf(Planned()));
  const absl::Duration begun = time_.boot();
  const auto reached = [&] { return Last().observation().reached(); };
  ASSERT_TRUE(time_.RunUntil(reached, absl::Seconds(3)));
  EXPECT_GE(time_.boot() - begun, 4 * FaultLife::kObserveSoon);
  EXPECT_LE(time_.boot() - begun, 5 * FaultLife::kObserveSoon);
}

TEST_F(WardenTest, ObservationsAreReportedEverySecondAndOnChange) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  const size_t before = reports_.size();
  Live(absl::Seconds(10));
  EXPECT_GE(reports_.size() - before, 9u);
  EXPECT_LE(reports_.size() - before, 11u);
  system_.held.clear();
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().observation().real(), 0);
  EXPECT_FALSE(Last().observation().reached());
}

TEST_F(WardenTest, AFaultThatCannotBeMeasuredIsActiveWithoutAnOldObservation) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  script_.observe = absl::UnavailableError("the control connection is gone");
  Live(absl::Seconds(3));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_ACTIVE);
  EXPECT_FALSE(Last().has_observation());
  EXPECT_THAT(Last().reason(), HasSubstr("could not be measured: the control connection is gone"));
}

// ---------------------------------------------------------------- the same id

TEST_F(WardenTest, TheSameIdGetsTheSameAnswerAndNoSecondApply) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  const size_t before = reports_.size();
  Handle(ApplyOf(Planned()));
  ASSERT_EQ(reports_.size(), before + 1);
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_ACTIVE);
  Handle(RevertOf());
  Live(absl::Seconds(1));
  Handle(ApplyOf(Planned()));
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_FALSE(On());
  EXPECT_EQ(system_.applies["r1/leak"], 1);
}

TEST_F(WardenTest, ASecondApplyOfWhatIsOnIsNoRefusal) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  Handle(ApplyOf(Planned(), absl::Seconds(40), /*attempt=*/2));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_ACTIVE);
  EXPECT_EQ(reports_.back().answers().attempt(), 2u);
  Live(absl::Seconds(1));
  EXPECT_EQ(system_.applies["r1/leak"], 1);
}

TEST_F(WardenTest, ARefusalIsRepeatedInTheSameWords) {
  script_.validate = absl::FailedPreconditionError("no server there");
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
  script_.validate = absl::OkStatus();
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
  EXPECT_EQ(Last().reason(), "no server there");
  EXPECT_EQ(system_.applies["r1/leak"], 0);
}

TEST_F(WardenTest, ADelayedApplyAfterItsRevertIsRefused) {
  Handle(RevertOf("leak", /*attempt=*/2));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  for (const uint32_t attempt : {1u, 2u}) {
    Handle(ApplyOf(Planned(), absl::Seconds(40), attempt));
    Live(absl::Seconds(1));
    EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
    EXPECT_THAT(Last().reason(), HasSubstr("reverted before this command came"));
  }
  EXPECT_FALSE(On());
  Handle(ApplyOf(Planned(), absl::Seconds(40), /*attempt=*/3));
  Live(absl::Seconds(1));
  EXPECT_TRUE(On());
}

TEST_F(WardenTest, ARevertOfAnUnknownFaultIsAnsweredReverted) {
  Handle(RevertOf("never-heard-of"));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_EQ(Last().fault(), "never-heard-of");
}

TEST_F(WardenTest, MemoryOfIdsIsBounded) {
  for (uint32_t i = 0; i < 10000; ++i) {
    v1::Command command = RevertOf("leak", i);
    command.mutable_id()->set_run("run" + std::to_string(i));
    Handle(command);
  }
  // The first one is forgotten, and answered anew all the same.
  v1::Command first = RevertOf("leak", 0);
  first.mutable_id()->set_run("run0");
  const size_t before = reports_.size();
  Handle(first);
  EXPECT_EQ(reports_.size(), before + 1);
}

// --------------------------------------------------------------------- epochs

TEST_F(WardenTest, ALowerEpochIsNotObeyedAlsoAfterARestart) {
  Handle(ApplyOf(Planned("a"), absl::Seconds(40), 1, /*epoch=*/5));
  Live(absl::Seconds(1));
  EXPECT_FALSE(warden_->Handle(ApplyOf(Planned("b"), absl::Seconds(40), 1, /*epoch=*/4)).ok());
  EXPECT_FALSE(warden_->Handle(RevertOf("a", 1, /*epoch=*/4)).ok());
  warden_.reset();
  Open();
  EXPECT_FALSE(warden_->Handle(ApplyOf(Planned("c"), absl::Seconds(40), 1, /*epoch=*/4)).ok());
  EXPECT_EQ(system_.applies["r1/b"] + system_.applies["r1/c"], 0);
}

TEST_F(WardenTest, APingOfALowerEpochRenewsNothing) {
  Handle(ApplyOf(Planned(), absl::Seconds(40), 1, /*epoch=*/5));
  for (int i = 0; i < 10; ++i) {
    warden_->Renew("main", 4);
    Wait(absl::Seconds(1));
  }
  EXPECT_FALSE(On());
}

// A controller that was started again knows nothing of the runs of its life before.
TEST_F(WardenTest, APingOfAHigherEpochRenewsNothingOfTheOneBefore) {
  Handle(ApplyOf(Planned(), absl::Seconds(40), 1, /*epoch=*/3));
  for (int i = 0; i < 10; ++i) {
    warden_->Renew("main", 4);
    Wait(absl::Seconds(1));
  }
  EXPECT_FALSE(On());
}

TEST_F(WardenTest, APingOfAnotherGroupRenewsNothing) {
  Handle(ApplyOf(Planned()));
  for (int i = 0; i < 10; ++i) {
    warden_->Renew("others", 9);
    Wait(absl::Seconds(1));
  }
  EXPECT_FALSE(On());
}

TEST_F(WardenTest, ACommandForAnotherNodeIsNotObeyed) {
  v1::Command command = ApplyOf(Planned());
  command.mutable_id()->set_node("db-2");
  EXPECT_FALSE(warden_->Handle(command).ok());
  EXPECT_THAT(reports_, IsEmpty());
}

// --------------------------------------------------------------------- leases

TEST_F(WardenTest, RevertsAfterLeaseExpires) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(3));
  Wait(absl::Milliseconds(3900));  // The last ping was one second ago.
  EXPECT_TRUE(On());
  Wait(absl::Milliseconds(200));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_THAT(Last().reason(), HasSubstr("nobody renewed its lease of 5s"));
}

TEST_F(WardenTest, TheLeaseOfThePlanCounts) {
  v1::PlannedFault planned = Planned();
  *planned.mutable_lease() = ToProto(absl::Seconds(2));
  Handle(ApplyOf(planned));
  EXPECT_EQ(warden_->SmallestLease(), absl::Seconds(2));
  Wait(absl::Milliseconds(1900));
  EXPECT_TRUE(On());
  Wait(absl::Milliseconds(200));
  EXPECT_FALSE(On());
  EXPECT_EQ(warden_->SmallestLease(), absl::Seconds(5));
}

// A prepared fault has its control connection, which a hung injector would hold.
TEST_F(WardenTest, APreparedFaultShortensTheSmallestLease) {
  v1::PlannedFault planned = Planned();
  *planned.mutable_lease() = ToProto(absl::Seconds(2));
  Handle(PrepareOf(planned));
  EXPECT_EQ(warden_->SmallestLease(), absl::Seconds(2));
}

TEST_F(WardenTest, SaysThatALeaseIsShorterBeforeTheFaultTouchesAnything) {
  std::vector<absl::Duration> said;
  options_.lease_shortened = [&] {
    EXPECT_FALSE(On());
    said.push_back(warden_->SmallestLease());
  };
  Open();
  v1::PlannedFault planned = Planned();
  *planned.mutable_lease() = ToProto(absl::Seconds(2));
  Handle(PrepareOf(planned));
  EXPECT_THAT(said, ElementsAre(absl::Seconds(2)));
  Handle(ApplyOf(planned));
  EXPECT_THAT(said, SizeIs(1)) << "nothing has changed";
  v1::PlannedFault shorter = Planned("shorter");
  *shorter.mutable_lease() = ToProto(absl::Seconds(1));
  Handle(ApplyOf(shorter));
  EXPECT_THAT(said, ElementsAre(absl::Seconds(2), absl::Seconds(1)));
  v1::PlannedFault longer = Planned("longer");
  *longer.mutable_lease() = ToProto(absl::Seconds(3));
  Handle(ApplyOf(longer));
  EXPECT_THAT(said, SizeIs(2));
}

TEST_F(WardenTest, RenewalNeverExtendsPastTheAbsoluteEnd) {
  Handle(ApplyOf(Planned(), absl::Seconds(10)));
  Live(absl::Milliseconds(9900));
  EXPECT_TRUE(On());
  Live(absl::Milliseconds(200));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_EQ(Last().reason(), "its time is over");
}

TEST_F(WardenTest, ThePolicysLongestFaultEndsItToo) {
  warden_.reset();
  *spec_.mutable_policy()->mutable_max_duration() = ToProto(absl::Seconds(8));
  Open();
  v1::PlannedFault planned = Planned();
  *planned.mutable_duration() = ToProto(absl::Seconds(8));
  Handle(ApplyOf(planned, absl::Hours(1)));
  Live(absl::Milliseconds(8200));
  EXPECT_FALSE(On());
}

// After a hang of the process, the ping that waited in the socket may be read before the timer that
// is long due runs: what is over must stay over.
TEST_F(WardenTest, APingThatComesAfterTheLeaseDoesNotReviveIt) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  executor_.Freeze();
  SimExecutor clockwork(time_);
  Wait(absl::Seconds(30));
  executor_.Thaw();
  warden_->Renew("main", 3);
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTING);
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
}

TEST_F(WardenTest, NothingOfTheRunIsAppliedAfterALostLease) {
  Handle(ApplyOf(Planned()));
  Wait(absl::Seconds(6));
  EXPECT_FALSE(On());
  Handle(ApplyOf(Planned("another")));
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
  EXPECT_THAT(Last().reason(), HasSubstr("nobody renewed its lease"));
}

// ---------------------------------------------------------- controller is gone

TEST_F(WardenTest, RevertsWhenTheControllerIsLost) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  warden_->ControllerLost();
  Wait(absl::Milliseconds(100));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_THAT(warden_->MayBegin("r1").ToString(), HasSubstr("controller was lost"));
  EXPECT_TRUE(warden_->MayBegin("r2").ok());
}

TEST_F(WardenTest, UntilLeaseLivesOnUntilTheLeaseIsOver) {
  v1::PlannedFault planned = Planned();
  planned.set_on_controller_loss(v1::ON_CONTROLLER_LOSS_UNTIL_LEASE);
  Handle(ApplyOf(planned));
  Live(absl::Seconds(1));
  warden_->ControllerLost();
  Wait(absl::Milliseconds(3900));
  EXPECT_TRUE(On());
  Wait(absl::Milliseconds(200));
  EXPECT_FALSE(On());
}

TEST_F(WardenTest, CloseRevertsEverythingAndAppliesNothingAnyMore) {
  Handle(ApplyOf(Planned("a")));
  Handle(ApplyOf(Planned("b")));
  Live(absl::Seconds(1));
  std::optional<bool> clean;
  warden_->Close("the injector ends", [&](bool is) { clean = is; });
  EXPECT_FALSE(clean.has_value());
  Wait(absl::Milliseconds(100));
  EXPECT_TRUE(clean.value());
  EXPECT_FALSE(On());
  Handle(ApplyOf(Planned("c")));
  Wait(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
}

TEST_F(WardenTest, AStopFileRevertsAndRefuses) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  disk_.files["STOP"] = "";
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_THAT(Last().reason(), HasSubstr("the file STOP"));
  v1::Command command = ApplyOf(Planned());
  command.mutable_id()->set_run("r2");
  Handle(command);
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_THAT(Last().reason(), HasSubstr("remove it to go on"));
  disk_.files.erase("STOP");
  command.mutable_id()->set_attempt(2);
  Handle(command);
  Live(absl::Seconds(1));
  EXPECT_TRUE(On());
}

// ------------------------------------------------------------------- refusals

TEST_F(WardenTest, WhatThePolicyForbidsIsRefusedWithItsWords) {
  warden_.reset();
  (*spec_.mutable_policy()->mutable_at_most())["holdConnections.count"] = 4;
  Open();
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_THAT(States(), ElementsAre(v1::FAULT_STATE_REFUSED));
  EXPECT_THAT(Last().reason(), HasSubstr("holdConnections.count: 5, only up to 4"));
}

TEST_F(WardenTest, AnApplyThatFailsHalfwayIsUndoneBeforeItIsRefused) {
  script_.lasting = true;
  script_.apply = absl::UnavailableError("the server went away");
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_TRUE(system_.Clean());
  EXPECT_THAT(States(), ElementsAre(v1::FAULT_STATE_APPLYING, v1::FAULT_STATE_REFUSED));
  EXPECT_EQ(Last().reason(), "the server went away");
  EXPECT_EQ(reports_.back().answers().verb(), "apply");
  EXPECT_TRUE(journal_->empty());
}

TEST_F(WardenTest, AFullDiskUnderTheJournalRefusesAndTouchesNothing) {
  epochs_->Admit("main", 3).IgnoreError();
  disk_.space = 20;
  script_.lasting = true;
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_EQ(system_.applies["r1/leak"], 0);
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
  EXPECT_THAT(Last().reason(), HasSubstr("nothing was touched"));
  EXPECT_THAT(Last().reason(), HasSubstr("No space left on device"));
}

TEST_F(WardenTest, AFullDiskThatCannotKeepTheEpochRefusesApplyButReverts) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  disk_.space = 0;
  Handle(ApplyOf(Planned("b"), absl::Seconds(40), 1, /*epoch=*/4));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REFUSED);
  EXPECT_THAT(Last().reason(), HasSubstr("keeping the epoch 4"));
  Handle(RevertOf("leak", 1, /*epoch=*/4));
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
}

// -------------------------------------------------------------------- reverts

TEST_F(WardenTest, LastingChangesAreUndoneAtRevert) {
  script_.lasting = true;
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_EQ(system_.settings["db-1/setting"], "broken by r1/leak");
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_TRUE(system_.Clean());
}

TEST_F(WardenTest, SaysSupersededAndLeavesItAlone) {
  script_.lasting = true;
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  system_.settings["db-1/setting"] = "mended by a person";
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_SUPERSEDED);
  EXPECT_EQ(system_.settings["db-1/setting"], "mended by a person");
  EXPECT_TRUE(warden_->idle());
}

TEST_F(WardenTest, RevertedIsSaidOnlyAfterALookThatFindsNothing) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  script_.read_back = absl::UnavailableError("two sessions are still there");
  Handle(RevertOf());
  Live(absl::Seconds(3));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTING);
  script_.read_back = absl::OkStatus();
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
}

TEST_F(WardenTest, WhatIsNotSeenToBeGoneIsStuckAndTriedAgain) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  script_.read_back = absl::UnavailableError("two sessions are still there");
  Handle(RevertOf());
  Live(absl::Seconds(6));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_STUCK);
  EXPECT_THAT(Last().reason(), HasSubstr("two sessions are still there"));
  EXPECT_THAT(Last().undo_by_hand(),
              HasSubstr(absl::StrCat("kill ", getpid(), "  # this node's injector")));
  EXPECT_FALSE(warden_->idle());
  const size_t before = reports_.size();
  Live(absl::Seconds(20));
  EXPECT_EQ(reports_.size(), before) << "said once";
  // Asked again, it tries again and answers.
  Handle(RevertOf("leak", 2));
  Live(absl::Seconds(12));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_STUCK);
  EXPECT_EQ(reports_.back().answers().attempt(), 2u);
  script_.read_back = absl::OkStatus();
  Live(absl::Seconds(12));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(warden_->idle());
}

// To end the process would change nothing of it: what does, the look says.
TEST_F(WardenTest, OfALastingChangeNobodyIsToldToEndTheProcess) {
  script_.lasting = true;
  v1::PlannedFault planned = Planned();
  planned.set_ending(v1::ENDING_JOURNALLED);
  Handle(ApplyOf(planned));
  Live(absl::Seconds(1));
  script_.read_back = absl::FailedPreconditionError("sessions go on as before; tell them: ...");
  Handle(RevertOf());
  Live(absl::Seconds(6));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_STUCK);
  EXPECT_THAT(Last().reason(), HasSubstr("tell them: ..."));
  EXPECT_EQ(Last().undo_by_hand(), "");
}

TEST_F(WardenTest, CloseSaysSoWhenSomethingIsStuck) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  script_.read_back = absl::UnavailableError("still there");
  std::optional<bool> clean;
  warden_->Close("the injector ends", [&](bool is) { clean = is; });
  Wait(absl::Seconds(7));
  EXPECT_FALSE(clean.value());
}

TEST_F(WardenTest, GivesUpOnAFaultThatDoesNotAnswer) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  // From now on blocking calls take longer than anybody waits.
  executor_.block_latency = [] { return absl::Hours(1); };
  Live(absl::Seconds(1));
  Handle(RevertOf());
  Live(absl::Seconds(19));
  EXPECT_EQ(gave_up_, "");
  Live(absl::Seconds(2));
  EXPECT_THAT(gave_up_, HasSubstr("did not go off within 20s"));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_STUCK);
}

// ---------------------------------------------------- one-shot, prepare, adopt

TEST_F(WardenTest, AOneShotFaultIsActiveWithItsObservationThenReverted) {
  v1::PlannedFault planned = Planned("cut");
  planned.set_ending(v1::ENDING_ONE_SHOT);
  planned.clear_duration();
  Handle(ApplyOf(planned));
  Live(absl::Seconds(2));
  EXPECT_THAT(States("cut"), ElementsAre(v1::FAULT_STATE_APPLYING, v1::FAULT_STATE_ACTIVE,
                                         v1::FAULT_STATE_REVERTED));
  ASSERT_GE(reports_.size(), 3u);
  const v1::FaultReport& active = reports_[reports_.size() - 2].event().fault();
  EXPECT_TRUE(active.observation().reached());
  EXPECT_TRUE(Last().observation().reached());
}

TEST_F(WardenTest, APreparedFaultSaysNothingUnlessItIsRefused) {
  Handle(PrepareOf(Planned()));
  Live(absl::Seconds(3));
  EXPECT_THAT(reports_, IsEmpty());
  EXPECT_THAT(warden_->active(), IsEmpty());
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_TRUE(On());
  script_.prepare = absl::UnavailableError("no free slot for the control connection");
  Handle(PrepareOf(Planned("late")));
  Live(absl::Seconds(1));
  EXPECT_THAT(States("late"), ElementsAre(v1::FAULT_STATE_REFUSED));
}

TEST_F(WardenTest, APreparedFaultIsLetGoWithTheController) {
  Handle(PrepareOf(Planned()));
  Wait(absl::Seconds(6));
  EXPECT_TRUE(warden_->idle());
  EXPECT_THAT(reports_, IsEmpty());
}

// Its control connection used to stay until the run's longest time was over.
TEST_F(WardenTest, WhatWasPreparedForARefusedFaultIsLetGo) {
  Handle(PrepareOf(Planned()));
  Live(absl::Seconds(1));
  warden_->StopRun("r1", "its lease is over");
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  EXPECT_THAT(States(), ElementsAre(v1::FAULT_STATE_REFUSED));
  EXPECT_TRUE(warden_->idle());
}

TEST_F(WardenTest, ARevertOfWhatIsOnlyPreparedIsAnswered) {
  Handle(PrepareOf(Planned()));
  Live(absl::Seconds(1));
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_TRUE(warden_->idle());
}

TEST_F(WardenTest, WhatAPredecessorBeganIsLookedForBeforeItIsSaidToBeGone) {
  Handle(ApplyOf(Planned()));
  Live(absl::Seconds(1));
  ASSERT_THAT(journal_->begun(), SizeIs(1));
  // kill -9: nothing is reverted, and the kernel closes what was held, a moment later.
  const MemoryDisk disk = disk_;
  auto held = system_.held;
  warden_.reset();
  disk_ = disk;
  system_.held = held;
  script_.read_back = absl::UnavailableError("still closing");
  reports_.clear();
  Open();
  EXPECT_THAT(warden_->Adopt(journal_->begun()), IsEmpty());
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_THAT(States(), testing::Not(testing::Contains(v1::FAULT_STATE_REVERTED)));
  system_.ProcessDied("db-1");
  script_.read_back = absl::OkStatus();
  Live(absl::Seconds(1));
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
  EXPECT_EQ(reports_.back().answers().verb(), "revert");
  EXPECT_TRUE(journal_->empty());
  EXPECT_EQ(system_.applies["r1/leak"], 1);
}

TEST_F(WardenTest, ARevertOfALeftoverIsAnsweredStuckWithItsCommand) {
  v1::Leftover leftover;
  leftover.set_run("r1");
  leftover.set_fault("leak");
  leftover.set_reason("permission denied");
  leftover.set_undo_by_hand("echo 100 > /sys/x");
  warden_->AddLeftovers({leftover});
  Handle(RevertOf());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_STUCK);
  EXPECT_EQ(Last().undo_by_hand(), "echo 100 > /sys/x");
}

TEST_F(WardenTest, ARevertWhileItIsAppliedWins) {
  Handle(ApplyOf(Planned()));
  Handle(RevertOf());
  Live(absl::Seconds(1));
  EXPECT_FALSE(On());
  EXPECT_EQ(Last().state(), v1::FAULT_STATE_REVERTED);
}

}  // namespace
}  // namespace firedrill
