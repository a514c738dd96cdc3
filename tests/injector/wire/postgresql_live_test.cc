// The PostgreSQL codec between real clients and a real server.
#include <gmock/gmock.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/injector/wire/pump.h"
#include "tests/testing/child.h"
#include "tests/testing/postgres_server.h"

namespace firedrill::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

Connection Connect(uint16_t port, const std::string& more = "") {
  return {PQconnectdb(absl::StrCat("host=127.0.0.1 port=", port,
                                   " user=postgres password=postgres dbname=postgres "
                                   "client_encoding=UTF8 sslmode=disable connect_timeout=30 ",
                                   more)
                          .c_str()),
          PQfinish};
}

Result Exec(const Connection& connection, const std::string& sql) {
  return {PQexec(connection.get(), sql.c_str()), PQclear};
}
Result ExecExtended(const Connection& connection, const std::string& sql) {
  return {PQexecParams(connection.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0),
          PQclear};
}
Result ExecPrepared(const Connection& connection, const std::string& name) {
  return {PQexecPrepared(connection.get(), name.c_str(), 0, nullptr, nullptr, nullptr, 0), PQclear};
}
std::string Code(const Result& result) {
  const char* code = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
  return code == nullptr ? "" : code;
}
std::string Words(const Result& result) {
  const char* words = PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
  return words == nullptr ? "" : words;
}
bool Fine(const Result& result) {
  const ExecStatusType status = PQresultStatus(result.get());
  return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}
std::string Value(const Result& result) {
  return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "none";
}

v1::QueryFailure Failure(const std::string& code, bool after) {
  v1::QueryFailure failure;
  failure.set_error(code);
  failure.set_moment(after ? v1::FAILURE_MOMENT_AFTER : v1::FAILURE_MOMENT_BEFORE);
  return failure;
}

class PostgresqlLive : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    PostgresOptions options;
    options.settings = {"log_statement=all", "log_line_prefix="};
    server_ = PostgresServer::Start(options).release();
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

  // Fails whatever has `word` in it.
  static CodecFeed::Decide Those(const std::string& word, const v1::QueryFailure& failure) {
    return [word, failure](const Request& request) {
      return !request.connect && absl::StrContains(request.text, word) ? &failure : nullptr;
    };
  }
  static int Rows() { return server_->Number("select count(*) from t"); }
  static void ExpectSound(Pump& pump) {
    EXPECT_THAT(pump.lost(), IsEmpty());
    EXPECT_THAT(pump.broken(), IsEmpty());
  }
  static std::vector<std::string> Psql(uint16_t port) {
    return {"/usr/bin/env",
            "PGPASSWORD=postgres",
            "/usr/bin/psql",
            "-X",
            "-h",
            "127.0.0.1",
            "-p",
            std::to_string(port),
            "-U",
            "postgres",
            "-d",
            "postgres"};
  }

  static PostgresServer* server_;
};
PostgresServer* PostgresqlLive::server_ = nullptr;

constexpr char kScript[] = R"(\set VERBOSITY verbose
create temp table c (a int, b text);
\copy c from stdin
1	one
2	two
\.
copy c to stdout;
select * from c order by a;
select a / 0 from c;
begin; insert into c values (3, 'three'); savepoint s; select 1/0; rollback to s; commit;
select count(*) from c; select 1 as x \gdesc
prepare q (int) as select $1 + 1; execute q(7); deallocate q; discard all;
do $$ begin raise notice 'psst'; end $$;
listen x; notify x, 'hello'; select 7;
set timezone = 'Asia/Tokyo'; show timezone;
select repeat('x', 100000);
\copy c from stdin
not a number	x
\.
select '';;
)";

