// lock_table and lock_rows against a real PostgreSQL server: who waits, for how long, and that it
// ends.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/status_macros.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class LocksTest : public ::testing::Test {
 protected:
  using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 30}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run(
        "CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN;"
        "CREATE TABLE users (id int PRIMARY KEY, email text);"
        "INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 100) n;"
        "CREATE VIEW seen AS SELECT * FROM users; GRANT ALL ON users, seen TO shop");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    for (const char* role : {"shop", "stranger", "postgres"}) {
      node_.AddProfile(role, server_->folder(), server_->port(), role, "");
    }
    auto* statement = node_.mutable_spec.mutable_profiles(0)->add_statements();
    statement->set_name("old");
    statement->set_sql("SELECT id FROM users WHERE id <= 3 ORDER BY id");
  }
  void TearDown() override {
    fault_.reset();
    EXPECT_TRUE(Within(absl::Seconds(2), [] { return Ours() == 0; }));
  }

  static int Ours() {
    return server_->Number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill%'");
  }
  static Connection Open() {
    const std::string target = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                            " user=shop dbname=postgres application_name=web");
    return Connection(PQconnectdb(target.c_str()), PQfinish);
  }
  // Whether the statement gets through at once.
  static bool Passes(const std::string& sql) {
    const Connection connection = Open();
    PQclear(PQexec(connection.get(), "SET lock_timeout = '200ms'"));
    PGresult* result = PQexec(connection.get(), sql.c_str());
    const bool ok =
        PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return ok;
  }

  absl::Status Apply(const std::string& text, absl::Duration lasts = absl::Seconds(60)) {
    v1::Fault fault;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &fault)) << text;
    fault_ = *MakeFault(fault);
    RETURN_IF_ERROR(fault_->Validate(node_));
    NoChanges changes;
    return fault_->Apply(StageContext("lock", absl::Seconds(10), lasts), node_, changes);
  }
  std::string Refusal(const std::string& text) { return std::string(Apply(text).message()); }
  v1::Observation Seen() { return *fault_->Observe(StageContext("lock"), node_); }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(LocksTest, AccessExclusiveKeepsEverybodyOutUntilRelease) {
  ASSERT_TRUE(Passes("SELECT count(*) FROM users"));
  ASSERT_TRUE(Apply("lock_table { profile: 'shop' table: 'public.users' }").ok());
  EXPECT_FALSE(Passes("SELECT count(*) FROM users"));
  EXPECT_TRUE(Passes("SELECT count(*) FROM pg_class"));
  EXPECT_TRUE(Seen().reached());
  EXPECT_EQ(Seen().detail(), "AccessExclusiveLock on public.users held, 0 sessions wait for us");
  const Connection waiting = Open();
  PQsendQuery(waiting.get(), "SELECT count(*) FROM users");
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return Seen().figures().at("waiting") == 1; }));
  EXPECT_THAT(Seen().detail(), HasSubstr("1 session waits for us"));
  fault_->Release();
  PGresult* result = PQgetResult(waiting.get());
  EXPECT_EQ(PQresultStatus(result), PGRES_TUPLES_OK);
  PQclear(result);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lock"), node_).ok());
  EXPECT_TRUE(Passes("SELECT count(*) FROM users"));
}

TEST_F(LocksTest, WeakerModesLetMoreThrough) {
  struct Case {
    const char* mode;
    bool read, write, rows;
  };
  for (const Case& one :
       {Case{"EXCLUSIVE", true, false, false}, Case{"SHARE", true, false, true},
        Case{"ROW_EXCLUSIVE", true, true, true}, Case{"SHARE_ROW_EXCLUSIVE", true, false, true},
        Case{"SHARE_UPDATE_EXCLUSIVE", true, true, true}, Case{"ROW_SHARE", true, true, true},
        Case{"ACCESS_SHARE", true, true, true}}) {
    ASSERT_TRUE(Apply(absl::StrCat("lock_table { profile: 'shop' table: 'public.users' mode: "
                                   "TABLE_LOCK_",
                                   one.mode, " }"))
                    .ok());
    EXPECT_TRUE(Seen().reached()) << one.mode;
    EXPECT_EQ(Passes("SELECT count(*) FROM users"), one.read) << one.mode;
    EXPECT_EQ(Passes("UPDATE users SET email = email WHERE id = 9"), one.write) << one.mode;
    EXPECT_EQ(Passes("SELECT 1 FROM users WHERE id = 9 FOR SHARE"), one.rows) << one.mode;
    fault_->Release();
    EXPECT_TRUE(fault_->ReadBack(StageContext("lock"), node_).ok());
  }
}

