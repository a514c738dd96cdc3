// Requests that are held are cancelled by their own clients, who come on another connection: real
// libraries, real servers, the relay between them.
#include <gmock/gmock.h>
#include <libpq-fe.h>
#include <mysql.h>
#include <netinet/in.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "tests/injector/wire/proxy_stage.h"
#include "tests/testing/mariadb_server.h"
#include "tests/testing/postgres_server.h"

namespace firedrill::wire {
namespace {

using ::testing::ElementsAre;

// Longer than any test takes: what ends before has been cancelled, or let go.
constexpr absl::Duration kHeld = absl::Minutes(1);

// A server's relay that holds what has "slow" in it.
struct Held {
  Held(v1::Protocol protocol, uint16_t server_port) {
    Listener listener;
    port = ntohs(reinterpret_cast<const sockaddr_in&>(listener.address()).sin_port);
    ProxyOptions options;
    options.server = listener.address();
    reinterpret_cast<sockaddr_in&>(options.server).sin_port = htons(server_port);
    options.listeners.push_back(listener.Release());
    options.protocol = protocol;
    // So that who cancels comes to another thread most of the time.
    options.threads = 4;
    proxy = *Proxy::Start(std::move(options));
    Rule rule;
    rule.name = "slow";
    rule.match.set_regex("slow");
    rule.match.set_share(1);
    *rule.delay.emplace().mutable_delay() = ToProto(kHeld);
    disturbance.rules = *Rules::Compile(protocol, {rule}, 1);
    EXPECT_TRUE(proxy->Set(disturbance).ok());
  }
  // So many requests are held since the last time.
  bool Holds(uint64_t more = 1) {
    before += more;
    return Eventually([&] { return disturbance.rules->CountOf(0).hit == before; });
  }
  void LetGo() const { EXPECT_TRUE(proxy->Set({}).ok()); }

  uint16_t port = 0;
  uint64_t before = 0;
  Disturbance disturbance;
  std::unique_ptr<Proxy> proxy;
};

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

enum class Way { kSimple, kExtended, kPrepared };

class CancelledPostgresql : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("create table t (a int)");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("truncate t");
  }

  static Connection Connect(uint16_t port) {
    return {PQconnectdb(absl::StrCat("host=127.0.0.1 port=", port,
                                     " user=postgres password=postgres dbname=postgres "
                                     "sslmode=disable connect_timeout=30")
                            .c_str()),
            PQfinish};
  }
  // "" where all went well, else the code.
  static std::string Exec(const Connection& connection, const std::string& sql) {
    return Code(Result(PQexec(connection.get(), sql.c_str()), PQclear));
  }
  static std::string Code(const Result& result) {
    const char* code = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
    return code == nullptr ? "" : code;
  }
  static void Send(const Connection& connection, Way way, const std::string& sql) {
    if (way == Way::kSimple) {
      PQsendQuery(connection.get(), sql.c_str());
    } else if (way == Way::kExtended) {
      PQsendQueryParams(connection.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0);
    } else {
      PQclear(PQprepare(connection.get(), "p", sql.c_str(), 0, nullptr));
      PQsendQueryPrepared(connection.get(), "p", 0, nullptr, nullptr, nullptr, 0);
    }
  }
  static void Cancel(const Connection& connection) {
    PGcancel* cancel = PQgetCancel(connection.get());
    char words[256];
    EXPECT_EQ(PQcancel(cancel, words, sizeof words), 1) << words;
    PQfreeCancel(cancel);
  }
  // The codes of all that was sent, up to the end.
  static std::vector<std::string> Codes(const Connection& connection) {
    std::vector<std::string> codes;
    while (PGresult* result = PQgetResult(connection.get())) {
      codes.push_back(Code(Result(result, PQclear)));
    }
    return codes;
  }
  // The next `ends` Syncs of a pipeline, with "|" for each.
  static std::string Pipeline(const Connection& connection, int ends) {
    std::string codes;
    while (ends > 0) {
      const Result result(PQgetResult(connection.get()), PQclear);
      if (result == nullptr) continue;
      const ExecStatusType status = PQresultStatus(result.get());
      if (status == PGRES_FATAL_ERROR && PQstatus(connection.get()) != CONNECTION_OK) return "gone";
      if (status == PGRES_PIPELINE_SYNC) --ends;
      absl::StrAppend(&codes, status == PGRES_PIPELINE_SYNC      ? "| "
                              : status == PGRES_PIPELINE_ABORTED ? "skipped "
                              : status == PGRES_FATAL_ERROR      ? Code(result) + " "
                                                                 : "ok ");
    }
    return codes;
  }
  static void Piped(const Connection& connection, const std::string& sql) {
    PQsendQueryParams(connection.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0);
  }
  static int Rows() { return server_->Number("select count(*) from t"); }