TEST_F(PostgresqlLive, PsqlSeesNoDifference) {
  const std::string direct = RunProgram(Psql(server_->port()), kScript);
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
  std::string through = RunProgram(Psql(pump.port()), kScript);
  // The pid of the session that notifies is another one.
  const auto without_pid = [](std::string text) {
    const size_t at = text.find("server process with PID ");
    if (at != text.npos) text.erase(at, text.find('\n', at) - at);
    return text;
  };
  EXPECT_EQ(without_pid(through), without_pid(direct));
  EXPECT_THAT(direct, HasSubstr("psst"));
  EXPECT_THAT(direct, HasSubstr("division by zero"));
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, PgbenchRunsWithEveryProtocol) {
  for (const std::string mode : {"simple", "extended", "prepared"}) {
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
    const auto bench = [&](const std::vector<std::string>& more) {
      std::vector<std::string> words = {"/usr/bin/env",
                                        "PGPASSWORD=postgres",
                                        "/usr/bin/pgbench",
                                        "-h",
                                        "127.0.0.1",
                                        "-p",
                                        std::to_string(pump.port()),
                                        "-U",
                                        "postgres",
                                        "postgres"};
      words.insert(words.end(), more.begin(), more.end());
      int code = -1;
      const std::string said = RunProgram(words, "", &code);
      EXPECT_EQ(code, 0) << said;
    };
    bench({"-i", "-q"});
    bench({"-n", "-M", mode, "-c", "3", "-t", "20"});
    ExpectSound(pump);
    int updates = 0;
    for (const SeenRequest& request : pump.requests()) {
      updates += absl::StartsWith(request.text, "UPDATE pgbench_accounts") ? 1 : 0;
    }
    EXPECT_EQ(updates, 60) << mode;
  }
}

TEST_F(PostgresqlLive, TheServersOwnLogNamesTheSameRequests) {
  const auto logged = [] {
    std::vector<std::string> texts;
    std::ifstream log(server_->folder() + "/log");
    for (std::string line; std::getline(log, line);) {
      for (const std::string mark : {"LOG:  statement: ", "LOG:  execute "}) {
        if (!absl::StartsWith(line, mark)) continue;
        std::string text = line.substr(mark.size());
        if (mark == "LOG:  execute ") text = text.substr(text.find(": ") + 2);
        texts.push_back(text);
      }
    }
    return texts;
  };
  const size_t before = logged().size();
  {
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
    const Connection connection = Connect(pump.port());
    Exec(connection, "select 1; select 2");
    Exec(connection, "begin");
    Exec(connection, "select 'a'");
    ExecExtended(connection, "select 'b'");
    PQclear(PQprepare(connection.get(), "p", "select 'c'", 0, nullptr));
    ExecPrepared(connection, "p");
    ExecPrepared(connection, "p");
    PQclear(PQprepare(connection.get(), "p", "select 'never'", 0, nullptr));
    Exec(connection, "rollback");
    ExecPrepared(connection, "p");
    PQclear(PQdescribePrepared(connection.get(), "p"));
    PQenterPipelineMode(connection.get());
    for (int i = 0; i < 300; ++i) {
      PQsendQueryPrepared(connection.get(), "p", 0, nullptr, nullptr, nullptr, 0);
      const std::string text = absl::StrCat("select ", i);
      PQsendQueryParams(connection.get(), text.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0);
      if (i % 7 == 0) PQpipelineSync(connection.get());
    }
    PQpipelineSync(connection.get());
    for (int ends = 0; ends < 44;) {
      const Result result(PQgetResult(connection.get()), PQclear);
      if (result != nullptr && PQresultStatus(result.get()) == PGRES_PIPELINE_SYNC) ++ends;
    }
    EXPECT_EQ(PQexitPipelineMode(connection.get()), 1);
    Exec(connection, "select 'end'");
    std::vector<std::string> seen;
    for (const SeenRequest& request : pump.requests()) {
      if (!request.connect) seen.push_back(request.text);
    }
    std::vector<std::string> texts = logged();
    texts.erase(texts.begin(), texts.begin() + static_cast<int>(before));
    EXPECT_EQ(seen.size(), 609u);
    EXPECT_EQ(seen, texts);
    ExpectSound(pump);
  }
}

