// The Redis codec by itself: what it sees, what it changes, however the bytes come.
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/injector/wire/splits.h"

namespace firedrill::wire {
namespace {

v1::QueryFailure Failure(const std::string& error, bool after = false) {
  v1::QueryFailure failure;
  failure.set_error(error);
  failure.set_moment(after ? v1::FAILURE_MOMENT_AFTER : v1::FAILURE_MOMENT_BEFORE);
  return failure;
}

// Fails what begins with a word.
CodecFeed::Decide FailsWith(const std::string& start, const v1::QueryFailure& failure) {
  return [=](const Request& request) -> const v1::QueryFailure* {
    return absl::StartsWith(request.text, start) ? &failure : nullptr;
  };
}

std::unique_ptr<CodecFeed> Tell(const std::vector<Line>& lines,
                                const CodecFeed::Decide& decide = nullptr) {
  return TellInEveryWay(v1::PROTOCOL_REDIS, lines, decide);
}

std::string Words(const std::vector<std::string>& words) {
  std::string bytes = absl::StrCat("*", words.size(), "\r\n");
  for (const std::string& word : words) {
    absl::StrAppend(&bytes, "$", word.size(), "\r\n", word, "\r\n");
  }
  return bytes;
}

TEST(RedisCodec, PassesEveryTypeOfBothVersionsUnchanged) {
  const std::vector<Line> lines = {
      {true,
       Words({"SET", "key", "a value"}) + "\r\nPING  inline \r\n*0\r\n" + Words({"GET", "k"})},
      {false, "+OK\r\n$4\r\nx\r\ny\r\n$-1\r\n"},
      {true, Words({"HELLO", "3", "AUTH", "ann", "secret"})},
      {false, "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"},
      {true, Words({"A"}) + Words({"B"}) + Words({"C"}) + Words({"D"})},
      {false, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"},
      {false,
       "|1\r\n+ttl\r\n:3600\r\n*3\r\n:1\r\n,1.5\r\n~1\r\n#t\r\n_\r\n(12345678901234567890\r\n"},
      {false, "=8\r\ntxt:text\r\n"}};
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, Both(lines, false));
  ASSERT_EQ(feed->requests.size(), 8u);
  EXPECT_EQ(feed->requests[0].text, "SET key a value");
  EXPECT_EQ(feed->requests[1].text, "PING inline");
  EXPECT_EQ(feed->requests[0].user, "default");
  EXPECT_EQ(feed->requests[4].user, "ann");
  EXPECT_EQ(feed->codec().lost(), "");
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(RedisCodec, AFailedCommandIsAnsweredInItsTurn) {
  const std::vector<Line> lines = {
      {true, Words({"GET", "a"}) + Words({"SET", "b", "1"}) + Words({"GET", "c"})},
      {false, "$1\r\nA\r\n-ERR unknown command 'FIREDRILL'\r\n"},
      {false, "$1\r\nC\r\n"}};
  const auto feed = Tell(lines, FailsWith("SET", Failure("OOM")));
  EXPECT_EQ(feed->to_server, Words({"GET", "a"}) + Words({"FIREDRILL"}) + Words({"GET", "c"}));
  EXPECT_EQ(feed->to_client,
            "$1\r\nA\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n$1\r\nC\r\n");
  EXPECT_EQ(feed->not_failed, 0);
}

TEST(RedisCodec, AMessageCannotBreakTheReply) {
  auto failure = Failure("BUSY");
  failure.set_message("two\r\nlines");
  const auto feed =
      Tell({{true, Words({"SET", "b", "1"})}, {false, "-ERR no\r\n"}}, FailsWith("SET", failure));
  EXPECT_EQ(feed->to_client, "-BUSY two  lines\r\n");
}

TEST(RedisCodec, AnAnswerIsSwallowedAndReplacedAfterwards) {
  const std::vector<Line> lines = {{true, Words({"LRANGE", "a", "0", "-1"}) + Words({"GET", "c"})},
                                   {false, "*2\r\n$3\r\n\r\n+\r\n*1\r\n:7\r\n$1\r\nC\r\n"}};
  const auto feed = Tell(lines, FailsWith("LRANGE", Failure("LOADING", true)));
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, "-LOADING Redis is loading the dataset in memory\r\n$1\r\nC\r\n");
}

TEST(RedisCodec, CutsInTheMiddleOfTheAnswer) {
  v1::QueryFailure failure;
  failure.set_cut_after(6);
  const std::vector<Line> lines = {{true, Words({"GET", "a"}) + Words({"GET", "b"})},
                                   {false, "$1\r\nA\r\n$9\r\n123456789\r\n"}};
  const auto feed = Tell(lines, FailsWith("GET b", failure));
  EXPECT_TRUE(feed->cut);
  EXPECT_EQ(feed->to_client, "$1\r\nA\r\n$9\r\n12");
  failure.set_cut_after(0);
  EXPECT_EQ(Tell(lines, FailsWith("GET b", failure))->to_client, "$1\r\nA\r\n");
  // At the last byte, too, an answer is whole, and what comes behind it is another one's.
  for (const uint32_t bytes : {7u, 1000u}) {
    failure.set_cut_after(bytes);
    const auto whole = Tell(lines, FailsWith("GET a", failure));
    EXPECT_FALSE(whole->cut);
    EXPECT_EQ(whole->to_client, Both(lines, false));
    EXPECT_TRUE(whole->codec().Quiet());
  }
}

TEST(RedisCodec, ExecThatFailsEndsTheTransaction) {
  const std::vector<Line> lines = {
      {true, Words({"MULTI"}) + Words({"INCR", "a"}) + Words({"EXEC"})},
      {false, "+OK\r\n+QUEUED\r\n+OK\r\n"}};
  const auto feed = Tell(lines, FailsWith("EXEC", Failure("READONLY")));
  EXPECT_TRUE(absl::EndsWith(feed->to_server, Words({"DISCARD"})));
  EXPECT_TRUE(
      absl::EndsWith(feed->to_client,
                     "-EXECABORT Transaction discarded because of: READONLY You can't write "
                     "against a read only replica.\r\n"));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(RedisCodec, IsNotQuietInATransactionOrWhileSubscribed) {
  EXPECT_FALSE(Tell({{true, Words({"GET", "a"})}})->codec().Quiet());
  EXPECT_FALSE(Tell({{true, Words({"MULTI"})}, {false, "+OK\r\n"}})->codec().Quiet());
  EXPECT_TRUE(Tell({{true, Words({"MULTI"}) + Words({"DISCARD"})}, {false, "+OK\r\n+OK\r\n"}})
                  ->codec()
                  .Quiet());
  EXPECT_FALSE(Tell({{true, Words({"SUBSCRIBE", "a"})},
                     {false, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"}})
                   ->codec()
                   .Quiet());
}

TEST(RedisCodec, CountsAnswersAmongMessagesOfBothVersions) {
  for (const bool resp3 : {false, true}) {
    const std::string frame = resp3 ? ">" : "*";
    std::vector<Line> lines = {
        {true, Words({"SUBSCRIBE", "a", "b"}) + Words({"UNSUBSCRIBE"}) + Words({"SET", "x", "1"})},
        {false, frame + "3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + frame +
                    "3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n" + frame +
                    "3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n" + frame +
                    "3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n" + frame +
                    "3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n-ERR unknown\r\n"}};
    if (resp3) {
      lines.insert(lines.begin(),
                   {{true, Words({"HELLO", "3"})}, {false, "%1\r\n$5\r\nproto\r\n:3\r\n"}});
    }
    const auto feed = Tell(lines, FailsWith("SET", Failure("OOM")));
    EXPECT_TRUE(absl::EndsWith(feed->to_client,
                               ":0\r\n-OOM command not allowed when used memory > "
                               "'maxmemory'.\r\n"));
    EXPECT_EQ(feed->codec().lost(), "");
    EXPECT_TRUE(feed->codec().Quiet());
  }
}

TEST(RedisCodec, AListThatLooksLikeAMessageIsAnAnswer) {
  const auto feed = Tell({{true, Words({"LRANGE", "l", "0", "-1"})},
                          {false, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"}});
  EXPECT_EQ(feed->codec().lost(), "");
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(RedisCodec, FollowsUserAndDatabaseAndTheirRefusals) {
  const auto feed = Tell({{true, Words({"SELECT", "3"}) + Words({"SELECT", "99"}) + Words({"A"})},
                          {false, "+OK\r\n-ERR DB index is out of range\r\n+OK\r\n"},
                          {true, Words({"B"}) + Words({"AUTH", "bob", "wrong"})},
                          {false, "+OK\r\n-WRONGPASS invalid\r\n"},
                          {true, Words({"C"})},
                          {false, "+OK\r\n"}});
  ASSERT_EQ(feed->requests.size(), 6u);
  EXPECT_EQ(feed->requests[1].database, "3");
  EXPECT_EQ(feed->requests[3].database, "3");
  EXPECT_EQ(feed->requests[5].user, "default");
}

TEST(RedisCodec, ASelectThatFailsSelectsNothing) {
  const auto feed =
      Tell({{true, Words({"SELECT", "3"})}, {false, "-ERR x\r\n"}, {true, Words({"A"})}},
           FailsWith("SELECT", Failure("LOADING")));
  EXPECT_EQ(feed->requests[1].database, "0");
}

// What the requests behind MULTI and SELECT, of which the server says this, are sent to.
std::vector<std::string> DatabasesAfter(const std::string& asked, const std::string& answers,
                                        const CodecFeed::Decide& decide = nullptr) {
  const auto feed = Tell(
      {{true, asked}, {false, answers}, {true, Words({"GET", "a"})}, {false, "$-1\r\n"}}, decide);
  EXPECT_TRUE(feed->codec().Quiet());
  EXPECT_EQ(feed->codec().lost(), "");
  std::vector<std::string> databases;
  for (const SeenRequest& request : feed->requests) {
    if (absl::StartsWith(request.text, "GET")) databases.push_back(request.database);
  }
  return databases;
}

TEST(RedisCodec, WhatATransactionSelectsHoldsWithinAndWhereItIsExecutedBehind) {
  using Databases = std::vector<std::string>;
  const std::string queued =
      Words({"SELECT", "5"}) + Words({"MULTI"}) + Words({"SELECT", "1"}) + Words({"GET", "q"});
  const std::string answers = "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n";
  const std::string exec = queued + Words({"EXEC"});
  EXPECT_EQ(DatabasesAfter(exec, answers + "*2\r\n+OK\r\n$-1\r\n"), (Databases{"1", "1"}));
  EXPECT_EQ(DatabasesAfter(exec, answers + "*2\r\n+OK\r\n*-1\r\n"), (Databases{"1", "1"}));
  EXPECT_EQ(DatabasesAfter(queued + Words({"DISCARD"}), answers + "+OK\r\n"),
            (Databases{"1", "5"}));
  EXPECT_EQ(DatabasesAfter(queued + Words({"RESET"}), answers + "+RESET\r\n"),
            (Databases{"1", "0"}));
  // Refused, and what was watched has changed, as both versions say it.
  for (const char* not_executed : {"-EXECABORT x\r\n", "*-1\r\n", "_\r\n"}) {
    EXPECT_EQ(DatabasesAfter(exec, answers + not_executed), (Databases{"1", "5"}));
  }
  const auto refused = FailsWith("EXEC", Failure("OOM"));
  EXPECT_EQ(DatabasesAfter(exec, answers + "+OK\r\n", refused), (Databases{"1", "5"}));
  const auto lied = FailsWith("EXEC", Failure("OOM", true));
  EXPECT_EQ(DatabasesAfter(exec, answers + "*2\r\n+OK\r\n$-1\r\n", lied), (Databases{"1", "1"}));
  // Neither a MULTI within one, nor an EXEC without one, means anything.
  EXPECT_EQ(DatabasesAfter(queued + Words({"MULTI"}) + Words({"DISCARD"}),
                           answers + "-ERR nested\r\n+OK\r\n"),
            (Databases{"1", "5"}));
  EXPECT_EQ(DatabasesAfter(Words({"SELECT", "2"}) + Words({"EXEC"}) + Words({"DISCARD"}),
                           "+OK\r\n-ERR x\r\n-ERR x\r\n"),
            Databases{"2"});
}

TEST(RedisCodec, TellsWordsApartThatAreEmptyOrHaveBlanks) {
  const std::string line = "  GET\t a  b\r\n";
  const auto feed = Tell({{true, Words({"MSET", "", "a b", "users", " "}) + line + Words({""})}});
  ASSERT_EQ(feed->requests.size(), 3u);
  EXPECT_EQ(feed->requests[0].text, "MSET  a b users  ");
  EXPECT_EQ(feed->requests[0].words, (std::vector<std::string>{"MSET", "", "a b", "users", " "}));
  EXPECT_EQ(feed->requests[1].words, (std::vector<std::string>{"GET", "a", "b"}));
  EXPECT_EQ(feed->requests[2].words, std::vector<std::string>{""});
}

TEST(RedisCodec, LargeValuesAreNotHeldBack) {
  const std::string value(300'000, 'v');
  for (const bool fails : {false, true}) {
    CodecFeed feed(MakeCodec(v1::PROTOCOL_REDIS),
                   fails ? FailsWith("SET", Failure("OOM")) : nullptr);
    const std::string bytes = Words({"SET", "key", value}) + Words({"PING"});
    for (size_t at = 0; at < bytes.size(); at += 1000) {
      feed.Client(absl::string_view(bytes).substr(at, 1000));
      ASSERT_LE(feed.client_held.size(), kMaxText);
      // The server has nothing that it could answer.
      const bool more = at + 1000 < value.size();
      if (fails && more) {
        ASSERT_LE(feed.to_server.size(), 1u);
      }
    }
    feed.Server(fails ? "-ERR unknown\r\n+PONG\r\n" : "+OK\r\n+PONG\r\n");
    ASSERT_EQ(feed.requests.size(), 2u);
    EXPECT_TRUE(feed.requests[0].cut);
    EXPECT_EQ(feed.to_server, fails ? Words({"FIREDRILL"}) + Words({"PING"}) : bytes);
    EXPECT_EQ(feed.broken, "");
    EXPECT_TRUE(feed.codec().Quiet());
  }
}

TEST(RedisCodec, LosesTrackAloudAndPasses) {
  for (const std::string& bytes :
       {Words({"MONITOR"}), Words({"SYNC"}), Words({"CLIENT", "REPLY", "OFF"})}) {
    const auto feed =
        Tell({{true, bytes}, {false, "+OK\r\n+1 [0 lua] \"x\"\r\n\x01\x02"}, {true, "\x03\x04"}});
    EXPECT_NE(feed->codec().lost(), "");
    EXPECT_EQ(feed->to_client, "+OK\r\n+1 [0 lua] \"x\"\r\n\x01\x02");
    EXPECT_EQ(feed->to_server, bytes + "\x03\x04");
  }
  for (const std::string& queued : {Words({"AUTH", "ann", "x"}), Words({"SUBSCRIBE", "a"})}) {
    const std::string bytes = Words({"MULTI"}) + queued;
    EXPECT_NE(Tell({{true, bytes}, {false, "+OK\r\n+QUEUED\r\n"}})->codec().lost(), "");
  }
  EXPECT_NE(Tell({{true, "*1\r\n!bad"}})->codec().lost(), "");
  EXPECT_NE(Tell({{false, "-DENIED protected mode\r\n"}})->codec().lost(), "");
}

TEST(RedisCodec, KnowsAGoodbyeFromWhatLooksLikeOne) {
  const std::string goodbye = Words({"QUIT"});
  const std::string all = Words({"SET", "k", goodbye}) + goodbye;
  const auto feed = Tell({{true, all}});
  EXPECT_EQ(feed->goodbyes, goodbye);
  EXPECT_EQ(feed->to_server, all);
  EXPECT_EQ(Tell({{true, "GET quit\r\nquit\r\n"}})->goodbyes, "quit\r\n");
}

TEST(RedisCodec, SeesThatItIsEncrypted) {
  const auto feed = Tell({{true, "\x16\x03\x01\x02"}, {false, "\x16\x03"}});
  EXPECT_TRUE(feed->codec().encrypted());
  EXPECT_EQ(feed->codec().lost(), "");
}

}  // namespace
}  // namespace firedrill::wire
