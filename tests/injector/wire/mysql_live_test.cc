// A real MariaDB server and its own clients, through the codec.
#include <gtest/gtest.h>
#include <mysql.h>
#include <sys/stat.h>

#include <array>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "injector/wire/codec.h"
#include "tests/injector/wire/pump.h"
#include "tests/injector/wire/splits.h"
#include "tests/testing/mariadb_server.h"

namespace firedrill::wire {
namespace {

using Session = std::unique_ptr<MYSQL, decltype(&mysql_close)>;

class MysqlLive : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    MariadbOptions options;
    options.settings = {"max_allowed_packet=64M"};
    certificates_ = new TempDir("fd-cert");
    const std::string& folder = certificates_->path();
    RunProgram({"/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                "/CN=localhost", "-keyout", folder + "/key", "-out", folder + "/cert"});
    chmod((folder + "/key").c_str(), 0644);
    options.settings.push_back(absl::StrCat("ssl-cert=", folder, "/cert"));
    options.settings.push_back(absl::StrCat("ssl-key=", folder, "/key"));
    server_ = MariadbServer::Start(options).release();
  }
  static void TearDownTestSuite() {
    delete server_;
    delete certificates_;
    server_ = nullptr;
  }

  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE OR REPLACE TABLE test.t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)");
  }

  // A pump that fails every request that contains a word.
  std::unique_ptr<Pump> Through(const std::string& word = "", const std::string& error = "",
                                bool after = false) {
    failure_.set_error(error);
    failure_.set_moment(after ? v1::FAILURE_MOMENT_AFTER : v1::FAILURE_MOMENT_BEFORE);
    return Failing(word);
  }
  std::unique_ptr<Pump> Failing(const std::string& word) {
    return std::make_unique<Pump>(
        v1::PROTOCOL_MYSQL, server_->port(), [this, word](const Request& request) {
          const bool hit = !word.empty() && (absl::StrContains(request.text, word) ||
                                             (word == "connect" && request.connect));
          return hit ? &failure_ : nullptr;
        });
  }

  static Session Open(uint16_t port, const std::function<void(MYSQL*)>& prepare = nullptr) {
    Session session(mysql_init(nullptr), mysql_close);
    const unsigned local = 1;
    mysql_options(session.get(), MYSQL_OPT_LOCAL_INFILE, &local);
    const unsigned long most = 64 << 20;
    mysql_options(session.get(), MYSQL_OPT_MAX_ALLOWED_PACKET, &most);
    if (prepare) prepare(session.get());
    mysql_real_connect(session.get(), "127.0.0.1", "tester", "tester", "test", port, nullptr,
                       CLIENT_MULTI_STATEMENTS | CLIENT_MULTI_RESULTS);
    return session;
  }

  // All results, the cells with blanks between; "<number>" for an error.
  static std::string Ask(const Session& session, const std::string& sql) {
    std::string text;
    if (mysql_real_query(session.get(), sql.data(), sql.size()) != 0) {
      return absl::StrCat("<", mysql_errno(session.get()), ">");
    }
    for (;;) {
      if (MYSQL_RES* result = mysql_store_result(session.get()); result != nullptr) {
        while (const MYSQL_ROW row = mysql_fetch_row(result)) {
          for (unsigned i = 0; i < mysql_num_fields(result); ++i) {
            absl::StrAppend(&text, row[i] == nullptr ? "NULL" : row[i], " ");
          }
        }
        mysql_free_result(result);
      } else if (mysql_errno(session.get()) != 0) {
        return absl::StrCat(text, "<", mysql_errno(session.get()), ">");
      } else {
        absl::StrAppend(&text, "ok ");
      }
      const int more = mysql_next_result(session.get());
      if (more > 0) return absl::StrCat(text, "<", mysql_errno(session.get()), ">");
      if (more < 0) return text;
    }
  }

  static std::vector<std::string> Texts(Pump& pump) {
    std::vector<std::string> texts;
    for (const SeenRequest& request : pump.requests()) {
      if (!request.connect) texts.push_back(request.text);
    }
    return texts;
  }

