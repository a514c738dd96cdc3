// run_statement against a real server: what it runs, how it ends, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/time_proto.h"
#include "injector/os/postgres.h"
#include "injector/policy.h"
#include "injector/remedies/remedy.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RunStatementTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresServer::Start().release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE TABLE log (word text); CREATE TABLE stock (item int, sold bool)");
  }
  static void TearDownTestSuite() { delete server_; }

  void SetUp() override {
    server_->Run(
        "TRUNCATE log, stock; INSERT INTO stock SELECT i, false FROM generate_series(1, 3) i");
    node_.AddProfile("dba", server_->folder(), server_->port(), "postgres", "");
    node_.mutable_spec.mutable_policy()->set_lasting_remedies(true);
  }

  v1::RemedyStatement& Add(const std::string& name, const std::string& sql) {
    v1::RemedyStatement& statement =
        *node_.mutable_spec.mutable_profiles(0)->add_remedy_statements();
    statement.set_name(name);
    statement.set_sql(sql);
    statement.set_leaves(v1::LEAVES_CHANGED);
    return statement;
  }
  static v1::PlannedRemedy Planned(const std::string& statement) {
    v1::PlannedRemedy planned;
    planned.set_name("mend");
    planned.set_node("db");
    planned.mutable_remedy()->mutable_run_statement()->set_profile("dba");
    planned.mutable_remedy()->mutable_run_statement()->set_statement(statement);
    return planned;
  }
  v1::RemedyReport Run(const std::string& statement, std::stop_token stop = {}) {
    return RunRemedyBlocking(Planned(statement), node_, RemedyContext{"r1a2b3", {}, stop});
  }
  static int Sessions() {
    return server_->Number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill%'");
  }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
};

TEST_F(RunStatementTest, RunsOnceInASessionOfItsOwnName) {
  Add("note", "INSERT INTO log VALUES ($1), (current_setting('application_name')), ($2)");
  node_.mutable_spec.mutable_profiles(0)->mutable_remedy_statements(0)->add_parameters("run");
  node_.mutable_spec.mutable_profiles(0)->mutable_remedy_statements(0)->add_parameters("run");
  const v1::RemedyReport report = Run("note");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE) << report.output();
  EXPECT_EQ(report.exit_code(), 0);
  EXPECT_EQ(report.leaves(), v1::LEAVES_CHANGED);
  EXPECT_THAT(report.output(), AllOf(HasSubstr("statement note at "), HasSubstr(": 3 rows in ")));
  using Rows = std::vector<std::vector<std::string>>;
  EXPECT_EQ(server_->Run("SELECT word FROM log"),
            (Rows{{"r1a2b3"}, {"firedrill-remedy:r1a2b3"}, {"r1a2b3"}}));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Sessions() == 0; }));
}

TEST_F(RunStatementTest, ReportsHowManyRowsItTouched) {
  Add("sell", "UPDATE stock SET sold = true WHERE item < 3");
  Add("none", "UPDATE stock SET sold = true WHERE item > 3");
  Add("look", "SELECT 'secret' FROM stock");
  Add("vacuum", "VACUUM stock");
  EXPECT_THAT(Run("sell").output(), HasSubstr("UPDATE 2: 2 rows in "));
  EXPECT_THAT(Run("none").output(), HasSubstr("UPDATE 0: 0 rows in "));
  const std::string look = Run("look").output();
  EXPECT_THAT(look, HasSubstr("SELECT 3: 3 rows in "));
  EXPECT_EQ(look.find("secret"), std::string::npos) << "rows are counted, not told";
  EXPECT_THAT(Run("vacuum").output(), HasSubstr(": VACUUM in "));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM stock WHERE sold"), 2);
}

TEST_F(RunStatementTest, FailsWithTheServersWordsAndChangesNothing) {
  Add("half", "UPDATE stock SET item = 1 / (item - 3)");
  const v1::RemedyReport report = Run("half");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(report.exit_code(), -1);
  EXPECT_THAT(report.output(), HasSubstr("division by zero (SQLSTATE 22012)"));
  EXPECT_EQ(server_->Number("SELECT sum(item) FROM stock"), 6);
}