  static inline PostgresServer* server_ = nullptr;
};

TEST_F(CancelledPostgresql, FailsAtOnceAndLeavesTheTrueState) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
    SCOPED_TRACE(static_cast<int>(way));
    const std::string slow = "insert into t /* slow */ values (1) returning a";
    Send(connection, way, slow);
    ASSERT_TRUE(held.Holds());
    Cancel(connection);
    const Result result(PQgetResult(connection.get()), PQclear);
    EXPECT_EQ(Code(result), "57014");
    EXPECT_STREQ(PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY),
                 "canceling statement due to user request");
    EXPECT_THAT(Codes(connection), ElementsAre());
    EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
    EXPECT_EQ(Exec(connection, "deallocate all"), "");

    EXPECT_EQ(Exec(connection, "begin"), "");
    EXPECT_EQ(Exec(connection, "insert into t values (2)"), "");
    EXPECT_EQ(Exec(connection, "savepoint s"), "");
    Send(connection, way, slow);
    ASSERT_TRUE(held.Holds());
    Cancel(connection);
    EXPECT_THAT(Codes(connection), ElementsAre("57014"));
    EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_INERROR);
    EXPECT_EQ(Exec(connection, "select 7"), "25P02");
    EXPECT_EQ(Exec(connection, "rollback to s"), "");
    EXPECT_EQ(Exec(connection, "insert into t values (3)"), "");
    EXPECT_EQ(Exec(connection, "commit"), "");
    EXPECT_EQ(Exec(connection, "deallocate all"), "");
    EXPECT_EQ(Rows(), 2);
    server_->Run("truncate t");
  }
  EXPECT_EQ(held.proxy->Read().delayed, 0u) << "what was cancelled says nothing about the delay";
}

TEST_F(CancelledPostgresql, ACommitIsARollback) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
    SCOPED_TRACE(static_cast<int>(way));
    EXPECT_EQ(Exec(connection, "begin"), "");
    EXPECT_EQ(Exec(connection, "insert into t values (1)"), "");
    Send(connection, way, "commit /* slow */");
    ASSERT_TRUE(held.Holds());
    Cancel(connection);
    EXPECT_THAT(Codes(connection), ElementsAre("57014"));
    EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
    EXPECT_EQ(Exec(connection, "deallocate all"), "");
    EXPECT_EQ(Rows(), 0);
  }
}

TEST_F(CancelledPostgresql, OfAPipelineOnlyWhatAFailureSkips) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  PQenterPipelineMode(connection.get());
  Piped(connection, "insert into t values (1)");
  PQpipelineSync(connection.get());
  // The second that is held is skipped, and keeps nobody waiting.
  for (const char* word : {"", "/* slow */", "/* slow */", ""}) {
    Piped(connection, absl::StrCat("insert into t values (2) ", word));
  }
  PQpipelineSync(connection.get());
  Piped(connection, "insert into t values (3)");
  PQpipelineSync(connection.get());
  ASSERT_TRUE(held.Holds(2));
  // Until that has been answered, a cancel would be about it.
  EXPECT_EQ(Pipeline(connection, 1), "ok | ");
  Cancel(connection);
  EXPECT_EQ(Pipeline(connection, 2), "ok 57014 skipped skipped | ok | ");
  // Sent ahead by now, and each is cancelled in its turn.
  for (int i = 0; i < 3; ++i) {
    Piped(connection, "insert into t /* slow */ values (4)");
    PQpipelineSync(connection.get());
  }
  ASSERT_TRUE(held.Holds(3));
  for (int i = 0; i < 3; ++i) {
    Cancel(connection);
    EXPECT_EQ(Pipeline(connection, 1), "57014 | ");
  }
  // Its Sync comes later.
  Piped(connection, "insert into t /* slow */ values (5)");
  PQsendFlushRequest(connection.get());
  PQflush(connection.get());
  ASSERT_TRUE(held.Holds());
  Cancel(connection);
  Piped(connection, "insert into t /* slow */ values (6)");
  PQpipelineSync(connection.get());
  EXPECT_EQ(Pipeline(connection, 1), "57014 skipped | ");
  EXPECT_EQ(PQexitPipelineMode(connection.get()), 1);
  EXPECT_EQ(Exec(connection, "select 7"), "");
  EXPECT_EQ(Rows(), 2);
}