TEST_F(PostgresqlLive, CopiesAndBigResultsPassWhole) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(pump.port());
  const Result big = Exec(connection, "select repeat('x', 1000) from generate_series(1, 12000)");
  EXPECT_EQ(PQntuples(big.get()), 12000);
  EXPECT_EQ(PQgetlength(big.get(), 11999, 0), 1000);
  EXPECT_EQ(PQgetlength(Exec(connection, "select repeat('y', 20000000)").get(), 0, 0), 20000000);
  for (const bool extended : {false, true}) {
    const Result in = extended ? ExecExtended(connection, "copy t from stdin")
                               : Exec(connection, "copy t from stdin");
    ASSERT_EQ(PQresultStatus(in.get()), PGRES_COPY_IN);
    for (int i = 0; i < 20000; ++i) {
      const std::string row = absl::StrCat(i, "\n");
      PQputCopyData(connection.get(), row.data(), static_cast<int>(row.size()));
    }
    EXPECT_EQ(PQputCopyEnd(connection.get(), nullptr), 1);
    while (PGresult* result = PQgetResult(connection.get())) PQclear(result);
  }
  EXPECT_EQ(Rows(), 40000);
  const Result out = Exec(connection, "copy t to stdout");
  ASSERT_EQ(PQresultStatus(out.get()), PGRES_COPY_OUT);
  int rows = 0;
  char* row = nullptr;
  while (PQgetCopyData(connection.get(), &row, 0) > 0) {
    ++rows;
    PQfreemem(row);
  }
  EXPECT_EQ(rows, 40000);
  while (PGresult* result = PQgetResult(connection.get())) PQclear(result);
  EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, ACancelReachesTheServer) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(pump.port());
  ASSERT_EQ(PQsendQuery(connection.get(), "select pg_sleep(100)"), 1);
  usleep(200'000);
  PGcancel* cancel = PQgetCancel(connection.get());
  char words[256];
  EXPECT_EQ(PQcancel(cancel, words, sizeof words), 1) << words;
  PQfreeCancel(cancel);
  const Result result(PQgetResult(connection.get()), PQclear);
  EXPECT_EQ(Code(result), "57014");
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, ANotificationComesWhileNothingIsAsked) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
  const Connection connection = Connect(pump.port());
  Exec(connection, "listen news");
  server_->Run("notify news, 'hello'");
  PGnotify* notice = nullptr;
  for (int i = 0; i < 500 && notice == nullptr; ++i) {
    usleep(10'000);
    PQconsumeInput(connection.get());
    notice = PQnotifies(connection.get());
  }
  ASSERT_NE(notice, nullptr);
  EXPECT_STREQ(notice->extra, "hello");
  PQfreemem(notice);
  EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, AnEncryptedSessionPassesUntouched) {
  const TempDir folder("fd-tls");
  const std::string key = folder.path() + "/key";
  const std::string certificate = folder.path() + "/certificate";
  int code = -1;
  const std::string said =
      RunProgram({"/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                  "-subj", "/CN=localhost", "-keyout", key, "-out", certificate},
                 "", &code);
  ASSERT_EQ(code, 0) << said;
  // The server reads the key as another user than a test that root runs.
  if (const passwd* user = getuid() == 0 ? getpwnam("postgres") : nullptr; user != nullptr) {
    for (const std::string& path : {folder.path(), key, certificate}) {
      ASSERT_EQ(chown(path.c_str(), user->pw_uid, user->pw_gid), 0);
    }
  }
  PostgresOptions options;
  options.settings = {"ssl=on", "ssl_key_file=" + key, "ssl_cert_file=" + certificate};
  const std::unique_ptr<PostgresServer> server = PostgresServer::Start(options);
  ASSERT_NE(server, nullptr);
  Pump pump(v1::PROTOCOL_POSTGRESQL, server->port());
  {
    const Connection connection = Connect(pump.port(), "sslmode=require");
    ASSERT_EQ(PQstatus(connection.get()), CONNECTION_OK) << PQerrorMessage(connection.get());
    EXPECT_EQ(PQsslInUse(connection.get()), 1);
    EXPECT_EQ(PQgetlength(Exec(connection, "select repeat('y', 3000000)").get(), 0, 0), 3000000);
  }
  for (int i = 0; i < 500 && pump.encrypted() == 0; ++i) usleep(10'000);
  EXPECT_EQ(pump.encrypted(), 1);
  EXPECT_THAT(pump.requests(), IsEmpty());
  ExpectSound(pump);
}

// Whatever a query does by SQL, what it leaves known is what the server knows.
TEST_F(PostgresqlLive, WhatSqlPreparedIsKnownAsTheServerKnowsIt) {
  const std::vector<std::string> queries = {
      "prepare a as select 'a'",
      "prepare a as select 'again'",
      "prepare b as selekt",
      "prepare b (int) as select 'b' ; select 1/0; prepare c as select 'c'",
      "begin; prepare c as select 'c'; prepare \"D\" as select 'd'; rollback",
      "deallocate c; prepare c as select 'other'; execute c",
      "begin",
      "select 1/0",
      "prepare e as select 'e'",
      "deallocate a",
      "rollback",
      "explain analyze execute a",
      "create temp table k as execute c; deallocate prepare c; select 1/0",
      "create temp table l as execute a; deallocate a; prepare a as select 'last'; discard all",
      "discard all",
      "prepare b as select 'b'; deallocate all; prepare e as select 'e'; prepare b as select 'x'"};
  for (const bool extended : {false, true}) {
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port());
    const Connection connection = Connect(pump.port());
    for (const std::string& query : queries) {
      SCOPED_TRACE(query);
      extended ? ExecExtended(connection, query) : Exec(connection, query);
      if (PQtransactionStatus(connection.get()) != PQTRANS_IDLE) continue;
      for (const char* name : {"a", "b", "c", "\"D\"", "e"}) {
        const Result from = Exec(
            connection, absl::StrCat("select statement from pg_prepared_statements where name = '",
                                     name[0] == '"' ? "D" : name, "'"));
        const size_t before = pump.requests().size();
        Exec(connection, absl::StrCat("execute ", name, name[0] == 'b' ? "(1)" : ""));
        const auto requests = pump.requests();
        if (PQntuples(from.get()) == 0) {
          EXPECT_EQ(requests.size(), before) << name;
        } else if (requests.size() > before) {
          EXPECT_THAT(Value(from), HasSubstr(requests.back().text)) << name;
          EXPECT_EQ(requests.back().text.substr(0, 8), "select '") << name;
        } else {
          ADD_FAILURE() << name << " is not known";
        }
      }
    }
    ExpectSound(pump);
  }
}

enum class Way { kSimple, kExtended, kPrepared };

Result Send(const Connection& connection, Way way, const std::string& sql) {
  if (way == Way::kSimple) return Exec(connection, sql);
  if (way == Way::kExtended) return ExecExtended(connection, sql);
  PQclear(PQprepare(connection.get(), "p", sql.c_str(), 0, nullptr));
  return ExecPrepared(connection, "p");
}

TEST_F(PostgresqlLive, EveryErrorBeforeAndAfterLeavesTheTrueState) {
  for (const std::string code : {"57014", "40P01", "40001", "53200", "25006", "53300"}) {
    for (const bool after : {false, true}) {
      Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("t /*bad*/", Failure(code, after)));
      for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
        SCOPED_TRACE(absl::StrCat(code, after ? " after, way " : " before, way ", int(way)));
        const std::string bad = "insert into t /*bad*/ values (1) returning a";
        const Connection connection = Connect(pump.port());
        server_->Run("truncate t");
        // Outside of a transaction.
        Result result = Send(connection, way, bad);
        EXPECT_EQ(Code(result), code);
        EXPECT_NE(Words(result), "");
        EXPECT_EQ(Words(result).find("firedrill"), std::string::npos);
        EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
        EXPECT_EQ(Rows(), after ? 1 : 0);
        EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
        Exec(connection, "deallocate all");
        // In one: it has failed at the server too.
        EXPECT_TRUE(Fine(Exec(connection, "begin")));
        EXPECT_TRUE(Fine(Exec(connection, "insert into t values (2)")));
        EXPECT_TRUE(Fine(Exec(connection, "savepoint s")));
        result = Send(connection, way, bad);
        EXPECT_EQ(Code(result), code);
        EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_INERROR);
        EXPECT_EQ(Code(Exec(connection, "select 7")), "25P02");
        EXPECT_TRUE(Fine(Exec(connection, "rollback to s")));
        EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_INTRANS);
        EXPECT_EQ(Code(ExecExtended(connection, bad)), code);
        const Result commit = Exec(connection, "commit");
        EXPECT_STREQ(PQcmdStatus(commit.get()), "ROLLBACK");
        EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
        EXPECT_EQ(Rows(), after ? 1 : 0);
        EXPECT_EQ(Value(ExecExtended(connection, "select 7")), "7");
      }
      EXPECT_EQ(pump.not_failed(), 0);
      ExpectSound(pump);
    }
  }
}