// Who queues for a strong lock makes everybody behind him wait: only for as long as was asked.
TEST_F(LocksTest, GivesUpAndNamesWhoHoldsTheTable) {
  const Connection reader = Open();
  PQclear(PQexec(reader.get(), "BEGIN; SELECT count(*) FROM users"));
  const absl::Duration begin = RealClock().Boot();
  const std::string refusal = Refusal(
      "lock_table { profile: 'shop' table: 'public.users' acquire_within { nanos: 400000000 } }");
  EXPECT_THAT(refusal, StartsWith("locking public.users: the lock on public.users was not granted "
                                  "within 400ms, while locks are held by pid "));
  EXPECT_THAT(refusal, HasSubstr("(web, idle in transaction, AccessShareLock)"));
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(3));
  EXPECT_TRUE(Passes("SELECT count(*) FROM users"));
}

// The session that waits for the row, and is just being ended, was named with
// "AccessExclusiveLock".
TEST_F(LocksTest, DoesNotNameItselfAmongWhoHoldsRows) {
  const Connection other = Open();
  PQclear(PQexec(other.get(), "SET application_name = ''"));
  PQclear(PQexec(other.get(), "BEGIN; SELECT FROM users WHERE id < 4 FOR UPDATE"));
  for (int i = 0; i < 5; ++i) {
    // Shorter than an attempt: the session is still waiting when it is given up.
    const std::string refusal = Refusal(
        "lock_rows { profile: 'shop' table: 'public.users' column: 'id' values: '3' "
        "acquire_within { nanos: 60000000 } }");
    EXPECT_THAT(refusal,
                HasSubstr(absl::StrCat("while locks are held by pid ", PQbackendPID(other.get()),
                                       " (idle in transaction, RowShareLock); nobody")));
    fault_.reset();
  }
}

TEST_F(LocksTest, GetsTheLockWhenItIsFreedInTime) {
  Connection reader = Open();
  PQclear(PQexec(reader.get(), "BEGIN; SELECT count(*) FROM users"));
  std::jthread later([&reader] {
    absl::SleepFor(absl::Milliseconds(500));
    reader.reset();
  });
  EXPECT_TRUE(Apply("lock_table { profile: 'shop' table: 'public.users' acquire_within { seconds: "
                    "5 } }")
                  .ok());
  EXPECT_TRUE(Seen().reached());
}

TEST_F(LocksTest, SeesThatTheServerHasTakenTheLockAway) {
  ASSERT_TRUE(Apply("lock_table { profile: 'shop' table: 'public.users' }").ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
      "'firedrill:%'");
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return !Seen().reached(); }));
  EXPECT_THAT(Seen().detail(), HasSubstr("not held"));
}

TEST_F(LocksTest, TheServerEndsItByItselfWhenNobodyElseDoes) {
  ASSERT_TRUE(
      Apply("lock_table { profile: 'shop' table: 'public.users' }", absl::Milliseconds(500)).ok());
  EXPECT_FALSE(Passes("SELECT count(*) FROM users"));
  // Nobody releases it.
  EXPECT_TRUE(Within(absl::Seconds(6), [] { return Passes("SELECT count(*) FROM users"); }));
  EXPECT_FALSE(Seen().reached());
}

TEST_F(LocksTest, DiesWithTheProcess) {
  for (const char* text :
       {"lock_table { profile: 'shop' table: 'public.users' }",
        "lock_rows { profile: 'shop' table: 'public.users' column: 'id' values: '9' }"}) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      const char ok = Apply(text).ok() ? 'y' : 'n';
      if (write(ready[1], &ok, 1) != 1) _exit(1);
      while (true) pause();
    }
    char ok = 0;
    ASSERT_EQ(read(ready[0], &ok, 1), 1);
    EXPECT_EQ(ok, 'y');
    EXPECT_FALSE(Passes("UPDATE users SET email = email WHERE id = 9")) << text;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    EXPECT_TRUE(Within(absl::Seconds(1), [] {
      return Passes("UPDATE users SET email = email WHERE id = 9");
    })) << text;
    EXPECT_TRUE(Within(absl::Seconds(1), [] { return Ours() == 0; }));
  }
}

