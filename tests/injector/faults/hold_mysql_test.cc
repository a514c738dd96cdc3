// hold_connections at a real MariaDB server.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/testing/hold_stage.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr int kMost = 40;
constexpr char kOurs[] =
    "SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER = 'leaker'"
    " AND IS_USED_LOCK(CONCAT('firedrill:r1a2b3:leak:', ID)) = ID";
// The control connection, too.
constexpr char kAnyOfUs[] =
    "SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER NOT IN ('root', 'shop', "
    "'system user')";

class HoldMysqlTest : public HoldStage {
 protected:
  static void SetUpTestSuite() {
    server_ =
        MariadbServer::Start({.settings = {absl::StrCat("max-connections=", kMost)}}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE USER leaker@'127.0.0.1' IDENTIFIED BY 'secret'");
    server_->Run("CREATE USER monitor@'127.0.0.1' IDENTIFIED BY 'secret'");
    server_->Run("GRANT PROCESS ON *.* TO monitor@'127.0.0.1'");
    server_->Run("CREATE USER admin@'127.0.0.1' IDENTIFIED BY 'secret'");
    server_->Run("GRANT SUPER ON *.* TO admin@'127.0.0.1'");
    server_->Run("CREATE USER shop@'127.0.0.1'");
    server_->Run("GRANT ALL ON test.* TO shop@'127.0.0.1'");
    WriteFile(server_->folder() + "/good", "secret\n");
    WriteFile(server_->folder() + "/wrong", "guess\n");
    for (const char* file : {"/good", "/wrong"}) {
      chmod((server_->folder() + file).c_str(), 0600);
    }
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    for (const char* user : {"leaker", "monitor", "admin"}) AddMysql(user, user, "/good");
    AddMysql("wrong", "leaker", "/wrong");
    AddProfile("queue").mutable_tcp()->set_host("127.0.0.1");
  }
  void TearDown() override {
    fault_.reset();
    if (server_ == nullptr || HasFailure()) return;
    EXPECT_TRUE(Within(absl::Seconds(3), [] { return Number(kAnyOfUs) == 0; }));
  }
  void AddMysql(const std::string& name, const std::string& user, const std::string& file) {
    v1::MysqlServer& mysql = *AddProfile(name).mutable_mysql();
    mysql.set_host("127.0.0.1");
    mysql.set_port(server_->port());
    mysql.set_user(user);
    mysql.mutable_password()->set_file(server_->folder() + file);
  }
  absl::Status ApplyMysql(const std::string& text) {
    return Apply("protocol: PROTOCOL_MYSQL " + text);
  }
  static int Number(const std::string& sql) { return server_->Number(sql); }
  // On a full server. root takes the slot that is reserved, once whoever had it before has left. A
  // session of the test before may have been counted for a moment; its slot is taken when it is
  // gone.
  static testing::AssertionResult ComesToHold(int count) {
    int ours = -1;
    const auto full = [&] {
      try {
        ours = Number(kOurs);
        return ours == count;
      } catch (const std::runtime_error&) {
        return false;
      }
    };
    if (Within(absl::Seconds(5), full)) return testing::AssertionSuccess();
    return testing::AssertionFailure() << ours << " sessions were seen, not " << count;
  }
  static void KillSome(int count) {
    for (const auto& row : server_->Run(
             absl::StrCat("SELECT ID FROM information_schema.PROCESSLIST WHERE IS_USED_LOCK(CONCAT("
                          "'firedrill:r1a2b3:leak:', ID)) = ID LIMIT ",
                          count))) {
      server_->Run("KILL " + row[0]);
    }
  }

  static inline MariadbServer* server_ = nullptr;
};

TEST_F(HoldMysqlTest, HoldsIdleSessions) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' count: 20 state: SESSION_STATE_IDLE").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Number(kOurs), 20);
  EXPECT_EQ(Number(absl::StrCat(kOurs, " AND COMMAND = 'Sleep'")), 20);
  const v1::Observation seen = Seen();
  EXPECT_EQ(seen.real(), 20);
  EXPECT_EQ(seen.figures().at("usable"), kMost);
  EXPECT_THAT(seen.subject(), ::testing::StartsWith("mysql/"));
  EXPECT_THAT(seen.detail(), HasSubstr(" of 40 usable slots taken, 20 by this fault (idle)"));
  EXPECT_THAT(std::string(ReadBack(absl::Milliseconds(200)).message()),
              HasSubstr("20 connections of firedrill:r1a2b3:leak are still there"));
  fault_->Release();
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_EQ(Number(kOurs), 0);
}

