// storm_queries against a real PostgreSQL server: how much it does, that it does not slow down with
// the server, and that it ends.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status_macros.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class StormQueriesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 30}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE ROLE shop LOGIN; CREATE TABLE notes (n int); GRANT ALL ON notes TO shop");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("TRUNCATE notes");
    for (const char* role : {"shop", "postgres"}) {
      node_.AddProfile(role, server_->folder(), server_->port(), role, "");
    }
    Add("quick", "SELECT 1");
    Add("slow", "SELECT pg_sleep(0.5)");
    Add("endless", "SELECT pg_sleep(1000)");
    Add("write", "INSERT INTO notes VALUES (1)");
    Add("write-and-read", "WITH one AS (INSERT INTO notes VALUES (1) RETURNING n) TABLE one");
    Add("leave", "SET TRANSACTION READ WRITE; INSERT INTO notes VALUES (1)");
    Add("commit", "SELECT 1; INSERT INTO notes VALUES (1)");
    Add("block",
        "DO $$BEGIN COMMIT; SET TRANSACTION READ WRITE; INSERT INTO notes VALUES (1); END$$");
    Add("wrong", "SELECT 1 / 0");
    Add("large", "SELECT repeat('x', 1000) FROM generate_series(1, 100000)");
    Add("for-run", "SELECT $1");
    node_.mutable_spec.mutable_profiles(0)->mutable_statements()->rbegin()->add_parameters("run");
  }
  void TearDown() override {
    fault_.reset();
    EXPECT_TRUE(Within(absl::Seconds(2), [] { return Ours() == 0; }));
  }

  void Add(const std::string& name, const std::string& sql) {
    auto* statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name(name);
    statement->set_sql(sql);
  }
  static int Ours() {
    return server_->Number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill%'");
  }
  absl::Status Apply(const std::string& text, absl::Duration lasts = absl::Seconds(60),
                     const std::string& profile = "shop") {
    v1::Fault fault;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "storm_queries { profile: '" + profile + "' " + text + " }", &fault));
    fault_ = *MakeFault(fault);
    RETURN_IF_ERROR(fault_->Validate(node_));
    NoChanges changes;
    return fault_->Apply(StageContext("storm", absl::Seconds(10), lasts), node_, changes);
  }
  std::string Refusal(const std::string& text) { return std::string(Apply(text).message()); }
  v1::Observation Seen() { return *fault_->Observe(StageContext("storm"), node_); }
  bool Reached(absl::Duration within = absl::Seconds(10)) {
    return Within(within, [this] { return Seen().reached(); });
  }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(StormQueriesTest, SessionsRunItAgainAndAgain) {
  ASSERT_TRUE(Apply("statement: 'quick' sessions: 5").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Seen().real(), 5);
  EXPECT_TRUE(Within(absl::Seconds(10), [this] { return Seen().figures().at("finished") > 500; }));
  EXPECT_EQ(Seen().figures().at("failed"), 0);
  EXPECT_GT(Seen().figures().at("p95_ms"), 0);
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("storm"), node_).ok());
}

TEST_F(StormQueriesTest, HoldsItsRate) {
  ASSERT_TRUE(Apply("statement: 'quick' rate: 200").ok());
  ASSERT_TRUE(Reached());
  const double begin = Seen().figures().at("finished");
  const absl::Duration from = RealClock().Boot();
  absl::SleepFor(absl::Seconds(2));
  const double seconds = absl::ToDoubleSeconds(RealClock().Boot() - from);
  EXPECT_NEAR((Seen().figures().at("finished") - begin) / seconds, 200, 40);
}

// What is due does not wait until the server is ready for it: it is counted, and its latency is
// that of a user who has come at that time.
TEST_F(StormQueriesTest, DoesNotSlowDownWithTheServer) {
  ASSERT_TRUE(Apply("statement: 'slow' rate: 20 sessions: 4").ok());
  // Four sessions answer eight a second.
  ASSERT_TRUE(Within(absl::Seconds(20), [this] { return Seen().figures().at("waiting") > 20; }));
  const v1::Observation seen = Seen();
  EXPECT_FALSE(seen.reached());
  EXPECT_EQ(seen.requested(), 20);
  EXPECT_LT(seen.real(), 15);
  EXPECT_GT(seen.figures().at("p95_ms"), 700);
  EXPECT_THAT(seen.detail(), HasSubstr("due and not begun"));
}

TEST_F(StormQueriesTest, IsReadOnlyUnlessSaidOtherwise) {
  for (const char* statement : {"write", "leave", "commit", "block"}) {
    EXPECT_THAT(Refusal(absl::StrCat("statement: '", statement, "' sessions: 1")),
                HasSubstr(absl::StrCat("the statement ", statement,
                                       " of profile shop is to be one SELECT, WITH, TABLE")));
  }
  EXPECT_THAT(Refusal("statement: 'write-and-read' sessions: 1"),
              HasSubstr("running the statement write-and-read with profile shop: cannot execute "
                        "SELECT in a read-only transaction (SQLSTATE 25006)"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM notes"), 0);
  ASSERT_TRUE(Apply("statement: 'write' sessions: 1 writes: true").ok());
  EXPECT_TRUE(
      Within(absl::Seconds(5), [] { return server_->Number("SELECT count(*) FROM notes") > 10; }));
}

TEST_F(StormQueriesTest, CountsErrorsByTheirCode) {
  EXPECT_THAT(Refusal("statement: 'wrong' sessions: 1"), HasSubstr("division by zero"));
  ASSERT_TRUE(Apply("statement: 'endless' sessions: 2").ok());
  ASSERT_TRUE(Reached());
  server_->Run(
      "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
      "'firedrill:%'");
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    const v1::Observation seen = Seen();
    return seen.figures().contains("errors_57014") && seen.figures().at("errors_57014") == 2;
  }));
  EXPECT_TRUE(Reached());
}