TEST_F(PostgresqlLive, ACommitThatFailsAfterTheFactIsCommitted) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("commit", Failure("40001", true)));
  for (const bool extended : {false, true}) {
    server_->Run("truncate t");
    const Connection connection = Connect(pump.port());
    Exec(connection, "begin");
    Exec(connection, "insert into t values (1)");
    const Result commit =
        extended ? ExecExtended(connection, "commit") : Exec(connection, "commit");
    EXPECT_EQ(Code(commit), "40001");
    EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
    Exec(connection, "rollback");
    EXPECT_EQ(Rows(), 1);
    EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
  }
  ExpectSound(pump);
}

// What a client sees of a transaction whose COMMIT fails, and of the session afterwards.
std::vector<std::string> SeenOfACommit(const Connection& connection, Way way,
                                       const std::string& commit) {
  std::vector<std::string> seen;
  const auto note = [&](const std::string& what, const Result& result) {
    seen.push_back(absl::StrCat(what, ": ", PQresStatus(PQresultStatus(result.get())), " ",
                                PQcmdStatus(result.get()), " ", Code(result), ", ",
                                static_cast<int>(PQtransactionStatus(connection.get()))));
  };
  for (const char* sql : {"begin", "set local work_mem = '5MB'", "insert into late values (1)",
                          "savepoint s", "insert into late values (1)"}) {
    note(sql, Exec(connection, sql));
  }
  note("commit", Send(connection, way, commit));
  note("show", Exec(connection, "show work_mem"));
  seen.push_back(Value(Exec(connection, "show work_mem")));
  seen.push_back(Value(ExecExtended(connection, "select count(*) from late")));
  note("rollback to", Exec(connection, "rollback to s"));
  note("begin again", Exec(connection, "begin"));
  note("commit again", Exec(connection, "/* not that one */ end"));
  // Of a pipeline, what stands behind it is skipped up to the Sync.
  note("begin", Exec(connection, "begin"));
  Exec(connection, "insert into late values (2), (2)");
  PQenterPipelineMode(connection.get());
  for (const char* sql : {"select 1", commit.c_str(), "insert into late values (3)"}) {
    PQsendQueryParams(connection.get(), sql, 0, nullptr, nullptr, nullptr, nullptr, 0);
  }
  PQpipelineSync(connection.get());
  PQsendQueryParams(connection.get(), "select 7", 0, nullptr, nullptr, nullptr, nullptr, 0);
  PQpipelineSync(connection.get());
  for (int syncs = 0; syncs < 2;) {
    const Result result(PQgetResult(connection.get()), PQclear);
    if (result == nullptr) continue;
    syncs += PQresultStatus(result.get()) == PGRES_PIPELINE_SYNC ? 1 : 0;
    seen.push_back(absl::StrCat(PQresStatus(PQresultStatus(result.get())), " ", Code(result)));
  }
  PQexitPipelineMode(connection.get());
  note("after", Exec(connection, "select count(*) from late"));
  seen.push_back(Value(Exec(connection, "select count(*) from late")));
  return seen;
}