  // The recorded conversation, split at every point, gives the same.
  static void SplitEverywhere(Pump& pump) {
    std::vector<Line> lines;
    for (const auto& [from_client, bytes] : pump.recorded()) lines.push_back({from_client, bytes});
    const auto feed = TellInEveryWay(v1::PROTOCOL_MYSQL, lines);
    EXPECT_EQ(feed->to_server, Both(lines, true));
    EXPECT_EQ(feed->to_client, Both(lines, false));
    EXPECT_EQ(feed->codec().lost(), "");
    EXPECT_EQ(feed->requests.size(), pump.requests().size());
  }

  static MariadbServer* server_;
  static TempDir* certificates_;
  v1::QueryFailure failure_;
};

MariadbServer* MysqlLive::server_ = nullptr;
TempDir* MysqlLive::certificates_ = nullptr;

TEST_F(MysqlLive, TheTerminalSeesTheSameAsWithoutUs) {
  const std::string input =
      "CREATE OR REPLACE TABLE c (a INT, b VARCHAR(20), c DATETIME, d BLOB, e DOUBLE);\n"
      "INSERT INTO c VALUES (1, 'x', '2020-01-02', NULL, 1.5), (2, NULL, NULL, 'blob', NULL);\n"
      "SELECT * FROM c; SELECT nonsense; SHOW COLUMNS FROM c; USE mysql; SELECT DATABASE();\n"
      "USE test;\nDELIMITER //\nCREATE OR REPLACE PROCEDURE p() BEGIN SELECT 1, 2; SELECT 'two';"
      " UPDATE c SET a = 3; END //\nDELIMITER ;\nCALL p(); SELECT COUNT(*) FROM c;\n"
      "PREPARE s FROM 'SELECT ? + 1'; SET @a = 4; EXECUTE s USING @a; START TRANSACTION;\n"
      "DELETE FROM c; ROLLBACK; SELECT COUNT(*) FROM c; ANALYZE TABLE c; SELECT REPEAT('y', "
      "70000);\n"
      "ALTER TABLE c ENGINE=InnoDB; SELECT 1 LIMIT 0; DO 1; EXPLAIN SELECT * FROM c;\n";
  const auto run = [&](uint16_t port) {
    return RunProgram({"/usr/bin/mariadb", "--no-defaults", "-h127.0.0.1", absl::StrCat("-P", port),
                       "-utester", "-ptester", "--skip-ssl", "--force", "--table", "test"},
                      input);
  };
  auto pump = Through();
  const std::string expected = run(server_->port());
  EXPECT_TRUE(absl::StrContains(expected, "| two |")) << expected;
  EXPECT_EQ(run(pump->port()), expected);
  EXPECT_TRUE(pump->lost().empty());
  EXPECT_TRUE(pump->broken().empty());
  const auto requests = pump->requests();
  ASSERT_GT(requests.size(), 20u);
  EXPECT_EQ(requests[0].user, "tester");
  EXPECT_EQ(requests[0].database, "test");
  int in_mysql = 0;
  for (const SeenRequest& request : requests) {
    if (request.text != "SELECT DATABASE()") continue;
    in_mysql += request.database == "mysql" ? 1 : 0;
  }
  EXPECT_GE(in_mysql, 1);
  EXPECT_EQ(requests.back().database, "test");
}

