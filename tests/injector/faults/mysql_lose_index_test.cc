// lose_index against a real MariaDB: what the optimizer does before, meanwhile and afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/status_macros.h"
#include "injector/os/mysql_index.h"
#include "tests/testing/mariadb_stage.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kLong = absl::Seconds(20);

class MysqlLoseIndexTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = MariadbServer::Start().release();
    ASSERT_NE(server_, nullptr);
    for (const char* user : {"admin", "shop", "reader"}) {
      server_->Run(absl::StrCat("CREATE USER ", user, "@'127.0.0.1'"));
    }
    server_->Run("GRANT SELECT, INSERT, ALTER, DROP, CREATE, INDEX ON test.* TO admin@'127.0.0.1'");
    server_->Run("GRANT ALL ON test.* TO shop@'127.0.0.1'");
    server_->Run("GRANT SELECT ON test.* TO reader@'127.0.0.1'");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    for (const char* sql :
         {"SET GLOBAL read_only = 0", "DROP DATABASE test", "CREATE DATABASE test",
          "CREATE TABLE test.users (id int PRIMARY KEY, email varchar(80) NOT NULL, org int,"
          " note text, UNIQUE KEY org_idx (org, email), KEY users_email_idx (email),"
          " KEY note_idx (note(10)), FULLTEXT KEY words (note))",
          "INSERT INTO test.users SELECT seq, concat('u', seq, '@example.com'), seq,"
          " concat('note ', seq) FROM test.seq_1_to_3000"}) {
      server_->Run(sql);
    }
    server_->Run(
        "CREATE TABLE test.orders (id int PRIMARY KEY, user_id int, place int, KEY user_idx"
        " (user_id, place), KEY place_idx (place), FOREIGN KEY (user_id) REFERENCES "
        "test.users(id))");
    server_->Run(
        "CREATE TABLE test.stays (place int, FOREIGN KEY (place) REFERENCES test.orders(place))");
    server_->Run("ANALYZE TABLE test.users");
    v1::Profile& admin = AddMysqlProfile(node_, "admin", *server_, "admin");
    AddStatement(admin, "login", "SELECT u.id FROM users u WHERE u.email = 'u7@example.com'");
    AddStatement(admin, "by-id", "SELECT * FROM users WHERE id = 7");
    AddMysqlProfile(node_, "reader", *server_, "reader");
    node_.AddProfile("other", "127.0.0.1", 1, "x", "");
    pooled_ = std::make_unique<MariadbClient>(*server_);
    ASSERT_EQ(pooled_->Ask("PREPARE login FROM 'EXPLAIN SELECT * FROM users WHERE email = ?'"), "");
    ASSERT_EQ(pooled_->Ask("SET @email = 'u7@example.com'"), "");
    before_ = State();
  }
  void TearDown() override {
    fault_.reset();
    changes_.UndoAll();
    pooled_.reset();
    EXPECT_TRUE(Within(kLong, [] { return SessionsOfFaults(*server_) == 0; }));
  }

  // When the server dies; as long as it lives.
  static void KeepWhatIsCommitted() {
    server_->Run("SET GLOBAL innodb_flush_log_at_trx_commit = 1");
  }
  static std::string State() {
    return server_->Run("SHOW CREATE TABLE test.users")[0][1] +
           server_->Run(
               "SELECT group_concat(variable_name, variable_value ORDER BY 1) FROM"
               " information_schema.global_variables")[0][0];
  }
  std::string PooledPlan() const { return pooled_->Ask("EXECUTE login USING @email"); }
  std::string FreshPlan() const {
    return MariadbClient(*server_).Ask(
        "EXPLAIN SELECT * FROM users WHERE email = 'u8@example.com'");
  }
  bool Ignored() const {
    return State().find("`users_email_idx` (`email`) IGNORED") != std::string::npos;
  }
  static v1::Fault Message(const std::string& index = "users.users_email_idx",
                           const std::string& statement = "",
                           const std::string& profile = "admin") {
    v1::Fault message;
    message.mutable_lose_index()->set_profile(profile);
    message.mutable_lose_index()->set_protocol(v1::PROTOCOL_MYSQL);
    message.mutable_lose_index()->set_index(index);
    message.mutable_lose_index()->set_statement(statement);
    return message;
  }
  absl::Status Apply(const v1::Fault& message = Message(),
                     absl::Duration patience = absl::Seconds(10)) {
    ASSIGN_OR_RETURN(fault_, MakeFault(message));
    RETURN_IF_ERROR(fault_->Validate(node_));
    return fault_->Apply(StageContext("lost", patience), node_, changes_);
  }
  std::string Refused(const v1::Fault& message) {
    const absl::Status status = Apply(message);
    EXPECT_FALSE(status.ok());
    fault_->Release();
    fault_.reset();
    EXPECT_EQ(State(), before_);
    return std::string(status.message());
  }
  // The one undo that there is; it is left in place where it has failed.
  std::pair<UndoResult, std::string> UndoIt() {
    std::string why;
    const UndoResult result = RunUndo(changes_.undos.at(0), &why);
    return {result, why};
  }

  static inline MariadbServer* server_ = nullptr;
  StageNode node_;
  StageChanges changes_;
  std::unique_ptr<MariadbClient> pooled_;
  std::unique_ptr<Fault> fault_;
  std::string before_;
};