TEST_F(PostgresqlLive, ACommitThatFailsBeforeEndsItsTransactionAsARealOneDoes) {
  server_->Run("create table late (a int unique deferrable initially deferred)");
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("commit", Failure("23505", false)));
  for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
    for (const std::string commit : {"commit", "/* x */ COMMIT /* commit */ work ;"}) {
      SCOPED_TRACE(absl::StrCat(commit, " by way ", int(way)));
      server_->Run("truncate late");
      // Its constraint is broken when it commits.
      const auto real = SeenOfACommit(Connect(server_->port()), way, commit);
      EXPECT_THAT(real[5], HasSubstr("23505, 0"));
      server_->Run("alter table late drop constraint late_a_key");
      EXPECT_EQ(SeenOfACommit(Connect(pump.port()), way, commit), real);
      server_->Run("alter table late add unique (a) deferrable initially deferred");
    }
  }
  EXPECT_EQ(pump.not_failed(), 0);
  ExpectSound(pump);
}

// Its Bind fails, and the server reads over all that was put in the COMMIT's place.
TEST_F(PostgresqlLive, ACommitThatFailsByItselfBeforeItsFailureIsTheServersOwn) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("commit", Failure("40001", false)));
  const Connection connection = Connect(pump.port());
  PQclear(PQprepare(connection.get(), "p", "commit", 0, nullptr));
  Exec(connection, "begin");
  EXPECT_TRUE(Fine(Exec(connection, "do $$ begin execute 'deallocate p'; end $$")));
  EXPECT_EQ(Code(ExecPrepared(connection, "p")), "26000");
  EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_INERROR);
  EXPECT_EQ(Code(Exec(connection, "commit")), "40001");
  EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_IDLE);
  EXPECT_EQ(Value(ExecExtended(connection, "select 7")), "7");
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, ACommitThatEndsTheSessionEndsItsTransaction) {
  server_->Run("truncate t");
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("commit", Failure("57P01", false)));
  for (const bool extended : {false, true}) {
    const Connection connection = Connect(pump.port());
    Exec(connection, "begin");
    Exec(connection, "insert into t values (1)");
    if (extended) {
      PQsendQueryParams(connection.get(), "commit", 0, nullptr, nullptr, nullptr, nullptr, 0);
    } else {
      PQsendQuery(connection.get(), "commit");
    }
    EXPECT_EQ(Code(Result(PQgetResult(connection.get()), PQclear)), "57P01");
    while (PGresult* rest = PQgetResult(connection.get())) PQclear(rest);
    EXPECT_EQ(PQstatus(connection.get()), CONNECTION_BAD);
  }
  EXPECT_EQ(Rows(), 0);
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, AVeryLongQueryFailsAndTheSessionGoesOn) {
  for (const bool after : {false, true}) {
    server_->Run("truncate t");
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("bad", Failure("57014", after)));
    const Connection connection = Connect(pump.port());
    const std::string text = "insert into t /* bad */ values (1)" + std::string(5'000'000, ' ');
    EXPECT_EQ(Code(Result(PQexec(connection.get(), text.c_str()), PQclear)), "57014");
    EXPECT_EQ(Code(Result(PQexec(connection.get(), "select 7"), PQclear)), "");
    EXPECT_EQ(Rows(), after ? 1 : 0);
    ExpectSound(pump);
  }
}