TEST_F(HoldMysqlTest, HoldsSessionsInsideATransaction) {
  for (const char* profile : {"leaker", "monitor"}) {
    ASSERT_TRUE(ApplyMysql(absl::StrCat("profile: '", profile,
                                        "' count: 10 state: SESSION_STATE_IDLE_IN_TRANSACTION"))
                    .ok());
    ASSERT_TRUE(Reached()) << Seen().detail();
    // The last one's answer may be here before the server has put it to sleep.
    EXPECT_TRUE(Within(absl::Seconds(5), [] {
      return Number(
                 "SELECT count(*) FROM information_schema.INNODB_TRX JOIN "
                 "information_schema.PROCESSLIST ON ID = trx_mysql_thread_id WHERE USER IN "
                 "('leaker', 'monitor') AND COMMAND = 'Sleep'") == 10;
    }));
    fault_->Release();
    EXPECT_TRUE(ReadBack().ok());
  }
}

TEST_F(HoldMysqlTest, HoldsSessionsInsideAStatement) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' count: 10 state: SESSION_STATE_ACTIVE").ok());
  ASSERT_TRUE(Reached());
  // Longer than one of the statements.
  int busy = 0;
  for (int i = 0; i < 15; ++i) {
    busy += Number(absl::StrCat(kOurs, " AND INFO LIKE 'DO SLEEP%'"));
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_GE(busy, 15 * 8);
  EXPECT_TRUE(Reached());
  fault_->Release();
  EXPECT_TRUE(ReadBack(absl::Seconds(2)).ok());
  EXPECT_EQ(Number(kOurs), 0);
}

TEST_F(HoldMysqlTest, FillsTheServerButForThePersonWhoRepairs) {
  const MariadbClient shop(*server_);
  ASSERT_TRUE(shop.connected());
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' fill_to: 1 refill: true").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Seen().requested(), kMost);
  EXPECT_TRUE(ComesToHold(kMost - 2));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return !MariadbClient(*server_).connected(); }));
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_TRUE(Within(absl::Seconds(2), [] { return MariadbClient(*server_).connected(); }));
}

TEST_F(HoldMysqlTest, LeavesSoManyFree) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' leave_free: 8 refill: true").ok());
  ASSERT_TRUE(Reached());
  EXPECT_EQ(Seen().requested(), kMost - 8);
  // Sessions of the test before may have been counted for a moment.
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Number(kOurs) >= kMost - 8 - 2; }));
}

TEST_F(HoldMysqlTest, TakesBackWithRefillOnly) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' count: 10").ok());
  ASSERT_TRUE(Reached());
  KillSome(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("lost") == 4; }));
  EXPECT_EQ(Number(kOurs), 6);
  EXPECT_FALSE(Seen().reached());

  ASSERT_TRUE(ApplyMysql("profile: 'leaker' count: 10 refill: true").ok());
  ASSERT_TRUE(Reached());
  KillSome(4);
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("lost") == 4; }));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Number(kOurs) == 10; }));
  EXPECT_TRUE(Within(absl::Seconds(5), [this] { return Seen().figures().at("opened") == 14; }));
}