TEST_F(MysqlLoseIndexTest, PreparedAndFreshSessionsDoWithoutItAndGetItBack) {
  EXPECT_THAT(PooledPlan(), HasSubstr(" ref users_email_idx "));
  EXPECT_THAT(FreshPlan(), HasSubstr(" ref users_email_idx "));
  ASSERT_TRUE(Apply().ok());
  EXPECT_TRUE(Ignored());
  EXPECT_THAT(PooledPlan(), Not(HasSubstr("users_email_idx")));
  EXPECT_THAT(FreshPlan(), Not(HasSubstr("users_email_idx")));
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_TRUE(seen->reached());
  EXPECT_EQ(seen->real(), 2);
  EXPECT_THAT(seen->detail(), HasSubstr("users was read by ref using users_email_idx, now by "));
  EXPECT_EQ(seen->figures().at("rows_before"), 1);
  EXPECT_GT(seen->figures().at("rows_fresh"), 1000);
  EXPECT_GT(seen->figures().at("rows_prepared"), 1000);
  EXPECT_FALSE(fault_->ReadBack(StageContext("lost"), node_).ok());

  fault_->Release();
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
  EXPECT_THAT(dynamic_cast<TellsAfter&>(*fault_).After()->detail(),
              HasSubstr("now by ref using users_email_idx on a prepared and ref using "
                        "users_email_idx on a fresh session"));
  EXPECT_EQ(State(), before_);
  EXPECT_THAT(PooledPlan(), HasSubstr(" ref users_email_idx "));
  EXPECT_THAT(FreshPlan(), HasSubstr(" ref users_email_idx "));
  EXPECT_EQ(UndoIt().first, UndoResult::kUntouched);
}

TEST_F(MysqlLoseIndexTest, AStatementOfTheProfileIsWatchedUnderAnAliasToo) {
  ASSERT_TRUE(Apply(Message("users.users_email_idx", "login")).ok());
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_TRUE(seen->reached());
}

TEST_F(MysqlLoseIndexTest, SeesThatSomebodyElseGaveItBack) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER TABLE test.users ALTER INDEX users_email_idx NOT IGNORED");
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  EXPECT_TRUE(absl::IsAborted(seen.status())) << seen.status();
  EXPECT_THAT(std::string(seen.status().message()), HasSubstr("is used"));
}

TEST_F(MysqlLoseIndexTest, NoticesAtOnceThatTheTableIsGone) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("DROP TABLE test.stays, test.orders, test.users");
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  EXPECT_TRUE(absl::IsAborted(seen.status())) << seen.status();
  EXPECT_THAT(std::string(seen.status().message()), HasSubstr("somebody has dropped it"));
}

TEST_F(MysqlLoseIndexTest, IsBackWhereTheOptimizerChoosesOtherwiseNow) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("DELETE FROM test.users WHERE id <> 7");
  server_->Run("ANALYZE TABLE test.users");
  fault_->Release();
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
  EXPECT_TRUE(back.ok()) << back;
  EXPECT_THAT(dynamic_cast<TellsAfter&>(*fault_).After()->detail(),
              HasSubstr("the index users.users_email_idx is used; users was read by ref"));
}