TEST_F(MysqlLive, PreparedStatementsAreSeenAsWhatTheyWerePreparedFrom) {
  auto pump = Through();
  {
    const Session session = Open(pump->port());
    MYSQL_STMT* statement = mysql_stmt_init(session.get());
    const std::string sql = "INSERT INTO t (v) VALUES (?)";
    ASSERT_EQ(mysql_stmt_prepare(statement, sql.data(), sql.size()), 0);
    std::string value = "prepared";
    MYSQL_BIND bind{};
    bind.buffer_type = MYSQL_TYPE_STRING;
    bind.buffer = value.data();
    bind.buffer_length = value.size();
    ASSERT_EQ(mysql_stmt_bind_param(statement, &bind), 0);
    EXPECT_EQ(mysql_stmt_execute(statement), 0);
    EXPECT_EQ(mysql_stmt_send_long_data(statement, 0, "long", 4), 0);
    EXPECT_EQ(mysql_stmt_execute(statement), 0);
    mysql_stmt_close(statement);

    // Rows by a cursor, a few at a time.
    statement = mysql_stmt_init(session.get());
    const unsigned long cursor = CURSOR_TYPE_READ_ONLY;
    mysql_stmt_attr_set(statement, STMT_ATTR_CURSOR_TYPE, &cursor);
    const std::string select = "SELECT id FROM t";
    ASSERT_EQ(mysql_stmt_prepare(statement, select.data(), select.size()), 0);
    ASSERT_EQ(mysql_stmt_execute(statement), 0);
    int rows = 0;
    while (mysql_stmt_fetch(statement) == 0) ++rows;
    EXPECT_EQ(rows, 2);
    EXPECT_EQ(mysql_stmt_reset(statement), 0);
    mysql_stmt_close(statement);

    // Prepared and executed in one go, as MariaDB's clients do.
    statement = mysql_stmt_init(session.get());
    const std::string direct = "DELETE FROM t WHERE v = 'long'";
    EXPECT_EQ(mariadb_stmt_execute_direct(statement, direct.data(), direct.size()), 0);
    mysql_stmt_close(statement);
    EXPECT_EQ(Ask(session, "SELECT COUNT(*) FROM t"), "1 ");
  }
  const auto requests = pump->requests();
  EXPECT_EQ(Texts(*pump),
            (std::vector<std::string>{"INSERT INTO t (v) VALUES (?)",
                                      "INSERT INTO t (v) VALUES (?)", "SELECT id FROM t",
                                      "DELETE FROM t WHERE v = 'long'", "SELECT COUNT(*) FROM t"}));
  EXPECT_NE(requests[1].statement, 0u);
  EXPECT_EQ(requests[1].statement, requests[2].statement);
  EXPECT_NE(requests[2].statement, requests[3].statement);
  EXPECT_TRUE(pump->lost().empty());
  SplitEverywhere(*pump);
}

