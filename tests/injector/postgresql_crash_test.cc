// Faults inside PostgreSQL, and an injector that dies at every step of applying and reverting them:
// whoever is left finds what it has done, and the server is as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/prctl.h>

#include "tests/injector/doomed_injector.h"
#include "tests/testing/child.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kLoseIndex[] =
    "name: 'lost' ending: ENDING_JOURNALLED fault { lose_index { profile: 'admin' superuser: true "
    "index: 'public.users_email_idx' } }";
constexpr char kLockTable[] =
    "name: 'lock' ending: ENDING_DIES_WITH_PROCESS fault { lock_table { profile: 'admin' "
    "superuser: "
    "true table: 'public.users' } }";
constexpr char kLockRows[] =
    "name: 'rows' ending: ENDING_DIES_WITH_PROCESS fault { lock_rows { profile: 'admin' superuser: "
    "true table: 'public.users' column: 'id' values: ['7', '8'] } }";
constexpr char kStormQueries[] =
    "name: 'storm' ending: ENDING_DIES_WITH_PROCESS fault { storm_queries { profile: 'admin' "
    "superuser: true statement: 'slow' sessions: 2 } }";

constexpr char kHoldConnections[] =
    "name: 'leak' ending: ENDING_DIES_WITH_PROCESS fault { hold_connections { profile: 'admin' "
    "superuser: true state: SESSION_STATE_IDLE_IN_TRANSACTION count: 3 refill: true } }";
constexpr char kTerminateSessions[] =
    "name: 'cut' ending: ENDING_ONE_SHOT fault { terminate_sessions { profile: 'admin' "
    "user: 'admin' application_name: 'victim' } }";

// On a server of its own.
class Injector final : public DoomedInjector {
 public:
  Injector(const std::string& state_dir, const PostgresServer& server, Then then,
           const char* fault = kLoseIndex)
      : DoomedInjector(state_dir, then, fault, [&server](StageNode& node) {
          node.AddProfile("admin", server.folder(), server.port(), "admin", "");
          auto* statement = node.mutable_spec.mutable_profiles(0)->add_statements();
          statement->set_name("slow");
          statement->set_sql("SELECT pg_sleep(60)");
        }) {}
};

class PostgresqlCrashTest : public ::testing::Test {
 protected:
  using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 14}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run(
        "CREATE ROLE admin SUPERUSER LOGIN;"
        "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);"
        "INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 3000) n;"
        "CREATE INDEX users_email_idx ON users (email);"
        "ALTER TABLE users ALTER COLUMN id SET STATISTICS 77; ANALYZE users");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    // Orphaned reapers come to us, so that their end can be seen.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pooled_ = Pooled();
    ASSERT_EQ(PlanOf(pooled_), "Index Scan using users_email_idx on users");
    before_ = State();
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  static Connection Pooled() {
    const std::string target = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                            " user=admin dbname=postgres application_name=shop");
    Connection connection(PQconnectdb(target.c_str()), PQfinish);
    for (const char* sql : {"SET plan_cache_mode = force_generic_plan",
                            "PREPARE login AS SELECT * FROM users WHERE email = $1"}) {
      PQclear(PQexec(connection.get(), sql));
    }
    return connection;
  }
  static std::string PlanOf(const Connection& connection) {
    PGresult* result = PQexec(connection.get(), "EXPLAIN (COSTS OFF) EXECUTE login('u7')");
    const std::string plan = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "no answer";
    PQclear(result);
    return plan;
  }
  std::string Ask(const std::string& sql) {
    PGresult* result = PQexec(pooled_.get(), sql.c_str());
    std::string answer;
    for (int row = 0; row < PQntuples(result); ++row) {
      absl::StrAppend(&answer, PQgetvalue(result, row, 0), "\n");
    }
    PQclear(result);
    return answer;
  }
  std::string State() {
    return Ask(
        "SELECT indexrelid::regclass || ' ' || indisvalid FROM pg_index WHERE indexrelid >= 16384"
        " UNION ALL SELECT attname || ' ' || attstattarget FROM pg_attribute WHERE attrelid ="
        " 'users'::regclass AND attnum > 0 UNION ALL SELECT name || ' ' || setting FROM pg_settings"
        " WHERE source NOT IN ('session', 'client', 'default', 'override') ORDER BY 1");
  }
  bool Lost() { return State() != before_; }
  bool NobodyOfUs() {
    return Ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill%'") ==
           "0\n";
  }
  void ExpectAsBefore(const std::string& when) {
    EXPECT_EQ(State(), before_) << when;
    EXPECT_EQ(PlanOf(pooled_), "Index Scan using users_email_idx on users") << when;
    EXPECT_EQ(PlanOf(Pooled()), "Index Scan using users_email_idx on users") << when;
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return NobodyOfUs(); })) << when;
  }
  // Nobody has a row, the table, sessions that ask the storm's statement, or some that only hold.
  bool Free() {
    // NOWAIT does not say so of the table itself.
    Ask("SET lock_timeout = '100ms'");
    const std::string rows =
        Ask("SELECT count(*) FROM (SELECT 1 FROM users FOR UPDATE NOWAIT) free");
    Ask("RESET lock_timeout");
    return rows == "3000\n" &&
           Ask("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE "
               "'%pg_sleep(60)' AND pid <> pg_backend_pid()") == "0\n" &&
           Ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE "
               "'firedrill:%:leak'") == "0\n";
  }
  static inline PostgresServer* server_ = nullptr;
  TempDir folder_{"firedrill-lost"};
  const std::string dir_ = folder_.path() + "/state";
  Connection pooled_{nullptr, PQfinish};
  std::string before_;
};

