// Plans: who is chosen and why the others are not, what happens when, and what cannot pass. The
// texts are compared with golden/*.txt; after a change that is meant, run with
// FIREDRILL_UPDATE_GOLDEN=1 and read the diff.
#include "controller/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "experiment/condition.h"
#include "experiment/reader.h"
#include "tests/testing/golden.h"

namespace firedrill {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kExperiment[] = R"yaml(apiVersion: firedrill/v1
kind: Experiment
metadata: {name: unclosed-connections}
spec:
  hypothesis: >-
    When a leaking client fills the shop's database, on-call is paged about the slots within 15 s,
    restarting the shop does not help, and logins answer again within 15 s of the leak's end.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database, service: shop}}, count: 1}
    - {name: app-node, selector: {matchLabels: {role: app}}, count: 1}
    - {name: load-node, selector: {matchLabels: {role: load}}, count: 1}
  limits: {environments: [lab, staging], maxDuration: 5m}
  guardrails:
    - {name: unexpected-page, page: unexpected}
    - name: shop-gone
      http: {endpoint: shop, path: /health}
      is: "status == 200"
      breachedFor: 10s
  load:
    - name: shoppers
      target: load-node
      sendRequests:
        endpoint: shop
        rate: 40
        values: {email: shop-emails}
        requests:
          - {name: login, path: "/login?email={email}", weight: 80}
          - {name: images, path: /api/images, weight: 20}
  steadyState:
    - name: logins-answer
      load: shoppers
      request: login
      is: "ok >= 99%, p95 < 250ms"
      over: 3s
      for: 10s
    - {name: slots-free, prometheus: {query: "max(pg_used)"}, is: "< 0.6", for: 5s}
  faults:
    - name: leak
      target: db-node
      at: 0s
      duration: 40s
      holdConnections:
        {profile: leaker, state: idleInTransaction, fillTo: 1.0, ramp: 5s, refill: true}
    - {name: cut, target: db-node, at: 12s, terminateSessions: {profile: dba, user: shop}}
  remedies:
    - {name: restart-shop, target: app-node, at: 20s, runProgram: {program: restart-shop}}
  expect:
    impact:
      - name: logins-hurt
        load: shoppers
        request: login
        is: "ok < 60%"
        since: cut.start
        within: 10s
    alerts:
      - name: slots-page
        alert: PostgresConnectionsNearLimit
        since: leak.reached
        firingWithin: 10s
        notification: {receiver: oncall, within: 15s}
        resolved: {since: leak.end, within: 30s}
        before: [ApiErrorRateHigh]
    mayFire: [HighLatency]
    mustNotFire: [PossibleDDoS]
    recovery:
      - {name: back-after-leak, probe: logins-answer, since: leak.end, within: 15s, for: 15s}
      - name: no-leftovers
        sql: {from: db-node, profile: dba, statement: sessions-of-run}
        is: "== 0"
        since: leak.end
        within: 5s
)yaml";

v1::Registration Node(const std::string& name, std::map<std::string, std::string> labels) {
  v1::Registration node;
  node.set_node(name);
  node.set_version("0.1.0");
  for (const auto& [key, value] : labels) (*node.mutable_labels())[key] = value;
  for (const char* kind : {"holdConnections", "terminateSessions", "runProgram", "sendRequests"}) {
    v1::Capability& capability = *node.add_capabilities();
    capability.set_kind(kind);
    capability.set_available(true);
  }
  return node;
}

// In place of the program: what only the definition can say leaves the system changed.
v1::CallUrl& CallOf(PlanInput& input) {
  v1::RemedyStep& step = *input.experiment.mutable_spec()->mutable_remedies(0);
  v1::CallUrl& call = *step.mutable_remedy()->mutable_call_url();
  call.set_endpoint("shop");
  call.set_path("/flags/slow");
  call.set_leaves(v1::LEAVES_CHANGED);
  return call;
}

v1::Registration Database(const std::string& name) {
  v1::Registration node = Node(name, {{"role", "database"}, {"service", "shop"}});
  node.add_profiles()->set_name("leaker");
  v1::ProfileSummary& dba = *node.add_profiles();
  dba.set_name("dba");
  dba.add_statements("sessions-of-run");
  return node;
}