TEST_F(PostgresqlLive, APipelineFailsFromTheOneThatIsMeant) {
  for (const bool after : {false, true}) {
    server_->Run("truncate t");
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("(2)", Failure("57014", after)));
    const Connection connection = Connect(pump.port());
    PQenterPipelineMode(connection.get());
    for (const char* sql : {"insert into t values (1)", "insert into t values (2)",
                            "insert into t values (3)", "insert into t values (4)"}) {
      PQsendQueryParams(connection.get(), sql, 0, nullptr, nullptr, nullptr, nullptr, 0);
    }
    PQpipelineSync(connection.get());
    PQsendQueryParams(connection.get(), "select 7", 0, nullptr, nullptr, nullptr, nullptr, 0);
    PQpipelineSync(connection.get());
    std::vector<ExecStatusType> seen;
    for (int ends = 0; ends < 2;) {
      const Result result(PQgetResult(connection.get()), PQclear);
      if (result == nullptr) continue;
      seen.push_back(PQresultStatus(result.get()));
      if (seen.back() == PGRES_PIPELINE_SYNC) ++ends;
    }
    EXPECT_THAT(seen, ElementsAre(PGRES_COMMAND_OK, PGRES_FATAL_ERROR, PGRES_PIPELINE_ABORTED,
                                  PGRES_PIPELINE_ABORTED, PGRES_PIPELINE_SYNC, PGRES_TUPLES_OK,
                                  PGRES_PIPELINE_SYNC));
    // What came before it in the same transaction has gone with it, or stayed with it.
    EXPECT_EQ(Rows(), after ? 2 : 0);
    ExpectSound(pump);
  }
}

