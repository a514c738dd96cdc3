// A real redis-server and its own clients, through the codec.
#include <gmock/gmock.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "injector/wire/codec.h"
#include "injector/wire/redis_keys.h"
#include "tests/injector/wire/pump.h"
#include "tests/injector/wire/talk.h"
#include "tests/testing/redis_server.h"

namespace firedrill::wire {
namespace {

class RedisLive : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = RedisServer::Start().release(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    server_->Run({"FLUSHALL"});
  }

  // A pump that fails every command that contains a word.
  std::unique_ptr<Pump> Through(const std::string& word = "", const std::string& error = "",
                                bool after = false) {
    failure_.set_error(error);
    failure_.set_moment(after ? v1::FAILURE_MOMENT_AFTER : v1::FAILURE_MOMENT_BEFORE);
    return std::make_unique<Pump>(
        v1::PROTOCOL_REDIS, server_->port(), [this, word](const Request& request) {
          const bool hit = !word.empty() && absl::StrContains(request.text, word);
          return hit ? &failure_ : nullptr;
        });
  }

  std::string Cli(Pump& pump, const std::string& input, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"/usr/bin/redis-cli", "-p", absl::StrCat(pump.port())};
    words.insert(words.end(), more.begin(), more.end());
    return RunProgram(words, input);
  }

  static RedisServer* server_;
  v1::QueryFailure failure_;
};

RedisServer* RedisLive::server_ = nullptr;

TEST_F(RedisLive, RedisCliSeesTheSameAsWithoutUs) {
  const std::string input =
      "SET a 1\nINCR a\nLPUSH l x y z\nLRANGE l 0 -1\nHSET h f v\nHGETALL h\nGET none\nINCR l\n"
      "MULTI\nINCR a\nINCR l\nEXEC\nSELECT 3\nGET a\nINFO replication\nCOMMAND COUNT\nNOSUCH\n"
      "COMMAND DOCS get\nZADD z 1.5 m\nZRANGE z 0 -1 WITHSCORES\nDEBUG SLEEP 0\nTYPE z\n";
  for (const bool resp3 : {false, true}) {
    const std::vector<std::string> more =
        resp3 ? std::vector<std::string>{"-3"} : std::vector<std::string>{};
    std::vector<std::string> direct = {"/usr/bin/redis-cli", "-p", absl::StrCat(server_->port())};
    direct.insert(direct.end(), more.begin(), more.end());
    server_->Run({"FLUSHALL"});
    const std::string expected = RunProgram(direct, input);
    server_->Run({"FLUSHALL"});
    auto pump = Through();
    EXPECT_EQ(Cli(*pump, input, more), expected);
    EXPECT_GT(pump->requests().size(), 20u);
    pump.reset();
  }
}

