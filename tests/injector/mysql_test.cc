// The door to MariaDB, against a real server.
#include "injector/os/mysql.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/mariadb_server.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(20);

class MysqlTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = MariadbServer::Start().release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'plain'");
    server_->Run("GRANT SELECT ON test.* TO plain@'127.0.0.1'");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  v1::MysqlServer Server(const std::string& user = "tester") {
    std::ofstream(folder_.path() + "/password") << user << "\n";
    chmod((folder_.path() + "/password").c_str(), 0600);
    v1::MysqlServer server;
    server.set_host("127.0.0.1");
    server.set_port(server_->port());
    server.set_user(user);
    server.set_database("test");
    server.mutable_password()->set_file(folder_.path() + "/password");
    return server;
  }
  MysqlAccount Account(const std::string& user = "tester") {
    return *FindMysqlAccount(Server(user), Patience(kLong));
  }
  std::unique_ptr<MysqlSession> Open(const MysqlSettings& settings = {}) {
    auto session = MysqlSession::Open(Account(), "firedrill:r:f", settings, Patience(kLong));
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }
  static int Descriptors() {
    int count = 0;
    DIR* folder = opendir("/proc/self/fd");
    while (readdir(folder) != nullptr) ++count;
    closedir(folder);
    return count;
  }

  static inline MariadbServer* server_ = nullptr;
  TempDir folder_{"firedrill-mysql"};
};

TEST_F(MysqlTest, AsksAndTellsNullFromEmpty) {
  auto session = Open();
  const auto rows =
      session->Query("SELECT 1, NULL, '' UNION ALL SELECT 2, 'x', 'y'", Patience(kLong));
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_THAT((*rows)[0], ElementsAre("1", std::nullopt, ""));
  EXPECT_THAT((*rows)[1], ElementsAre("2", "x", "y"));
  EXPECT_TRUE(session->Query("DO 1", Patience(kLong))->empty());
  EXPECT_TRUE(session->mariadb());
  EXPECT_GE(session->server_version(), 100600);
  EXPECT_NE(fcntl(session->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(MysqlTest, QuotesWhateverTheModeIs) {
  const std::string text = "it's \\ \"odd\" `ü`\n";
  for (const char* mode : {"", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"}) {
    auto session = Open({{"sql_mode", MysqlText(mode)}});
    const auto rows = session->Query(
        absl::StrCat("SELECT ", MysqlText(text), " AS ", MysqlName("a`b"), ", @@sql_mode"),
        Patience(kLong));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->at(0)[0], text);
    EXPECT_EQ(rows->at(0)[1], mode);
  }
  EXPECT_EQ(MysqlText("it's"), "'it''s'");
}

TEST_F(MysqlTest, OneStatementIsOne) {
  auto session = Open();
  EXPECT_FALSE(session->Query("SELECT 1; SELECT 2", Patience(kLong)).ok());
  EXPECT_TRUE(session->usable());
}

TEST_F(MysqlTest, AllResultsOfACallAreTaken) {
  server_->Run("CREATE PROCEDURE test.two() BEGIN SELECT 1; SELECT 2; END");
  auto session = Open();
  EXPECT_EQ(session->Query("CALL two()", Patience(kLong))->size(), 2u);
  ASSERT_TRUE(session->Send("CALL two()").ok());
  EXPECT_TRUE(Within(kLong, [&] { return session->Drain().ok() && session->Quiet(); }));
  EXPECT_EQ(session->Query("SELECT 7", Patience(kLong))->at(0)[0], "7");
}

TEST_F(MysqlTest, AnErrorCarriesItsNumberAndLeavesTheSessionUsable) {
  auto session = Open();
  const auto status = session->Query("SELECT * FROM nowhere", Patience(kLong)).status();
  EXPECT_EQ(MysqlError(status), 1146);
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_TRUE(session->usable());
  EXPECT_TRUE(session->Query("SELECT 1", Patience(kLong)).ok());
}

// The server sends its error after the first rows have gone out.
TEST_F(MysqlTest, AnErrorBehindTheFirstRowsIsSeenWhereRowsAreThrownAway) {
  auto session = Open({{"max_statement_time", "0.3"}});
  ASSERT_TRUE(session->Send("SELECT repeat('x', 10000) FROM seq_1_to_100000000").ok());
  absl::Status last;
  EXPECT_TRUE(Within(kLong, [&] {
    last = session->Drain();
    return !last.ok() || session->Quiet();
  }));
  EXPECT_EQ(MysqlError(last), kMysqlStatementTimeout) << last;
  EXPECT_TRUE(session->usable());
  EXPECT_TRUE(session->Query("SELECT 1", Patience(kLong)).ok());
}

TEST_F(MysqlTest, TheDeadlineHoldsInMilliseconds) {
  auto session = Open();
  const absl::Duration begin = RealClock().Boot();
  const auto late = session->Query("SELECT sleep(20)", Patience(absl::Milliseconds(150)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status()));
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(5));
  EXPECT_FALSE(session->usable());
}

// Who could not say ROLLBACK any more must not go on with what the session still holds.
TEST_F(MysqlTest, WithoutPatienceNothingIsAskedAndTheSessionIsOver) {
  auto session = Open();
  const auto late = session->Query("SELECT 1", Patience(absl::ZeroDuration()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status()));
  EXPECT_FALSE(session->usable());
}

TEST_F(MysqlTest, TheStopIsObeyed) {
  auto session = Open();
  std::stop_source stop;
  std::jthread stopper([&] {
    absl::SleepFor(absl::Milliseconds(50));
    stop.request_stop();
  });
  const absl::Duration begin = RealClock().Boot();
  const auto status =
      session->Query("SELECT sleep(20)", Patience(kLong, stop.get_token())).status();
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(10));
}

// A server that takes the connection and says nothing.
TEST_F(MysqlTest, ASilentServerIsGivenUpAndNothingLeaks) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 5), 0);
  socklen_t length = sizeof(address);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  MysqlAccount account = Account();
  account.port = ntohs(address.sin_port);
  const int before = Descriptors();
  for (int i = 0; i < 3; ++i) {
    const auto session = MysqlSession::Open(account, "x", {}, Patience(absl::Milliseconds(100)));
    EXPECT_TRUE(absl::IsDeadlineExceeded(session.status())) << session.status();
    EXPECT_FALSE(MysqlNobodyListens(session.status()));
  }
  EXPECT_EQ(Descriptors(), before);
  close(listener);
}