TEST_F(MysqlLive, NamesOfSqlStandForTheServersOwnIdeaOfThem) {
  auto pump = Through();
  const std::vector<std::array<std::string, 3>> steps = {
      // Asked, answered, seen as.
      {"PREPARE s FROM 'SELECT ? + 1'", "ok ", "PREPARE s FROM 'SELECT ? + 1'"},
      {"SET @a = 4", "ok ", "SET @a = 4"},
      {"EXECUTE S USING @a", "5 ", "SELECT ? + 1"},
      {R"(EXECUTE IMMEDIATE 'SELECT "a''b\'c\\n"' ', 2')", "a'b'c\n 2 ", R"(SELECT "a'b'c\n", 2)"},
      {"EXECUTE IMMEDIATE 'SELECT ?' USING 7", "7 ", "SELECT ?"},
      {"/* x */ prepare `S` from \"SELECT 'q', \"\"2\"\"\"", "ok ",
       "/* x */ prepare `S` from \"SELECT 'q', \"\"2\"\"\""},
      {"execute s;", "q 2 ", "SELECT 'q', \"2\""},
      {"PREPARE s FROM 'SELEKT'", "<1064>", "PREPARE s FROM 'SELEKT'"},
      {"EXECUTE s", "<1243>", "EXECUTE s"},
      {"PREPARE `\xc3\xa4` FROM 'SELECT 8'", "ok ", "PREPARE `\xc3\xa4` FROM 'SELECT 8'"},
      // The server takes it for the same name.
      {"EXECUTE `\xc3\x84`", "8 ", "EXECUTE `\xc3\x84`"},
      {"PREPARE s FROM 'SELECT 3'; EXECUTE s; PREPARE t FROM 'SELECT 4'", "ok 3 ok ",
       "PREPARE s FROM 'SELECT 3'; EXECUTE s; PREPARE t FROM 'SELECT 4'"},
      {"EXECUTE t", "4 ", "EXECUTE t"},
      {"PREPARE t FROM 'SELECT 5'", "ok ", "PREPARE t FROM 'SELECT 5'"},
      {"SET @v = 'SELECT 6'", "ok ", "SET @v = 'SELECT 6'"},
      {"PREPARE s FROM @v", "ok ", "PREPARE s FROM @v"},
      {"EXECUTE s", "6 ", "EXECUTE s"},
      {"EXECUTE t", "5 ", "SELECT 5"},
      {"DROP PREPARE t", "ok ", "DROP PREPARE t"},
      {"EXECUTE t", "<1243>", "EXECUTE t"},
      {"SET sql_mode = 'NO_BACKSLASH_ESCAPES'", "ok ", "SET sql_mode = 'NO_BACKSLASH_ESCAPES'"},
      {R"(EXECUTE IMMEDIATE 'SELECT "a\"')", "a\\ ", R"(SELECT "a\")"},
      {"PREPARE u FROM 'USE mysql'", "ok ", "PREPARE u FROM 'USE mysql'"},
      {"EXECUTE u", "ok ", "USE mysql"},
      {"SELECT DATABASE()", "mysql ", "SELECT DATABASE()"},
  };
  std::vector<std::string> seen;
  const Session session = Open(pump->port(), [](MYSQL* session) {
    mysql_options(session, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  });
  for (const auto& [sql, answer, text] : steps) {
    EXPECT_EQ(Ask(session, sql), answer) << sql;
    seen.push_back(text);
  }
  for (const bool resets : {true, false}) {
    EXPECT_EQ(Ask(session, "PREPARE s FROM 'SELECT 9'"), "ok ");
    if (resets) {
      EXPECT_EQ(mysql_reset_connection(session.get()), 0);
    } else {
      EXPECT_EQ(mysql_change_user(session.get(), "tester", "tester", "test"), 0);
    }
    EXPECT_EQ(Ask(session, "EXECUTE s"), "<1243>");
    seen.insert(seen.end(), {"PREPARE s FROM 'SELECT 9'", "EXECUTE s"});
  }
  EXPECT_EQ(Texts(*pump), seen);
  int in_mysql = 0;
  for (const SeenRequest& request : pump->requests()) in_mysql += request.database == "mysql";
  EXPECT_GE(in_mysql, 1);
  EXPECT_TRUE(pump->lost().empty());
  SplitEverywhere(*pump);
}

TEST_F(MysqlLive, WhatSqlExecutesByNameFailsByItsText) {
  auto pump = Through("INSERT", "1213");
  const Session session = Open(pump->port());
  // Of these, only what is executed at once says INSERT itself.
  EXPECT_EQ(Ask(session, "SET @v = CONCAT('INS', 'ERT INTO t (v) VALUES (1)')"), "ok ");
  EXPECT_EQ(Ask(session, "PREPARE s FROM 'INS' 'ERT INTO t (v) VALUES (?)'"), "ok ");
  EXPECT_EQ(Ask(session, "EXECUTE s USING 1"), "<1213>");
  EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), 0);
  EXPECT_EQ(Ask(session, "PREPARE s FROM @v"), "ok ");
  EXPECT_EQ(Ask(session, "EXECUTE s"), "ok ");
  EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), 1);
}

TEST_F(MysqlLive, LargeResultsAndPacketsPassWhole) {
  auto pump = Through();
  const Session session = Open(pump->port());
  const std::string rows = Ask(session, "SELECT REPEAT('r', 1000) FROM seq_1_to_10000");
  EXPECT_EQ(rows.size(), 10'010'000u);
  // More than a packet holds, both ways.
  const std::string value(17 << 20, 'v');
  EXPECT_EQ(Ask(session, absl::StrCat("INSERT INTO t (v) SELECT LENGTH('", value, "')")), "ok ");
  EXPECT_EQ(server_->Run("SELECT v FROM test.t").at(0).at(0), absl::StrCat(value.size()));
  EXPECT_EQ(Ask(session, absl::StrCat("SELECT REPEAT('v', ", value.size(), "), 7")), value + " 7 ");
  EXPECT_EQ(Ask(session, "SELECT 1"), "1 ");
  EXPECT_TRUE(pump->lost().empty());
  EXPECT_TRUE(pump->broken().empty());
  EXPECT_TRUE(pump->requests().at(2).cut);
  // The same again, but refused: nothing of it reaches the server.
  pump = Through("INSERT", "1290");
  EXPECT_EQ(Ask(Open(pump->port()), absl::StrCat("INSERT INTO t (v) SELECT LENGTH('", value, "')")),
            "<1290>");
  EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), 1);
}