PlanInput Input() {
  PlanInput input;
  const ExperimentFile file = ReadExperiment(kExperiment, "x.yaml");
  EXPECT_TRUE(file.ok()) << file.Report();
  input.experiment = file.experiment;
  input.site.set_environment("lab");
  input.site.add_pages("severity=\"page\"");
  v1::Endpoint& shop = *input.site.add_endpoints();
  shop.set_name("shop");
  shop.set_url("http://127.0.0.1:8080");
  input.nodes.push_back(Database("db-1"));
  v1::Registration app = Node("app-1", {{"role", "app"}, {"service", "shop"}});
  v1::Program& restart = *app.add_programs();
  restart.set_name("restart-shop");
  restart.set_leaves(v1::LEAVES_NOTHING);
  input.nodes.push_back(app);
  v1::Registration load = Node("load-1", {{"role", "load"}});
  load.add_values("shop-emails");
  input.nodes.push_back(load);
  input.seed = 7;
  input.run = "k3v9x2ab";
  input.alerting.rules.push_back({"PostgresConnectionsNearLimit", "postgresql", absl::Seconds(2),
                                  absl::Seconds(1), absl::Seconds(1)});
  input.alerting.group_wait["PostgresConnectionsNearLimit"] = absl::Seconds(1);
  return input;
}

std::vector<std::string> Codes(const v1::Plan& plan) {
  std::vector<std::string> codes;
  for (const v1::Finding& finding : plan.findings()) codes.push_back(finding.code());
  return codes;
}

std::string ReasonFor(const v1::Plan& plan, const std::string& target, const std::string& node) {
  for (const v1::TargetChoice& choice : plan.targets()) {
    if (choice.target() != target) continue;
    for (const auto& passed : choice.passed()) {
      if (passed.node() == node) return passed.reason();
    }
  }
  return "(not passed over)";
}

TEST(PlanTest, FindsNothingWrongWithASoundExperiment) {
  EXPECT_THAT(Codes(MakePlan(Input())), IsEmpty());
}

// ---- who

TEST(PlanTest, ChoosesByLabelAndSaysWhyNotTheOthers) {
  PlanInput input = Input();
  input.nodes.push_back(Node("bare", {}));
  input.nodes.push_back(Node("other-db", {{"role", "database"}, {"service", "billing"}}));
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(plan.targets(0).nodes(), ElementsAre("db-1"));
  EXPECT_EQ(ReasonFor(plan, "db-node", "app-1"), "label role is app, not database");
  EXPECT_EQ(ReasonFor(plan, "db-node", "bare"), "has no label role, needs database");
  EXPECT_EQ(ReasonFor(plan, "db-node", "other-db"), "label service is billing, not shop");
}

TEST(PlanTest, UnderstandsEveryConditionOnALabel) {
  struct Case {
    v1::LabelCondition::Operator op;
    std::vector<std::string> values;
    std::string reason;
  };
  for (const Case& c : {
           Case{v1::LabelCondition::OPERATOR_IN, {"a", "b"}, "label zone is c, not a or b"},
           Case{v1::LabelCondition::OPERATOR_IN, {"a", "c"}, ""},
           Case{v1::LabelCondition::OPERATOR_NOT_IN, {"c"}, "label zone is c, which is excluded"},
           Case{v1::LabelCondition::OPERATOR_NOT_IN, {"a"}, ""},
           Case{v1::LabelCondition::OPERATOR_EXISTS, {}, ""},
           Case{v1::LabelCondition::OPERATOR_DOES_NOT_EXIST, {}, "has a label zone"},
       }) {
    PlanInput input = Input();
    v1::LabelCondition& condition = *input.experiment.mutable_spec()
                                         ->mutable_targets(0)
                                         ->mutable_selector()
                                         ->add_match_expressions();
    condition.set_key("zone");
    condition.set_operator_(c.op);
    for (const std::string& value : c.values) condition.add_values(value);
    (*input.nodes[0].mutable_labels())["zone"] = "c";
    const v1::Plan plan = MakePlan(input);
    EXPECT_EQ(ReasonFor(plan, "db-node", "db-1"),
              c.reason.empty() ? "(not passed over)" : c.reason);
  }
}

TEST(PlanTest, DrawsWithTheSeedAndReachesEveryNode) {
  std::set<std::string> drawn;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    PlanInput input = Input();
    input.nodes.push_back(Database("db-2"));
    input.nodes.push_back(Database("db-3"));
    input.seed = seed;
    const v1::Plan plan = MakePlan(input);
    ASSERT_EQ(plan.targets(0).nodes_size(), 1);
    drawn.insert(plan.targets(0).nodes(0));
    std::swap(input.nodes[0], input.nodes[3]);
    EXPECT_EQ(MakePlan(input).targets(0).nodes(0), plan.targets(0).nodes(0))
        << "the order in which nodes have dialled in must not matter";
  }
  EXPECT_THAT(drawn, ElementsAre("db-1", "db-2", "db-3"));
}