TEST_F(MysqlTest, NobodyListensIsToldFromAWrongPassword) {
  MysqlAccount account = Account();
  account.port = FreePort();
  const auto nobody = OpenMysqlControl(account, "shop", "r1", Patience(kLong)).status();
  EXPECT_TRUE(MysqlNobodyListens(nobody)) << nobody;
  EXPECT_THAT(std::string(nobody.message()), HasSubstr("check that the server runs"));

  account = Account();
  account.password = "wrong";
  const auto refused = OpenMysqlControl(account, "shop", "r1", Patience(kLong)).status();
  EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  EXPECT_FALSE(MysqlNobodyListens(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("user and password"));
  EXPECT_THAT(std::string(refused.message()), Not(HasSubstr("wrong")));

  account = Account();
  account.database = "nowhere";
  const auto database = OpenMysqlControl(account, "shop", "r1", Patience(kLong)).status();
  EXPECT_THAT(std::string(database.message()), HasSubstr("check the profile's database"));
}

TEST_F(MysqlTest, AnAccountNeedsAUser) {
  v1::MysqlServer server = Server();
  server.clear_user();
  EXPECT_THAT(std::string(FindMysqlAccount(server, Patience(kLong)).status().message()),
              HasSubstr("names no user"));
}

TEST_F(MysqlTest, KnowsWhoWeAre) {
  auto control = OpenMysqlControl(Account(), "admin", "r1", Patience(kLong));
  ASSERT_TRUE(control.ok()) << control.status();
  auto facts = AskMysqlFacts(**control, Patience(kLong));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_TRUE(facts->superuser);
  EXPECT_TRUE(facts->sees_all);
  EXPECT_EQ(facts->max_connections, server_->Number("SELECT @@max_connections"));
  EXPECT_THAT(facts->identity, HasSubstr(absl::StrCat("/", server_->port())));
  control = OpenMysqlControl(Account("plain"), "shop", "r1", Patience(kLong));
  ASSERT_TRUE(control.ok()) << control.status();
  facts = AskMysqlFacts(**control, Patience(kLong));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_FALSE(facts->superuser);
  EXPECT_FALSE(facts->sees_all);
}

TEST_F(MysqlTest, ASessionThatWasEndedIsNoticedWhileItIsIdle) {
  auto session = Open();
  EXPECT_TRUE(session->Drain().ok());
  server_->Run(absl::StrCat("KILL ", session->connection_id()));
  EXPECT_TRUE(Within(kLong, [&] { return !session->Drain().ok(); }));
  EXPECT_FALSE(session->usable());
  const auto status = session->Query("SELECT 1", Patience(kLong)).status();
  EXPECT_FALSE(status.ok());
}

TEST_F(MysqlTest, ConnectsWithoutBlockingAndRunsTheFirstStatement) {
  auto session = MysqlSession::Begin(Account(), "firedrill:r:f", {{"wait_timeout", "77"}},
                                     "DO get_lock('firedrill-first', 0)");
  ASSERT_TRUE(Within(kLong, [&] {
    pollfd wait{session->fd(), session->events(), 0};
    poll(&wait, 1, 10);
    return !session->Advance().ok() || session->ready();
  }));
  ASSERT_TRUE(session->ready());
  EXPECT_EQ(session->Query("SELECT @@wait_timeout", Patience(kLong))->at(0)[0], "77");
  const auto holder = [] { return server_->Run("SELECT is_used_lock('firedrill-first')")[0][0]; };
  EXPECT_EQ(holder(), absl::StrCat(session->connection_id()));
  session.reset();
  EXPECT_TRUE(Within(kLong, [&] { return holder().empty(); }));
}

// Dropped in the middle of anything, a session lets go of all it has.
TEST_F(MysqlTest, NothingLeaksWhereverItIsDropped) {
  const MysqlAccount account = Account();
  Open();
  const int before = Descriptors();
  for (int steps = 0; steps < 8; ++steps) {
    auto session = MysqlSession::Begin(account, "x", {{"wait_timeout", "77"}});
    for (int i = 0; i < steps && !session->ready(); ++i) {
      pollfd wait{session->fd(), session->events(), 0};
      poll(&wait, 1, 1000);
      ASSERT_TRUE(session->Advance().ok());
    }
  }
  for (int drains = 0; drains < 3; ++drains) {
    auto session = Open();
    ASSERT_TRUE(session->Send("SELECT repeat('x', 10000) FROM seq_1_to_1000000").ok());
    for (int i = 0; i < drains; ++i) {
      pollfd wait{session->fd(), session->events(), 0};
      poll(&wait, 1, 1000);
      ASSERT_TRUE(session->Drain().ok());
    }
  }
  EXPECT_EQ(Descriptors(), before);
  EXPECT_TRUE(Within(kLong, [] {
    return server_->Number(
               "SELECT count(*) FROM information_schema.processlist WHERE user = "
               "'tester'") == 0;
  }));
}

}  // namespace
}  // namespace firedrill
