// What a node permits, row by row: its own words are stronger than any controller.
#include "injector/policy.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "experiment/hours.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error)) << error;
  return time;
}

v1::NodeSpec NodeWith(const std::string& policy) {
  v1::NodeSpec node = Parse<v1::NodeSpec>(
      "name: 'db-1' environment: 'lab' profiles { name: 'leaker' statements { name: 's' } } "
      "profiles { name: 'dba' statements { name: 'sessions' } remedy_statements { name: 'cure' } } "
      "endpoints: 'shop'");
  *node.mutable_policy() = Parse<v1::Policy>(policy);
  return node;
}

constexpr char kHold[] =
    "name: 'leak' duration { seconds: 40 } fault { hold_connections { profile: 'leaker' count: 50 "
    "} }";

struct Row {
  const char* name;
  const char* policy;
  const char* fault;
  // Empty: permitted.
  const char* words;
};

class FaultPolicyTest : public testing::TestWithParam<Row> {};

TEST_P(FaultPolicyTest, SaysWhatAndWhy) {
  const absl::Status status =
      PermitsFault(NodeWith(GetParam().policy), Parse<v1::PlannedFault>(GetParam().fault),
                   At("2026-11-24T10:00:00Z"));
  if (std::string(GetParam().words).empty()) {
    EXPECT_TRUE(status.ok()) << status;
  } else {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().words));
  }
}

const Row kRows[] = {
    Row{"NoPolicyPermitsItsOwnProfiles", "", kHold, ""},
    Row{"UnknownProfile", "", "name: 'x' fault { hold_connections { profile: 'leakr' count: 5 } }",
        "node db-1 has no profile leakr; it has leaker and dba"},
    Row{"KindListed", "faults: 'holdConnections'", kHold, ""},
    Row{"KindNotListed", "faults: 'terminateSessions'", kHold,
        "does not permit holdConnections; add it to policy.faults"},
    Row{"NoKindAtAll", "", "name: 'x' fault {}", "the controller is newer than this injector"},
    Row{"ProfileListed", "profiles: 'leaker'", kHold, ""},
    Row{"ProfileNotListed", "profiles: 'dba'", kHold, "faults through the profile leaker"},
    Row{"MagnitudeAtTheBound", "at_most { key: 'holdConnections.count' value: 50 }", kHold, ""},
    Row{"MagnitudeOverTheBound", "at_most { key: 'holdConnections.count' value: 49 }", kHold,
        "holdConnections.count: 50, only up to 49"},
    Row{"ABoundOnOneSizeIsNotEvadedByAnother", "at_most { key: 'holdConnections.count' value: 50 }",
        "name: 'x' fault { hold_connections { profile: 'leaker' fill_to: 1 } }",
        "holdConnections.fillTo, which has no bound while holdConnections.count has"},
    Row{"EachSizeWithItsBound",
        "at_most { key: 'holdConnections.count' value: 50 } at_most { key: "
        "'holdConnections.fillTo' value: 0.9 }",
        "name: 'x' fault { hold_connections { profile: 'leaker' fill_to: 0.9 } }", ""},
    Row{"NotANumberIsRefused", "at_most { key: 'holdConnections.fillTo' value: 0.9 }",
        "name: 'x' fault { hold_connections { profile: 'leaker' fill_to: nan } }",
        "only up to 0.9"},
    Row{"ABoundIsNotEvadedByLeavingItOut", "at_most { key: 'terminateSessions.atMost' value: 5 }",
        "name: 'x' fault { terminate_sessions { profile: 'dba' user: 'shop' } }",
        "terminateSessions without atMost; say atMost, at most 5"},
    Row{"BoundsOfOtherKindsDoNotMatter", "at_most { key: 'terminateSessions.atMost' value: 5 }",
        kHold, ""},
    Row{"LeastAtTheBound", "at_least { key: 'throttleCpu.cpus' value: 0.5 }",
        "name: 'x' fault { throttle_cpu { subject: 'database' cpus: 0.5 } }", ""},
    Row{"LessThanTheLeast", "at_least { key: 'throttleCpu.cpus' value: 0.5 }",
        "name: 'x' fault { throttle_cpu { subject: 'database' cpus: 0.4 } }",
        "throttleCpu.cpus: 0.4, only from 0.5 on; ask for more"},
    Row{"ALeastIsNotEvadedByAnotherSize", "at_least { key: 'throttleCpu.cpus' value: 0.5 }",
        "name: 'x' fault { throttle_cpu { subject: 'database' of_use: 0.9 } }",
        "throttleCpu.ofUse, which has no bound while throttleCpu.cpus has; say cpus, at least 0.5"},
    Row{"NotANumberIsNoLeast", "at_least { key: 'throttleCpu.cpus' value: 0.5 }",
        "name: 'x' fault { throttle_cpu { subject: 'database' cpus: nan } }", "only from 0.5 on"},
    Row{"DurationAtTheBound", "max_duration { seconds: 40 }", kHold, ""},
    Row{"DurationOverTheBound", "max_duration { seconds: 39 }", kHold,
        "faults of 40s, only up to 39s"},
    Row{"UntilLease", "",
        "name: 'x' on_controller_loss: ON_CONTROLLER_LOSS_UNTIL_LEASE fault { hold_connections { "
        "profile: "
        "'leaker' count: 5 } }",
        "onControllerLoss: untilLease"},
    Row{"UntilLeasePermitted", "until_lease: true",
        "name: 'x' on_controller_loss: ON_CONTROLLER_LOSS_UNTIL_LEASE fault { hold_connections { "
        "profile: "
        "'leaker' count: 5 } }",
        ""},
    Row{"Superuser", "",
        "name: 'x' fault { hold_connections { profile: 'leaker' count: 5 superuser: true } }",
        "superuser: true"},
    Row{"SuperuserPermitted", "superuser: true",
        "name: 'x' fault { hold_connections { profile: 'leaker' count: 5 superuser: true } }", ""},
    Row{"Writes", "",
        "name: 'x' fault { storm_queries { profile: 'leaker' statement: 's' sessions: 5 writes: "
        "true } }",
        "writes: true"},
    Row{"WritesPermitted", "writes: true",
        "name: 'x' fault { storm_queries { profile: 'leaker' statement: 's' sessions: 5 writes: "
        "true } }",
        ""},
    Row{"OutOfHours", "hours { from: '08:00' to: '10:00' time_zone: 'Europe/Berlin' }", kHold,
        "only within 08:00-10:00 Europe/Berlin"},
    Row{"WithinHours", "hours { from: '11:00' to: '11:01' time_zone: 'Europe/Berlin' }", kHold, ""},
    Row{"AZoneThatDoesNotLoadIsNotUtc",
        "hours { from: '00:00' to: '23:59' time_zone: 'Europe/Belrin' }", kHold,
        "the time zone Europe/Belrin is not known"},
};