TEST_F(StormQueriesTest, OpensSessionsAgainThatWereEnded) {
  ASSERT_TRUE(Apply("statement: 'quick' sessions: 3").ok());
  ASSERT_TRUE(Reached());
  server_->Run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
      "'firedrill:%'");
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    const v1::Observation seen = Seen();
    return seen.figures().contains("errors_57P01") && seen.reached();
  })) << Seen().DebugString();
}

TEST_F(StormQueriesTest, ThrowsLargeAnswersAwayAsTheyCome) {
  ASSERT_TRUE(Apply("statement: 'large' sessions: 2").ok());
  EXPECT_TRUE(Within(absl::Seconds(60), [this] { return Seen().figures().at("finished") >= 3; }));
}

TEST_F(StormQueriesTest, WhatItRunsDiesWithTheProcess) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const char ok = Apply("statement: 'endless' sessions: 4").ok() && Reached() ? 'y' : 'n';
    if (write(ready[1], &ok, 1) != 1) _exit(1);
    while (true) pause();
  }
  char ok = 0;
  ASSERT_EQ(read(ready[0], &ok, 1), 1);
  EXPECT_EQ(ok, 'y');
  EXPECT_GE(Ours(), 4);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Within(absl::Seconds(2), [] { return Ours() == 0; }));
}

TEST_F(StormQueriesTest, TheServerEndsItByItselfWhenNobodyElseDoes) {
  ASSERT_TRUE(Apply("statement: 'endless' sessions: 2", absl::Seconds(2)).ok());
  EXPECT_GT(Ours(), 0);
  EXPECT_TRUE(Within(absl::Seconds(8), [] {
    return server_->Number(
               "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name "
               "LIKE 'firedrill:%'") == 0;
  }));
}

// A statement that is begun near the end may last no longer than one that was begun at first: each
// of them had the whole fault's time from its own beginning.
TEST_F(StormQueriesTest, TheServerEndsAtTheSameTimeWhatIsBegunLate) {
  const absl::Time begin = absl::Now();
  const absl::Time end = begin + absl::Seconds(10);
  Add("late", absl::StrCat("SELECT pg_sleep(CASE WHEN now() < to_timestamp(",
                           absl::ToUnixSeconds(end) - 2, ") THEN 0.01 ELSE 1000 END)"));
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool ok = Apply("statement: 'late' sessions: 2", end - absl::Now()).ok() && Reached();
    const char word = ok ? 'y' : 'n';
    if (write(ready[1], &word, 1) != 1) _exit(1);
    while (true) pause();
  }
  char ok = 0;
  ASSERT_EQ(read(ready[0], &ok, 1), 1);
  ASSERT_EQ(ok, 'y');
  const auto busy = [](const char* since) {
    return server_->Number(absl::StrCat(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name LIKE "
        "'firedrill:%' AND query_start < now() - interval '",
        since, "'"));
  };
  // Nobody tells the server: who hangs closes nothing.
  EXPECT_TRUE(Within(absl::Seconds(20), [&] { return busy("0.3 s") == 2; }));
  EXPECT_LT(absl::Now(), end);
  kill(child, SIGSTOP);
  // 11 s after each began it was, 9 s after the end.
  EXPECT_TRUE(Within(end - absl::Now() + absl::Seconds(5), [&] { return busy("0 s") == 0; }));
  EXPECT_GT(absl::Now(), end - absl::Seconds(1));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(StormQueriesTest, ALatencyBelowAMillisecondIsNoZero) {
  ASSERT_TRUE(Apply("statement: 'quick' sessions: 1").ok());
  v1::Observation seen;
  ASSERT_TRUE(Within(absl::Seconds(20), [&] {
    seen = Seen();
    return seen.figures().at("p50_ms") > 0 && seen.figures().at("p50_ms") < 1;
  }));
  EXPECT_THAT(seen.detail(), testing::ContainsRegex("median 0[.][0-9]+ ms, 95th percentile "));
}

TEST_F(StormQueriesTest, SaysHowToAskForFewerSessionsThanDoNotFit) {
  server_->Run("ALTER ROLE shop CONNECTION LIMIT 4");
  const std::string by_rate = Refusal("statement: 'endless' rate: 5");
  fault_.reset();
  const std::string by_sessions = Refusal("statement: 'endless' sessions: 10");
  server_->Run("ALTER ROLE shop CONNECTION LIMIT -1");
  EXPECT_THAT(by_rate, HasSubstr("(SQLSTATE 53300); the storm opens 20 sessions, as `sessions` is "
                                 "not given: say `sessions`, with as many as fit"));
  EXPECT_THAT(by_sessions,
              HasSubstr("(SQLSTATE 53300); the storm opens 10 sessions: ask for fewer"));
}

TEST_F(StormQueriesTest, RefusesWhatItCannotRun) {
  EXPECT_THAT(Refusal("statement: 'quick'"), StartsWith("say how much: sessions, or a rate"));
  EXPECT_THAT(Refusal("statement: 'quack' sessions: 1"),
              StartsWith("there is no statement quack in profile shop; it has quick, slow"));
  EXPECT_THAT(Refusal("statement: 'for-run' sessions: 1"), HasSubstr("has parameters"));
  v1::Statement& quick = *node_.mutable_spec.mutable_profiles(1)->add_statements();
  quick.set_name("quick");
  quick.set_sql("SELECT 1");
  const absl::Status superuser =
      Apply("statement: 'quick' sessions: 1", absl::Seconds(60), "postgres");
  EXPECT_THAT(std::string(superuser.message()), HasSubstr("is the superuser postgres"));
}

}  // namespace
}  // namespace firedrill
