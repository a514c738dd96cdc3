// Where PostgreSQL's own client library and the codec see messages begin and end, of one session.
#include <gmock/gmock.h>
#include <libpq-fe.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/injector/wire/pump.h"
#include "tests/testing/child.h"
#include "tests/testing/postgres_server.h"

namespace firedrill::wire {
namespace {

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

// One direction, as the codec has it: where messages begin, and the requests that it takes as one.
struct View {
  std::set<size_t> starts;
  std::map<size_t, size_t> requests;
};

// Gives a codec the recorded conversation byte by byte. It asks for more exactly where a message
// begins that it has not seen enough of yet.
std::pair<View, View> Views(const std::vector<std::pair<bool, std::string>>& recorded) {
  const std::unique_ptr<Codec> codec = MakeCodec(v1::PROTOCOL_POSTGRESQL);
  View views[2];
  std::string held[2];
  size_t at[2] = {0, 0};
  for (const auto& [from_client, bytes] : recorded) {
    const int way = from_client ? 0 : 1;
    for (const char byte : bytes) {
      held[way] += byte;
      while (!held[way].empty()) {
        const Piece piece =
            from_client ? codec->FromClient(held[way]) : codec->FromServer(held[way]);
        if (piece.step == Step::kMore) {
          views[way].starts.insert(at[way]);
          break;
        }
        if (piece.step == Step::kRequest) views[way].requests[at[way]] = at[way] + piece.length;
        at[way] += piece.length;
        held[way].erase(0, piece.length);
        // It has looked ahead, and goes no further than a message at a time.
        if (!held[way].empty()) views[way].starts.insert(at[way]);
      }
    }
  }
  EXPECT_EQ(codec->lost(), "");
  return {views[0], views[1]};
}

// The letters of messages, by the names that the trace gives them; it has none for COPY's data.
const std::map<std::string, char>& Letters(bool from_client) {
  static const auto* client = new std::map<std::string, char>({{"", 'd'},
                                                               {"Bind", 'B'},
                                                               {"Close", 'C'},

                                                               {"CopyDone", 'c'},
                                                               {"CopyFail", 'f'},
                                                               {"Describe", 'D'},
                                                               {"Execute", 'E'},
                                                               {"Flush", 'H'},
                                                               {"Parse", 'P'},
                                                               {"FunctionCall", 'F'},
                                                               {"Query", 'Q'},
                                                               {"Sync", 'S'}});
  static const auto* server = new std::map<std::string, char>({{"BindComplete", '2'},
                                                               {"CloseComplete", '3'},
                                                               {"CommandComplete", 'C'},
                                                               {"CopyData", 'd'},
                                                               {"CopyDone", 'c'},
                                                               {"CopyInResponse", 'G'},
                                                               {"CopyOutResponse", 'H'},
                                                               {"DataRow", 'D'},
                                                               {"EmptyQueryResponse", 'I'},
                                                               {"ErrorResponse", 'E'},
                                                               {"FunctionCallResponse", 'V'},
                                                               {"NoData", 'n'},
                                                               {"NoticeResponse", 'N'},
                                                               {"NotificationResponse", 'A'},
                                                               {"ParameterDescription", 't'},
                                                               {"ParameterStatus", 'S'},
                                                               {"ParseComplete", '1'},
                                                               {"PortalSuspended", 's'},
                                                               {"ReadyForQuery", 'Z'},
                                                               {"RowDescription", 'T'}});
  return from_client ? *client : *server;
}

struct Message {
  bool from_client;
  std::string name;
  size_t length;  // Without its letter, as the protocol counts.
};

std::vector<Message> ReadTrace(const std::string& path) {
  std::vector<Message> messages;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    // What it says of COPY's data, which it does not look into.
    if (absl::StartsWith(line, "mismatched message length")) continue;
    const std::vector<std::string> words = absl::StrSplit(line, '\t');
    size_t length = 0;
    if (words.size() < 3 || (words[0] != "F" && words[0] != "B") ||
        !absl::SimpleAtoi(words[1], &length)) {
      ADD_FAILURE() << "no message: " << line;
      continue;
    }
    messages.push_back({words[0] == "F", words[2], length});
  }
  return messages;
}

// To the end of everything that was asked.
void Drain(PGconn* session, bool fails = false) {
  while (PGresult* result = PQgetResult(session)) {
    const ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status == PGRES_COPY_IN) {
      for (int i = 0; i < 5; ++i) {
        const std::string row = absl::StrCat(i, "\trow ", std::string(i * 10, 'r'), "\n");
        PQputCopyData(session, row.data(), static_cast<int>(row.size()));
      }
      PQputCopyEnd(session, fails ? "enough" : nullptr);
    }
    if (status == PGRES_COPY_OUT) {
      char* row = nullptr;
      while (PQgetCopyData(session, &row, 0) > 0) PQfreemem(row);
    }
  }
}

