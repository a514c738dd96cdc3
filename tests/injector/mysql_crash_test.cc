// Faults inside MariaDB, and an injector that dies at every step of applying and reverting them:
// whoever is left finds what it has done, and the server is as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>

#include "tests/injector/doomed_injector.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kLoseIndex[] =
    "name: 'lost' ending: ENDING_JOURNALLED fault { lose_index { profile: 'admin' protocol: "
    "PROTOCOL_MYSQL index: 'users.users_email_idx' } }";

constexpr char kLockTable[] =
    "name: 'lock' ending: ENDING_DIES_WITH_PROCESS fault { lock_table { profile: 'admin' protocol: "
    "PROTOCOL_MYSQL table: 'test.users' } }";
constexpr char kLockRows[] =
    "name: 'rows' ending: ENDING_DIES_WITH_PROCESS fault { lock_rows { profile: 'admin' protocol: "
    "PROTOCOL_MYSQL table: 'test.users' column: 'id' values: ['7', '8'] } }";
constexpr char kStormQueries[] =
    "name: 'storm' ending: ENDING_DIES_WITH_PROCESS fault { storm_queries { profile: 'admin' "
    "protocol: PROTOCOL_MYSQL statement: 'slow' sessions: 2 } }";

constexpr char kHoldConnections[] =
    "name: 'leak' ending: ENDING_DIES_WITH_PROCESS fault { hold_connections { profile: 'admin' "
    "protocol: PROTOCOL_MYSQL state: SESSION_STATE_IDLE_IN_TRANSACTION count: 4 refill: true } }";

// On a server of its own.
class Injector final : public DoomedInjector {
 public:
  Injector(const std::string& state_dir, const MariadbServer& server, Then then,
           const char* fault = kLoseIndex)
      : DoomedInjector(state_dir, then, fault, [&server](StageNode& node) {
          AddStatement(AddMysqlProfile(node, "admin", server, "admin"), "slow",
                       "SELECT sleep(0.2)");
        }) {}
};

class MysqlCrashTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = MariadbServer::Start({.settings = {"max-connections=10"}}).release();
    ASSERT_NE(server_, nullptr);
    for (const char* sql :
         {"CREATE USER admin@'127.0.0.1'", "CREATE USER shop@'127.0.0.1'",
          "GRANT ALL ON test.* TO admin@'127.0.0.1'", "GRANT PROCESS ON *.* TO shop@'127.0.0.1'",
          "GRANT ALL ON test.* TO shop@'127.0.0.1'",
          "CREATE TABLE test.users (id int PRIMARY KEY, email varchar(80) NOT NULL,"
          " KEY users_email_idx (email)) STATS_PERSISTENT=1",
          "INSERT INTO test.users SELECT seq, concat('u', seq) FROM test.seq_1_to_3000",
          "ANALYZE TABLE test.users"}) {
      server_->Run(sql);
    }
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    // Orphaned reapers come to us, so that their end can be seen.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pooled_ = std::make_unique<MariadbClient>(*server_);
    ASSERT_EQ(pooled_->Ask("PREPARE login FROM 'EXPLAIN SELECT * FROM users WHERE email = ?'"), "");
    ASSERT_EQ(pooled_->Ask("SET @email = 'u7'"), "");
    ASSERT_THAT(PooledPlan(), HasSubstr(" ref users_email_idx "));
    before_ = State();
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  std::string PooledPlan() const { return pooled_->Ask("EXECUTE login USING @email"); }
  // By a session from before, which a full server serves too.
  std::string State() const {
    return pooled_->Ask("SHOW CREATE TABLE users") +
           pooled_->Ask(
               "SELECT group_concat(variable_name, variable_value ORDER BY 1) FROM"
               " information_schema.global_variables");
  }
  bool Lost() const { return State() != before_; }
  int OfUs() const {
    return std::stoi(
        pooled_->Ask("SELECT count(*) FROM information_schema.processlist WHERE user = 'admin'"));
  }
  bool NobodyOfUs() const { return OfUs() == 0; }
  void ExpectAsBefore(const std::string& when) const {
    EXPECT_EQ(State(), before_) << when;
    EXPECT_THAT(PooledPlan(), HasSubstr(" ref users_email_idx ")) << when;
    EXPECT_TRUE(Within(absl::Seconds(10), [this] { return NobodyOfUs(); })) << when;
  }

  // Nobody has a row, the table, sessions that ask the storm's statement, or more than it takes to
  // look and to act.
  bool Free() const {
    return pooled_->Ask("SELECT count(*) FROM (SELECT id FROM users FOR UPDATE NOWAIT) u") ==
               "3000" &&
           pooled_->Ask("LOCK TABLES users WRITE NOWAIT") == "" &&
           pooled_->Ask("UNLOCK TABLES") == "" &&
           pooled_->Ask(
               "SELECT count(*) FROM information_schema.processlist WHERE user = 'admin'"
               " AND info LIKE '%sleep(0.2)%'") == "0" &&
           OfUs() < 4;
  }

  static inline MariadbServer* server_ = nullptr;
  TempDir folder_{"firedrill-lost"};
  const std::string dir_ = folder_.path() + "/state";
  std::unique_ptr<MariadbClient> pooled_;
  std::string before_;
};

