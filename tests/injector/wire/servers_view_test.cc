// What servers say they were asked, in their own logs and counters, against what the codecs saw.
#include <gtest/gtest.h>
#include <mysql.h>

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/injector/wire/pump.h"
#include "tests/injector/wire/talk.h"
#include "tests/testing/child.h"
#include "tests/testing/mariadb_server.h"
#include "tests/testing/redis_server.h"

namespace firedrill::wire {
namespace {

std::vector<std::string> Texts(Pump& pump) {
  std::vector<std::string> texts;
  for (const SeenRequest& request : pump.requests()) {
    if (!request.connect) texts.push_back(request.text);
  }
  return texts;
}

// ---- MySQL: the general log, and the counters of a session --------------------------------------

void AskAll(MYSQL* session, const std::string& sql) {
  mysql_real_query(session, sql.data(), sql.size());
  do {
    mysql_free_result(mysql_store_result(session));
  } while (mysql_next_result(session) == 0);
}

// Prepares all, and executes them in turn.
void Prepared(MYSQL* session, const std::vector<std::string>& texts, int times) {
  std::vector<MYSQL_STMT*> statements;
  for (const std::string& text : texts) {
    statements.push_back(mysql_stmt_init(session));
    if (mysql_stmt_prepare(statements.back(), text.data(), text.size()) == 0) continue;
    mysql_stmt_close(statements.back());
    statements.pop_back();
  }
  for (int i = 0; i < times; ++i) {
    for (MYSQL_STMT* statement : statements) {
      mysql_stmt_execute(statement);
      mysql_stmt_free_result(statement);
    }
  }
  for (MYSQL_STMT* statement : statements) mysql_stmt_close(statement);
}

TEST(ServersView, MariadbsGeneralLogNamesTheSameRequests) {
  MariadbOptions options;
  options.settings = {"general-log=1", "log-output=TABLE"};
  const std::unique_ptr<MariadbServer> server = MariadbServer::Start(options);
  ASSERT_NE(server, nullptr);
  Pump pump(v1::PROTOCOL_MYSQL, server->port());
  const std::unique_ptr<MYSQL, decltype(&mysql_close)> session(mysql_init(nullptr), mysql_close);
  MYSQL* const to = session.get();
  ASSERT_NE(mysql_real_connect(to, "127.0.0.1", "tester", "tester", "test", pump.port(), nullptr,
                               CLIENT_MULTI_STATEMENTS),
            nullptr)
      << mysql_error(to);
  const unsigned long id = mysql_thread_id(to);
  AskAll(to, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)");
  for (int i = 0; i < 50; ++i) AskAll(to, absl::StrCat("INSERT INTO t (v) VALUES ('row ", i, "')"));
  AskAll(to, "SELECT * FROM t");
  AskAll(to, "SELECT nonsense");
  AskAll(to, "SELECT REPEAT('x', 300000)");
  Prepared(to,
           {"SELECT COUNT(*) FROM t", "INSERT INTO t (v) VALUES ('prepared')", "SELECT bad FROM t",
            "SELECT MAX(id) FROM t"},
           4);
  Prepared(to, {"SELECT 'another'"}, 1);
  mysql_select_db(to, "mysql");
  mysql_select_db(to, "test");
  mysql_ping(to);
  mysql_stat(to);
  AskAll(to, "START TRANSACTION");
  AskAll(to, "DELETE FROM t");
  AskAll(to, "ROLLBACK");
  AskAll(to, "SELECT 'the end'");

  std::vector<std::string> logged;
  for (const auto& row : server->Run(absl::StrCat(
           "SELECT command_type, argument FROM mysql.general_log WHERE thread_id = ", id))) {
    if (row[0] == "Query" || row[0] == "Execute") logged.push_back(row[1]);
    if (row[0] == "Init DB") logged.push_back(absl::StrCat("USE ", row[1]));
  }
  EXPECT_GE(logged.size(), 65u);
  EXPECT_EQ(Texts(pump), logged);
  EXPECT_TRUE(pump.lost().empty());
}

// ---- Redis: MONITOR, and its counters of commands -----------------------------------------------

// `1700000000.1 [0 127.0.0.1:1] "SET" "a" "1"` as "0: SET a 1"; words without quotes in them, and
// none for an empty one.
std::string Monitored(const std::string& line) {
  const std::vector<std::string> parts = absl::StrSplit(line, '"');
  const size_t bracket = parts[0].find('[');
  if (bracket == std::string::npos) return "no bracket: " + line;
  std::string text = parts[0].substr(bracket + 1, parts[0].find(' ', bracket) - bracket - 1) + ":";
  for (size_t i = 1; i < parts.size(); i += 2) {
    if (!parts[i].empty()) absl::StrAppend(&text, " ", parts[i]);
  }
  return text;
}

std::string Words(const std::vector<std::string>& words) {
  std::string bytes = absl::StrCat("*", words.size(), "\r\n");
  for (const std::string& word : words) {
    absl::StrAppend(&bytes, "$", word.size(), "\r\n", word, "\r\n");
  }
  return bytes;
}

TEST(ServersView, RedisMonitorsTheSameCommands) {
  const std::unique_ptr<RedisServer> server = RedisServer::Start();
  ASSERT_NE(server, nullptr);
  server->Run({"CONFIG", "RESETSTAT"});
  Pump pump(v1::PROTOCOL_REDIS, server->port());
  Talk monitor(server->port());
  monitor.Send("MONITOR\r\n");
  ASSERT_EQ(monitor.Until("+OK\r\n"), "+OK\r\n");
  Talk talk(pump.port());
  talk.Send("SET inline one\r\n  GET   inline \r\nPING\r\n");
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    const std::string key = absl::StrCat("key:", i);
    absl::StrAppend(&bytes, Words({"SET", key, std::string(static_cast<size_t>(i), 'v')}),
                    Words({"GET", key}), Words({"lpush", "list", "a", "b"}));
    if (i % 50 == 49) absl::StrAppend(&bytes, Words({"SELECT", absl::StrCat(i / 50)}));
  }
  for (size_t at = 0; at < bytes.size(); at += 777) talk.Send(bytes.substr(at, 777));
  talk.Send(Words({"SELECT", "0"}) + Words({"INCR", "list"}) + Words({"EXISTS", "a", "b"}));
  talk.Send(Words({"ECHO", "the-end"}));
  EXPECT_TRUE(absl::EndsWith(talk.Until("the-end\r\n"), "the-end\r\n"));