TEST_F(CancelledPostgresql, ALongQueryIsGoneWhole) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  const auto slow = [](size_t blanks) {
    return absl::StrCat("insert into t /* slow */ values (1)", std::string(blanks, ' '));
  };
  for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
    Send(connection, way, slow(300'000));
    ASSERT_TRUE(held.Holds());
    Cancel(connection);
    EXPECT_THAT(Codes(connection), ElementsAre("57014"));
  }
  // Most of this one is still to come when it is cancelled: no more is held of it.
  PQsetnonblocking(connection.get(), 1);
  Send(connection, Way::kSimple, slow(20'000'000));
  ASSERT_TRUE(held.Holds());
  Cancel(connection);
  EXPECT_THAT(Codes(connection), ElementsAre("57014"));
  PQsetnonblocking(connection.get(), 0);
  EXPECT_EQ(Exec(connection, "select 7"), "");
  EXPECT_EQ(Rows(), 0);
}

TEST_F(CancelledPostgresql, WhatPreparesByNameHasNotPrepared) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  Send(connection, Way::kSimple, "prepare p as select /* slow */ 1");
  ASSERT_TRUE(held.Holds());
  Cancel(connection);
  EXPECT_THAT(Codes(connection), ElementsAre("57014"));
  EXPECT_EQ(Exec(connection, "prepare p as select 2"), "");
  // By what it was prepared from now.
  EXPECT_EQ(Exec(connection, "execute p"), "");
}

