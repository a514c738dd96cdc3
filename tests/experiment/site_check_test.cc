// An experiment against its site: one thing at a time is taken away from a site that fits.
#include <functional>

#include "absl/strings/str_cat.h"
#include "experiment/reader.h"
#include "gtest/gtest.h"

namespace firedrill {
namespace {

class SiteCheckTest : public ::testing::Test {
 protected:
  SiteCheckTest() {
    const std::string folder = absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/experiment/valid/");
    text_ = ReadFileText(folder + "unclosed-connections.yaml").value_or("");
    experiment_ = ReadExperiment(text_, "x.yaml");
    SiteFile site = ReadSite(ReadFileText(folder + "site.yaml").value_or(""), "site.yaml");
    EXPECT_TRUE(experiment_.ok() && site.ok());
    site_ = site.site.spec();
  }

  // "line:column: message (help)" of each problem.
  std::string Check() {
    std::string out;
    for (const Problem& problem : CheckAgainstSite(experiment_, site_)) {
      absl::StrAppend(&out, out.empty() ? "" : "\n", problem.line, ":", problem.column, ": ",
                      problem.message, " (", problem.suggestion, ")");
    }
    return out;
  }

  // The experiment with one text in it replaced.
  void Rewrite(const std::string& from, const std::string& to) {
    const size_t at = text_.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text_.replace(at, from.size(), to);
    experiment_ = ReadExperiment(text_, "x.yaml");
    ASSERT_TRUE(experiment_.ok()) << experiment_.Report();
  }

  v1::NodeSpec* Node(int index) { return site_.mutable_injectors(index); }

