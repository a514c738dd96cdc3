// lock_table and lock_rows against a real MariaDB: who waits meanwhile, and who does not
// afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/status_macros.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(20);

class MysqlLocksTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = MariadbServer::Start().release();
    ASSERT_NE(server_, nullptr);
    for (const char* sql :
         {"CREATE USER leaker@'127.0.0.1'", "CREATE USER shop@'127.0.0.1'",
          "CREATE USER admin@'127.0.0.1'", "GRANT ALL ON *.* TO admin@'127.0.0.1'",
          "GRANT ALL ON test.* TO leaker@'127.0.0.1'", "GRANT ALL ON test.* TO shop@'127.0.0.1'",
          "CREATE TABLE test.users (id int PRIMARY KEY, email varchar(80) NOT NULL)",
          "CREATE VIEW test.people AS SELECT * FROM test.users",
          "INSERT INTO test.users SELECT seq, concat('u', seq) FROM test.seq_1_to_100"}) {
      server_->Run(sql);
    }
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("GRANT PROCESS ON *.* TO leaker@'127.0.0.1'");
    for (const char* name : {"leaker", "admin"}) AddMysqlProfile(node_, name, *server_, name);
    node_.AddProfile("other", "127.0.0.1", 1, "x", "");
  }
  void TearDown() override {
    fault_.reset();
    EXPECT_TRUE(Within(kLong, [] { return SessionsOfFaults(*server_) == 0; }));
  }

  static v1::Fault Message(v1::TableLock mode = v1::TABLE_LOCK_UNSPECIFIED,
                           const std::string& table = "test.users",
                           const std::string& profile = "leaker") {
    v1::Fault message;
    message.mutable_lock_table()->set_profile(profile);
    message.mutable_lock_table()->set_protocol(v1::PROTOCOL_MYSQL);
    message.mutable_lock_table()->set_table(table);
    message.mutable_lock_table()->set_mode(mode);
    return message;
  }
  absl::Status Apply(const v1::Fault& message, absl::Duration lasts = absl::Seconds(60)) {
    ASSIGN_OR_RETURN(fault_, MakeFault(message));
    RETURN_IF_ERROR(fault_->Validate(node_));
    return fault_->Apply(StageContext("lock", absl::Seconds(10), lasts), node_, none_);
  }
  std::string Refused(const v1::Fault& message) {
    const absl::Status status = Apply(message);
    EXPECT_FALSE(status.ok());
    Forget();
    return std::string(status.message());
  }
  // Until the server has noticed, the next one would meet a session of its own name.
  void Forget() {
    fault_->Release();
    fault_->ReadBack(StageContext("lock", absl::Seconds(1)), node_).IgnoreError();
    fault_.reset();
  }
  v1::Observation Seen() {
    const auto seen = fault_->Observe(StageContext("lock"), node_);
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.ok() ? *seen : v1::Observation();
  }
  // "7", or the error of a lock that is not free.
  static std::string Read() {
    return MariadbClient(*server_).Ask(
        "SET STATEMENT lock_wait_timeout = 0 FOR SELECT id FROM users WHERE id = 7");
  }
  static std::string Write(int id = 7) {
    return MariadbClient(*server_).Ask(absl::StrCat(
        "SET STATEMENT lock_wait_timeout = 0, innodb_lock_wait_timeout = 0 FOR UPDATE users SET "
        "email = 'x' WHERE id = ",
        id));
  }
  static v1::Fault Rows(std::vector<std::string> values, const std::string& column = "id",
                        v1::RowLock mode = v1::ROW_LOCK_UNSPECIFIED) {
    v1::Fault message;
    v1::LockRows& rows = *message.mutable_lock_rows();
    rows.set_profile("leaker");
    rows.set_protocol(v1::PROTOCOL_MYSQL);
    rows.set_table("test.users");
    rows.set_column(column);
    for (const std::string& value : values) rows.add_values(value);
    rows.set_mode(mode);
    return message;
  }

  static inline MariadbServer* server_ = nullptr;
  StageNode node_;
  NoChanges none_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(MysqlLocksTest, ReadersAndWritersWaitForAWholeTable) {
  EXPECT_EQ(Read(), "7");
  EXPECT_EQ(Write(), "");
  ASSERT_TRUE(Apply(Message()).ok());
  EXPECT_THAT(Read(), HasSubstr("error 1205"));
  EXPECT_THAT(Write(), HasSubstr("error 1205"));
  EXPECT_TRUE(Seen().reached());
  EXPECT_THAT(Seen().detail(), HasSubstr("WRITE lock on test.users held, 0 sessions wait"));
  MariadbClient waiting(*server_);
  std::jthread waits([&] { EXPECT_EQ(waiting.Ask("SELECT id FROM users WHERE id = 7"), "7"); });
  EXPECT_TRUE(Within(kLong, [this] { return Seen().figures().at("waiting") == 1; }));
  EXPECT_FALSE(fault_->ReadBack(StageContext("lock", absl::Milliseconds(300)), node_).ok());
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("lock"), node_).ok());
  waits.join();
  EXPECT_EQ(Read(), "7");
  EXPECT_EQ(Write(), "");
}