TEST_F(CancelledPostgresql, WhatIsNotHeldIsTheServers) {
  Held held(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(held.port);
  const Connection other = Connect(held.port);
  const auto sleeps = [&] {
    return Eventually([&] {
      return server_->Number(
                 "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == 1;
    });
  };
  Send(connection, Way::kSimple, "select pg_sleep(100)");
  ASSERT_TRUE(sleeps());
  Cancel(connection);
  EXPECT_THAT(Codes(connection), ElementsAre("57014"));
  // With nothing under way it changes nothing.
  Cancel(connection);
  EXPECT_EQ(Exec(connection, "select 7"), "");
  // Another session's.
  Send(connection, Way::kSimple, "insert into t /* slow */ values (1)");
  ASSERT_TRUE(held.Holds());
  Cancel(other);
  EXPECT_EQ(PQconsumeInput(connection.get()), 1);
  EXPECT_EQ(PQisBusy(connection.get()), 1);
  held.LetGo();
  EXPECT_THAT(Codes(connection), ElementsAre(""));
  EXPECT_EQ(Rows(), 1);
  // Of what is held and what the server has, the server's comes first.
  Held again(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection piped = Connect(again.port);
  PQenterPipelineMode(piped.get());
  Piped(piped, "select pg_sleep(100)");
  PQpipelineSync(piped.get());
  Piped(piped, "insert into t /* slow */ values (2)");
  PQpipelineSync(piped.get());
  ASSERT_TRUE(again.Holds());
  ASSERT_TRUE(sleeps());
  Cancel(piped);
  EXPECT_EQ(Pipeline(piped, 1), "57014 | ");
  again.LetGo();
  EXPECT_EQ(Pipeline(piped, 1), "ok | ");
}

class CancelledMysql : public ::testing::Test {
 protected:
  using Session = std::unique_ptr<MYSQL, decltype(&mysql_close)>;

  static void SetUpTestSuite() {
    server_ = MariadbServer::Start({}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE TABLE test.t (a INT)");
    server_->Run("CREATE USER nobody@'127.0.0.1' IDENTIFIED BY 'nobody'");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("TRUNCATE test.t");
  }
  static Session Open(uint16_t port, const char* user = "tester") {
    Session session(mysql_init(nullptr), mysql_close);
    mysql_real_connect(session.get(), "127.0.0.1", user, user, "", port, nullptr, 0);
    return session;
  }
  // 0 where all went well.
  static unsigned Ask(const Session& session, const std::string& sql) {
    if (mysql_real_query(session.get(), sql.data(), sql.size()) == 0) {
      mysql_free_result(mysql_store_result(session.get()));
    }
    return mysql_errno(session.get());
  }
  static auto Asking(const Session& session, const std::string& sql) {
    return std::async(std::launch::async, [&session, sql] { return Ask(session, sql); });
  }
  static std::string Kill(const Session& session) {
    return absl::StrCat("KILL QUERY ", mysql_thread_id(session.get()));
  }
  static int Rows() { return server_->Number("SELECT COUNT(*) FROM test.t"); }

  static inline MariadbServer* server_ = nullptr;
};

TEST_F(CancelledMysql, FailsAtOnceAndItsTransactionGoesOn) {
  Held held(v1::PROTOCOL_MYSQL, server_->port());
  const Session session = Open(held.port);
  const Session other = Open(held.port);
  const std::string slow = "INSERT INTO test.t VALUES (1) /* slow */";
  for (const std::string& more : {std::string(), std::string(17'000'000, ' ')}) {
    EXPECT_EQ(Ask(session, "BEGIN"), 0u);
    EXPECT_EQ(Ask(session, "INSERT INTO test.t VALUES (2)"), 0u);
    auto asked = Asking(session, slow + more);
    ASSERT_TRUE(held.Holds());
    EXPECT_EQ(Ask(other, Kill(session)), 0u);
    EXPECT_EQ(asked.get(), 1317u);
    EXPECT_STREQ(mysql_sqlstate(session.get()), "70100");
    EXPECT_EQ(Ask(session, "COMMIT"), 0u);
    EXPECT_EQ(Rows(), 1);
    server_->Run("TRUNCATE test.t");
  }
}

TEST_F(CancelledMysql, APreparedOneCanBeExecutedAgain) {
  Held held(v1::PROTOCOL_MYSQL, server_->port());
  const Session session = Open(held.port);
  const Session other = Open(held.port);
  const std::unique_ptr<MYSQL_STMT, decltype(&mysql_stmt_close)> statement(
      mysql_stmt_init(session.get()), mysql_stmt_close);
  const std::string slow = "INSERT INTO test.t VALUES (1) /* slow */";
  ASSERT_EQ(mysql_stmt_prepare(statement.get(), slow.data(), slow.size()), 0);
  auto asked = std::async(std::launch::async, [&] { return mysql_stmt_execute(statement.get()); });
  ASSERT_TRUE(held.Holds());
  EXPECT_EQ(Ask(other, Kill(session)), 0u);
  EXPECT_NE(asked.get(), 0);
  EXPECT_EQ(mysql_stmt_errno(statement.get()), 1317u);
  held.LetGo();
  EXPECT_EQ(mysql_stmt_execute(statement.get()), 0) << mysql_stmt_error(statement.get());
  EXPECT_EQ(Rows(), 1);
}

TEST_F(CancelledMysql, OnlyByWhomTheServerObeys) {
  Held held(v1::PROTOCOL_MYSQL, server_->port());
  const Session session = Open(held.port);
  const Session nobody = Open(held.port, "nobody");
  auto asked = Asking(session, "INSERT INTO test.t VALUES (1) /* slow */");
  ASSERT_TRUE(held.Holds());
  EXPECT_EQ(Ask(nobody, Kill(session)), 1095u) << mysql_error(nobody.get());
  // Its own, which does nothing.
  EXPECT_EQ(Ask(nobody, Kill(nobody)), 1317u);
  EXPECT_EQ(asked.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  held.LetGo();
  EXPECT_EQ(asked.get(), 0u);
  EXPECT_EQ(Rows(), 1);
}

TEST_F(CancelledMysql, WhatTheServerExecutesIsTheServers) {
  Held held(v1::PROTOCOL_MYSQL, server_->port());
  const Session session = Open(held.port);
  const Session other = Open(held.port);
  auto asked =
      Asking(session, "SELECT SLEEP(100) FROM (SELECT 1 FROM DUAL) d WHERE SLEEP(100) = 0");
  ASSERT_TRUE(Eventually([] {
    return server_->Number(
               "SELECT COUNT(*) FROM information_schema.processlist"
               " WHERE state = 'User sleep'") == 1;
  }));
  EXPECT_EQ(Ask(other, Kill(session)), 0u);
  EXPECT_EQ(asked.get(), 1317u);
  EXPECT_EQ(Ask(session, "SELECT 7"), 0u);
}

}  // namespace
}  // namespace firedrill::wire