TEST_F(LocksTest, LocksTheRowsOfAColumn) {
  ASSERT_TRUE(Apply("lock_rows { profile: 'shop' table: 'public.users' column: 'email' values: "
                    "['u4', 'u5', 'nobody', 'a\"b\\\\'] }")
                  .ok());
  EXPECT_FALSE(Passes("UPDATE users SET email = email WHERE id = 4"));
  EXPECT_TRUE(Passes("UPDATE users SET email = email WHERE id = 6"));
  EXPECT_TRUE(Passes("SELECT email FROM users WHERE id = 4"));
  const v1::Observation seen = Seen();
  EXPECT_TRUE(seen.reached());
  EXPECT_EQ(seen.detail(),
            "2 of 2 rows of public.users locked FOR UPDATE, 0 sessions wait for us; "
            "at least 2 of 4 values have no row");
  const Connection waiting = Open();
  PQsendQuery(waiting.get(), "UPDATE users SET email = email WHERE id = 5");
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return Seen().figures().at("waiting") == 1; }));
  fault_->Release();
  PGresult* result = PQgetResult(waiting.get());
  EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK);
  PQclear(result);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lock"), node_).ok());
  EXPECT_TRUE(Passes("UPDATE users SET email = email WHERE id = 4"));
}

TEST_F(LocksTest, LocksTheRowsOfAStatement) {
  ASSERT_TRUE(Apply("lock_rows { profile: 'shop' table: 'public.users' statement: 'old' mode: "
                    "ROW_LOCK_FOR_SHARE }")
                  .ok());
  EXPECT_EQ(Seen().real(), 3);
  EXPECT_TRUE(Seen().reached()) << Seen().detail();
  EXPECT_FALSE(Passes("UPDATE users SET email = email WHERE id = 2"));
  EXPECT_TRUE(Passes("SELECT 1 FROM users WHERE id = 2 FOR SHARE"));
}

TEST_F(LocksTest, SeesRowsThatAreNotLockedAnyMore) {
  ASSERT_TRUE(Apply("lock_rows { profile: 'shop' table: 'public.users' statement: 'old' }").ok());
  ASSERT_TRUE(Seen().reached());
  server_->Run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
      "'firedrill:%'");
  EXPECT_TRUE(Within(absl::Seconds(2), [this] { return Seen().real() == 0; }));
  EXPECT_FALSE(Seen().reached());
}

TEST_F(LocksTest, RefusesRowsThatCannotBeMeant) {
  const std::string rows = "lock_rows { profile: 'shop' table: 'public.users' ";
  EXPECT_THAT(Refusal(rows + "}"),
              StartsWith("lockRows needs to know which: a statement of the profile, or column"));
  EXPECT_THAT(Refusal(rows + "statement: 'old' column: 'id' values: '1' }"), HasSubstr("not both"));
  EXPECT_THAT(Refusal(rows + "statement: 'odl' }"),
              StartsWith("there is no statement odl in profile shop; it has old"));
  EXPECT_THAT(
      Refusal(rows + "column: 'id' values: '4711' }"),
      StartsWith("no row of public.users matches, so nothing would be locked; check column"));
  EXPECT_THAT(Refusal(rows + "statement: 'old' at_most: 2 }"),
              StartsWith("more than 2 rows of public.users match; select fewer, or raise atMost"));
  EXPECT_THAT(Refusal(rows + "column: 'nmae' values: '1' }"), HasSubstr("nmae"));
  EXPECT_TRUE(Passes("UPDATE users SET email = email WHERE id <= 3"));
}

TEST_F(LocksTest, RefusesTablesThatMustNotBeLocked) {
  const auto refusal = [this](const std::string& table, const std::string& profile = "shop") {
    return Refusal(absl::StrCat("lock_table { profile: '", profile, "' table: '", table, "' }"));
  };
  EXPECT_THAT(refusal("pg_catalog.pg_class"),
              StartsWith("the table pg_catalog.pg_class is not locked: it belongs to the system "
                         "catalogs"));
  EXPECT_THAT(refusal("public.user"),
              StartsWith("there is no table public.user in the database postgres; did you mean "
                         "public.users?"));
  EXPECT_THAT(refusal("public.seen"), StartsWith("public.seen is no table"));
  EXPECT_THAT(refusal("users"), HasSubstr("write it with its schema"));
  EXPECT_THAT(refusal("public.users", "postgres"), HasSubstr("is the superuser postgres"));
  EXPECT_THAT(refusal("public.users", "stranger"), HasSubstr("permission denied for table users"));
}

}  // namespace
}  // namespace firedrill