TEST_F(MysqlLive, ManyStatementsAtOnceAndLocalFilesPass) {
  auto pump = Through();
  const TempDir folder("fd-load");
  WriteFile(folder.path() + "/rows", "1\tone\n2\ttwo\n");
  const std::string load =
      absl::StrCat("LOAD DATA LOCAL INFILE '", folder.path(), "/rows' INTO TABLE t");
  {
    const Session session = Open(pump->port());
    EXPECT_EQ(Ask(session, "SELECT 1; DO 2; SELECT 3; SELECT bad"), "1 ok 3 <1054>");
    EXPECT_EQ(Ask(session, load), "ok ");
    EXPECT_EQ(Ask(session, "SELECT v FROM t"), "one two ");
    EXPECT_EQ(Ask(session, "LOAD DATA LOCAL INFILE '/nonexistent/x' INTO TABLE t"), "<2>");
    EXPECT_EQ(mysql_ping(session.get()), 0);
    EXPECT_NE(mysql_stat(session.get()), nullptr);
    MYSQL_RES* fields = mysql_list_fields(session.get(), "t", nullptr);
    ASSERT_NE(fields, nullptr);
    EXPECT_EQ(mysql_num_fields(fields), 2u);
    mysql_free_result(fields);
    EXPECT_EQ(mysql_change_user(session.get(), "tester", "tester", "mysql"), 0);
    EXPECT_EQ(Ask(session, "SELECT DATABASE()"), "mysql ");
    EXPECT_EQ(mysql_reset_connection(session.get()), 0);
    EXPECT_EQ(mysql_select_db(session.get(), "test"), 0);
    EXPECT_EQ(Ask(session, "SELECT DATABASE()"), "test ");
    EXPECT_NE(mysql_select_db(session.get(), "absent"), 0);
    EXPECT_EQ(Ask(session, "SELECT 9"), "9 ");
  }
  EXPECT_EQ(pump->requests().back().database, "test");
  EXPECT_TRUE(pump->lost().empty());
  SplitEverywhere(*pump);
  // And swallowed afterwards: the file is wanted, loaded, and its success concealed.
  pump = Through("LOAD", "1205", true);
  server_->Run("DELETE FROM test.t");
  const Session session = Open(pump->port());
  EXPECT_EQ(Ask(session, load), "<1205>");
  EXPECT_EQ(Ask(session, "SELECT COUNT(*) FROM t"), "2 ");
}

TEST_F(MysqlLive, BeforeMeansThatTheServerNeverExecuted) {
  for (const std::string error : {"1205", "1290", "1053", "1317", "1114"}) {
    auto pump = Through("INSERT", error);
    const Session session = Open(pump->port());
    EXPECT_EQ(Ask(session, "INSERT INTO t (v) VALUES ('a')"), absl::StrCat("<", error, ">"));
    EXPECT_EQ(Ask(session, "SELECT 1"), "1 ");
    EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), 0);
    EXPECT_EQ(pump->not_failed(), 0);
  }
}

TEST_F(MysqlLive, AfterMeansThatTheServerHasExecuted) {
  auto pump = Through("INSERT", "1205", true);
  const Session session = Open(pump->port());
  EXPECT_EQ(Ask(session, "SELECT 1; INSERT INTO t (v) VALUES ('a'); SELECT 2"), "<1205>");
  EXPECT_EQ(std::string(mysql_sqlstate(session.get())), "HY000");
  EXPECT_EQ(Ask(session, "SELECT COUNT(*) FROM t"), "1 ");
}

TEST_F(MysqlLive, ADeadlockRollsTheTransactionBackAndALockTimeoutDoesNot) {
  for (const auto& [error, kept] : {std::pair<std::string, int>{"1213", 0}, {"1205", 1}}) {
    server_->Run("DELETE FROM test.t");
    auto pump = Through("UPDATE", error);
    const Session session = Open(pump->port());
    EXPECT_EQ(Ask(session, "START TRANSACTION; INSERT INTO t (v) VALUES ('a')"), "ok ok ");
    EXPECT_EQ(Ask(session, "UPDATE t SET v = 'b'"), absl::StrCat("<", error, ">"));
    EXPECT_EQ(std::string(mysql_sqlstate(session.get())), error == "1213" ? "40001" : "HY000");
    EXPECT_EQ(Ask(session, "COMMIT"), "ok ");
    EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), kept);
  }
}

