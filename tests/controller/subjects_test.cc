// The blast lease: one subject, one run, whatever leads to it.
#include "controller/subjects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/controller/rehearsal.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Subject Server(const std::string& identity, const std::vector<std::string>& addresses,
                   const std::string& unsure = "") {
  v1::Subject subject;
  subject.set_family("postgresql");
  subject.set_identity(identity);
  for (const std::string& address : addresses) subject.add_addresses(address);
  subject.set_words("the postgresql server of profile leaker");
  subject.set_unsure(unsure);
  return subject;
}

v1::Plan PlanOf(const std::string& run, const std::vector<v1::Subject>& subjects) {
  v1::Plan plan;
  plan.set_run(run);
  for (const v1::Subject& subject : subjects) {
    v1::PlannedFault& fault = *plan.add_faults();
    fault.set_name("leak" + std::to_string(plan.faults_size()));
    fault.set_node("db-" + run);
    *fault.mutable_subject() = subject;
  }
  return plan;
}

class SubjectsTest : public testing::Test {
 protected:
  void Take(const v1::Plan& plan) {
    subjects_.Take(plan, {plan.run(), "unclosed", "alice", absl::FromUnixSeconds(1'800'000'000)});
  }
  // What stands in the way of it, in one text.
  std::string Refusal(const v1::Subject& subject) {
    v1::Plan plan = PlanOf("second", {subject});
    subjects_.Check(plan);
    std::string text;
    for (const v1::Finding& finding : plan.findings()) {
      EXPECT_EQ(finding.kind(), v1::Finding::KIND_CIRCUMSTANCE);
      EXPECT_EQ(finding.code(), "subject-taken");
      EXPECT_EQ(finding.subject(), "leak1");
      text += finding.message() + "; " + finding.mend() + "\n";
    }
    return text;
  }

  Subjects subjects_;
};

TEST_F(SubjectsTest, OneServerIsTakenWhateverNodeAndAddressLeadToIt) {
  Take(PlanOf("first", {Server("postgresql/77/5432", {"10.0.0.5:5432"})}));
  EXPECT_THAT(
      Refusal(Server("postgresql/77/5432", {"boot-1:5432"})),
      AllOf(
          HasSubstr("leak1: the postgresql server of profile leaker (postgresql/77/5432) is taken: "
                    "run first of unclosed, started by alice, has had it since "),
          HasSubstr(
              "wait until that run has ended, or end it: firedrill stop first --reason WHY")));
  EXPECT_THAT(Refusal(Server("postgresql/78/5432", {"boot-1:5432"})), IsEmpty());
}

TEST_F(SubjectsTest, PrivateAddressesThatAreUsedTwiceAreToldApartByIdentity) {
  Take(PlanOf("first", {Server("postgresql/77/5432", {"172.17.0.2:5432"})}));
  EXPECT_THAT(Refusal(Server("postgresql/78/5432", {"172.17.0.2:5432"})), IsEmpty());
  // Of one that does not say who it is nothing else is known.
  EXPECT_THAT(Refusal(Server("", {"172.17.0.2:5432"})), HasSubstr("is taken"));
}

TEST_F(SubjectsTest, WhatHasNoIdentityIsToldApartByAddress) {
  Take(PlanOf("first", {Server("", {"10.0.0.5:80", "boot-1:80"})}));
  EXPECT_THAT(Refusal(Server("", {"boot-1:80"})), HasSubstr("is taken"));
  EXPECT_THAT(Refusal(Server("", {"boot-2:80"})), IsEmpty());
  EXPECT_THAT(Refusal(Server("", {"boot-1:81"})), IsEmpty());
}

TEST_F(SubjectsTest, AServerThatDidNotSayWhoItIsMayBeAnyOfItsKind) {
  const v1::Subject full = Server("", {"10.0.0.9:5432"}, "sorry, too many clients already");
  EXPECT_THAT(Refusal(full), IsEmpty());
  Take(PlanOf("first", {Server("postgresql/77/5432", {"boot-1:5432"})}));
  EXPECT_THAT(Refusal(full),
              AllOf(HasSubstr("may be the same as"),
                    HasSubstr("they cannot be told apart: sorry, too many clients already")));
  v1::Subject other = full;
  other.set_family("redis");
  EXPECT_THAT(Refusal(other), IsEmpty());
}

TEST_F(SubjectsTest, FaultsOfOneRunShareASubject) {
  const v1::Subject server = Server("postgresql/77/5432", {});
  v1::Plan plan = PlanOf("first", {server, server});
  Take(plan);
  subjects_.Check(plan);
  EXPECT_EQ(plan.findings_size(), 0);
}

TEST_F(SubjectsTest, WhatHitsNoSubjectIsNeverTaken) {
  Take(PlanOf("first", {v1::Subject()}));
  EXPECT_THAT(subjects_.HeldBy("first"), IsEmpty());
  EXPECT_THAT(Refusal(v1::Subject()), IsEmpty());
}

// What is not known to be off keeps its server: a lease that is over ends only what needs nobody to
// end it.
TEST_F(SubjectsTest, IsFreeWhenTheRunHasEndedAndHeldWhileAnythingMayBeOn) {
  const v1::Subject server = Server("postgresql/77/5432", {});
  const v1::Plan plan = PlanOf("first", {server});
  Take(plan);
  EXPECT_THAT(Refusal(server), HasSubstr("is taken"));
  subjects_.Settle("first", {});
  EXPECT_THAT(Refusal(server), IsEmpty());
  const auto freed = [&](v1::FaultState state, v1::Ending ending) {
    Take(plan);
    LeftFault left{.planned = plan.faults(0), .state = state, .reason = "WORDS"};
    left.planned.set_ending(ending);
    subjects_.Settle("first", {{FaultKey(left.planned), left}});
    const std::string words = Refusal(server);
    if (!words.empty()) {
      EXPECT_THAT(words, HasSubstr("that run has ended, and leak1 on db-first is "));
      EXPECT_THAT(words, HasSubstr(": WORDS; undo that first"));
      EXPECT_THAT(words, HasSubstr("firedrill settle first --reason WHY"));
    }
    subjects_.Settle("first", {});
    EXPECT_THAT(Refusal(server), IsEmpty());
    return words.empty();
  };
  for (const v1::Ending ending :
       {v1::ENDING_UNSPECIFIED, v1::ENDING_ONE_SHOT, v1::ENDING_DIES_WITH_PROCESS,
        v1::ENDING_EXPIRES, v1::ENDING_JOURNALLED}) {
    const bool alone = ending != v1::ENDING_UNSPECIFIED && ending != v1::ENDING_JOURNALLED;
    EXPECT_EQ(freed(v1::FAULT_STATE_EXPIRED, ending), alone) << ending;
    EXPECT_FALSE(freed(v1::FAULT_STATE_STUCK, ending)) << ending;
    EXPECT_FALSE(freed(v1::FAULT_STATE_UNKNOWN, ending)) << ending;
    EXPECT_FALSE(freed(v1::FAULT_STATE_ACTIVE, ending)) << ending;
    EXPECT_TRUE(freed(v1::FAULT_STATE_SUPERSEDED, ending)) << ending;
  }
}

}  // namespace
}  // namespace firedrill