// The statement is refused to everybody then.
TEST_F(MysqlLoseIndexTest, SaysThatItsStatementIsNotUnderstoodAnyMore) {
  v1::Profile& admin = *node_.mutable_spec.mutable_profiles(0);
  AddStatement(admin, "older", "SELECT org FROM users WHERE email = 'u7@example.com'");
  ASSERT_TRUE(Apply(Message("users.users_email_idx", "older")).ok());
  server_->Run("ALTER TABLE test.users RENAME COLUMN org TO place");
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  EXPECT_FALSE(absl::IsAborted(seen.status()));
  EXPECT_THAT(std::string(seen.status().message()),
              AllOf(HasSubstr("the index users.users_email_idx is ignored; "),
                    HasSubstr("how now is not to be seen: preparing SELECT org FROM users")));
  EXPECT_FALSE(fault_->ReadBack(StageContext("lost"), node_).ok()) << "still ignored";
  fault_->Release();
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  const absl::Status back = fault_->ReadBack(StageContext("lost"), node_);
  EXPECT_TRUE(back.ok()) << back;
}

TEST_F(MysqlLoseIndexTest, ASocketIsNoWayIn) {
  v1::Profile& socket = AddMysqlProfile(node_, "socket", *server_, "admin");
  socket.mutable_mysql()->set_host("/run/mysqld/mysqld.sock");
  EXPECT_THAT(Refused(Message("users.users_email_idx", "", "socket")),
              HasSubstr("host /run/mysqld/mysqld.sock is a path, and MariaDB is not reached by its "
                        "Unix socket here: write `host` and `port`"));
}

TEST_F(MysqlLoseIndexTest, GoesOnLookingAfterTheServerWasStartedAgain) {
  KeepWhatIsCommitted();
  ASSERT_TRUE(Apply().ok());
  server_->Stop();
  ASSERT_TRUE(server_->StartAgain());
  const auto seen = fault_->Observe(StageContext("lost"), node_);
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_TRUE(seen->reached());
  fault_->Release();
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  EXPECT_TRUE(fault_->ReadBack(StageContext("lost"), node_).ok());
}

TEST_F(MysqlLoseIndexTest, RefusesWhatOthersRestOn) {
  EXPECT_THAT(Refused(Message("users.PRIMARY")), HasSubstr("it is the primary key of users"));
  EXPECT_THAT(Refused(Message("users.org_idx")), HasSubstr("it is unique"));
  EXPECT_THAT(Refused(Message("orders.user_idx")), HasSubstr("the foreign key orders_ibfk_1"));
  EXPECT_THAT(Refused(Message("orders.place_idx")), HasSubstr("the foreign key stays_ibfk_1"));
}

TEST_F(MysqlLoseIndexTest, RefusesWhatWouldHaveNoEffect) {
  EXPECT_THAT(Refused(Message("users.users_email_idx", "by-id")),
              AllOf(HasSubstr("would have no effect"), HasSubstr("name another statement")));
  EXPECT_THAT(Refused(Message("users.words")), HasSubstr("is a FULLTEXT index"));
  server_->Run("ALTER TABLE test.users ALTER INDEX users_email_idx IGNORED");
  before_ = State();
  EXPECT_THAT(Refused(Message()), HasSubstr("it is ignored even now"));
}

TEST_F(MysqlLoseIndexTest, NamesWhatThereIs) {
  EXPECT_THAT(Refused(Message("users.users_emial_idx")),
              HasSubstr("did you mean users.users_email_idx?"));
  EXPECT_THAT(Refused(Message("users.nothing_alike_at_all")),
              AllOf(HasSubstr("the table users has"), HasSubstr("users.users_email_idx")));
  EXPECT_THAT(Refused(Message("nowhere.nothing_alike_at_all")), HasSubstr("; it has "));
  EXPECT_THAT(Refused(Message("users_email_idx")), HasSubstr("write it with its table"));
  EXPECT_THAT(Refused(Message("users.users_email_idx", "", "other")), HasSubstr("is no MySQL"));
  EXPECT_THAT(Refused(Message("users.users_email_idx", "nope")), HasSubstr("it has login"));
}