TEST_F(PostgresqlCrashTest, AnInjectorThatDiesAtAnyStepIsUndoneByItsReaper) {
  int steps = 0;
  for (int step = 1;; ++step) {
    Injector injector(dir_, *server_, Injector::Then::kRevert);
    const bool stopped = RunUntilStep(injector, step);
    injector.Kill();
    EXPECT_EQ(CodeOfReaper(injector.reaper()), 0) << "step " << step;
    ExpectAsBefore(absl::StrCat("killed at step ", step));
    EXPECT_EQ(LastingLeftovers(dir_), 0) << "step " << step;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  EXPECT_GT(steps, 40);
}

TEST_F(PostgresqlCrashTest, InjectorAndReaperThatDieTogetherAreUndoneByTheNextStart) {
  int steps = 0, lost = 0;
  for (int step = 1;; ++step) {
    Injector injector(dir_, *server_, Injector::Then::kRevert);
    const bool stopped = RunUntilStep(injector, step);
    kill(injector.reaper(), SIGKILL);
    injector.Kill();
    CodeOfReaper(injector.reaper());
    // A COMMIT may still be on its way.
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return NobodyOfUs(); }));
    if (Lost()) ++lost;
    for (const NodeLeftovers& left : ReplayOwnerless(dir_, absl::Seconds(1))) {
      EXPECT_THAT(left.entries, IsEmpty());
    }
    ExpectAsBefore(absl::StrCat("both killed at step ", step));
    EXPECT_THAT(Leftovers(dir_), IsEmpty());
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  EXPECT_GT(steps, 40);
  // Else no death was in the middle of anything.
  EXPECT_GT(lost, 10);
  EXPECT_LT(lost, steps - 10);
}

// All slots are gone by the time of the undo, those of superusers too: only a connection from
// before gets in.
class FullServerTest : public PostgresqlCrashTest {
 protected:
  // Applied, injector dead, reaper stopped, no slot free.
  void Fill(Injector& injector) {
    injector.Go();
    ASSERT_TRUE(injector.Applied());
    kill(injector.reaper(), SIGSTOP);
    injector.Kill();
    ASSERT_TRUE(Within(absl::Seconds(5), [this] {
      return Ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE "
                 "'firedrill-control%'") == "0\n";
    }));
  }
  void TakeEverySlot() {
    ASSERT_TRUE(Within(absl::Seconds(5), [this] {
      full_.push_back(Pooled());
      if (PQstatus(full_.back().get()) == CONNECTION_OK) return false;
      full_.pop_back();
      return true;
    }));
  }
  std::vector<Connection> full_;
};

TEST_F(FullServerTest, TheReaperUndoesByTheConnectionFromBefore) {
  Injector injector(dir_, *server_, Injector::Then::kHold);
  Fill(injector);
  // The injector's own goes a moment after it.
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    return Ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
               "'firedrill-undo'") == "1\n";
  }));
  TakeEverySlot();
  ASSERT_TRUE(Lost());
  kill(injector.reaper(), SIGCONT);
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  EXPECT_EQ(State(), before_);
  full_.clear();
  ExpectAsBefore("after the reaper");
}