TEST_F(MysqlLocksTest, OnlyWritersWaitForAShare) {
  ASSERT_TRUE(Apply(Message(v1::TABLE_LOCK_SHARE)).ok());
  EXPECT_EQ(Read(), "7");
  EXPECT_THAT(Write(), HasSubstr("error 1205"));
  EXPECT_TRUE(Seen().reached());
  // The look has left nothing.
  EXPECT_EQ(Read(), "7");
}

TEST_F(MysqlLocksTest, SeesThatItsSessionWasEnded) {
  ASSERT_TRUE(Apply(Message()).ok());
  server_->Run(
      absl::StrCat("KILL ", server_->Number("SELECT is_used_lock('firedrill:r1a2b3:lock')")));
  ASSERT_TRUE(Within(kLong, [] { return Read() == "7"; }));
  EXPECT_FALSE(Seen().reached());
  EXPECT_EQ(Seen().real(), 0);
  EXPECT_THAT(Seen().detail(), HasSubstr("the server closed the session"));
}

TEST_F(MysqlLocksTest, WithoutThePrivilegeItSaysThatItCannotSeeWhoWaits) {
  server_->Run("REVOKE PROCESS ON *.* FROM leaker@'127.0.0.1'");
  ASSERT_TRUE(Apply(Message()).ok());
  EXPECT_TRUE(Seen().reached());
  EXPECT_THAT(Seen().detail(), HasSubstr("without the privilege PROCESS"));
  EXPECT_EQ(Seen().figures().count("waiting"), 0u);
}

TEST_F(MysqlLocksTest, ATableInUseIsNotWaitedForLongerThanPermitted) {
  MariadbClient holder(*server_);
  holder.Ask("BEGIN");
  ASSERT_EQ(holder.Ask("SELECT id FROM users WHERE id = 7"), "7");
  v1::Fault message = Message();
  message.mutable_lock_table()->mutable_acquire_within()->set_nanos(500'000'000);
  std::atomic<int> reads = 0, failures = 0;
  std::jthread shop([&](std::stop_token stop) {
    MariadbClient client(*server_);
    client.Ask("SET lock_wait_timeout = 3");
    while (!stop.stop_requested()) {
      ++(client.Ask("SELECT id FROM users WHERE id = 7") == "7" ? reads : failures);
    }
  });
  const absl::Status status = Apply(message);
  shop = {};
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("locking test.users"), HasSubstr("was not granted within 500ms")));
  EXPECT_GT(reads, 0);
  EXPECT_EQ(failures, 0);
  holder.Ask("COMMIT");
  Forget();
  const absl::Status again = Apply(Message());
  EXPECT_TRUE(again.ok()) << again;
}

// As if this process hung: nobody lets go.
TEST_F(MysqlLocksTest, TheServerEndsItByItself) {
  ASSERT_TRUE(Apply(Message(), absl::Seconds(1)).ok());
  EXPECT_THAT(Read(), HasSubstr("error 1205"));
  EXPECT_TRUE(Within(kLong, [] { return Read() == "7"; }));
}

TEST_F(MysqlLocksTest, RefusesWhatItCannotOrMustNotLock) {
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_EXCLUSIVE)),
              HasSubstr("it has share (LOCK TABLES ... READ"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "mysql.user")), HasSubstr("the server's own"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "test.people")), HasSubstr("is no table"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "test.usres")),
              HasSubstr("did you mean test.users?"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "users")), HasSubstr("with its database"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "test.users", "other")),
              HasSubstr("is no MySQL"));
  EXPECT_THAT(Refused(Message(v1::TABLE_LOCK_SHARE, "test.users", "admin")),
              HasSubstr("superuser: true"));
  v1::Fault permitted = Message(v1::TABLE_LOCK_SHARE, "test.users", "admin");
  permitted.mutable_lock_table()->set_superuser(true);
  EXPECT_TRUE(Apply(permitted).ok());
}