TEST_F(MysqlLoseIndexTest, RefusesAReadOnlyServer) {
  server_->Run("SET GLOBAL read_only = 1");
  before_ = State();
  EXPECT_THAT(Refused(Message()), HasSubstr("is read-only, as replicas are"));
}

TEST_F(MysqlLoseIndexTest, SaysThatTheAccountMayNot) {
  EXPECT_THAT(Refused(Message("users.users_email_idx", "", "reader")),
              HasSubstr("ALTER command denied"));
  EXPECT_EQ(UndoIt().first, UndoResult::kUntouched);
}

// An index of a prefix, with a name that must be quoted.
TEST_F(MysqlLoseIndexTest, OddNamesAndPrefixes) {
  server_->Run("UPDATE test.users SET note = concat(id, ' note')");
  server_->Run("ALTER TABLE test.users RENAME INDEX note_idx TO `it's \\ o``dd`");
  server_->Run("ANALYZE TABLE test.users");
  before_ = State();
  const absl::Status applied = Apply(Message("users.it's \\ o`dd"));
  ASSERT_TRUE(applied.ok()) << applied;
  EXPECT_THAT(State(), HasSubstr("(`note`(10)) IGNORED"));
  fault_->Release();
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  EXPECT_EQ(State(), before_);
}

// A transaction that does not end keeps the table: who comes after us must not wait behind us.
TEST_F(MysqlLoseIndexTest, GivesUpRatherThanMakeEverybodyWait) {
  MariadbClient holder(*server_);
  ASSERT_EQ(holder.Ask("BEGIN"), "");
  ASSERT_EQ(holder.Ask("SELECT id FROM users LIMIT 1").find("error"), std::string::npos);
  std::atomic<int> reads = 0, failures = 0;
  std::jthread shop([&](std::stop_token stop) {
    MariadbClient client(*server_);
    client.Ask("SET lock_wait_timeout = 2");
    while (!stop.stop_requested()) {
      const std::string answer = client.Ask("SELECT id FROM users WHERE id = 7");
      ++(answer == "7" ? reads : failures);
      absl::SleepFor(absl::Milliseconds(5));
    }
  });
  const absl::Status status = Apply(Message(), absl::Seconds(3));
  shop = {};
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("losing the index users.users_email_idx"), HasSubstr("in use by")));
  EXPECT_GT(reads, 10);
  EXPECT_EQ(failures, 0);
  EXPECT_FALSE(Ignored());
  EXPECT_EQ(UndoIt().first, UndoResult::kUntouched);
  // And with its end the way is free.
  EXPECT_EQ(holder.Ask("COMMIT"), "");
  EXPECT_TRUE(Apply().ok());
}

TEST_F(MysqlLoseIndexTest, TheUndoLeavesAloneWhatIsNotOurs) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER TABLE test.users DROP INDEX users_email_idx");
  EXPECT_EQ(UndoIt().first, UndoResult::kSuperseded);
  // Of other columns.
  server_->Run("ALTER TABLE test.users ADD INDEX users_email_idx (email, org) IGNORED");
  EXPECT_EQ(UndoIt().first, UndoResult::kSuperseded);
  server_->Run(
      "ALTER TABLE test.users DROP INDEX users_email_idx, ADD INDEX users_email_idx (email)");
  EXPECT_EQ(UndoIt().first, UndoResult::kUntouched);
  server_->Run("DROP TABLE test.stays, test.orders, test.users");
  const auto [result, why] = UndoIt();
  EXPECT_EQ(result, UndoResult::kSuperseded);
  EXPECT_THAT(why, HasSubstr("left alone"));
}

TEST_F(MysqlLoseIndexTest, ARebuiltTableIsGivenItsIndexBack) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER TABLE test.users FORCE");
  ASSERT_TRUE(Ignored());
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  EXPECT_FALSE(Ignored());
}