TEST(PlanTest, WhatAFaultLeavesToChanceHangsOnTheRunsSeed) {
  PlanInput input = Input();
  const uint64_t seven = MakePlan(input).faults(0).seed();
  EXPECT_EQ(MakePlan(input).faults(0).seed(), seven);
  input.seed = 8;
  EXPECT_NE(MakePlan(input).faults(0).seed(), seven);
  EXPECT_NE(seven, 0u);
}

TEST(PlanTest, SaysWithWhichSeedTheOthersWereNotDrawn) {
  PlanInput input = Input();
  input.nodes.push_back(Database("db-2"));
  const v1::Plan plan = MakePlan(input);
  const std::string other = plan.targets(0).nodes(0) == "db-1" ? "db-2" : "db-1";
  EXPECT_EQ(ReasonFor(plan, "db-node", other), "fits, but 1 of 2 was drawn with seed 7");
}

TEST(PlanTest, EveryNodeOfATargetGetsTheFault) {
  PlanInput input = Input();
  input.nodes.push_back(Database("db-2"));
  input.experiment.mutable_spec()->mutable_targets(0)->set_count(2);
  const v1::Plan plan = MakePlan(input);
  ASSERT_EQ(plan.faults_size(), 4);
  EXPECT_EQ(plan.faults(0).name(), "leak");
  EXPECT_EQ(plan.faults(0).node(), "db-1");
  EXPECT_EQ(plan.faults(1).name(), "leak");
  EXPECT_EQ(plan.faults(1).node(), "db-2");
}

TEST(PlanTest, TooFewNodesAreACircumstance) {
  PlanInput input = Input();
  input.nodes.erase(input.nodes.begin());
  const v1::Plan plan = MakePlan(input);
  ASSERT_THAT(Codes(plan), ElementsAre("no-target"));
  EXPECT_EQ(plan.findings(0).kind(), v1::Finding::KIND_CIRCUMSTANCE);
  EXPECT_EQ(plan.findings(0).message(),
            "target db-node needs 1 node with role=database, service=shop; 0 of 2 connected fit");
}

TEST(PlanTest, ANodeOfAForbiddenEnvironmentIsNeverChosen) {
  PlanInput input = Input();
  input.nodes[0].set_environment("production");
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(Codes(plan), ElementsAre("no-target"));
  EXPECT_THAT(plan.faults(), IsEmpty());
  EXPECT_EQ(ReasonFor(plan, "db-node", "db-1"),
            "its environment is production, not lab or staging");
}

TEST(PlanTest, AForbiddenSiteIsACircumstance) {
  PlanInput input = Input();
  input.site.set_environment("production");
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(Codes(plan), Contains("environment"));
  EXPECT_THAT(plan.faults(), IsEmpty());
}

// ---- what the nodes cannot or may not

struct Refusal {
  const char* name;
  std::function<void(PlanInput&)> change;
  const char* code;
  const char* message;
};

class PlanRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(PlanRefusalTest, IsFoundWhilePlanning) {
  PlanInput input = Input();
  GetParam().change(input);
  const v1::Plan plan = MakePlan(input);
  ASSERT_EQ(plan.findings_size(), 1) << plan.ShortDebugString();
  EXPECT_EQ(plan.findings(0).kind(), v1::Finding::KIND_CIRCUMSTANCE);
  EXPECT_EQ(plan.findings(0).code(), GetParam().code);
  EXPECT_THAT(plan.findings(0).message(), HasSubstr(GetParam().message));
  EXPECT_FALSE(plan.findings(0).mend().empty());
}

v1::Policy& PolicyOf(PlanInput& input, size_t node) { return *input.nodes[node].mutable_policy(); }

TEST(PlanHoursTest, WithinItsHoursNothingIsFound) {
  PlanInput input = Input();
  input.now = absl::FromUnixSeconds(1795510770);  // 09:59:30 in Berlin.
  v1::Hours& hours = *PolicyOf(input, 0).add_hours();
  hours.set_from("08:00");
  hours.set_to("10:00");
  hours.set_time_zone("Europe/Berlin");
  EXPECT_EQ(MakePlan(input).findings_size(), 0) << MakePlan(input).ShortDebugString();
}