// What the server says the keys of a command are, against what rules take for them.
TEST_F(RedisLive, KeysAreWhatTheServerTakesForThem) {
  const std::vector<std::string> lines = {"GET a",
                                          "SET a users",
                                          "MGET a b c",
                                          "MSET a 1 b 2",
                                          "MSET  1 b 2",
                                          "MSETNX a  b 2",
                                          "DEL a b",
                                          "UNLINK a b",
                                          "EXISTS a b",
                                          "TOUCH a",
                                          "WATCH a b",
                                          "SINTER a b",
                                          "SUNIONSTORE d a b",
                                          "SDIFFSTORE d a b",
                                          "PFCOUNT a b",
                                          "PFMERGE d a b",
                                          "BLPOP a b 1",
                                          "BZPOPMIN a b 1",
                                          "RENAME a b",
                                          "COPY a b REPLACE",
                                          "SMOVE a b m",
                                          "LMOVE a b LEFT RIGHT",
                                          "RPOPLPUSH a b",
                                          "LCS a b LEN",
                                          "ZRANGESTORE d s 0 1",
                                          "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m",
                                          "BITOP NOT d s",
                                          "BITOP AND d s t",
                                          "OBJECT ENCODING a",
                                          "MEMORY USAGE a",
                                          "XINFO STREAM a",
                                          "XGROUP CREATE a g 0",
                                          "ZUNIONSTORE d 2 a b",
                                          "ZINTERSTORE d 2 a b WEIGHTS 1 2",
                                          "ZDIFF 2 a b",
                                          "ZINTERCARD 2 a b LIMIT 1",
                                          "SINTERCARD 1 a LIMIT 1",
                                          "LMPOP 2 a b LEFT",
                                          "ZMPOP 1 a MIN",
                                          "BLMPOP 1 2 a b LEFT",
                                          "BZMPOP 1 1 a MIN",
                                          "EVAL return 2 a b c",
                                          "EVAL return 0 c",
                                          "EVALSHA x 1 a",
                                          "FCALL f 2 a b c",
                                          "XREAD COUNT 2 STREAMS a b 0 0",
                                          "XREADGROUP GROUP g c STREAMS a b > >",
                                          "XADD a * f v",
                                          "SORT a",
                                          "SORT a BY w* LIMIT 0 1 GET x ALPHA STORE d",
                                          "SORT_RO a",
                                          "GEORADIUS g 1 1 1 m STORE d",
                                          "GEORADIUS g 1 1 1 m WITHDIST STOREDIST d",
                                          "GEORADIUSBYMEMBER g m 1 m STORE d",
                                          "MIGRATE h 1 a 0 10",
                                          "MIGRATE h 1  0 10 COPY KEYS a b",
                                          "LPUSH a b c",
                                          "HSET a f v",
                                          "SETRANGE a 0 b",
                                          "GEOADD a 1 1 m"};
  std::string asked;
  for (const std::string& line : lines) {
    absl::StrAppend(&asked, "COMMAND GETKEYS \"", absl::StrReplaceAll(line, {{" ", "\" \""}}),
                    "\"\nECHO next\n");
  }
  const std::string said =
      RunProgram({"/usr/bin/redis-cli", "-p", absl::StrCat(server_->port()), "--raw"}, asked);
  const std::vector<std::string> answers = absl::StrSplit(said, "next\n");
  ASSERT_EQ(answers.size(), lines.size() + 1) << said;
  for (size_t i = 0; i < lines.size(); ++i) {
    std::vector<uint16_t> ends;
    for (size_t end = 0; end <= lines[i].size(); ++end) {
      if (end == lines[i].size() || lines[i][end] == ' ')
        ends.push_back(static_cast<uint16_t>(end));
    }
    std::vector<std::string> taken;
    AnyRedisKey(Words(lines[i], ends), [&](absl::string_view key) {
      taken.emplace_back(key);
      return false;
    });
    std::vector<std::string> keys;
    if (!absl::StrContains(answers[i], "no key arguments") && answers[i] != "\n") {
      keys = absl::StrSplit(absl::StripSuffix(answers[i], "\n"), '\n');
    }
    EXPECT_THAT(taken, testing::UnorderedElementsAreArray(keys)) << lines[i];
  }
}