TEST_F(FullServerTest, WithoutItTheIndexIsNamedAndUndoneByTheNextStart) {
  Injector injector(dir_, *server_, Injector::Then::kHold);
  Fill(injector);
  Ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
      "'firedrill-undo'");
  ASSERT_TRUE(Within(absl::Seconds(2), [this] { return NobodyOfUs(); }));
  TakeEverySlot();
  kill(injector.reaper(), SIGCONT);
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 5);
  EXPECT_TRUE(Lost());
  const auto left = Leftovers(dir_);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_THAT(left[0].entries[0].resource(),
              HasSubstr("index public.users_email_idx of postgresql/"));
  EXPECT_THAT(left[0].entries[0].undo_by_hand(), HasSubstr("psql -h '"));
  full_.clear();
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    ReplayOwnerless(dir_, absl::Seconds(1));
    return !Lost();
  }));
  ExpectAsBefore("after the next start");
}

// What dies with the process: there is nothing to undo, and all is gone.
class DiesWithItTest : public PostgresqlCrashTest,
                       public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(DiesWithItTest, AtAnyStep) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    Injector injector(dir_, *server_, Injector::Then::kRevert, GetParam().second);
    const bool stopped = RunUntilStep(injector, step);
    if (stopped && !Free()) ++met;
    injector.Kill();
    EXPECT_EQ(CodeOfReaper(injector.reaper()), 0) << "step " << step;
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return NobodyOfUs(); })) << "step " << step;
    EXPECT_TRUE(Free()) << "step " << step;
    EXPECT_EQ(State(), before_) << "step " << step;
    EXPECT_EQ(LastingLeftovers(dir_), 0) << "step " << step;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  RecordProperty("met", met);
  EXPECT_GT(steps, 20);
  // Else no death was in the middle of anything.
  EXPECT_GT(met, 2);
  EXPECT_LT(met, steps);
}

INSTANTIATE_TEST_SUITE_P(Postgresql, DiesWithItTest,
                         ::testing::Values(std::pair("holdConnections", kHoldConnections),
                                           std::pair("lockTable", kLockTable),
                                           std::pair("lockRows", kLockRows),
                                           std::pair("stormQueries", kStormQueries)),
                         [](const auto& info) { return std::string(info.param.first); });

// What happens once is not undone; but nothing of ours stays, and nobody else is met.
TEST_F(PostgresqlCrashTest, SessionsAreTerminatedOrNotByAnInjectorThatDiesAtAnyStep) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    const std::string target = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                            " user=admin dbname=postgres application_name=victim");
    const Connection victim(PQconnectdb(target.c_str()), PQfinish);
    ASSERT_EQ(PQstatus(victim.get()), CONNECTION_OK) << "step " << step;
    Injector injector(dir_, *server_, Injector::Then::kRevert, kTerminateSessions);
    const bool stopped = RunUntilStep(injector, step);
    injector.Kill();
    EXPECT_EQ(CodeOfReaper(injector.reaper()), 0) << "step " << step;
    EXPECT_TRUE(Within(absl::Seconds(2), [this] { return NobodyOfUs(); })) << "step " << step;
    PQclear(PQexec(victim.get(), "SELECT 1"));
    met += PQstatus(victim.get()) != CONNECTION_OK;
    EXPECT_EQ(State(), before_) << "step " << step;
    EXPECT_THAT(Leftovers(dir_), IsEmpty()) << "step " << step;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  EXPECT_GT(steps, 10);
  EXPECT_GT(met, 2);
  EXPECT_LT(met, steps);
}

TEST_F(PostgresqlCrashTest, TheReaperLetsGoOfItsConnectionAfterARevert) {
  Injector injector(dir_, *server_, Injector::Then::kRevert);
  injector.Go();
  ASSERT_TRUE(injector.Applied());
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  ExpectAsBefore("after the revert");
}

// A reaper that cannot get in could not undo it: then nothing is changed.
TEST_F(PostgresqlCrashTest, NothingIsChangedWithoutAReadyReaper) {
  // One slot too few: control, prepared and undo of the injector get in, the reaper does not.
  std::vector<Connection> full;
  for (int i = 0; i < 10; ++i) full.push_back(Pooled());
  ASSERT_EQ(PQstatus(full.back().get()), CONNECTION_OK);
  Injector injector(dir_, *server_, Injector::Then::kHold);
  injector.Go();
  EXPECT_FALSE(injector.Applied());
  EXPECT_FALSE(Lost());
  EXPECT_EQ(LastingLeftovers(dir_), 0);
  full.clear();
  injector.Kill();
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  ExpectAsBefore("after the refusal");
}

}  // namespace
}  // namespace firedrill