INSTANTIATE_TEST_SUITE_P(Rows, FaultPolicyTest, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.name); });

struct HoursRow {
  const char* name;
  const char* hours;
  const char* now;
  bool within;
};

class HoursTest : public testing::TestWithParam<HoursRow> {};

TEST_P(HoursTest, Window) {
  v1::Policy policy;
  *policy.add_hours() = Parse<v1::Hours>(GetParam().hours);
  EXPECT_EQ(WithinHours(policy, At(GetParam().now)).ok(), GetParam().within);
}

// 2026-11-24 is a Tuesday.
INSTANTIATE_TEST_SUITE_P(
    Rows, HoursTest,
    testing::Values(HoursRow{"FromIsInside", "from: '10:00' to: '12:00' time_zone: 'UTC'",
                             "2026-11-24T10:00:00Z", true},
                    HoursRow{"ToIsOutside", "from: '10:00' to: '12:00' time_zone: 'UTC'",
                             "2026-11-24T12:00:00Z", false},
                    HoursRow{"TheDay", "days: 2 from: '10:00' to: '12:00' time_zone: 'UTC'",
                             "2026-11-24T11:00:00Z", true},
                    HoursRow{"AnotherDay", "days: 3 from: '10:00' to: '12:00' time_zone: 'UTC'",
                             "2026-11-24T11:00:00Z", false},
                    HoursRow{"SundayIsZero", "days: 0 from: '10:00' to: '12:00' time_zone: 'UTC'",
                             "2026-11-22T11:00:00Z", true},
                    HoursRow{"OverMidnightBefore",
                             "days: 2 from: '22:00' to: '06:00' time_zone: 'UTC'",
                             "2026-11-24T23:00:00Z", true},
                    HoursRow{"OverMidnightAfterBelongsToTheDayItOpened",
                             "days: 2 from: '22:00' to: '06:00' time_zone: 'UTC'",
                             "2026-11-25T05:59:00Z", true},
                    HoursRow{"OverMidnightOfTheDayBefore",
                             "days: 2 from: '22:00' to: '06:00' time_zone: 'UTC'",
                             "2026-11-24T05:59:00Z", false},
                    HoursRow{"TheZoneDecidesTheDay",
                             "days: 3 from: '00:00' to: '02:00' time_zone: 'Europe/Berlin'",
                             "2026-11-24T23:30:00Z", true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Policy, Loads) {
  const auto load =
      Parse<v1::PlannedLoad>("name: 'l' load { send_requests { endpoint: 'shop' rate: 40 } }");
  EXPECT_TRUE(PermitsLoad(NodeWith(""), load).ok());
  EXPECT_TRUE(PermitsLoad(NodeWith("loads: 'sendRequests'"), load).ok());
  EXPECT_FALSE(PermitsLoad(NodeWith("loads: 'other'"), load).ok());
  EXPECT_FALSE(PermitsLoad(NodeWith("at_most { key: 'sendRequests.rate' value: 39 }"), load).ok());
  auto elsewhere = load;
  elsewhere.mutable_load()->mutable_send_requests()->set_endpoint("bank");
  EXPECT_THAT(std::string(PermitsLoad(NodeWith(""), elsewhere).message()),
              HasSubstr("the endpoint bank"));
}

TEST(Policy, RemediesThatChangeTheSystemForGood) {
  const auto remedy = Parse<v1::PlannedRemedy>("name: 'r' remedy { run_program { program: 'p' } }");
  EXPECT_TRUE(PermitsRemedy(NodeWith(""), remedy, v1::LEAVES_NOTHING).ok());
  EXPECT_TRUE(PermitsRemedy(NodeWith(""), remedy, v1::LEAVES_RESTORED).ok());
  EXPECT_FALSE(PermitsRemedy(NodeWith(""), remedy, v1::LEAVES_CHANGED).ok());
  EXPECT_FALSE(PermitsRemedy(NodeWith(""), remedy, v1::LEAVES_UNSPECIFIED).ok());
  EXPECT_TRUE(PermitsRemedy(NodeWith("lasting_remedies: true"), remedy, v1::LEAVES_CHANGED).ok());
  EXPECT_FALSE(PermitsRemedy(NodeWith("remedies: 'restartUnit'"), remedy, v1::LEAVES_NOTHING).ok());
}

TEST(Policy, StatementsThatTheirProfileNames) {
  const absl::Time now = At("2026-11-21T10:00:00Z");
  const auto storm = [](const std::string& statement) {
    return Parse<v1::PlannedFault>(
        "name: 'x' fault { storm_queries { profile: 'leaker' statement: '" + statement +
        "' sessions: 5 } }");
  };
  EXPECT_TRUE(PermitsFault(NodeWith(""), storm("s"), now).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(PermitsFault(NodeWith(""), storm("sessions"), now)));
  const auto cure = [](const std::string& statement) {
    return Parse<v1::PlannedRemedy>(
        "name: 'x' remedy { run_statement { profile: 'dba' statement: '" + statement + "' } }");
  };
  EXPECT_TRUE(PermitsRemedy(NodeWith(""), cure("cure"), v1::LEAVES_NOTHING).ok());
  // What a probe may ask is no remedy.
  EXPECT_FALSE(PermitsRemedy(NodeWith(""), cure("sessions"), v1::LEAVES_NOTHING).ok());
}

TEST(Policy, PlansThatWereMadeForAnotherEnvironment) {
  const absl::Time now = At("2026-11-21T10:00:00Z");
  v1::PlannedFault fault = Parse<v1::PlannedFault>(kHold);
  EXPECT_TRUE(PermitsFault(NodeWith(""), fault, now).ok());
  fault.add_environments("staging");
  EXPECT_THAT(
      std::string(PermitsFault(NodeWith(""), fault, now).message()),
      HasSubstr("node db-1 is of the environment lab, and the experiment may run in staging"));
  fault.add_environments("lab");
  EXPECT_TRUE(PermitsFault(NodeWith(""), fault, now).ok());
  // One that does not know its own environment has nothing to hold against it.
  v1::NodeSpec bare = NodeWith("");
  bare.clear_environment();
  fault.clear_environments();
  fault.add_environments("staging");
  EXPECT_TRUE(PermitsFault(bare, fault, now).ok());
}

TEST(Policy, ProbesWithAQueryOfTheirOwn) {
  const auto named =
      Parse<v1::PlannedProbe>("id: 'p' probe { sql { profile: 'dba' statement: 'sessions' } }");
  const auto query =
      Parse<v1::PlannedProbe>("id: 'p' probe { sql { profile: 'dba' query: 'select 1' } }");
  EXPECT_TRUE(PermitsProbe(NodeWith(""), named).ok());
  EXPECT_FALSE(PermitsProbe(NodeWith(""), query).ok());
  EXPECT_TRUE(PermitsProbe(NodeWith("free_queries: true"), query).ok());
  // A policy of profiles is about faults.
  EXPECT_TRUE(PermitsProbe(NodeWith("profiles: 'leaker'"), named).ok());
  const auto other =
      Parse<v1::PlannedProbe>("id: 'p' probe { sql { profile: 'dba' statement: 's' } }");
  EXPECT_THAT(std::string(PermitsProbe(NodeWith(""), other).message()),
              HasSubstr("does not permit the statement s through the profile dba; add it to"));
  const auto http =
      Parse<v1::PlannedProbe>("id: 'p' probe { http { endpoint: 'bank' path: '/' } }");
  EXPECT_FALSE(PermitsProbe(NodeWith(""), http).ok());
}

}  // namespace
}  // namespace firedrill