void Work(PGconn* session) {
  const auto simple = [&](const std::string& sql) {
    PQsendQuery(session, sql.c_str());
    Drain(session);
  };
  const auto extended = [&](const std::string& sql, const std::vector<const char*>& values = {}) {
    PQsendQueryParams(session, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(),
                      nullptr, nullptr, 0);
    Drain(session);
  };
  simple("create temp table c (a int, b text)");
  simple("select 1; select 'two', null; ; select nonsense; select 3");
  simple("");
  simple("do $$ begin raise notice 'psst'; end $$");
  simple("select g, repeat('x', g * 100) from generate_series(1, 40) g");
  simple("copy c from stdin");
  PQsendQuery(session, "copy c from stdin");
  Drain(session, true);
  simple("copy c to stdout");
  simple("listen news; notify news, 'hello'");
  simple("set timezone = 'Asia/Tokyo'");
  simple("begin; select 1/0; select 1");
  simple("rollback");
  extended("select $1::text, $2::text", {"one", nullptr});
  extended("select $1::text", {std::string(20'000, 'v').c_str()});
  extended("select 1 / $1::int", {"0"});
  extended("insert into c select g, 'z' from generate_series(1, 10) g returning a");
  extended("copy c to stdout");
  extended("");
  PQclear(PQprepare(session, "p", "select $1::int + 1", 0, nullptr));
  PQclear(PQdescribePrepared(session, "p"));
  for (const char* value : {"1", "22", "no number", "4444"}) {
    PQsendQueryPrepared(session, "p", 1, &value, nullptr, nullptr, 0);
    Drain(session);
  }
  PQenterPipelineMode(session);
  int syncs = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string value = absl::StrCat(i);
    const char* values[] = {value.c_str()};
    PQsendQueryPrepared(session, "p", 1, values, nullptr, nullptr, 0);
    PQsendQueryParams(session, i % 9 == 4 ? "select nothing" : "select 'q'", 0, nullptr, nullptr,
                      nullptr, nullptr, 0);
    if (i % 7 == 0) PQsendDescribePrepared(session, "p");
    if (i % 5 == 4) syncs += PQpipelineSync(session);
  }
  while (syncs > 0) {
    PGresult* result = PQgetResult(session);
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) --syncs;
    PQclear(result);
  }
  EXPECT_EQ(PQexitPipelineMode(session), 1);
  simple("deallocate p; select 'end'");
}

TEST(PostgresqlTrace, LibpqSeesTheSameMessages) {
  const std::unique_ptr<PostgresServer> server = PostgresServer::Start();
  ASSERT_NE(server, nullptr);
  const TempDir folder("fd-trace");
  const std::string path = folder.path() + "/trace";
  Pump pump(v1::PROTOCOL_POSTGRESQL, server->port());
  const Connection session(
      PQconnectdb(absl::StrCat("host=127.0.0.1 port=", pump.port(),
                               " user=postgres password=postgres dbname=postgres sslmode=disable")
                      .c_str()),
      PQfinish);
  ASSERT_EQ(PQstatus(session.get()), CONNECTION_OK) << PQerrorMessage(session.get());
  PQsetNoticeProcessor(
      session.get(), [](void*, const char*) {}, nullptr);
  // The login is not traced.
  size_t ends[2] = {0, 0};
  for (const auto& [from_client, bytes] : pump.recorded())
    ends[from_client ? 0 : 1] += bytes.size();
  const size_t begins[2] = {ends[0], ends[1]};
  FILE* file = fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  PQtrace(session.get(), file);
  PQsetTraceFlags(session.get(), PQTRACE_SUPPRESS_TIMESTAMPS);
  Work(session.get());
  PQuntrace(session.get());
  fclose(file);

  const auto recorded = pump.recorded();
  ASSERT_LT(recorded.size(), 1000u) << "not all of it is recorded";
  std::string said[2];
  for (const auto& [from_client, bytes] : recorded) said[from_client ? 0 : 1] += bytes;
  const auto [client, of_server] = Views(recorded);
  const View* views[2] = {&client, &of_server};
  std::set<std::string> seen;
  size_t counts[2] = {0, 0};
  int copied = 0;
  size_t alone[2] = {0, 0};
  for (const Message& message : ReadTrace(path)) {
    const int way = message.from_client ? 0 : 1;
    // COPY's data from the server are not traced.
    while (way == 1 && ends[way] < said[way].size() && said[way][ends[way]] == 'd') {
      const auto start = views[way]->starts.find(ends[way]);
      ASSERT_TRUE(start != views[way]->starts.end());
      ASSERT_TRUE(std::next(start) != views[way]->starts.end());
      ends[way] = *std::next(start);
      ++alone[way];
      ++copied;
    }
    const size_t at = ends[way];
    ends[way] += 1 + message.length;
    ASSERT_LT(at, said[way].size()) << message.name << " of " << message.length;
    const auto letter = Letters(message.from_client).find(message.name);
    ASSERT_TRUE(letter != Letters(message.from_client).end())
        << message.name << " of " << message.length;
    EXPECT_EQ(said[way][at], letter->second) << message.name << " at " << at;
    seen.insert(absl::StrCat(way == 0 ? "F " : "B ", message.name));
    ++counts[way];
    if (views[way]->starts.count(at) > 0) {
      ++alone[way];
      continue;
    }
    // Then it is within a request that the codec takes as a whole: Bind, Describe, Execute.
    auto request = views[way]->requests.upper_bound(at);
    ASSERT_TRUE(request != views[way]->requests.begin()) << message.name << " at " << at;
    --request;
    EXPECT_TRUE(request->first < at && ends[way] <= request->second)
        << message.name << " at " << at << " is no message to the codec";
  }
  for (const int way : {0, 1}) {
    EXPECT_EQ(ends[way], said[way].size());
    // The codec sees none besides them.
    EXPECT_EQ(std::distance(views[way]->starts.lower_bound(begins[way]), views[way]->starts.end()),
              static_cast<int>(alone[way]));
  }
  EXPECT_GT(counts[0], 200u);
  EXPECT_GT(counts[1], 250u);
  EXPECT_EQ(copied, 20);
  EXPECT_EQ(alone[1], counts[1] + 20);
  EXPECT_GE(seen.size(), 25u) << ::testing::PrintToString(seen);
}

}  // namespace
}  // namespace firedrill::wire