TEST_F(RunStatementTest, NeverRunsTwoStatementsNorCopies) {
  Add("two", "DELETE FROM stock; DELETE FROM log");
  Add("out", "COPY stock TO STDOUT");
  Add("in", "COPY stock FROM STDIN");
  EXPECT_THAT(Run("two").output(), HasSubstr("multiple commands"));
  EXPECT_THAT(Run("out").output(), HasSubstr("COPY from or to the client is not possible"));
  EXPECT_THAT(Run("in").output(), HasSubstr("COPY from or to the client is not possible"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM stock"), 3);
}

TEST_F(RunStatementTest, TheServerEndsWhatTakesTooLong) {
  auto& statement = Add("slow", "INSERT INTO log SELECT pg_sleep(60)::text");
  *statement.mutable_timeout() = ToProto(absl::Milliseconds(300));
  const v1::RemedyReport report = Run("slow");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("the server undid it: its timeout is 300ms"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM log"), 0);
}

// An index whose build was cancelled stays, and is not valid; a procedure may commit in between.
TEST_F(RunStatementTest, SaysThatTheServerUndidItOnlyWhereThatIsSo) {
  auto account = PostgresAccount{.host = server_->folder(),
                                 .port = server_->port(),
                                 .user = "postgres",
                                 .database = "postgres"};
  const auto reader = PostgresSession::Open(account, "reader", {}, Patience(absl::Seconds(5)));
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (const char* sql : {"BEGIN", "LOCK TABLE stock IN ROW EXCLUSIVE MODE"}) {
    ASSERT_TRUE((*reader)->Query(sql, {}, Patience(absl::Seconds(5))).ok());
  }
  auto& index = Add("index", "CREATE INDEX CONCURRENTLY slow_idx ON stock (item)");
  *index.mutable_timeout() = ToProto(absl::Milliseconds(500));
  EXPECT_THAT(Run("index").output(),
              AllOf(HasSubstr("what it had done by then may stand"), Not(HasSubstr("undid it")),
                    HasSubstr("its timeout is 500ms")));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), 1);
  ASSERT_TRUE((*reader)->Query("ROLLBACK", {}, Patience(absl::Seconds(5))).ok());
  server_->Run("DROP INDEX slow_idx");

  server_->Run(
      "CREATE OR REPLACE PROCEDURE sell_all() LANGUAGE plpgsql AS $$ BEGIN UPDATE stock SET sold = "
      "true; COMMIT; PERFORM pg_sleep(60); END $$");
  auto& call = Add("call", "CALL sell_all()");
  *call.mutable_timeout() = ToProto(absl::Milliseconds(500));
  EXPECT_THAT(Run("call").output(),
              AllOf(HasSubstr("what it had done by then may stand"), Not(HasSubstr("undid it"))));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM stock WHERE sold"), 3);
}

TEST_F(RunStatementTest, SaysThatSomebodyElseHasCancelledIt) {
  Add("slow", "INSERT INTO log SELECT pg_sleep(60)::text");
  std::jthread person([] {
    Within(absl::Seconds(10), [] {
      return server_->Number(
                 "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE "
                 "application_name LIKE 'firedrill-remedy%' AND state = 'active'") > 0;
    });
  });
  EXPECT_THAT(Run("slow").output(), AllOf(HasSubstr("the server undid it: somebody cancelled it"),
                                          Not(HasSubstr("timeout is"))));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM log"), 0);
}

TEST_F(RunStatementTest, DoesNotWaitLongForALock) {
  auto account = PostgresAccount{.host = server_->folder(),
                                 .port = server_->port(),
                                 .user = "postgres",
                                 .database = "postgres"};
  const auto holder = PostgresSession::Open(account, "holder", {}, Patience(absl::Seconds(5)));
  ASSERT_TRUE(holder.ok()) << holder.status();
  const auto ask = [&](const std::string& sql) {
    return (*holder)->Query(sql, {}, Patience(absl::Seconds(5))).status();
  };
  ASSERT_TRUE(ask("BEGIN").ok());
  ASSERT_TRUE(ask("LOCK TABLE stock").ok());
  auto& statement = Add("sell", "UPDATE stock SET sold = true");
  *statement.mutable_lock_timeout() = ToProto(absl::Milliseconds(200));
  const v1::RemedyReport report = Run("sell");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("the server undid it: its lockTimeout is 200ms"));
  ASSERT_TRUE(ask("ROLLBACK").ok());
  EXPECT_EQ(Run("sell").state(), v1::REMEDY_STATE_DONE);
}