TEST_F(PostgresqlLive, ACopyFailsBeforeAndAfterItsData) {
  for (const bool after : {false, true}) {
    for (const bool extended : {false, true}) {
      SCOPED_TRACE(absl::StrCat(after, extended));
      server_->Run("truncate t");
      Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("copy", Failure("57014", after)));
      const Connection connection = Connect(pump.port());
      Result result = extended ? ExecExtended(connection, "copy t from stdin")
                               : Exec(connection, "copy t from stdin");
      if (after) {
        ASSERT_EQ(PQresultStatus(result.get()), PGRES_COPY_IN);
        PQputCopyData(connection.get(), "1\n", 2);
        EXPECT_EQ(PQputCopyEnd(connection.get(), nullptr), 1);
        result.reset(PQgetResult(connection.get()));
      }
      EXPECT_EQ(Code(result), "57014");
      while (PGresult* rest = PQgetResult(connection.get())) PQclear(rest);
      EXPECT_EQ(Rows(), after ? 1 : 0);
      result = Exec(connection, "copy t to stdout");
      EXPECT_EQ(Code(result), "57014");
      EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
      ExpectSound(pump);
    }
  }
}

TEST_F(PostgresqlLive, TheWordsOfACopyKeepNothingElseFromFailingAfterwards) {
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("bad", Failure("57014", true)));
  for (const Way way : {Way::kSimple, Way::kExtended, Way::kPrepared}) {
    for (const std::string text :
         {"insert into t /*bad*/ select 1 where 'copy' <> 'stdin' returning a",
          "-- copy x from stdin\ninsert into t /*bad*/ select 1 where 'copy' <> 'stdin';",
          "copy (select 'bad', 'stdin') to stdout"}) {
      SCOPED_TRACE(absl::StrCat("way ", int(way), ": ", text));
      server_->Run("truncate t");
      const Connection connection = Connect(pump.port());
      EXPECT_TRUE(Fine(Exec(connection, "begin")));
      EXPECT_EQ(Code(Send(connection, way, text)), "57014");
      EXPECT_EQ(PQtransactionStatus(connection.get()), PQTRANS_INERROR);
      Exec(connection, "rollback");
      Exec(connection, "deallocate all");
      EXPECT_EQ(Code(Send(connection, way, text)), "57014");
      EXPECT_EQ(Rows(), text[0] == 'c' ? 0 : 1);
      EXPECT_EQ(Value(Exec(connection, "select 7")), "7");
    }
  }
  EXPECT_EQ(pump.not_failed(), 0);
  ExpectSound(pump);
}