TEST_F(MysqlCrashTest, AnInjectorThatDiesAtAnyStepIsUndoneByItsReaper) {
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

TEST_F(MysqlCrashTest, InjectorAndReaperThatDieTogetherAreUndoneByTheNextStart) {
  int steps = 0, lost = 0;
  for (int step = 1;; ++step) {
    Injector injector(dir_, *server_, Injector::Then::kRevert);
    const bool stopped = RunUntilStep(injector, step);
    kill(injector.reaper(), SIGKILL);
    injector.Kill();
    CodeOfReaper(injector.reaper());
    // The ALTER may still be on its way: sometimes the replay is to meet it.
    if (step % 2 == 0) {
      EXPECT_TRUE(Within(absl::Seconds(10), [this] { return NobodyOfUs(); }));
      if (Lost()) ++lost;
    }
    for (const NodeLeftovers& left : ReplayOwnerless(dir_, absl::Seconds(1))) {
      EXPECT_THAT(left.entries, IsEmpty());
    }
    ExpectAsBefore(absl::StrCat("both killed at step ", step));
    EXPECT_THAT(Leftovers(dir_), IsEmpty());
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  RecordProperty("lost", lost);
  EXPECT_GT(steps, 40);
  // Else no death was in the middle of anything.
  EXPECT_GT(lost, 5);
  EXPECT_LT(lost, steps / 2 - 5);
}

// What dies with the process: there is nothing to undo, and all is gone.
class MysqlDiesWithItTest
    : public MysqlCrashTest,
      public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(MysqlDiesWithItTest, AtAnyStep) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    Injector injector(dir_, *server_, Injector::Then::kRevert, GetParam().second);
    const bool stopped = RunUntilStep(injector, step);
    if (stopped && !Free()) ++met;
    injector.Kill();
    EXPECT_EQ(CodeOfReaper(injector.reaper()), 0) << "step " << step;
    EXPECT_TRUE(Within(absl::Seconds(10), [this] { return NobodyOfUs(); })) << "step " << step;
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

INSTANTIATE_TEST_SUITE_P(Mysql, MysqlDiesWithItTest,
                         ::testing::Values(std::pair("holdConnections", kHoldConnections),
                                           std::pair("lockTable", kLockTable),
                                           std::pair("lockRows", kLockRows),
                                           std::pair("stormQueries", kStormQueries)),
                         [](const auto& info) { return std::string(info.param.first); });

// All slots are gone by the time of the undo: only a connection from before gets in.
class MysqlFullServerTest : public MysqlCrashTest {
 protected:
  void TearDown() override {
    Continue();
    MysqlCrashTest::TearDown();
  }
  // Applied, injector dead, reaper stopped, no slot free.
  void Fill(DoomedInjector& injector, bool with_reaper) {
    injector.Go();
    ASSERT_TRUE(injector.Applied());
    stopped_ = injector.reaper();
    kill(stopped_, SIGSTOP);
    injector.Kill();
    // The reaper's own one is left.
    ASSERT_TRUE(Within(absl::Seconds(10), [this] { return OfUs() == 1; }));
    if (!with_reaper) server_->Run("KILL USER admin");
    ASSERT_TRUE(Within(absl::Seconds(10), [&] { return OfUs() == (with_reaper ? 1 : 0); }));
    while (full_.size() < 20) {
      full_.push_back(std::make_unique<MariadbClient>(*server_));
      if (!full_.back()->connected()) break;
    }
    ASSERT_LT(full_.size(), 20u);
    ASSERT_TRUE(Lost());
  }
  void Continue() {
    if (stopped_ > 0) kill(stopped_, SIGCONT);
    stopped_ = 0;
  }
  pid_t stopped_ = 0;
  std::vector<std::unique_ptr<MariadbClient>> full_;
};

TEST_F(MysqlFullServerTest, TheReaperUndoesByTheConnectionFromBefore) {
  Injector injector(dir_, *server_, Injector::Then::kHold);
  Fill(injector, /*with_reaper=*/true);
  EXPECT_THAT(PooledPlan(), Not(HasSubstr("users_email_idx")));
  Continue();
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  EXPECT_EQ(State(), before_);
  full_.clear();
  ExpectAsBefore("after the reaper");
}

TEST_F(MysqlFullServerTest, WithoutItTheIndexIsNamedAndUndoneByTheNextStart) {
  Injector injector(dir_, *server_, Injector::Then::kHold);
  Fill(injector, /*with_reaper=*/false);
  Continue();
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 5);
  EXPECT_TRUE(Lost());
  const auto left = Leftovers(dir_);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_THAT(left[0].entries[0].resource(), HasSubstr("index users.users_email_idx of mysql/"));
  EXPECT_THAT(left[0].entries[0].undo_by_hand(), HasSubstr("mariadb -h '"));
  full_.clear();
  EXPECT_TRUE(Within(absl::Seconds(10), [this] {
    ReplayOwnerless(dir_, absl::Seconds(1));
    return !Lost();
  }));
  ExpectAsBefore("after the next start");
}

// A reaper that cannot get in could not undo it: then nothing is changed.
TEST_F(MysqlFullServerTest, NothingIsChangedWithoutAReadyReaper) {
  // One slot too few: control, prepared and undo of the injector get in, the reaper does not.
  for (int i = 0; i < 6; ++i) full_.push_back(std::make_unique<MariadbClient>(*server_));
  ASSERT_TRUE(full_.back()->connected());
  Injector injector(dir_, *server_, Injector::Then::kHold);
  injector.Go();
  EXPECT_FALSE(injector.Applied());
  EXPECT_FALSE(Lost());
  EXPECT_EQ(LastingLeftovers(dir_), 0);
  full_.clear();
  injector.Kill();
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  ExpectAsBefore("after the refusal");
}

TEST_F(MysqlCrashTest, TheReaperLetsGoOfItsConnectionAfterARevert) {
  Injector injector(dir_, *server_, Injector::Then::kRevert);
  injector.Go();
  ASSERT_TRUE(injector.Applied());
  EXPECT_EQ(CodeOfReaper(injector.reaper()), 0);
  ExpectAsBefore("after the revert");
}

}  // namespace
}  // namespace firedrill
