// The sql probe against a real PostgreSQL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "probes/probe.h"
#include "tests/testing/child.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

class SqlProbe : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 8}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE ROLE reader LOGIN PASSWORD 'pw'; GRANT pg_read_all_stats TO reader");
    server_->Run("CREATE TABLE t (n int); GRANT ALL ON t TO reader");
  }
  static void TearDownTestSuite() { delete server_; }

  SqlProbe() : dir_("firedrill-sql") {
    WriteFile(dir_.path() + "/pw", "pw\n");
    chmod((dir_.path() + "/pw").c_str(), 0600);
    site_.run = "r1";
    v1::Profile& profile = site_.profiles["dba"];
    profile.set_name("dba");
    v1::PostgresqlServer& where = *profile.mutable_postgresql();
    where.set_host("127.0.0.1");
    where.set_port(server_->port());
    where.set_user("reader");
    where.set_database("postgres");
    where.mutable_password()->set_file(dir_.path() + "/pw");
  }

  void Statement(const std::string& sql, bool run = false) {
    v1::Profile& profile = site_.profiles["dba"];
    profile.clear_statements();
    v1::Statement& statement = *profile.add_statements();
    statement.set_name("s");
    statement.set_sql(sql);
    if (run) statement.add_parameters("run");
  }

  // A probe on statement `s`.
  std::unique_ptr<Probe> Make() {
    v1::Probe probe;
    probe.mutable_sql()->set_profile("dba");
    probe.mutable_sql()->set_statement("s");
    auto made = MakeProbe(probe, site_);
    EXPECT_TRUE(made.ok()) << made.status();
    EXPECT_TRUE((*made)->Validate().ok()) << (*made)->Validate();
    return *std::move(made);
  }
  static absl::StatusOr<double> Read(Probe& probe, absl::Duration deadline = absl::Seconds(5)) {
    const auto values = probe.Read({RealClock(), deadline, {}});
    if (!values.ok()) return values.status();
    return values->at("value");
  }
  absl::StatusOr<double> Read() { return Read(*Make()); }

  static PostgresServer* server_;
  TempDir dir_;
  ProbeSite site_;
};

PostgresServer* SqlProbe::server_ = nullptr;

TEST_F(SqlProbe, ReadsTheFirstColumnOfTheOnlyRow) {
  Statement("SELECT 41.5, 'x'");
  EXPECT_EQ(*Read(), 41.5);
  Statement("SELECT true");
  EXPECT_EQ(*Read(), 1);
}

TEST_F(SqlProbe, AnythingElseIsUnknown) {
  const std::pair<const char*, const char*> cases[] = {
      {"SELECT NULL", "NULL"},
      {"SELECT 1 WHERE false", "0 rows"},
      {"SELECT generate_series(1, 2)", "2 rows"},
      {"SELECT 'abc'", "'abc', not a number"},
      {"SELECT 'NaN'::float8", "not a number"},
      {"SELECT nothing", "column \"nothing\" does not exist"},
      {"SELECT 1; SELECT 2", "multiple commands"},
  };
  for (const auto& [sql, text] : cases) {
    Statement(sql);
    EXPECT_THAT(std::string(Read().status().message()), HasSubstr(text)) << sql;
  }
}

TEST_F(SqlProbe, BindsTheRunAndIsNotCountedAsItsSession) {
  Statement(
      "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill:' || $1 || "
      "':%'",
      true);
  const auto probe = Make();
  EXPECT_EQ(*Read(*probe), 0);
  Statement(
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'firedrill-probe:' || $1",
      true);
  EXPECT_EQ(*Read(), 2);  // The first one's session is open as well.
}

TEST_F(SqlProbe, CannotWrite) {
  Statement("INSERT INTO t VALUES (1) RETURNING n");
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("read-only transaction"));
  EXPECT_EQ(server_->Number("SELECT count(*) FROM t"), 0);
}

TEST_F(SqlProbe, KeepsItsSessionWhenAllSlotsAreTaken) {
  Statement("SELECT pg_backend_pid()");
  const auto probe = Make();
  const auto before = Read(*probe);
  ASSERT_TRUE(before.ok()) << before.status();
  std::vector<std::unique_ptr<Probe>> others;
  while (others.size() < 20) {
    others.push_back(Make());
    if (!Read(*others.back()).ok()) break;
  }
  ASSERT_LT(others.size(), 10u);
  EXPECT_THAT(std::string(Read().status().message()), HasSubstr("connection slots are reserved"));
  EXPECT_EQ(*Read(*probe), *before);
}

TEST_F(SqlProbe, ALateAnswerCostsNotTheSession) {
  server_->Run("DELETE FROM t; INSERT INTO t VALUES (1)");
  Statement("SELECT pg_backend_pid() FROM t, LATERAL (SELECT pg_sleep(t.n)) AS s");
  const auto probe = Make();
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Read(*probe, absl::Milliseconds(300)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - begin, absl::Milliseconds(900));
  const int sessions = server_->Number(
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'firedrill-probe:r1'");
  server_->Run("UPDATE t SET n = 0");
  EXPECT_TRUE(Read(*probe).ok());
  EXPECT_EQ(server_->Number("SELECT count(*) FROM pg_stat_activity "
                            "WHERE application_name = 'firedrill-probe:r1'"),
            sessions);
}

TEST_F(SqlProbe, ConnectsAgainWhenTheSessionWasEnded) {
  Statement("SELECT pg_backend_pid()");
  const auto probe = Make();
  const auto before = Read(*probe);
  ASSERT_TRUE(before.ok()) << before.status();
  server_->Run(absl::StrCat("SELECT pg_terminate_backend(", *before, ", 5000)"));
  EXPECT_FALSE(Read(*probe).ok());
  const auto after = Read(*probe);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_NE(*after, *before);
}

TEST_F(SqlProbe, AServerThatHangsIsUnknownInTime) {
  Statement("SELECT 1");
  const auto probe = Make();
  ASSERT_TRUE(Read(*probe).ok());
  kill(server_->pid(), SIGSTOP);  // The postmaster: new sessions hang in the handshake.
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Read(*Make(), absl::Milliseconds(200)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_TRUE(Read(*probe).ok());  // An open session does not need it.
  kill(server_->pid(), SIGCONT);
}

TEST_F(SqlProbe, AWrongPasswordIsSaid) {
  WriteFile(dir_.path() + "/pw", "wrong\n");
  Statement("SELECT 1");
  const std::string message(Read().status().message());
  EXPECT_THAT(message, HasSubstr("password authentication failed for user \"reader\""));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("wrong")));
}

TEST_F(SqlProbe, RefusesWhatTheNodeDoesNotPermit) {
  v1::Probe probe;
  probe.mutable_sql()->set_profile("dba");
  const auto refused = [&](const char* text) {
    const auto made = MakeProbe(probe, site_);
    ASSERT_TRUE(made.ok());
    EXPECT_THAT(std::string((*made)->Validate().message()), HasSubstr(text));
  };
  probe.mutable_sql()->set_query("SELECT 1");
  refused("permits no free queries");
  site_.free_queries = true;
  EXPECT_TRUE((*MakeProbe(probe, site_))->Validate().ok());
  probe.mutable_sql()->set_statement("other");
  refused("no statement 'other' in profile 'dba'");
  probe.mutable_sql()->set_profile("nobody");
  refused("no profile 'nobody' here; there is dba");
  site_.profiles.clear();
  refused("check `from`");
}

}  // namespace
}  // namespace firedrill