INSTANTIATE_TEST_SUITE_P(
    All, PlanRefusalTest,
    testing::Values(
        Refusal{"KindUnavailable",
                [](PlanInput& in) {
                  v1::Capability& capability = *in.nodes[0].mutable_capabilities(0);
                  capability.set_available(false);
                  capability.set_reason("no libpq");
                  capability.set_alternative("exhaustSockets");
                },
                "cannot", "leak: node db-1 cannot holdConnections: no libpq"},
        Refusal{"KindUnknown",
                [](PlanInput& in) { in.nodes[0].mutable_capabilities(1)->set_kind("other"); },
                "cannot", "cut: node db-1 (version 0.1.0) does not know terminateSessions"},
        Refusal{"FaultKindForbidden",
                [](PlanInput& in) { PolicyOf(in, 0).add_faults("terminateSessions"); }, "policy",
                "does not permit holdConnections, only terminateSessions"},
        Refusal{
            "OutOfHours",
            [](PlanInput& in) {
              // A Tuesday; 10:00:30 in Berlin, when the window has just closed.
              in.now = absl::FromUnixSeconds(1795510830);
              v1::Hours& hours = *PolicyOf(in, 0).add_hours();
              hours.add_days(2);
              hours.set_from("08:00");
              hours.set_to("10:00");
              hours.set_time_zone("Europe/Berlin");
            },
            "hours",
            "leak and cut: on node db-1 faults may start only within 08:00-10:00 Europe/Berlin on "
            "Tue, not on Tue at 10:00"},
        Refusal{"OutOfHoursByTheTimeOfAFault",
                [](PlanInput& in) {
                  // Five seconds before the window closes: the leak may begin, the cut would come
                  // too late.
                  in.now = absl::FromUnixSeconds(1795510795);
                  v1::Hours& hours = *PolicyOf(in, 0).add_hours();
                  hours.set_from("08:00");
                  hours.set_to("10:00");
                  hours.set_time_zone("Europe/Berlin");
                },
                "hours",
                "cut: on node db-1 faults may start only within 08:00-10:00 Europe/Berlin, not"},
        Refusal{"AZoneThatDoesNotLoadIsNotUtc",
                [](PlanInput& in) {
                  in.now = absl::FromUnixSeconds(1795510795);
                  v1::Hours& hours = *PolicyOf(in, 0).add_hours();
                  hours.set_from("00:00");
                  hours.set_to("23:59");
                  hours.set_time_zone("Europe/Belrin");
                },
                "hours", "the time zone Europe/Belrin is not known here"},
        Refusal{"RemedyKindForbidden",
                [](PlanInput& in) { PolicyOf(in, 1).add_remedies("restartUnit"); }, "policy",
                "does not permit runProgram"},
        Refusal{"ACallThatLasts", [](PlanInput& in) { CallOf(in); }, "policy",
                "callUrl leaves the system changed, which the policy of node app-1 does not"},
        Refusal{"ACallOfAnEndpointThatIsNot",
                [](PlanInput& in) {
                  CallOf(in).set_leaves(v1::LEAVES_NOTHING);
                  CallOf(in).set_endpoint("shops");
                  PolicyOf(in, 1).set_lasting_remedies(true);
                },
                "no-endpoint", "the site has no endpoint named shops"},
        Refusal{"LoadKindForbidden", [](PlanInput& in) { PolicyOf(in, 2).add_loads("other"); },
                "policy", "does not permit sendRequests"},
        Refusal{"TooMuch",
                [](PlanInput& in) {
                  (*PolicyOf(in, 0).mutable_at_most())["holdConnections.fillTo"] = 0.9;
                },
                "policy",
                "holdConnections.fillTo is 1; the policy of node db-1 permits at most 0.9"},
        Refusal{
            "TooMuchLoad",
            [](PlanInput& in) { (*PolicyOf(in, 2).mutable_at_most())["sendRequests.rate"] = 10; },
            "policy", "sendRequests.rate is 40"},
        Refusal{"TooLong",
                [](PlanInput& in) {
                  *PolicyOf(in, 0).mutable_max_duration() = ToProto(absl::Seconds(30));
                },
                "policy", "it lasts 40s; the policy of node db-1 permits at most 30s"},
        Refusal{"ProfileForbidden", [](PlanInput& in) { PolicyOf(in, 0).add_profiles("dba"); },
                "policy", "does not permit faults through profile leaker"},
        Refusal{"NoProfile",
                [](PlanInput& in) { in.nodes[0].mutable_profiles(0)->set_name("leaked"); },
                "no-profile", "leak: node db-1 has no profile named leaker; it has leaked and dba"},
        Refusal{"OtherProtocol",
                [](PlanInput& in) {
                  in.nodes[0].mutable_profiles(0)->set_protocol(v1::PROTOCOL_REDIS);
                },
                "protocol", "leak: profile leaker of node db-1 is a redis server, not postgresql"},
        Refusal{"NoProgram", [](PlanInput& in) { in.nodes[1].clear_programs(); }, "no-program",
                "node app-1 has no program named restart-shop"},
        Refusal{"NoValues", [](PlanInput& in) { in.nodes[2].clear_values(); }, "no-values",
                "node load-1 has no values named shop-emails"},
        Refusal{"NoStatement",
                [](PlanInput& in) { in.nodes[0].mutable_profiles(1)->clear_statements(); },
                "no-statement", "permits no statement named sessions-of-run"},
        Refusal{
            "LastingRemedy",
            [](PlanInput& in) { in.nodes[1].mutable_programs(0)->set_leaves(v1::LEAVES_CHANGED); },
            "policy", "leaves the system changed"},
        Refusal{"FreeQuery",
                [](PlanInput& in) {
                  in.experiment.mutable_spec()
                      ->mutable_expect()
                      ->mutable_recovery(1)
                      ->mutable_probe()
                      ->mutable_sql()
                      ->set_query("select 1");
                },
                "policy", "does not permit a query of its own"},
        Refusal{"UntilLease",
                [](PlanInput& in) {
                  in.experiment.mutable_spec()->mutable_faults(0)->set_on_controller_loss(
                      v1::ON_CONTROLLER_LOSS_UNTIL_LEASE);
                },
                "policy", "does not permit onControllerLoss: untilLease"},
        Refusal{"Superuser",
                [](PlanInput& in) {
                  in.experiment.mutable_spec()
                      ->mutable_faults(0)
                      ->mutable_fault()
                      ->mutable_hold_connections()
                      ->set_superuser(true);
                },
                "policy", "does not permit superuser: true"},
        Refusal{"OverTheLimit",
                [](PlanInput& in) {
                  *in.experiment.mutable_spec()->mutable_limits()->mutable_max_duration() =
                      ToProto(absl::Seconds(30));
                },
                "limit", "leak would end 40s after the first fault's start"},
        Refusal{"MoreFaultsThanTheControllerLets", [](PlanInput& in) { in.limits.set_faults(1); },
                "limit", "are 2; the controller's limits.faults is 1"},
        Refusal{"LongerThanTheControllerLets",
                [](PlanInput& in) { *in.limits.mutable_length() = ToProto(absl::Minutes(1)); },
                "limit", "; the controller's limits.length is 1m"},
        Refusal{"MoreNodesThanTheControllerLets",
                [](PlanInput& in) {
                  in.nodes.push_back(Database("db-2"));
                  in.experiment.mutable_spec()->mutable_targets(0)->set_count(2);
                  in.limits.set_nodes(1);
                },
                "limit",
                "the nodes that this run's faults hit are 2; the controller's limits.nodes"},
        Refusal{"SameSubject",
                [](PlanInput& in) {
                  v1::FaultStep& step = *in.experiment.mutable_spec()->add_faults();
                  step = in.experiment.spec().faults(0);
                  step.set_name("leak-too");
                  *step.mutable_at() = ToProto(absl::Seconds(30));
                },
                "same-subject", "leak and leak-too are both holdConnections on db-1"}),
    [](const auto& info) { return std::string(info.param.name); });

