// What is said of a controller and its surroundings, each with what to do.
#include "controller/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"

namespace firedrill {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(DiagnosisTest, ACertificateIsToBeReplacedBeforeItExpires) {
  const auto level = [](absl::Duration left, absl::Duration lifetime) {
    return DiagnoseExpiry("it", kNow + left - lifetime, kNow + left, kNow, "issue one").level();
  };
  const absl::Duration day = absl::Hours(24);
  EXPECT_EQ(level(5 * absl::Hours(1), day), v1::Diagnosis::LEVEL_OK);
  EXPECT_EQ(level(3 * absl::Hours(1), day), v1::Diagnosis::LEVEL_WARN);
  EXPECT_EQ(level(absl::Hours(1), absl::Hours(1)), v1::Diagnosis::LEVEL_OK) << "new, and short";
  EXPECT_EQ(level(absl::Minutes(10), absl::Hours(1)), v1::Diagnosis::LEVEL_WARN);
  EXPECT_EQ(level(absl::ZeroDuration(), day), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_EQ(DiagnoseExpiry("it", kNow + day, kNow + 2 * day, kNow, "").level(),
            v1::Diagnosis::LEVEL_FAIL);
}

TEST(DiagnosisTest, ALeverThatIsPulledFailsAndSaysByWhom) {
  EXPECT_EQ(DiagnoseLever(std::nullopt).level(), v1::Diagnosis::LEVEL_OK);
  const v1::Diagnosis pulled = DiagnoseLever("bob: a real outage");
  EXPECT_EQ(pulled.level(), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_THAT(pulled.found(), HasSubstr("(bob: a real outage)"));
  EXPECT_THAT(pulled.next(), HasSubstr("firedrill unlock"));
}

TEST(DiagnosisTest, AnInjectorIsWellWhereItIsThereCarriesNothingAndHasTheTime) {
  EXPECT_EQ(DiagnoseInjectors({})[0].level(), v1::Diagnosis::LEVEL_WARN);
  v1::InjectorSummary well;
  well.mutable_registration()->set_node("db-1");
  well.set_connected(true);
  *well.mutable_clock_offset() = ToProto(absl::Milliseconds(-300));
  ASSERT_EQ(DiagnoseInjectors({well}).size(), 1u);
  EXPECT_EQ(DiagnoseInjectors({well})[0].level(), v1::Diagnosis::LEVEL_OK);
  v1::InjectorSummary late = well;
  *late.mutable_clock_offset() = ToProto(absl::Seconds(-90));
  ASSERT_EQ(DiagnoseInjectors({late}).size(), 2u);
  EXPECT_EQ(DiagnoseInjectors({late})[1].found(), "1m30s behind the controller's clock");
  v1::InjectorSummary away = late;
  away.set_connected(false);
  ASSERT_EQ(DiagnoseInjectors({away}).size(), 1u);
  EXPECT_THAT(DiagnoseInjectors({away})[0].found(), HasSubstr("is away since"));
  v1::InjectorSummary stuck = well;
  v1::Leftover& left = *stuck.mutable_registration()->add_leftovers();
  left.set_resource("index users_email");
  left.set_undo_by_hand("psql -c 'REINDEX ...'");
  EXPECT_EQ(DiagnoseInjectors({stuck})[0].level(), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_EQ(DiagnoseInjectors({stuck})[0].next(), "on the node: psql -c 'REINDEX ...'");
}

TEST(DiagnosisTest, ASlotThatWasMissedIsSaidUntilTheNextIsFired) {
  v1::ListExperimentsResponse all;
  v1::ExperimentSummary& nightly = *all.add_experiments();
  nightly.set_name("nightly");
  EXPECT_THAT(DiagnoseSchedules(all), IsEmpty());
  v1::Slot& slot = *nightly.add_slots();
  slot.set_missed("overlap");
  slot.set_reason("run abc of this schedule is still going on");
  ASSERT_EQ(DiagnoseSchedules(all).size(), 1u);
  EXPECT_EQ(DiagnoseSchedules(all)[0].level(), v1::Diagnosis::LEVEL_WARN);
  EXPECT_THAT(DiagnoseSchedules(all)[0].found(), HasSubstr("run abc"));
  nightly.set_problem("the time zone 'Mars/Olympus' does not load");
  EXPECT_EQ(DiagnoseSchedules(all)[0].level(), v1::Diagnosis::LEVEL_FAIL);
}

TEST(DiagnosisTest, MonitoringThatDoesNotAnswerFails) {
  v1::SiteSpec site;
  EXPECT_EQ(LookAtMonitoring(site, RealClock())[0].level(), v1::Diagnosis::LEVEL_WARN);
  // Nobody listens on the port of discarding.
  site.mutable_prometheus()->set_url("http://127.0.0.1:9");
  site.add_alertmanagers()->set_url("http://127.0.0.1:9");
  const std::vector<v1::Diagnosis> all = LookAtMonitoring(site, RealClock());
  ASSERT_EQ(all.size(), 2u);
  for (const v1::Diagnosis& each : all) {
    EXPECT_EQ(each.level(), v1::Diagnosis::LEVEL_FAIL);
    EXPECT_THAT(each.found(), HasSubstr("127.0.0.1:9"));
    EXPECT_THAT(each.next(), HasSubstr("site file"));
  }
}

TEST(DiagnosisTest, WhatARunHasLeftIsToldWithWhatItTakesAndWhatToDo) {
  EXPECT_THAT(DiagnoseLeft({}), IsEmpty());
  LeftRunFaults left{.run = "r1", .experiment = "lost-index"};
  LeftFault& fault = left.faults["lose@db-1"];
  fault.planned.set_name("lose");
  fault.planned.set_node("db-1");
  fault.planned.set_ending(v1::ENDING_JOURNALLED);
  fault.planned.mutable_subject()->set_words("the server of profile dba");
  fault.state = v1::FAULT_STATE_EXPIRED;
  fault.reason = "not heard";
  const auto told = [&] { return DiagnoseLeft({{"r1", left}}).at(0); };
  EXPECT_EQ(told().level(), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_EQ(told().subject(), "run r1");
  EXPECT_EQ(told().found(),
            "of lost-index is NOT UNDONE; lose on db-1 is expired: not heard; no other run may hit "
            "the server of profile dba");
  EXPECT_THAT(told().next(), HasSubstr("firedrill settle r1 --reason WHY"));
  fault.undo_by_hand = "psql -c 'REINDEX'";
  EXPECT_THAT(told().next(), HasSubstr("undo it: psql -c 'REINDEX'"));
  // It takes nothing, and nobody has seen it undone.
  fault.planned.set_ending(v1::ENDING_DIES_WITH_PROCESS);
  EXPECT_EQ(told().level(), v1::Diagnosis::LEVEL_WARN);
  std::map<std::string, LeftRunFaults> many;
  for (int i = 0; i < 25; ++i) many["r" + std::to_string(i)] = left;
  EXPECT_EQ(DiagnoseLeft(many).size(), 21u);
  EXPECT_THAT(DiagnoseLeft(many).back().found(), HasSubstr("5 more are NOT UNDONE"));
}

TEST(DiagnosisTest, AHistoryThatCannotBeWrittenIsNamed) {
  EXPECT_TRUE(DiagnoseUnwritten({}).empty());
  const auto all =
      DiagnoseUnwritten({{"r1", {{}, absl::ResourceExhaustedError("the disk is full")}}});
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].level(), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_EQ(all[0].subject(), "run r1");
  EXPECT_EQ(all[0].found(), "its end is not in the history yet: the disk is full");
  EXPECT_EQ(DiagnoseStateFolder("/nonexistent").level(), v1::Diagnosis::LEVEL_FAIL);
  EXPECT_EQ(DiagnoseStateFolder("/proc").level(), v1::Diagnosis::LEVEL_FAIL);
}

}  // namespace
}  // namespace firedrill