  std::vector<std::string> asked;
  const std::string heard = monitor.Until("\"ECHO\" \"the-end\"\r\n");
  for (const absl::string_view line : absl::StrSplit(heard, "\r\n", absl::SkipEmpty())) {
    asked.push_back(Monitored(std::string(line)));
  }
  std::vector<std::string> seen;
  std::map<std::string, int> counted;
  for (const SeenRequest& request : pump.requests()) {
    if (request.connect) continue;
    const std::vector<std::string> words = absl::StrSplit(request.text, ' ', absl::SkipEmpty());
    seen.push_back(absl::StrCat(request.database, ": ", absl::StrJoin(words, " ")));
    ++counted[absl::AsciiStrToLower(words[0])];
  }
  EXPECT_GT(asked.size(), 900u);
  ASSERT_EQ(seen.size(), asked.size());
  for (size_t i = 0; i < seen.size(); ++i) {
    // The server logs a SELECT when it has moved already.
    const size_t from = absl::StrContains(seen[i], ": SELECT ") ? seen[i].find(' ') : 0;
    ASSERT_EQ(seen[i].substr(from), asked[i].substr(from)) << "the " << i << "th";
  }

  // cmdstat_set:calls=301,usec=...
  const std::string stats = server->Run({"INFO", "commandstats"});
  for (const auto& [command, count] : counted) {
    EXPECT_TRUE(absl::StrContains(stats, absl::StrCat("cmdstat_", command, ":calls=", count, ",")))
        << command << " " << count << "\n"
        << stats;
  }
  EXPECT_TRUE(pump.lost().empty());
}

// ---- HTTP: the access log of nginx, which also counts bytes
// --------------------------------------

class Nginx {
 public:
  Nginx() : port_(static_cast<uint16_t>(FreePort())) {
    const std::string& path = folder_.path();
    WriteFile(path + "/small", "small\n");
    WriteFile(path + "/long", std::string(300'000, 'x'));
    std::string text = absl::StrCat(
        "daemon off; master_process off; pid ", path, "/pid; error_log ", path,
        "/log;\nevents {}\nhttp { log_format asked '$request_length $request'; access_log ", path,
        "/asked asked; gzip on; keepalive_requests 10000; client_max_body_size 0;\n");
    for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
      absl::StrAppend(&text, kind, "_temp_path ", path, "/", kind, ";\n");
    }
    absl::StrAppend(&text, "server { listen 127.0.0.1:", port_, "; root ", path,
                    "; dav_methods PUT; location /said { return 200 'said'; } } }\n");
    WriteFile(path + "/conf", text);
    Child::Options options;
    options.arguments = {"/usr/sbin/nginx", "-p", path, "-c", path + "/conf", "-e", path + "/log"};
    options.log = path + "/out";
    auto child = Child::Start(options);
    if (child.ok()) child_ = *std::move(child);
    for (int i = 0; i < 500; ++i) {
      Talk talk(port_);
      talk.Send("GET /small HTTP/1.0\r\n\r\n");
      if (absl::StrContains(talk.Rest(), "small\n")) return;
      absl::SleepFor(absl::Milliseconds(20));
    }
    ADD_FAILURE() << ReadFile(path + "/out") << ReadFile(path + "/log");
  }

  uint16_t port() const { return port_; }
  std::vector<std::string> Asked() const {
    return absl::StrSplit(ReadFile(folder_.path() + "/asked"), '\n', absl::SkipEmpty());
  }

 private:
  const TempDir folder_{"fd-nginx"};
  const uint16_t port_;
  std::unique_ptr<Child> child_;
};

// "<bytes> <request line>" of each request, of a recorded conversation that is told byte by byte.
std::vector<std::string> Lengths(const std::vector<std::pair<bool, std::string>>& recorded) {
  const std::unique_ptr<Codec> codec = MakeCodec(v1::PROTOCOL_HTTP);
  std::vector<std::string> lines;
  std::vector<size_t> starts;
  std::string held[2];
  size_t at = 0;
  for (const auto& [from_client, bytes] : recorded) {
    std::string& rest = held[from_client ? 0 : 1];
    for (const char byte : bytes) {
      rest += byte;
      while (!rest.empty()) {
        const Piece piece = from_client ? codec->FromClient(rest) : codec->FromServer(rest);
        if (piece.step == Step::kMore) break;
        if (piece.step == Step::kRequest) {
          starts.push_back(at);
          lines.emplace_back(piece.request.text);
        }
        if (from_client) at += piece.length;
        rest.erase(0, piece.length);
      }
    }
  }
  EXPECT_EQ(codec->lost(), "");
  starts.push_back(at);
  for (size_t i = 0; i < lines.size(); ++i) {
    lines[i] = absl::StrCat(starts[i + 1] - starts[i], " ", lines[i]);
  }
  return lines;
}

TEST(ServersView, NginxLogsTheSameRequestsOfTheSameLengths) {
  const Nginx server;
  const size_t before = server.Asked().size();
  Pump pump(v1::PROTOCOL_HTTP, server.port());
  std::string bytes;
  const std::string host = " HTTP/1.1\r\nHost: here\r\n";
  for (int i = 0; i < 30; ++i) {
    absl::StrAppend(&bytes, "GET /small?", i, host, "X-Word: ", std::string(i * 7, 'w'), "\r\n\r\n",
                    "HEAD /long", host, "\r\n", "GET /absent", host, "\r\n");
    absl::StrAppend(&bytes, "PUT /put", i, host, "Content-Length: ", i * 100, "\r\n\r\n",
                    std::string(i * 100, 'b'));
  }
  const std::string chunk(2000, 'c');
  absl::StrAppend(&bytes, "PUT /put", host, "Transfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) absl::StrAppend(&bytes, "7d0;x=y\r\n", chunk, "\r\n");
  absl::StrAppend(&bytes, "0\r\nTrailer: t\r\n\r\n", "GET /long", host, "\r\n");
  absl::StrAppend(&bytes, "GET /said?end", host, "Connection: close\r\n\r\n");
  {
    Talk talk(pump.port());
    talk.Send(bytes);
    EXPECT_TRUE(absl::EndsWith(talk.Rest(), "said<closed>"));
  }
  std::vector<std::string> asked;
  for (int i = 0; i < 500 && asked.size() < 123; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
    asked = server.Asked();
    asked.erase(asked.begin(), asked.begin() + static_cast<int>(before));
  }
  EXPECT_EQ(Lengths(pump.recorded()), asked);
  EXPECT_EQ(asked.size(), 123u);
  EXPECT_EQ(Texts(pump).size(), asked.size());
  EXPECT_TRUE(pump.lost().empty());
}

}  // namespace
}  // namespace firedrill::wire