TEST_F(MysqlLoseIndexTest, WhatWasRenamedStaysNamedUntilAPersonSays) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER TABLE test.users RENAME INDEX users_email_idx TO mail_idx");
  auto [result, why] = UndoIt();
  EXPECT_EQ(result, UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("is called users.mail_idx now"));
  server_->Run("ALTER TABLE test.users RENAME INDEX mail_idx TO users_email_idx");
  server_->Run("RENAME TABLE test.users TO test.people");
  std::tie(result, why) = UndoIt();
  EXPECT_EQ(result, UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("is called people.users_email_idx now"));
  server_->Run("RENAME TABLE test.people TO test.users");
  server_->Run("ALTER TABLE test.users RENAME COLUMN email TO mail");
  std::tie(result, why) = UndoIt();
  EXPECT_EQ(result, UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("is one of mail now, and was one of email: whoever has changed that"));
  server_->Run("ALTER TABLE test.users RENAME COLUMN mail TO email");
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
}

TEST_F(MysqlLoseIndexTest, AnotherServerSaysNothingAboutOurs) {
  ASSERT_TRUE(Apply().ok());
  MysqlIndex index;
  v1::MysqlServer server;
  ASSERT_TRUE(ReadMysqlIndexAccess(changes_.undos[0].access, &index, &server).ok());
  EXPECT_EQ(index.columns, "email");
  Undo elsewhere = changes_.undos[0];
  index.server = "mysql/elsewhere/3306";
  elsewhere.access = MysqlIndexAccess(index, server);
  server_->Run("ALTER TABLE test.users ALTER INDEX users_email_idx NOT IGNORED");
  std::string why;
  EXPECT_EQ(RunUndo(elsewhere, &why), UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("look where that has gone"));
  // A replica that was promoted has followed our change.
  server_->Run("ALTER TABLE test.users ALTER INDEX users_email_idx IGNORED");
  EXPECT_EQ(RunUndo(elsewhere, &why), UndoResult::kRestored);
}

TEST_F(MysqlLoseIndexTest, AServerThatIsDownIsTriedAgain) {
  KeepWhatIsCommitted();
  ASSERT_TRUE(Apply().ok());
  server_->Stop();
  const auto [result, why] = UndoIt();
  EXPECT_EQ(result, UndoResult::kFailed);
  EXPECT_THAT(why, HasSubstr("it is not known to be used again"));
  ASSERT_TRUE(server_->StartAgain());
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
}

// The change of a process that is gone already comes after the undo has begun to look.
TEST_F(MysqlLoseIndexTest, AChangeThatIsStillOnItsWayIsWaitedFor) {
  ASSERT_TRUE(Apply().ok());
  server_->Run("ALTER TABLE test.users ALTER INDEX users_email_idx NOT IGNORED");
  MariadbClient dying(*server_, "admin");
  ASSERT_EQ(dying.Ask("SELECT get_lock('firedrill.ignored-index', 0)"), "1");
  std::jthread late([&] {
    absl::SleepFor(absl::Milliseconds(500));
    EXPECT_EQ(dying.Ask("ALTER TABLE users ALTER INDEX users_email_idx IGNORED"), "");
    EXPECT_EQ(dying.Ask("SELECT release_lock('firedrill.ignored-index')"), "1");
  });
  EXPECT_EQ(UndoIt().first, UndoResult::kRestored);
  late.join();
  EXPECT_FALSE(Ignored());
}

TEST_F(MysqlLoseIndexTest, TheRecordCanBeReadByAPersonAndHoldsNoSecret) {
  ASSERT_TRUE(Apply().ok());
  const Undo& undo = changes_.undos.at(0);
  EXPECT_THAT(undo.resource, HasSubstr("index users.users_email_idx of mysql/"));
  EXPECT_THAT(undo.by_hand, HasSubstr("mariadb -h '127.0.0.1' -P "));
  EXPECT_THAT(undo.by_hand, HasSubstr("ALTER TABLE `test`.`users` ALTER INDEX `users_email_idx` "
                                      "NOT IGNORED"));
  EXPECT_EQ(system(absl::StrCat(undo.by_hand, " > /dev/null").c_str()), 0);
  EXPECT_EQ(State(), before_);
}

}  // namespace
}  // namespace firedrill