TEST_F(MysqlLive, APreparedStatementFailsByItsText) {
  auto pump = Through("INSERT", "1213");
  const Session session = Open(pump->port());
  MYSQL_STMT* statement = mysql_stmt_init(session.get());
  const std::string sql = "INSERT INTO t (v) VALUES ('p')";
  ASSERT_EQ(mysql_stmt_prepare(statement, sql.data(), sql.size()), 0);
  EXPECT_NE(mysql_stmt_execute(statement), 0);
  EXPECT_EQ(mysql_stmt_errno(statement), 1213u);
  failure_.set_error("1205");
  EXPECT_NE(mysql_stmt_execute(statement), 0);
  EXPECT_EQ(mysql_stmt_errno(statement), 1205u);
  mysql_stmt_close(statement);
  EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM test.t"), 0);
}

TEST_F(MysqlLive, ALoginIsRefusedInTheWordsOfAFullServer) {
  auto pump = Through("connect", "1040");
  const Session session = Open(pump->port());
  EXPECT_EQ(mysql_errno(session.get()), 1040u);
  EXPECT_EQ(std::string(mysql_sqlstate(session.get())), "08004");
  EXPECT_TRUE(absl::StrContains(mysql_error(session.get()), "Too many connections"));
  EXPECT_EQ(server_->Number("SELECT COUNT(*) FROM information_schema.processlist "
                            "WHERE user = 'tester'"),
            0);
}

TEST_F(MysqlLive, TheResultIsCutInItsMiddle) {
  failure_.set_cut_after(5000);
  auto pump = Failing("seq_1");
  const Session session = Open(pump->port());
  EXPECT_EQ(Ask(session, "SELECT 1"), "1 ");
  // The answer is shorter than that.
  EXPECT_EQ(Ask(session, "SELECT seq FROM seq_1_to_1"), "1 ");
  EXPECT_EQ(Ask(session, "SELECT seq FROM seq_1_to_100000"), "<2013>");
}

TEST_F(MysqlLive, OtherWaysToLogInPass) {
  // The server wants another method than the client began with.
  auto pump = Through();
  const Session switched = Open(
      pump->port(), [](MYSQL* session) { mysql_options(session, MYSQL_DEFAULT_AUTH, "dialog"); });
  EXPECT_EQ(Ask(switched, "SELECT 1"), "1 ") << mysql_error(switched.get());
  const Session wrong(mysql_init(nullptr), mysql_close);
  mysql_real_connect(wrong.get(), "127.0.0.1", "tester", "wrong", "", pump->port(), nullptr, 0);
  EXPECT_EQ(mysql_errno(wrong.get()), 1045u);
  EXPECT_TRUE(pump->lost().empty());
}

TEST_F(MysqlLive, EncryptedAndCompressedSessionsPassUnseen) {
  auto pump = Through("SELECT", "1205");
  {
    const Session session = Open(pump->port(), [](MYSQL* session) {
      const my_bool on = 1;
      mysql_options(session, MYSQL_OPT_SSL_ENFORCE, &on);
    });
    EXPECT_TRUE(
        absl::StartsWith(Ask(session, "SHOW STATUS LIKE 'Ssl_version'"), "Ssl_version TLS"));
    EXPECT_EQ(Ask(session, "SELECT 1"), "1 ");
  }
  {
    const Session session = Open(
        pump->port(), [](MYSQL* session) { mysql_options(session, MYSQL_OPT_COMPRESS, nullptr); });
    EXPECT_EQ(Ask(session, "SELECT 1"), "1 ");
    EXPECT_EQ(Ask(session, "SELECT REPEAT('c', 1000)"), std::string(1000, 'c') + " ");
  }
  const Session plain = Open(pump->port());
  EXPECT_EQ(Ask(plain, "SELECT 1"), "<1205>");
  EXPECT_EQ(pump->encrypted(), 1);
  // It is told when the session's end has come through.
  for (int i = 0; i < 500 && pump->lost().empty(); ++i) absl::SleepFor(absl::Milliseconds(10));
  ASSERT_EQ(pump->lost().size(), 1u);
  EXPECT_EQ(pump->lost()[0], "the stream is compressed");
}

}  // namespace
}  // namespace firedrill::wire