// What the node is, what its kernel can do and what it permits, before anything is asked of it.
TEST(PlanTest, AFaultOnAHostIsRefusedByWhatItsNodeHasTold) {
  PlanInput input = Input();
  v1::Fault& fault = *input.experiment.mutable_spec()->mutable_faults(0)->mutable_fault();
  fault.mutable_throttle_cpu()->set_subject("databse");
  fault.mutable_throttle_cpu()->set_cpus(0.5);
  const auto told = [&input] {
    const v1::Plan plan = MakePlan(input);
    std::string all;
    for (const v1::Finding& finding : plan.findings()) {
      absl::StrAppend(&all, finding.code(), ": ", finding.message(), "; ", finding.mend(), "\n");
    }
    return all;
  };
  v1::Registration& node = input.nodes[0];
  EXPECT_THAT(told(), HasSubstr("does not know throttleCpu"));
  v1::Capability& capability = *node.add_capabilities();
  capability.set_kind("throttleCpu");
  capability.set_reason("no control groups with the controller cpu are mounted here");
  capability.set_alternative("stormQueries, which keeps processors busy");
  EXPECT_THAT(told(), HasSubstr("node db-1 cannot throttleCpu: no control groups with the "
                                "controller cpu are mounted here; use stormQueries"));
  capability.set_available(true);
  node.add_subjects("database");
  EXPECT_THAT(told(), HasSubstr("no-subject: leak: node db-1 has no subject named databse; it has "
                                "database; write database if that was meant"));
  fault.mutable_throttle_cpu()->set_subject("database");
  EXPECT_EQ(told(), "");
  (*PolicyOf(input, 0).mutable_at_least())["throttleCpu.cpus"] = 0.8;
  EXPECT_THAT(told(), HasSubstr("throttleCpu.cpus is 0.5; the policy of node db-1 permits at least "
                                "0.8"));
  PolicyOf(input, 0).clear_at_least();
  // Two on one subject would each take the other's limit for what was there before.
  node.add_subjects("queue");
  v1::FaultStep& second = *input.experiment.mutable_spec()->add_faults();
  second = input.experiment.spec().faults(0);
  second.set_name("slow-queue");
  second.mutable_fault()->mutable_throttle_cpu()->set_subject("queue");
  EXPECT_EQ(told(), "");
  second.mutable_fault()->mutable_throttle_cpu()->set_subject("database");
  EXPECT_THAT(told(), HasSubstr("are both throttleCpu on db-1 on the same subject"));
}