TEST_F(RunStatementTest, AStopEndsItAtTheServerTooAndNothingStartsAfterIt) {
  Add("slow", "INSERT INTO log SELECT pg_sleep(60)::text");
  std::stop_source source;
  std::jthread stopper([&source] {
    Within(absl::Seconds(5), [] { return Sessions() == 1; });
    source.request_stop();
  });
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run("slow", source.get_token());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(7));
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("the run was stopped"));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Sessions() == 0; }));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM log"), 0);
  EXPECT_EQ(Run("slow", source.get_token()).output(), "not run: stopped");
}

TEST_F(RunStatementTest, RefusesWhatTheNodesFileDoesNotName) {
  v1::Statement& question = *node_.mutable_spec.mutable_profiles(0)->add_statements();
  question.set_name("sessions");
  question.set_sql("SELECT 1");
  EXPECT_THAT(Run("sessions").output(), HasSubstr("has no remedy statement sessions; it has none"));
  Add("sell", "UPDATE stock SET sold = true");
  EXPECT_THAT(Run("sel").output(), HasSubstr("has no remedy statement sel; it has sell"));
  Add("empty", " ");
  EXPECT_THAT(Run("empty").output(), HasSubstr("remedy statement empty is empty"));
  Add("odd", "SELECT $1").add_parameters("user");
  EXPECT_THAT(Run("odd").output(), HasSubstr("a parameter other than run: user"));
  Add("mute", "SELECT 1").clear_leaves();
  EXPECT_THAT(Run("mute").output(), HasSubstr("does not say what it leaves behind"));
  node_.mutable_spec.mutable_profiles(0)->set_name("other");
  EXPECT_THAT(Run("sell").output(), HasSubstr("there is no dba"));
  node_.mutable_spec.add_profiles()->set_name("dba");
  EXPECT_THAT(Run("sell").output(), HasSubstr("is no PostgreSQL server"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM stock WHERE sold"), 0);
}

TEST_F(RunStatementTest, SaysWhenItWasNotRunAtAll) {
  Add("sell", "UPDATE stock SET sold = true");
  node_.mutable_spec.mutable_profiles(0)->mutable_postgresql()->set_user("nobody");
  EXPECT_THAT(Run("sell").output(), AllOf(HasSubstr(": not run: "), HasSubstr("nobody")));
}

TEST_F(RunStatementTest, FallsUnderTheNodesPolicy) {
  Add("sell", "UPDATE stock SET sold = true");
  const auto permits = [this] {
    const auto remedy = MakeRemedy(Planned("sell").remedy());
    const auto leaves = (*remedy)->Leaves(node_);
    return std::string(PermitsRemedy(node_.spec(), Planned("sell"), *leaves).message());
  };
  EXPECT_EQ(permits(), "");
  node_.mutable_spec.mutable_policy()->set_lasting_remedies(false);
  EXPECT_THAT(permits(), HasSubstr("set policy.lastingRemedies"));
  node_.mutable_spec.mutable_profiles(0)->mutable_remedy_statements(0)->set_leaves(
      v1::LEAVES_NOTHING);
  EXPECT_EQ(permits(), "");
  node_.mutable_spec.mutable_policy()->add_remedies("callUrl");
  EXPECT_THAT(permits(), HasSubstr("does not permit runStatement"));
}

}  // namespace
}  // namespace firedrill