TEST_F(PostgresqlLive, AFatalErrorEndsTheSessionOnBothSides) {
  for (const std::string code : {"57P01", "57P02", "08006"}) {
    for (const bool after : {false, true}) {
      server_->Run("truncate t");
      Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("bad", Failure(code, after)));
      const Connection connection = Connect(pump.port(), "application_name=doomed");
      PQsendQuery(connection.get(), "insert into t /*bad*/ values (1)");
      const Result result(PQgetResult(connection.get()), PQclear);
      EXPECT_EQ(Code(result), code);
      EXPECT_STREQ(PQresultErrorField(result.get(), PG_DIAG_SEVERITY), "FATAL");
      while (PGresult* rest = PQgetResult(connection.get())) PQclear(rest);
      EXPECT_EQ(PQresultStatus(Exec(connection, "select 1").get()), PGRES_FATAL_ERROR);
      EXPECT_EQ(PQstatus(connection.get()), CONNECTION_BAD);
      EXPECT_EQ(Rows(), after ? 1 : 0);
      int left = 1;
      for (int i = 0; i < 500 && left > 0; ++i) {
        usleep(10'000);
        left = server_->Number(
            "select count(*) from pg_stat_activity where application_name = 'doomed'");
      }
      EXPECT_EQ(left, 0);
    }
  }
}

TEST_F(PostgresqlLive, ANewSessionIsRefused) {
  for (const bool after : {false, true}) {
    const v1::QueryFailure failure = Failure("53300", after);
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), [&](const Request& request) {
      EXPECT_TRUE(request.connect);
      EXPECT_EQ(request.user, "postgres");
      return &failure;
    });
    const Connection connection = Connect(pump.port());
    EXPECT_EQ(PQstatus(connection.get()), CONNECTION_BAD);
    EXPECT_THAT(PQerrorMessage(connection.get()),
                HasSubstr("FATAL:  sorry, too many clients already"));
  }
}

TEST_F(PostgresqlLive, WhatIsCutAtOnceHasBeenExecuted) {
  v1::QueryFailure cut;
  cut.set_cut_after(0);
  Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("bad", cut));
  for (const bool extended : {false, true}) {
    server_->Run("truncate t");
    const Connection connection = Connect(pump.port());
    const std::string sql = "insert into t /*bad*/ values (1)";
    const Result result = extended ? ExecExtended(connection, sql) : Exec(connection, sql);
    EXPECT_EQ(PQresultStatus(result.get()), PGRES_FATAL_ERROR);
    EXPECT_EQ(PQstatus(connection.get()), CONNECTION_BAD);
    EXPECT_EQ(Rows(), 1);
  }
}

TEST_F(PostgresqlLive, AnAnswerIsCutInItsMiddle) {
  v1::QueryFailure cut;
  for (const uint32_t bytes : {0u, 40u, 100'000u}) {
    cut.set_cut_after(bytes);
    server_->Run("truncate t");
    Pump pump(v1::PROTOCOL_POSTGRESQL, server_->port(), Those("bad", cut));
    for (const bool extended : {false, true}) {
      const Connection connection = Connect(pump.port());
      const std::string sql = "insert into t /*bad*/ select generate_series(1, 20000) returning a";
      const Result result = extended ? ExecExtended(connection, sql) : Exec(connection, sql);
      EXPECT_EQ(PQresultStatus(result.get()), PGRES_FATAL_ERROR);
      EXPECT_EQ(PQstatus(connection.get()), CONNECTION_BAD);
    }
    ExpectSound(pump);
  }
}

}  // namespace
}  // namespace firedrill::wire