TEST(PlanTest, ASiteWithoutTheEndpointIsACircumstance) {
  PlanInput input = Input();
  input.site.mutable_endpoints(0)->set_name("store");
  // The guardrail and the load.
  EXPECT_THAT(Codes(MakePlan(input)), ElementsAre("no-endpoint", "no-endpoint"));
}

TEST(PlanTest, TheSameKindOneAfterTheOtherIsFine) {
  PlanInput input = Input();
  v1::FaultStep& step = *input.experiment.mutable_spec()->add_faults();
  step = input.experiment.spec().faults(0);
  step.set_name("again");
  *step.mutable_at() = ToProto(absl::Seconds(41));
  EXPECT_THAT(Codes(MakePlan(input)), IsEmpty());
}

TEST(PlanTest, ThePolicyPermitsWhatItSays) {
  PlanInput input = Input();
  v1::Policy& policy = PolicyOf(input, 0);
  policy.set_until_lease(true);
  policy.set_superuser(true);
  policy.set_free_queries(true);
  (*policy.mutable_at_most())["holdConnections.fillTo"] = 1.0;
  *policy.mutable_max_duration() = ToProto(absl::Seconds(40));
  PolicyOf(input, 1).set_lasting_remedies(true);
  input.nodes[1].mutable_programs(0)->set_leaves(v1::LEAVES_CHANGED);
  v1::FaultStep& leak = *input.experiment.mutable_spec()->mutable_faults(0);
  leak.set_on_controller_loss(v1::ON_CONTROLLER_LOSS_UNTIL_LEASE);
  leak.mutable_fault()->mutable_hold_connections()->set_superuser(true);
  EXPECT_THAT(Codes(MakePlan(input)), IsEmpty());
}

TEST(PlanTest, SaysThatARemedyLeavesTheSystemChanged) {
  PlanInput input = Input();
  EXPECT_THAT(PlanText(input.experiment, MakePlan(input)),
              Not(HasSubstr("leaves the system changed")));
  CallOf(input);
  PolicyOf(input, 1).set_lasting_remedies(true);
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(Codes(plan), IsEmpty());
  EXPECT_EQ(plan.remedies(0).leaves(), v1::LEAVES_CHANGED);
  EXPECT_THAT(PlanText(input.experiment, plan), HasSubstr("changed}; leaves the system changed"));
}

// ---- what and when

TEST(PlanTest, AsksEveryQuestionOnce) {
  const v1::Plan plan = MakePlan(Input());
  std::vector<std::string> probes;
  for (const v1::PlannedProbe& probe : plan.probes()) {
    probes.push_back(absl::StrCat(probe.id(), "@", probe.node()));
  }
  EXPECT_THAT(probes, ElementsAre("steadyState/slots-free@", "guardrails/shop-gone@",
                                  "recovery/no-leftovers@db-1"));
  EXPECT_EQ(FromProto(plan.probes(0).every()), absl::Seconds(1));
  EXPECT_EQ(FromProto(plan.probes(0).deadline()), absl::Seconds(2));
}