TEST_F(HoldMysqlTest, RefusesASuperuserUnlessTheDefinitionSaysSo) {
  const absl::Status status = ApplyMysql("profile: 'admin' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("`superuser: true`"));
  ASSERT_TRUE(ApplyMysql("profile: 'admin' count: 3 superuser: true").ok());
  EXPECT_TRUE(Reached());
}

TEST_F(HoldMysqlTest, NamesAWrongPassword) {
  const absl::Status status = ApplyMysql("profile: 'wrong' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("opening the control connection of profile wrong to 127.0.0.1:"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("check the profile's user and password"));
}

TEST_F(HoldMysqlTest, NamesAServerThatIsFullAlready) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' fill_to: 1 refill: true").ok());
  ASSERT_TRUE(Reached());
  ASSERT_TRUE(ComesToHold(kMost - 1));
  auto late = *MakeFault(Message("protocol: PROTOCOL_MYSQL profile: 'monitor' count: 2"));
  NoChanges changes;
  const absl::Status status = late->Apply(StageContext("late"), node_, changes);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST_F(HoldMysqlTest, RefusesAProfileOfAnotherProtocol) {
  EXPECT_THAT(std::string(Validate("protocol: PROTOCOL_MYSQL profile: 'queue' count: 3").message()),
              HasSubstr("profile queue is no MySQL or MariaDB server"));
}

TEST_F(HoldMysqlTest, DiesWithItsProcess) {
  std::vector<std::string> texts;
  for (const char* state : {"IDLE", "IDLE_IN_TRANSACTION", "ACTIVE"}) {
    texts.push_back(absl::StrCat(
        "protocol: PROTOCOL_MYSQL profile: 'leaker' count: 10 state: SESSION_STATE_", state));
  }
  const pid_t holder = SpawnHolder(texts);
  // With three control connections.
  EXPECT_TRUE(Within(absl::Seconds(10), [] { return Number(kAnyOfUs) == 33; }));
  const absl::Duration begin = RealClock().Boot();
  Kill(holder);
  EXPECT_TRUE(Within(absl::Seconds(2), [] { return Number(kAnyOfUs) == 0; }));
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(2));
}

TEST_F(HoldMysqlTest, ServerEndsTheIdleSessionsOfAHungProcess) {
  const pid_t holder = SpawnHolder(
      {"protocol: PROTOCOL_MYSQL profile: 'leaker' count: 5",
       "protocol: PROTOCOL_MYSQL profile: 'leaker' count: 5 state: SESSION_STATE_ACTIVE",
       "protocol: PROTOCOL_MYSQL profile: 'leaker' count: 5 state: "
       "SESSION_STATE_IDLE_IN_TRANSACTION"},
      absl::Seconds(2));
  const std::string locks =
      "SELECT count(*) FROM information_schema.PROCESSLIST WHERE IS_USED_LOCK(CONCAT("
      "'firedrill:r1a2b3:leak";
  const auto held = [&] {
    int all = 0;
    for (int i = 1; i <= 3; ++i) all += Number(absl::StrCat(locks, i, ":', ID)) = ID"));
    return all;
  };
  EXPECT_TRUE(Within(absl::Seconds(10), [&] { return held() == 15; }));
  kill(holder, SIGSTOP);
  EXPECT_EQ(held(), 15);
  EXPECT_TRUE(Within(absl::Seconds(12), [&] { return held() == 0; })) << held();
  Kill(holder);
}

// Last: it ends the server.
TEST_F(HoldMysqlTest, ZEndsOnADeadServer) {
  ASSERT_TRUE(ApplyMysql("profile: 'leaker' count: 5 refill: true").ok());
  ASSERT_TRUE(Reached());
  server_->Stop();
  EXPECT_FALSE(fault_->Observe(StageContext("leak"), node_).ok());
  fault_->Release();
  EXPECT_TRUE(ReadBack().ok());
  EXPECT_FALSE(ApplyMysql("profile: 'leaker' count: 5").ok());
  ASSERT_TRUE(server_->StartAgain());
}

}  // namespace
}  // namespace firedrill