TEST_F(RedisLive, PipesAHundredThousandCommands) {
  std::string input;
  for (int i = 0; i < 100'000; ++i) {
    const std::string key = absl::StrCat("key:", i);
    absl::StrAppend(&input, "*3\r\n$3\r\nSET\r\n$", key.size(), "\r\n", key, "\r\n$3\r\nabc\r\n");
  }
  auto pump = Through();
  const std::string said = Cli(*pump, input, {"--pipe"});
  EXPECT_TRUE(absl::StrContains(said, "errors: 0, replies: 100000")) << said;
  EXPECT_EQ(server_->Run({"DBSIZE"}), "100000");
  EXPECT_GE(pump->requests().size(), 100'000u);
  EXPECT_TRUE(pump->lost().empty());
  EXPECT_TRUE(pump->broken().empty());
}

TEST_F(RedisLive, ALargeValueComesBackWhole) {
  const std::string value(10 << 20, 'x');
  auto pump = Through();
  Talk talk(pump->port());
  talk.Send(absl::StrCat("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$", value.size(), "\r\n", value, "\r\n"));
  EXPECT_EQ(talk.Until("\r\n"), "+OK\r\n");
  talk.Send("GET v\r\n");
  EXPECT_EQ(talk.Until("x\r\n"), absl::StrCat("$", value.size(), "\r\n", value, "\r\n"));
}

TEST_F(RedisLive, BeforeMeansThatTheServerNeverExecuted) {
  for (const std::string error :
       {"LOADING", "OOM", "READONLY", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN"}) {
    auto pump = Through("SET", error);
    const std::string said = Cli(*pump, "SET a 1\nPING\n");
    EXPECT_TRUE(absl::StartsWith(said, error + " ")) << said;
    EXPECT_TRUE(absl::EndsWith(said, "PONG\n")) << said;
    EXPECT_EQ(server_->Run({"GET", "a"}), "(nil)");
    EXPECT_EQ(pump->not_failed(), 0);
  }
}

TEST_F(RedisLive, AfterMeansThatTheServerHasExecuted) {
  auto pump = Through("SET", "LOADING", true);
  EXPECT_EQ(Cli(*pump, "SET a 1\nPING\n"),
            "LOADING Redis is loading the dataset in memory\n\nPONG\n");
  EXPECT_EQ(server_->Run({"GET", "a"}), "1");
}

TEST_F(RedisLive, ACommandThatFailsInATransactionSpoilsItAsATrueErrorDoes) {
  auto pump = Through("fails", "OOM");
  Talk talk(pump->port());
  talk.Send("MULTI\r\nSET a 1\r\nSET fails 1\r\nEXEC\r\nPING\r\n");
  EXPECT_EQ(talk.Until("+PONG\r\n"),
            "+OK\r\n+QUEUED\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n"
            "-EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n");
  EXPECT_EQ(server_->Run({"EXISTS", "a", "fails"}), "0");
}

TEST_F(RedisLive, AnExecThatFailsLeavesNoTransactionBehind) {
  auto pump = Through("EXEC", "READONLY");
  Talk talk(pump->port());
  talk.Send("MULTI\r\nSET a 1\r\nEXEC\r\nSET b 1\r\n");
  EXPECT_TRUE(absl::EndsWith(talk.Until("replica.\r\n+OK\r\n"), "+OK\r\n"));
  EXPECT_EQ(server_->Run({"EXISTS", "a"}), "0");
  EXPECT_EQ(server_->Run({"EXISTS", "b"}), "1");
}

TEST_F(RedisLive, MessagesOfBothVersionsDoNotDisturbTheCount) {
  for (const std::string hello : {"", "HELLO 3\r\n"}) {
    auto pump = Through("GET", "OOM");
    Talk talk(pump->port());
    talk.Send(hello + "SUBSCRIBE ch other\r\n");
    talk.Until("other\r\n:2\r\n");
    server_->Run({"PUBLISH", "ch", "hello"});
    EXPECT_TRUE(absl::EndsWith(talk.Until("hello\r\n"), "$2\r\nch\r\n$5\r\nhello\r\n"));
    talk.Send("UNSUBSCRIBE\r\nGET x\r\nPING\r\n");
    EXPECT_TRUE(absl::StrContains(talk.Until("+PONG\r\n"), ":0\r\n-OOM command not allowed"));
    EXPECT_TRUE(pump->lost().empty());
  }
}

TEST_F(RedisLive, TheAnswerIsCutInItsMiddle) {
  server_->Run({"SET", "a", "0123456789"});
  failure_.set_cut_after(9);
  Pump pump(v1::PROTOCOL_REDIS, server_->port(), [this](const Request& request) {
    return absl::StartsWith(request.text, "GET") ? &failure_ : nullptr;
  });
  Talk talk(pump.port());
  talk.Send("PING\r\nGET a\r\nPING\r\n");
  EXPECT_EQ(talk.Rest(), "+PONG\r\n$10\r\n0123<reset>");
}

}  // namespace
}  // namespace firedrill::wire