TEST_F(MysqlLocksTest, WhoChangesTheRowsWaitsAndNobodyElse) {
  ASSERT_TRUE(Apply(Rows({"7", "8"})).ok());
  EXPECT_THAT(Write(7), HasSubstr("error 1205"));
  EXPECT_THAT(Write(8), HasSubstr("error 1205"));
  EXPECT_EQ(Write(9), "");
  EXPECT_EQ(Read(), "7");
  EXPECT_TRUE(Seen().reached());
  EXPECT_EQ(Seen().real(), 2);
  EXPECT_THAT(Seen().detail(), HasSubstr("2 of 2 rows of test.users locked FOR UPDATE"));
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("lock"), node_).ok());
  EXPECT_EQ(Write(7), "");
  EXPECT_EQ(Write(8), "");
}

// By a column without an index InnoDB looks at every row: those that do not match stay free.
TEST_F(MysqlLocksTest, RowsThatDoNotMatchStayFree) {
  server_->Run("UPDATE test.users SET email = 'it''s' WHERE id = 50");
  ASSERT_TRUE(Apply(Rows({"it's"}, "email")).ok());
  EXPECT_THAT(Write(50), HasSubstr("error 1205"));
  EXPECT_EQ(Write(49), "");
  EXPECT_EQ(Write(51), "");
  EXPECT_EQ(Seen().real(), 1);
}

TEST_F(MysqlLocksTest, CountsWhoWaitsForARow) {
  ASSERT_TRUE(Apply(Rows({"7"})).ok());
  EXPECT_EQ(Seen().figures().at("waiting"), 0);
  MariadbClient waiting(*server_);
  std::jthread waits(
      [&] { EXPECT_EQ(waiting.Ask("UPDATE users SET email = 'y' WHERE id = 7"), ""); });
  // What InnoDB shows of this grows old while it is asked more often than ten times a second.
  EXPECT_TRUE(Within(kLong, [this] {
    absl::SleepFor(absl::Milliseconds(250));
    return Seen().figures().at("waiting") == 1;
  }));
  fault_->Release();
  waits.join();
}

TEST_F(MysqlLocksTest, SharedRowsCanBeReadWithALock) {
  ASSERT_TRUE(Apply(Rows({"7"}, "id", v1::ROW_LOCK_FOR_SHARE)).ok());
  EXPECT_THAT(Write(7), HasSubstr("error 1205"));
  EXPECT_EQ(
      MariadbClient(*server_).Ask("SELECT id FROM users WHERE id = 7 LOCK IN SHARE MODE NOWAIT"),
      "7");
  EXPECT_TRUE(Seen().reached());
}

TEST_F(MysqlLocksTest, RowsOfAStatementAreLocked) {
  v1::Fault message = Rows({}, "");
  message.mutable_lock_rows()->set_statement("first");
  AddStatement(*node_.mutable_spec.mutable_profiles(0), "first",
               "SELECT id FROM users WHERE id < 4");
  ASSERT_TRUE(Apply(message).ok());
  EXPECT_EQ(Seen().real(), 3);
  EXPECT_THAT(Write(3), HasSubstr("error 1205"));
  EXPECT_EQ(Write(4), "");
}

TEST_F(MysqlLocksTest, RefusesRowsThatAreNoneTooManyOrNotFree) {
  EXPECT_THAT(Refused(Rows({"1000"})), HasSubstr("no row of test.users matches"));
  v1::Fault few = Rows({"1", "2", "3"});
  few.mutable_lock_rows()->set_at_most(2);
  EXPECT_THAT(Refused(few), HasSubstr("more than 2 rows"));
  EXPECT_EQ(Write(1), "");
  EXPECT_THAT(Refused(Rows({"1"}, "id", v1::ROW_LOCK_FOR_NO_KEY_UPDATE)),
              HasSubstr("it has forShare"));
  MariadbClient holder(*server_);
  holder.Ask("BEGIN");
  ASSERT_EQ(holder.Ask("SELECT id FROM users WHERE id = 7 FOR UPDATE"), "7");
  EXPECT_THAT(Refused(Rows({"6", "7"})), HasSubstr("was not granted within 1s"));
  EXPECT_EQ(Write(6), "");
}

TEST_F(MysqlLocksTest, TheServerEndsAnOpenTransactionByItself) {
  ASSERT_TRUE(Apply(Rows({"7"}), absl::Seconds(1)).ok());
  EXPECT_THAT(Write(7), HasSubstr("error 1205"));
  EXPECT_TRUE(Within(kLong, [] { return Write(7).empty(); }));
}

}  // namespace
}  // namespace firedrill