TEST(PlanTest, TheGateAndTheGuardrailsAreWhatTheDefinitionSays) {
  const v1::Plan plan = MakePlan(Input());
  ASSERT_EQ(plan.gate_size(), 2);
  EXPECT_EQ(plan.gate(0).load(), "shoppers");
  EXPECT_EQ(plan.gate(0).request(), "login");
  EXPECT_EQ(plan.gate(0).probe(), "");
  EXPECT_EQ(FromProto(plan.gate(0).over()), absl::Seconds(3));
  EXPECT_EQ(FromProto(plan.gate(0).for_()), absl::Seconds(10));
  EXPECT_EQ(plan.gate(1).probe(), "steadyState/slots-free");
  ASSERT_EQ(plan.guardrails_size(), 2);
  EXPECT_TRUE(plan.guardrails(0).unexpected_page());
  EXPECT_EQ(plan.guardrails(1).probe(), "guardrails/shop-gone");
  EXPECT_EQ(FromProto(plan.guardrails(1).for_()), absl::Seconds(10));
  // The longest hold with its window, and patience.
  EXPECT_EQ(FromProto(plan.gate_timeout()), absl::Seconds(43));
}

TEST(PlanTest, FaultsCarryTheirEndingAndTheirLease) {
  const v1::Plan plan = MakePlan(Input());
  ASSERT_EQ(plan.faults_size(), 2);
  EXPECT_EQ(plan.faults(0).ending(), v1::ENDING_DIES_WITH_PROCESS);
  EXPECT_EQ(plan.faults(1).ending(), v1::ENDING_ONE_SHOT);
  EXPECT_EQ(FromProto(plan.faults(0).lease()), absl::Seconds(5));
  EXPECT_EQ(plan.faults(0).on_controller_loss(), v1::ON_CONTROLLER_LOSS_REVERT);
}

TEST(PlanTest, KnowsWhichAlertsAreNoSurpriseAndWhatMeansAPage) {
  PlanInput input = Input();
  input.experiment.mutable_spec()->mutable_expect()->add_may_fire("ApiErrorRateHigh");
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(plan.known_alerts(),
              ElementsAre("PostgresConnectionsNearLimit", "ApiErrorRateHigh", "HighLatency"));
  EXPECT_THAT(plan.page_matchers(), ElementsAre("severity=\"page\""));
}

TEST(PlanTest, GoesOnUntilTheLastExpectationCanBeDecided) {
  const v1::Plan plan = MakePlan(Input());
  std::vector<std::string> waits;
  for (const v1::PlannedWait& wait : plan.waits()) {
    waits.push_back(absl::StrCat(wait.expectation(), " ", wait.since(), " ",
                                 absl::FormatDuration(FromProto(wait.lasting()))));
  }
  EXPECT_THAT(waits, ElementsAre("logins-hurt cut.start 10s", "slots-page leak.reached 15s",
                                 "slots-page leak.end 30s", "back-after-leak leak.end 30s",
                                 "no-leftovers leak.end 5s"));
  // 50 s until `restart-shop` is done or given up, as long as the gate for steady state, 30 s of
  // margin.
  EXPECT_EQ(FromProto(plan.longest()), absl::Seconds(50 + 43 + 30));
}

// ---- alert arithmetic

v1::Plan PlanWithRule(absl::Duration hold, absl::Duration evaluation,
                      std::optional<absl::Duration> scrape, absl::Duration limit,
                      absl::Duration ramp = absl::ZeroDuration()) {
  PlanInput input = Input();
  input.alerting.rules = {{"PostgresConnectionsNearLimit", "postgresql", hold, evaluation, scrape}};
  *input.experiment.mutable_spec()->mutable_expect()->mutable_alerts(0)->mutable_firing_within() =
      ToProto(limit);
  input.experiment.mutable_spec()->mutable_expect()->mutable_alerts(0)->clear_notification();
  *input.experiment.mutable_spec()
       ->mutable_faults(0)
       ->mutable_fault()
       ->mutable_hold_connections()
       ->mutable_ramp() = ToProto(ramp);
  return MakePlan(input);
}

TEST(PlanTest, SaysHowSoonAnAlertCanFire) {
  const v1::Plan plan =
      PlanWithRule(absl::Seconds(2), absl::Seconds(1), absl::Seconds(1), absl::Seconds(10));
  ASSERT_EQ(plan.arithmetic_size(), 1);
  const v1::AlertArithmetic& sum = plan.arithmetic(0);
  EXPECT_EQ(FromProto(sum.earliest_firing()), absl::Seconds(2));
  EXPECT_EQ(FromProto(sum.latest_firing()), absl::Seconds(4));
  EXPECT_TRUE(sum.possible());
  EXPECT_EQ(sum.explanation(),
            "up to 1s until scrape, up to 1s until evaluation, 2s `for`; limit 10s");
  EXPECT_THAT(Codes(plan), IsEmpty());
}

