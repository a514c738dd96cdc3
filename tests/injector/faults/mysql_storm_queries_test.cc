// storm_queries against a real MariaDB server: how much it does, that it does not slow down with
// the server, and that it ends, also where nobody ends it.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class MysqlStormQueriesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = MariadbServer::Start({.settings = {"max-connections=30"}}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE TABLE test.notes (n int)");
    server_->Run("CREATE SEQUENCE test.counter");
    for (const char* user : {"leaker", "admin"}) {
      server_->Run(absl::StrCat("CREATE USER ", user, "@'127.0.0.1'"));
      server_->Run(absl::StrCat("GRANT ALL ON test.* TO ", user, "@'127.0.0.1'"));
    }
    server_->Run("GRANT ALL ON *.* TO admin@'127.0.0.1'");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("TRUNCATE test.notes");
    v1::Profile& profile = AddMysqlProfile(node_, "leaker", *server_, "leaker");
    AddStatement(profile, "quick", "SELECT 1");
    AddStatement(profile, "slow", "SELECT SLEEP(0.5)");
    AddStatement(profile, "endless", "SELECT SLEEP(1000)");
    AddStatement(profile, "write", "INSERT INTO notes VALUES (1)");
    AddStatement(profile, "file", "SELECT 1 INTO OUTFILE 'fd-storm'");
    AddStatement(profile, "next", "SELECT NEXTVAL(counter)");
    AddStatement(profile, "wrong", "SELECT nonsense");
    AddStatement(profile, "large", "SELECT repeat('x', 1000) FROM seq_1_to_20000");
    AddStatement(AddMysqlProfile(node_, "admin", *server_, "admin"), "quick", "SELECT 1");
  }
  void TearDown() override {
    fault_.reset();
    EXPECT_TRUE(Within(absl::Seconds(10), [] { return SessionsOfFaults(*server_) == 0; }));
  }

  absl::Status Apply(const std::string& text, absl::Duration lasts = absl::Seconds(60),
                     const std::string& profile = "leaker") {
    v1::Fault fault;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "storm_queries { profile: '" + profile + "' protocol: PROTOCOL_MYSQL " + text + " }",
        &fault));
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
  double Figure(const std::string& name) {
    const v1::Observation seen = Seen();
    return seen.figures().contains(name) ? seen.figures().at(name) : 0;
  }

  static inline MariadbServer* server_ = nullptr;
  StageNode node_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(MysqlStormQueriesTest, SessionsRunItAgainAndAgain) {
  ASSERT_TRUE(Apply("statement: 'quick' sessions: 5").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Seen().real(), 5);
  EXPECT_THAT(Seen().subject(), StartsWith("mysql/"));
  EXPECT_TRUE(Within(absl::Seconds(10), [this] { return Figure("finished") > 500; }));
  EXPECT_EQ(Figure("failed"), 0);
  // They are the server's own count, too: five and the one that looks.
  EXPECT_EQ(SessionsOfFaults(*server_), 6);
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("storm"), node_).ok());
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return SessionsOfFaults(*server_) == 0; }));
}

TEST_F(MysqlStormQueriesTest, HoldsItsRate) {
  ASSERT_TRUE(Apply("statement: 'quick' rate: 200").ok());
  ASSERT_TRUE(Reached());
  const double begin = Figure("finished");
  const absl::Duration from = RealClock().Boot();
  absl::SleepFor(absl::Seconds(2));
  const double seconds = absl::ToDoubleSeconds(RealClock().Boot() - from);
  EXPECT_NEAR((Figure("finished") - begin) / seconds, 200, 40);
}

// What is due does not wait until the server is ready for it: it is counted.
TEST_F(MysqlStormQueriesTest, DoesNotSlowDownWithTheServer) {
  ASSERT_TRUE(Apply("statement: 'slow' rate: 20 sessions: 4").ok());
  ASSERT_TRUE(Within(absl::Seconds(20), [this] { return Figure("waiting") > 20; }));
  const v1::Observation seen = Seen();
  EXPECT_FALSE(seen.reached());
  EXPECT_LT(seen.real(), 15);
  EXPECT_THAT(seen.detail(), HasSubstr("due and not begun"));
}

TEST_F(MysqlStormQueriesTest, IsReadOnlyUnlessSaidOtherwise) {
  EXPECT_THAT(Refusal("statement: 'write' sessions: 1"),
              HasSubstr("the statement write of profile leaker is to be one SELECT, WITH, TABLE"));
  EXPECT_THAT(Refusal("statement: 'file' sessions: 1"),
              HasSubstr("the statement file of profile leaker is to be one SELECT, WITH, TABLE"));
  EXPECT_THAT(Refusal("statement: 'next' sessions: 1"),
              HasSubstr("running the statement next with profile leaker: Cannot execute statement "
                        "in a READ ONLY transaction (error 1792)"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM test.notes"), 0);
  ASSERT_TRUE(Apply("statement: 'write' sessions: 1 writes: true").ok());
  EXPECT_TRUE(Within(absl::Seconds(5),
                     [] { return server_->Number("SELECT count(*) FROM test.notes") > 10; }));
}

TEST_F(MysqlStormQueriesTest, CountsErrorsByTheirNumberAndOpensEndedSessionsAgain) {
  EXPECT_THAT(Refusal("statement: 'wrong' sessions: 1"), HasSubstr("nonsense"));
  ASSERT_TRUE(Apply("statement: 'slow' sessions: 3").ok());
  ASSERT_TRUE(Reached());
  for (const auto& row : server_->Run(
           "SELECT ID FROM information_schema.processlist WHERE user = 'leaker' AND INFO LIKE "
           "'SELECT SLEEP%'")) {
    server_->Run("KILL " + row[0]);
  }
  EXPECT_TRUE(Within(absl::Seconds(10), [this] {
    const v1::Observation seen = Seen();
    double errors = 0;
    for (const auto& [name, count] : seen.figures()) {
      if (absl::StartsWith(name, "errors_")) errors += count;
    }
    return errors >= 1 && seen.reached();
  }));
}

TEST_F(MysqlStormQueriesTest, ThrowsLargeAnswersAwayAsTheyCome) {
  ASSERT_TRUE(Apply("statement: 'large' sessions: 2").ok());
  EXPECT_TRUE(Within(absl::Seconds(60), [this] { return Figure("finished") >= 3; }));
}

// The server does not notice that the client is gone: a statement that never ended would be left. A
// SLEEP looks around every 5 s.
TEST_F(MysqlStormQueriesTest, WhatItRunsDiesSoonAfterTheProcess) {
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
  EXPECT_GE(SessionsOfFaults(*server_), 4);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Within(absl::Seconds(4), [] { return SessionsOfFaults(*server_) == 0; }));
}

TEST_F(MysqlStormQueriesTest, RefusesWhatItCannotRun) {
  EXPECT_THAT(Refusal("statement: 'quick'"), StartsWith("say how much: sessions, or a rate"));
  EXPECT_THAT(Refusal("statement: 'quack' sessions: 1"),
              StartsWith("there is no statement quack in profile leaker; it has quick, slow"));
  EXPECT_THAT(
      std::string(Apply("statement: 'quick' sessions: 1", absl::Seconds(60), "admin").message()),
      HasSubstr("with SUPER or CONNECTION ADMIN"));
}

}  // namespace
}  // namespace firedrill