  std::string text_;
  ExperimentFile experiment_;
  v1::SiteSpec site_;
};

TEST_F(SiteCheckTest, AcceptsASiteThatHasAll) { EXPECT_EQ(Check(), ""); }

TEST_F(SiteCheckTest, RefusesAnEnvironmentThatIsNotPermitted) {
  site_.set_environment("production");
  site_.clear_injectors();
  EXPECT_EQ(Check(),
            "16:12: the site's environment is 'production', in which this experiment may "
            "not run (run it elsewhere, or permit the environment here)");
}

TEST_F(SiteCheckTest, MissesAnEndpoint) {
  site_.mutable_endpoints(0)->set_name("shopping");
  EXPECT_EQ(Check(),
            "19:42: the site has no endpoint 'shop' (there are shopping and database)\n"
            "24:19: the site has no endpoint 'shop' (there are shopping and database)");
}

TEST_F(SiteCheckTest, MissesTheEndpointOfACall) {
  Rewrite("runProgram: {program: restart-shop}",
          "callUrl: {endpoint: shops, path: /flags/slow, leaves: nothing}");
  EXPECT_EQ(Check(), "38:75: the site has no endpoint 'shops' (did you mean 'shop'?)");
}

TEST_F(SiteCheckTest, ACallNeedsAnEndpointOfHttp) {
  Rewrite("runProgram: {program: restart-shop}",
          "callUrl: {endpoint: database, path: /flags/slow, leaves: nothing}");
  EXPECT_EQ(Check(),
            "38:75: the endpoint 'database' is tcp://127.0.0.1:5432, which is no HTTP (name an "
            "endpoint whose url begins with http:// or https://)");
}

// The same server under two names.
TEST_F(SiteCheckTest, SessionsAreNotRefusedWhereAFaultHasItsOwn) {
  Rewrite("target: app-node, at: 20s, runProgram: {program: restart-shop}",
          "target: db-node, at: 20s, promoteReplica: {replica: leaker, oldPrimary: dba, "
          "refuseSessions: true}");
  const std::string said = Check();
  EXPECT_NE(said.find("38:"), std::string::npos) << said;
  EXPECT_NE(
      said.find("nobody can see, or make, the end of fault 'leak', which is at the old primary "
                "at that time (use a fenceProgram"),
      std::string::npos)
      << said;
  // Elsewhere, or over before, it is in nobody's way.
  Node(0)->mutable_profiles(1)->mutable_postgresql()->set_port(5499);
  EXPECT_EQ(Check().find("old primary"), std::string::npos) << Check();
}

TEST_F(SiteCheckTest, MissesTheNamesOfAStatementOfARemedy) {
  Rewrite("target: app-node, at: 20s, runProgram: {program: restart-shop}",
          "target: db-node, at: 20s, runStatement: {profile: dba, statement: end-idle}");
  EXPECT_EQ(Check(),
            "38:94: no node of target 'db-node' has the remedy statement 'end-idle' "
            "(there is none)");
  // A statement of probes is none of remedies.
  Node(0)->mutable_profiles(1)->add_statements()->set_name("end-idle");
  EXPECT_EQ(Check(),
            "38:94: no node of target 'db-node' has the remedy statement 'end-idle' "
            "(there is none)");
  Node(0)->mutable_profiles(0)->add_remedy_statements()->set_name("end-idle");
  EXPECT_EQ(Check(),
            "38:94: no node of target 'db-node' has the remedy statement 'end-idle' "
            "(there is none)");
  Node(0)->mutable_profiles(1)->add_remedy_statements()->set_name("end-idle");
  EXPECT_EQ(Check(), "");
  Rewrite("profile: dba, statement: end-idle", "profile: dbs, statement: end-idle");
  EXPECT_EQ(Check(),
            "38:78: no node of target 'db-node' has the profile 'dbs' (did you mean 'dba'?)");
}

TEST_F(SiteCheckTest, MissesTheNamesOfAPromotion) {
  Rewrite("target: app-node, at: 20s, runProgram: {program: restart-shop}",
          "target: db-node, at: 20s, promoteReplica: {replica: leakr, oldPrimary: db, "
          "fenceProgram: stop}");
  EXPECT_EQ(Check(),
            "38:80: no node of target 'db-node' has the profile 'leakr' (did you mean 'leaker'?)\n"
            "38:99: no node of target 'db-node' has the profile 'db' (did you mean 'dba'?)\n"
            "38:117: no node of target 'db-node' has the program 'stop' (there is none)");
}

TEST_F(SiteCheckTest, RefusesAProfileOfAnotherProtocol) {
  Node(0)->mutable_profiles(0)->mutable_redis();
  EXPECT_EQ(Check(),
            "35:105: profile 'leaker' of node 'lab-node' is a redis server, not postgresql "
            "(name another profile, or write 'protocol: redis')");
  Rewrite(
      "holdConnections: {profile: leaker, protocol: postgresql, state: idleInTransaction, "
      "fillTo: 1.0, ramp: 5s, refill: true}",
      "delayQueries: {profile: leaker, delay: 1s}");
  EXPECT_EQ(Check(), "");
  Node(0)->mutable_profiles(0)->mutable_tcp();
  EXPECT_EQ(Check(),
            "35:84: profile 'leaker' of node 'lab-node' is a tcp server: nobody looks into its "
            "requests (give the profile the server's own protocol, or use delayBytes, "
            "stallConnections or the like)");
  Node(0)->mutable_profiles(0)->mutable_postgresql()->set_ssl_mode("verify-full");
  EXPECT_EQ(Check(),
            "35:84: profile 'leaker' of node 'lab-node' says 'sslMode: verify-full': nobody looks "
            "into what is encrypted (name a profile whose clients are not encrypted, or use "
            "delayBytes, stallConnections or the like)");
  Rewrite("delayQueries", "delayBytes");
  EXPECT_EQ(Check(), "");
  Rewrite("delayBytes: {profile: leaker, delay: 1s}", "leakConnections: {profile: leaker}");
  EXPECT_EQ(Check(),
            "35:87: profile 'leaker' of node 'lab-node' says 'sslMode: verify-full': nobody looks "
            "into what is encrypted (name a profile whose clients are not encrypted, or use "
            "delayBytes, stallConnections or the like)");
  Node(0)->mutable_profiles(0)->mutable_tcp();
  EXPECT_EQ(Check(), "");
}

TEST_F(SiteCheckTest, RefusesAnErrorOfAnotherProtocol) {
  Rewrite(
      "holdConnections: {profile: leaker, protocol: postgresql, state: idleInTransaction, "
      "fillTo: 1.0, ramp: 5s, refill: true}",
      "failQueries: {profile: leaker, error: \"1205\"}");
  EXPECT_EQ(Check(),
            "35:98: 1205 is no SQLSTATE of an error; profile 'leaker' of node 'lab-node' is a "
            "postgresql server (write 55P03, as 1205 is of MySQL)");
  Node(0)->mutable_profiles(0)->mutable_mysql();
  EXPECT_EQ(Check(), "");
  Rewrite("\"1205\"", "\"57014\"");
  EXPECT_EQ(Check(),
            "35:98: 57014 is no number of a MySQL error; profile 'leaker' of node 'lab-node' is "
            "a mysql server (write 1317, as 57014 is of PostgreSQL)");
  Node(0)->mutable_profiles(0)->mutable_redis();
  EXPECT_EQ(Check(),
            "35:98: 57014 is not the first word of a Redis error; profile 'leaker' of node "
            "'lab-node' is a redis server (write one such as LOADING)");
  Rewrite("\"57014\"", "LOADING");
  EXPECT_EQ(Check(), "");
  Node(0)->mutable_profiles(0)->mutable_http();
  EXPECT_EQ(Check(),
            "35:98: LOADING is no HTTP status of a failure; profile 'leaker' of node 'lab-node' "
            "is a http server (write 503, as LOADING is of Redis)");
}

TEST_F(SiteCheckTest, RefusesToAskAnotherServerThanPostgresqlBySql) {
  Node(0)->mutable_profiles(1)->mutable_mysql();
  EXPECT_EQ(Check(),
            "36:74: profile 'dba' of node 'lab-node' is a mysql server, not postgresql (name "
            "another profile; this fault is for postgresql)\n"
            "56:60: profile 'dba' of node 'lab-node' is a mysql server ('sql' is for PostgreSQL)");
}

TEST_F(SiteCheckTest, MissesAReceiver) {
  site_.clear_webhook();
  EXPECT_EQ(Check(), "48:34: the site has no webhook receiver 'oncall' (there is none)");
}

TEST_F(SiteCheckTest, MissesPrometheus) {
  site_.clear_prometheus();
  EXPECT_EQ(Check(),
            "33:39: the site has no Prometheus to ask (add 'prometheus' to the site)\n"
            "42:5: the site has no Prometheus whose alerts could be seen "
            "(add 'prometheus' to the site)");
}

TEST_F(SiteCheckTest, MissesPages) {
  site_.clear_pages();
  EXPECT_EQ(Check(),
            "18:31: the site does not say which alerts page a person (add matchers to "
            "'pages' in the site: ['severity=\"page\"'])");
}

TEST_F(SiteCheckTest, MissesANodeForATarget) {
  (*Node(2)->mutable_labels())["role"] = "idle";
  EXPECT_EQ(Check(),
            "15:25: target 'load-node' needs 1 node; its selector matches none of the "
            "site (the nodes are lab-node {role=database, service=shop}, app-node "
            "{role=app, service=shop} and load-node {role=idle})");
}

TEST_F(SiteCheckTest, MissesNodesInAPermittedEnvironment) {
  Node(2)->set_environment("production");
  EXPECT_EQ(Check().substr(0, 70),
            std::string("15:25: target 'load-node' needs 1 node; its selector matches none of "
                        "the site")
                .substr(0, 70));
}

TEST_F(SiteCheckTest, MissesEnoughNodes) {
  experiment_.experiment.mutable_spec()->mutable_targets(2)->set_count(2);
  EXPECT_EQ(Check().substr(0, 80),
            "15:64: target 'load-node' needs 2 nodes; its selector matches 1 of the site (the");
}

TEST_F(SiteCheckTest, MissesAProfile) {
  Node(0)->mutable_profiles(0)->set_name("leak");
  EXPECT_EQ(Check(),
            "35:87: no node of target 'db-node' has the profile 'leaker' (did you mean 'leak'?)");
}

TEST_F(SiteCheckTest, AcceptsAProfileOfOneOfSeveralNodes) {
  v1::NodeSpec* other = site_.add_injectors();
  *other = *Node(0);
  other->set_name("second");
  other->clear_profiles();
  EXPECT_EQ(Check(), "");
}

TEST_F(SiteCheckTest, MissesAStatement) {
  Node(0)->mutable_profiles(1)->clear_statements();
  EXPECT_EQ(Check(),
            "56:76: no node of target 'db-node' has the statement 'sessions-of-run' "
            "(there is none)");
}

TEST_F(SiteCheckTest, MissesTheStatementOfAFault) {
  auto& storm = *experiment_.experiment.mutable_spec()
                     ->mutable_faults(1)
                     ->mutable_fault()
                     ->mutable_storm_queries();
  storm.set_profile("dba");
  storm.set_protocol(v1::PROTOCOL_POSTGRESQL);
  storm.set_statement("count");
  const std::string missing = Check();
  EXPECT_NE(missing.find("no node of target 'db-node' has the statement 'count'"),
            std::string::npos)
      << missing;
  // Of another profile.
  Node(0)->mutable_profiles(0)->add_statements()->set_name("count");
  EXPECT_EQ(Check(), missing);
  Node(0)->mutable_profiles(1)->add_statements()->set_name("count");
  EXPECT_EQ(Check(), "");
}

TEST_F(SiteCheckTest, RefusesAFreeQueryWhereNoPolicyPermitsIt) {
  auto* sql = experiment_.experiment.mutable_spec()
                  ->mutable_expect()
                  ->mutable_recovery(2)
                  ->mutable_probe()
                  ->mutable_sql();
  sql->set_query("SELECT 1");
  EXPECT_EQ(Check().substr(0, 67),
            std::string("56:30: no node of target 'db-node' permits free queries (name a st"
                        "atement")
                .substr(0, 67));
  Node(0)->mutable_policy()->set_free_queries(true);
  EXPECT_EQ(Check(), "");
}

TEST_F(SiteCheckTest, MissesAProgram) {
  Node(1)->clear_programs();
  EXPECT_EQ(Check(),
            "38:77: no node of target 'app-node' has the program 'restart-shop' "
            "(there is none)");
}

TEST_F(SiteCheckTest, MissesASubject) {
  Rewrite("terminateSessions: {profile: dba, user: shop}",
          "duration: 15s, throttleCpu: {subject: database, cpus: 0.5}");
  EXPECT_NE(Check().find("no node of target 'db-node' has the subject 'database' (there is none)"),
            std::string::npos)
      << Check();
  Node(0)->add_subjects()->set_name("database");
  EXPECT_EQ(Check(), "");
}

TEST_F(SiteCheckTest, MissesAValueFile) {
  Node(2)->mutable_values(0)->set_name("emails");
  EXPECT_EQ(Check(),
            "27:25: no node of target 'load-node' has the value file 'shop-emails' "
            "(there is only emails)");
}

TEST_F(SiteCheckTest, LeavesNodesAloneWhereTheSiteDescribesNone) {
  site_.clear_injectors();
  EXPECT_EQ(Check(), "");
}

TEST(Selector, HoldsWhereEveryConditionHolds) {
  google::protobuf::Map<std::string, std::string> labels;
  labels["role"] = "app";
  v1::Selector selector;
  auto* condition = selector.add_match_expressions();
  condition->set_key("role");
  condition->add_values("app");
  condition->set_operator_(v1::LabelCondition::OPERATOR_IN);
  EXPECT_TRUE(SelectorMatches(selector, labels));
  condition->set_operator_(v1::LabelCondition::OPERATOR_NOT_IN);
  EXPECT_FALSE(SelectorMatches(selector, labels));
  condition->set_key("zone");
  EXPECT_TRUE(SelectorMatches(selector, labels));
  condition->set_operator_(v1::LabelCondition::OPERATOR_EXISTS);
  EXPECT_FALSE(SelectorMatches(selector, labels));
  condition->set_operator_(v1::LabelCondition::OPERATOR_DOES_NOT_EXIST);
  EXPECT_TRUE(SelectorMatches(selector, labels));
  (*selector.mutable_match_labels())["role"] = "database";
  EXPECT_FALSE(SelectorMatches(selector, labels));
}

}  // namespace
}  // namespace firedrill