TEST(PlanTest, RoundsForUpToWholeEvaluations) {
  const v1::Plan plan =
      PlanWithRule(absl::Seconds(40), absl::Seconds(30), absl::Seconds(15), absl::Minutes(5));
  const v1::AlertArithmetic& sum = plan.arithmetic(0);
  EXPECT_EQ(FromProto(sum.earliest_firing()), absl::Seconds(60));
  EXPECT_EQ(FromProto(sum.latest_firing()), absl::Seconds(105));
  EXPECT_THAT(sum.explanation(), HasSubstr("40s `for` (1m in whole evaluations)"));
}

TEST(PlanTest, AnAlertThatCannotFireInTimeIsADefect) {
  const v1::Plan plan =
      PlanWithRule(absl::Minutes(10), absl::Seconds(1), absl::Seconds(1), absl::Seconds(10));
  EXPECT_FALSE(plan.arithmetic(0).possible());
  ASSERT_THAT(Codes(plan), ElementsAre("cannot-fire-in-time"));
  EXPECT_EQ(plan.findings(0).kind(), v1::Finding::KIND_DEFECT);
  EXPECT_EQ(plan.findings(0).subject(), "slots-page");
  EXPECT_EQ(plan.findings(0).message(),
            "PostgresConnectionsNearLimit fires 10m after leak.reached at the earliest, the limit "
            "is 10s: it cannot pass");
}

TEST(PlanTest, AnAlertThatMayBeTooLateIsOnlyANote) {
  const v1::Plan plan =
      PlanWithRule(absl::Seconds(5), absl::Seconds(5), absl::Seconds(5), absl::Seconds(10));
  EXPECT_TRUE(plan.arithmetic(0).possible());
  ASSERT_THAT(Codes(plan), ElementsAre("may-fire-late"));
  EXPECT_EQ(plan.findings(0).kind(), v1::Finding::KIND_NOTE);
}

TEST(PlanTest, DuringARampAnAlertMayBeginBeforeTheFaultIsInFullForce) {
  const v1::Plan plan = PlanWithRule(absl::Seconds(12), absl::Seconds(1), absl::Seconds(1),
                                     absl::Seconds(10), /*ramp=*/absl::Seconds(5));
  EXPECT_EQ(FromProto(plan.arithmetic(0).earliest_firing()), absl::Seconds(7));
  EXPECT_TRUE(plan.arithmetic(0).possible());
}

TEST(PlanTest, ANotificationThatCannotComeInTimeIsADefect) {
  PlanInput input = Input();
  input.alerting.group_wait["PostgresConnectionsNearLimit"] = absl::Seconds(30);
  const v1::Plan plan = MakePlan(input);
  ASSERT_THAT(Codes(plan), ElementsAre("cannot-notify-in-time"));
}

TEST(PlanTest, WithoutFactsNothingIsClaimed) {
  PlanInput input = Input();
  input.alerting = {};
  const v1::Plan plan = MakePlan(input);
  EXPECT_THAT(plan.arithmetic(), IsEmpty());
  EXPECT_THAT(Codes(plan), IsEmpty());
}

// ---- the text

void ExpectPlan(const std::string& name, const std::string& text) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    EXPECT_LE(line.size(), 100u) << line;
  }
  ExpectGolden(absl::StrCat("tests/controller/golden/", name), text);
}

TEST(PlanTextTest, ASoundPlan) {
  PlanInput input = Input();
  input.nodes.push_back(Database("db-2"));
  ExpectPlan("plan_sound.txt",
             PlanText(input.experiment, MakePlan(input), "experiments/unclosed.yaml"));
}

TEST(PlanTextTest, APlanThatCannotStart) {
  PlanInput input = Input();
  input.nodes[1].set_environment("production");
  input.nodes[0].mutable_capabilities(0)->set_available(false);
  input.nodes[0].mutable_capabilities(0)->set_reason("this injector was built without libpq");
  input.alerting.rules[0].hold = absl::Minutes(10);
  ExpectPlan("plan_refused.txt", PlanText(input.experiment, MakePlan(input)));
}

}  // namespace
}  // namespace firedrill
