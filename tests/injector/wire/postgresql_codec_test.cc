// What the PostgreSQL codec makes of bytes, however they are cut into pieces.
#include <gmock/gmock.h>
#include <malloc.h>

#include "absl/strings/match.h"
#include "injector/wire/codecs.h"
#include "injector/wire/codecs/postgresql_codec.h"
#include "tests/injector/wire/postgresql_messages.h"
#include "tests/injector/wire/splits.h"
#include "tests/testing/sanitized.h"

namespace firedrill::wire {
namespace {

using ::testing::HasSubstr;

const v1::QueryFailure* Failure(const std::string& code,
                                v1::FailureMoment moment = v1::FAILURE_MOMENT_BEFORE) {
  static std::vector<std::unique_ptr<v1::QueryFailure>>* kept =
      new std::vector<std::unique_ptr<v1::QueryFailure>>;
  kept->push_back(std::make_unique<v1::QueryFailure>());
  kept->back()->set_error(code);
  kept->back()->set_moment(moment);
  return kept->back().get();
}

const v1::QueryFailure* Cut(uint32_t bytes) {
  static std::vector<std::unique_ptr<v1::QueryFailure>>* kept =
      new std::vector<std::unique_ptr<v1::QueryFailure>>;
  kept->push_back(std::make_unique<v1::QueryFailure>());
  kept->back()->set_cut_after(bytes);
  return kept->back().get();
}

// Fails those whose text contains `word`.
CodecFeed::Decide Those(const std::string& word, const v1::QueryFailure* failure) {
  return [word, failure](const Request& request) {
    return !request.connect && absl::StrContains(request.text, word) ? failure : nullptr;
  };
}

std::vector<Line> After(const std::vector<Line>& lines) {
  std::vector<Line> all = {{true, Hello()}, {false, Welcome()}};
  all.insert(all.end(), lines.begin(), lines.end());
  return all;
}

std::unique_ptr<CodecFeed> Tell(const std::vector<Line>& lines,
                                const CodecFeed::Decide& decide = nullptr) {
  return TellInEveryWay(v1::PROTOCOL_POSTGRESQL, lines, decide);
}

// Everything passes as it was.
std::unique_ptr<CodecFeed> Untouched(const std::vector<Line>& lines) {
  auto feed = Tell(lines);
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, Both(lines, false));
  return feed;
}

std::vector<std::string> Texts(const CodecFeed& feed) {
  std::vector<std::string> texts;
  for (const SeenRequest& request : feed.requests) {
    if (!request.connect) texts.push_back(request.text);
  }
  return texts;
}

TEST(PostgresqlCodec, ANewSessionIsARequestWithUserAndDatabase) {
  auto feed = Untouched({{true, Hello("bob", "orders")}, {false, Welcome()}});
  ASSERT_EQ(feed->requests.size(), 1u);
  EXPECT_TRUE(feed->requests[0].connect);
  EXPECT_EQ(feed->requests[0].user, "bob");
  EXPECT_EQ(feed->requests[0].database, "orders");
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, AnEncryptedSessionPassesAsItIs) {
  const std::string ask = Big(8) + Big(80877103);
  auto feed =
      Untouched({{true, ask}, {false, "S"}, {true, "\x16\3\1 anything"}, {false, "QQQQQQ"}});
  EXPECT_TRUE(feed->codec().encrypted());
  EXPECT_EQ(feed->codec().lost(), "");
  auto direct = Untouched({{true, "\x16\3\1 anything"}, {false, "QQQQQQ"}});
  EXPECT_TRUE(direct->codec().encrypted());
}

TEST(PostgresqlCodec, ARefusedEncryptionGoesOnInPlain) {
  auto feed = Untouched({{true, Big(8) + Big(80877104)},
                         {false, "N"},
                         {true, Big(8) + Big(80877103)},
                         {false, "N"},
                         {true, Hello()},
                         {false, Welcome()},
                         {true, Simple("select 1")},
                         {false, Columns() + Row("1") + Done("SELECT 1") + Ready()}});
  EXPECT_FALSE(feed->codec().encrypted());
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("select 1"));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, ACancelRequestPasses) {
  auto feed = Untouched({{true, Big(16) + Big(80877102) + Big(17) + Big(4711)}});
  EXPECT_EQ(feed->codec().lost(), "");
  EXPECT_TRUE(feed->requests.empty());
}

TEST(PostgresqlCodec, KnowsAGoodbyeFromWhatLooksLikeOne) {
  const std::string goodbye = Message('X');
  auto feed =
      Untouched(After({{true, Simple(goodbye) + Parse("s", "select 1") + Sync() + goodbye}}));
  EXPECT_EQ(feed->goodbyes, goodbye);
  EXPECT_EQ(feed->codec().lost(), "");
}

TEST(PostgresqlCodec, ABatchIsHeldFromItsFirstMessageToItsExecute) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL));
  feed.Client(Hello());
  feed.Server(Welcome());
  const std::string before = feed.to_server;
  feed.Client(Parse("", "select $1") + Bind("", "") + Describe('P', ""));
  EXPECT_EQ(feed.to_server, before) << "the server saw the beginning of a batch";
  feed.Client(Execute() + Sync());
  EXPECT_THAT(Texts(feed), ::testing::ElementsAre("select $1"));
  EXPECT_EQ(feed.client_held, "");
}

TEST(PostgresqlCodec, WhatIsOnlyPreparedIsNoRequest) {
  auto feed =
      Untouched(After({{true, Parse("s", "select $1") + Describe('S', "s") + Sync()},
                       {false, Message('1') + Message('t', "\0\0") + Columns() + Ready()}}));
  EXPECT_TRUE(Texts(*feed).empty());
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, AStatementIsKnownByWhatItWasPreparedFrom) {
  auto feed = Untouched(
      After({{true, Parse("s", "select $1") + Sync()},
             {false, Message('1') + Ready()},
             {true, Bind("", "s") + Execute() + Sync() + Bind("p", "s") + Execute("p") + Sync()},
             {false, Message('2') + Row("7") + Done("SELECT 1") + Ready() + Message('2') +
                         Done("SELECT 0") + Ready()},
             {true, Close('S', "s") + Sync()},
             {false, Message('3') + Ready()},
             {true, Parse("s", "delete from t") + Bind("", "s") + Execute() + Sync()},
             {false, Message('1') + Message('2') + Done("DELETE 0") + Ready()}}));
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("select $1", "select $1", "delete from t"));
  EXPECT_NE(feed->requests[1].statement, 0u);
  EXPECT_EQ(feed->requests[1].statement, feed->requests[2].statement);
  EXPECT_NE(feed->requests[1].statement, feed->requests[3].statement);
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, AParseThatFailsDoesNotTakeTheNameFromTheOneBefore) {
  auto feed = Untouched(After({{true, Parse("s", "select $1") + Sync()},
                               {false, Message('1') + Ready()},
                               {true, Parse("s", "another") + Sync()},
                               {false, ErrorOf("42P05", "exists already") + Ready()},
                               {true, Bind("", "s") + Execute() + Sync()},
                               {false, Message('2') + Done("SELECT 0") + Ready()}}));
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("select $1"));
}

TEST(PostgresqlCodec, SqlPreparesAndForgetsStatementsToo) {
  const std::string done = Done("OK") + Ready();
  auto feed = Untouched(After({{true, Simple("/* x */ PREPARE Q (int) AS select $1 + 1")},
                               {false, done},
                               {true, Simple("execute q(7)")},
                               {false, done},
                               {true, Bind("", "q") + Execute() + Sync()},
                               {false, Message('2') + done},
                               {true, Simple("discard all")},
                               {false, done},
                               {true, Simple("execute q(7)")},
                               {false, ErrorOf("26000", "no q") + Ready()}}));
  EXPECT_THAT(Texts(*feed),
              ::testing::ElementsAre("/* x */ PREPARE Q (int) AS select $1 + 1", "select $1 + 1",
                                     "select $1 + 1", "discard all"));
  EXPECT_EQ(feed->codec().unmatched(), 1u);
}

TEST(PostgresqlCodec, WhatSqlPreparesIsKnownOnceTheServerHasDoneSo) {
  const std::string done = Done("PREPARE");
  auto feed = Untouched(
      After({{true, Simple("prepare a as select 1")},
             {false, done + Ready()},
             // Refused: the one before stays.
             {true, Simple("prepare a as select 2")},
             {false, ErrorOf("42P05", "exists already") + Ready()},
             {true, Simple("execute a")},
             {false, Done("SELECT 1") + Ready()},
             {true, Simple("prepare b as selekt")},
             {false, ErrorOf("42601", "syntax") + Ready()},
             {true, Simple("execute b")},
             {false, ErrorOf("26000", "no b") + Ready()},
             // Those before the one that fails are kept; those behind it are not.
             {true, Simple("prepare c as select 3 ; ; select 1/0;prepare b as x")},
             {false, done + ErrorOf("22012", "by zero") + Ready()},
             {true, Simple("execute c")},
             {false, Done("SELECT 1") + Ready()},
             {true, Simple("execute b")},
             {false, ErrorOf("26000", "no b") + Ready()},
             // By the extended protocol.
             {true, Parse("", "prepare d as select 4") + Bind("", "") + Execute() + Sync() +
                        Simple("execute d")},
             {false, Message('1') + Message('2') + done + Ready() + Done("SELECT 1") + Ready()},
             {true, Simple("deallocate nothing; deallocate d")},
             {false, ErrorOf("26000", "no nothing") + Ready()},
             {true, Simple("execute d")},
             {false, Done("SELECT 1") + Ready()}}));
  std::vector<std::string> executed;
  for (const std::string& text : Texts(*feed)) {
    if (text.substr(0, 6) == "select") executed.push_back(text);
  }
  EXPECT_THAT(executed, ::testing::ElementsAre("select 1", "select 3", "select 4", "select 4"));
  EXPECT_EQ(feed->codec().unmatched(), 2u);
}

TEST(PostgresqlCodec, AnExecuteIsSeenAsWhatItWasPreparedFromWhereverItStands) {
  const std::pair<const char*, const char*> queries[] = {
      {"select 1; execute a(1, ')'); commit", "select 1; select * from t where id = $1; commit"},
      {"explain execute a (1)", "explain select * from t where id = $1"},
      {"EXPLAIN ANALYZE verbose EXECUTE \"a\"(1);",
       "EXPLAIN ANALYZE verbose select * from t where id = $1;"},
      {"explain (analyze, costs off) create table x as execute a(1)",
       "explain (analyze, costs off) create table x as select * from t where id = $1"},
      {"create temp table x (i) as /* b */ execute a(1) with no data",
       "create temp table x (i) as /* b */ select * from t where id = $1 with no data"},
      {"execute a(1); execute a(2)",
       "select * from t where id = $1; select * from t where id = $1"},
      {" execute a(1) ; ", "select * from t where id = $1"},
      {"prepare b as delete from t;execute b", "prepare b as delete from t;delete from t"},
      // What it is not.
      {"select 1; execute nobody", "select 1; execute nobody"},
      {"select ';execute a(1)'", "select ';execute a(1)'"},
      {"select $$;execute a(1)$$", "select $$;execute a(1)$$"},
      {"create trigger g after insert on t execute function a()",
       "create trigger g after insert on t execute function a()"},
      {"explain", "explain"},
      {"execute", "execute"}};
  for (const auto& [query, seen] : queries) {
    auto feed = Untouched(After({{true, Simple("prepare a(int) as select * from t where id = $1;")},
                                 {false, Done("PREPARE") + Ready()},
                                 {true, Simple(query)}}));
    EXPECT_EQ(Texts(*feed).back(), seen);
    EXPECT_EQ(feed->codec().unmatched(), 0u);
  }
}

TEST(PostgresqlCodec, APrepareThatFailsBeforeTheServerSeesItIsNotKnown) {
  v1::QueryFailure failure;
  failure.set_error("57014");
  failure.set_moment(v1::FAILURE_MOMENT_BEFORE);
  CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL), [&](const Request& request) {
    return absl::StrContains(request.text, "bad") ? &failure : nullptr;
  });
  feed.Client(Hello());
  feed.Server(Welcome());
  // Sent ahead of every answer.
  feed.Client(Simple("prepare a as select 1") + Simple("prepare b as select 'bad'") +
              Simple("prepare c as select 3") + Simple("execute b") + Simple("execute c"));
  EXPECT_EQ(Texts(feed).back(), "select 3");
  EXPECT_EQ(feed.codec().unmatched(), 1u);
  feed.Server(Done("PREPARE") + Ready() + ErrorOf("42601", "\"firedrill_planned_failure\"") +
              Ready() + Done("PREPARE") + Ready() + ErrorOf("26000", "no b") + Ready() +
              Done("SELECT 1") + Ready());
  feed.Client(Simple("execute a"));
  EXPECT_EQ(Texts(feed).back(), "select 1");
  feed.Client(Simple("execute b"));
  EXPECT_EQ(feed.codec().unmatched(), 2u);
  EXPECT_EQ(feed.codec().lost(), "");
}

TEST(PostgresqlCodec, OfTooManyStatementsTheOldestAreForgottenAndCounted) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL));
  feed.Client(Hello());
  feed.Server(Welcome());
  for (int i = 0; i <= 1024; ++i) {
    feed.Client(Parse("s" + std::to_string(i), "select " + std::to_string(i)) + Sync());
    feed.Server(Message('1') + Ready());
  }
  feed.Client(Bind("", "s0") + Execute() + Sync() + Bind("", "s1024") + Execute() + Sync());
  EXPECT_THAT(Texts(feed), ::testing::ElementsAre("select 1024"));
  EXPECT_EQ(feed.codec().unmatched(), 1u);
  EXPECT_EQ(feed.codec().lost(), "");
}

TEST(PostgresqlCodec, AnErrorSkipsAPipelineToItsSync) {
  auto feed = Untouched(
      After({{true, Parse("", "one") + Bind("", "") + Execute() + Parse("a", "two") +
                        Bind("", "a") + Execute() + Close('S', "a") + Sync() + Simple("three")},
             {false, Message('1') + ErrorOf("22012", "division by zero") + Ready() + Done("OK")},
             {false, Ready()}}));
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("one", "two", "three"));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, CopyPassesBothWays) {
  const std::string data = Message('d', "1\tone\n") + Message('d', "2\ttwo\n");
  auto feed = Untouched(After({{true, Simple("copy t from stdin")},
                               {false, Message('G', std::string("\0\0\0", 3))},
                               {true, data + Message('c')},
                               {false, Done("COPY 2") + Ready()},
                               {true, Simple("copy t to stdout")},
                               {false, Message('H', std::string("\0\0\0", 3)) + data +
                                           Message('c') + Done("COPY 2") + Ready()}}));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, ASyncAmongCopyDataHasNoAnswer) {
  auto feed = Untouched(
      After({{true, Parse("", "copy t from stdin") + Bind("", "") + Execute() + Sync()},
             {false, Message('1') + Message('2') + Message('G', std::string("\0\0\0", 3))},
             {true, Message('d', "1\n") + Sync() + Message('c') + Sync()},
             {false, Done("COPY 1") + Ready()},
             {true, Simple("select 1")},
             {false, Done("SELECT 1") + Ready()}}));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, WhatBelongsToTheSessionMayComeAtAnyTime) {
  const std::string aside = Message('N', "SNOTICE") + Message('A', Big(1) + Z("c") + Z("p")) +
                            Message('S', Z("TimeZone") + Z("UTC"));
  auto feed = Untouched(After({{false, aside},
                               {true, Simple("select 1")},
                               {false, aside + Columns() + aside + Row("1") + Done("SELECT 1") +
                                           aside + Ready() + aside}}));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, NotQuietInATransactionNorWithAnAnswerOpen) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL));
  EXPECT_FALSE(feed.codec().Quiet());
  feed.Client(Hello());
  feed.Server(Welcome());
  EXPECT_TRUE(feed.codec().Quiet());
  feed.Client(Simple("begin"));
  EXPECT_FALSE(feed.codec().Quiet());
  feed.Server(Done("BEGIN") + Ready('T'));
  EXPECT_FALSE(feed.codec().Quiet());
  feed.Client(Simple("commit"));
  feed.Server(Done("COMMIT") + Ready('I'));
  EXPECT_TRUE(feed.codec().Quiet());
  feed.Client(Describe('S', "x"));
  EXPECT_FALSE(feed.codec().Quiet());
}

TEST(PostgresqlCodec, ALongTextIsCutAndPassesWhole) {
  const std::string text = "select '" + std::string(3 * kMaxText, 'x') + "'";
  const std::vector<Line> lines = After({{true, Simple(text) + Parse("", text) + Bind("", "") +
                                                    Execute() + Sync() + Simple("select 2")}});
  for (size_t chunk : {1u, 7u, 1000u, 16384u, 16385u, 1000000u}) {
    CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL));
    for (const Line& line : lines) {
      for (size_t at = 0; at < line.bytes.size(); at += chunk) {
        const std::string part = line.bytes.substr(at, chunk);
        line.from_client ? feed.Client(part) : feed.Server(part);
      }
    }
    EXPECT_EQ(feed.broken, "");
    EXPECT_EQ(feed.to_server, Both(lines, true));
    ASSERT_EQ(feed.requests.size(), 4u) << chunk;
    EXPECT_TRUE(feed.requests[1].cut);
    EXPECT_EQ(feed.requests[1].text, text.substr(0, kMaxText - 5));
    EXPECT_TRUE(feed.requests[2].cut);
    EXPECT_EQ(feed.requests[3].text, "select 2");
  }
}

TEST(PostgresqlCodec, BigParametersAreHeldFromTheirExecuteOnly) {
  const std::string big(5 * kMaxText, 'v');
  const std::string batch = Parse("", "insert $1") + Bind("", "", big) + Execute() + Sync();
  for (size_t chunk : {1u, 13u, 16383u, 16384u, 1000000u}) {
    CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL));
    feed.Client(Hello());
    feed.Server(Welcome());
    const std::string before = feed.to_server;
    for (size_t at = 0; at < batch.size(); at += chunk) feed.Client(batch.substr(at, chunk));
    EXPECT_EQ(feed.broken, "");
    EXPECT_EQ(feed.to_server, before + batch);
    EXPECT_THAT(Texts(feed), ::testing::ElementsAre("insert $1"));
  }
}

TEST(PostgresqlCodec, NonsenseIsPassedOnAndSaidSo) {
  const std::vector<std::vector<Line>> talks = {
      {{true, "GET / HTTP/1.1\r\n\r\n"}, {false, "HTTP/1.1 400\r\n"}},
      {{false, "SSH-2.0-x\r\n"}, {true, "SSH-2.0-y\r\n"}},
      {{true, Hello()}, {false, Welcome()}, {true, Message('?', "x")}, {false, "zzz"}},
      {{true, Hello()}, {false, Welcome()}, {true, "Q" + Big(1)}, {false, "zzz"}},
      {{true, Hello()}, {false, Welcome()}, {false, Ready()}, {true, Simple("x")}},
      {{true, Hello()}, {false, Welcome()}, {false, Message('1')}, {true, Simple("x")}},
      {{true, Hello()}, {false, Welcome()}, {true, Message('d', "x")}, {false, Ready()}},
      {{true, Big(8) + Big(80877103)}, {true, Hello()}, {false, "N"}},
      {{true, Big(9) + Big(131072) + "x"}, {false, "EFATAL"}}};
  for (const std::vector<Line>& talk : talks) {
    auto feed = Untouched(talk);
    EXPECT_NE(feed->codec().lost(), "");
    EXPECT_FALSE(feed->codec().Quiet());
  }
}

TEST(PostgresqlCodec, AFailingQueryIsTheServersOwnFailure) {
  auto feed = Tell(After({{true, Simple("bad") + Simple("good")},
                          {false, TrapError() + Ready('E') + Done("SELECT 1") + Ready('E')}}),
                   Those("bad", Failure("57014")));
  EXPECT_THAT(feed->to_server, HasSubstr("firedrill_planned_failure"));
  EXPECT_EQ(feed->to_server.find("bad"), std::string::npos);
  EXPECT_THAT(feed->to_server, HasSubstr(Simple("good")));
  EXPECT_EQ(feed->to_client, Welcome() +
                                 ErrorOf("57014", "canceling statement due to user request") +
                                 Ready('E') + Done("SELECT 1") + Ready('E'));
}

// A session in which "slow" is held; byte by byte, or at once.
std::unique_ptr<CodecFeed> Holding(bool at_once, const std::vector<Line>& lines) {
  auto feed = std::make_unique<CodecFeed>(MakePostgresqlCodec());
  feed->holds = [](const Request& request) { return absl::StrContains(request.text, "slow"); };
  for (const auto& [from_client, bytes] : After(lines)) {
    for (size_t at = 0; at < bytes.size(); at += at_once ? bytes.size() : 1) {
      const std::string piece = at_once ? bytes : bytes.substr(at, 1);
      from_client ? feed->Client(piece) : feed->Server(piece);
    }
  }
  return feed;
}

TEST(PostgresqlCodec, WhatIsCancelledFailsInItsPlace) {
  const std::string cancelled = ErrorOf("57014", "canceling statement due to user request");
  const std::string trap = Simple("firedrill_planned_failure");
  for (const bool at_once : {true, false}) {
    auto feed = Holding(at_once, {{true, Simple("slow 1") + Simple("next") + Simple("slow 2")}});
    EXPECT_EQ(feed->to_server, Hello());
    EXPECT_TRUE(feed->Cancel());
    EXPECT_EQ(feed->to_server, Hello() + trap + Simple("next"));
    EXPECT_FALSE(feed->Cancel()) << "the server is busy with what stands before it";
    feed->Server(TrapError() + Ready('E') + Done("SELECT 1") + Ready('E'));
    EXPECT_TRUE(feed->Cancel());
    EXPECT_FALSE(feed->Cancel()) << "nothing is held";
    feed->Server(TrapError() + Ready('E'));
    EXPECT_EQ(feed->to_client, Welcome() + cancelled + Ready('E') + Done("SELECT 1") + Ready('E') +
                                   cancelled + Ready('E'));

    // In a group, what stands before it has been executed, but its answer is not there yet.
    feed =
        Holding(at_once, {{true, Parse("", "begin") + Bind("", "") + Execute() + Parse("", "slow") +
                                     Bind("", "") + Execute() + Parse("", "slow 2") + Bind("", "") +
                                     Execute() + Sync() + Simple("next")}});
    EXPECT_TRUE(feed->Cancel());
    EXPECT_THAT(feed->to_server, ::testing::EndsWith(Execute() + Sync() + Simple("next")));
    const std::string begun =
        Message('1') + Message('2') + Done("BEGIN") + Message('1') + Message('2');
    feed->Server(begun + TrapError() + Ready('E') + Done("SELECT 1") + Ready('E'));
    EXPECT_EQ(feed->to_client,
              Welcome() + begun + cancelled + Ready('E') + Done("SELECT 1") + Ready('E'));

    // A COMMIT, between a statement whose failure is planned and one that is executed.
    feed = Holding(at_once, {{true, Simple("begin")},
                             {false, Done("BEGIN") + Ready('T')},
                             {true, Parse("", "commit /* slow */") + Bind("", "") + Execute() +
                                        Sync() + Simple("next")}});
    EXPECT_TRUE(feed->Cancel());
    feed->Server(Message('1') + Message('2') + Done("ROLLBACK") + Ready() + TrapError() + Ready() +
                 Done("SELECT 1") + Ready());
    EXPECT_EQ(feed->to_client, Welcome() + Done("BEGIN") + Ready('T') + Message('1') +
                                   Message('2') + cancelled + Ready() + Done("SELECT 1") + Ready());
    EXPECT_TRUE(feed->codec().Quiet());
    EXPECT_EQ(feed->broken, "");
    EXPECT_EQ(feed->codec().lost(), "");
  }
}

TEST(PostgresqlCodec, ACancelledPrepareIsNotKnownAndThoseAroundItAre) {
  auto feed = Holding(
      true, {{true, Simple("prepare a as select 'a'") + Simple("prepare b as select 'slow'") +
                        Simple("prepare c as select 'c'")},
             {false, Done("PREPARE") + Ready()}});
  EXPECT_TRUE(feed->Cancel());
  feed->Server(TrapError() + Ready() + Done("PREPARE") + Ready());
  feed->requests.clear();
  feed->Client(Simple("execute a") + Simple("execute b") + Simple("execute c"));
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("select 'a'", "select 'c'"));
}

// Both ends know a session by the number of its process and its secret.
TEST(PostgresqlCodec, WhoAsksToCancelNamesTheSession) {
  const auto session = Tell(After({}));
  const auto asking = Tell({{true, Big(16) + Big(80877102) + Big(17) + Big(4711)}});
  const auto another = Tell({{true, Big(16) + Big(80877102) + Big(17) + Big(4712)}});
  EXPECT_NE(session->codec().key(), 0u);
  EXPECT_THAT(asking->cancels, ::testing::ElementsAre(session->codec().key()));
  ASSERT_EQ(another->cancels.size(), 1u);
  EXPECT_NE(another->cancels[0], session->codec().key());
}

TEST(PostgresqlCodec, AFailingExecuteIsFollowedByNothingUpToItsSync) {
  auto feed = Tell(After({{true, Parse("", "bad") + Bind("", "") + Describe('P', "") + Execute() +
                                     Parse("", "next") + Bind("", "") + Execute() + Sync()},
                          {false, Message('1') + Message('2') + Columns() + TrapError() + Ready()},
                          {true, Simple("good")},
                          {false, Done("SELECT 1") + Ready()}}),
                   Those("bad", Failure("40P01")));
  EXPECT_EQ(feed->to_client, Welcome() + Message('1') + Message('2') + Columns() +
                                 ErrorOf("40P01", "deadlock detected") + Ready() +
                                 Done("SELECT 1") + Ready());
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, AnEarlierFailureOfAPipelineIsTheServers) {
  auto feed = Tell(After({{true, Parse("", "one") + Bind("", "") + Execute() + Parse("", "bad") +
                                     Bind("", "") + Execute() + Sync() + Simple("good")},
                          {false, Message('1') + Message('2') + ErrorOf("22012", "zero") + Ready()},
                          {false, Done("SELECT 1") + Ready()}}),
                   Those("bad", Failure("40P01")));
  EXPECT_EQ(feed->to_client, Welcome() + Message('1') + Message('2') + ErrorOf("22012", "zero") +
                                 Ready() + Done("SELECT 1") + Ready());
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, AfterTheFactTheAnswerIsSwallowed) {
  auto feed = Tell(After({{true, Simple("bad")},
                          {false, Columns() + Row("1") + Row("2") + Message('N', "notice") +
                                      Done("SELECT 2") + Ready('T') + TrapError() + Ready('E')}}),
                   Those("bad", Failure("40001", v1::FAILURE_MOMENT_AFTER)));
  EXPECT_THAT(feed->to_server, HasSubstr(Simple("bad") + Simple("firedrill_planned_failure")));
  EXPECT_EQ(feed->to_client,
            Welcome() + Message('N', "notice") +
                ErrorOf("40001", "could not serialize access due to concurrent update") +
                Ready('E'));
}

TEST(PostgresqlCodec, AfterTheFactAnExecuteIsCommittedBeforeItFails) {
  auto feed =
      Tell(After({{true, Parse("", "bad") + Bind("", "") + Execute() + Parse("x", "skipped") +
                             Bind("", "x") + Execute() + Sync() + Simple("good")},
                  {false, Message('1') + Message('2') + Row("1") + Done("INSERT 0 1") + Ready('I') +
                              TrapError() + Ready('I') + Done("OK") + Ready()}}),
           Those("bad", Failure("53200", v1::FAILURE_MOMENT_AFTER)));
  EXPECT_EQ(feed->to_server.find("skipped"), std::string::npos);
  EXPECT_EQ(feed->to_client, Welcome() + Message('1') + Message('2') +
                                 ErrorOf("53200", "out of memory") + Ready('I') + Done("OK") +
                                 Ready());
  EXPECT_THAT(Texts(*feed), ::testing::ElementsAre("bad", "good"));
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, ACopyFailsAfterItsEnd) {
  auto feed = Tell(After({{true, Simple("copy bad from stdin")},
                          {false, Message('G', std::string("\0\0\0", 3))},
                          {true, Message('d', "1\n") + Message('c')},
                          {false, Done("COPY 1") + Ready() + TrapError() + Ready()}}),
                   Those("bad", Failure("57014", v1::FAILURE_MOMENT_AFTER)));
  EXPECT_EQ(feed->to_client, Welcome() + Message('G', std::string("\0\0\0", 3)) +
                                 ErrorOf("57014", "canceling statement due to user request") +
                                 Ready());
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(PostgresqlCodec, ALongQueryFailsAfterItsLastByte) {
  const std::string text = "bad '" + std::string(2 * kMaxText, 'x') + "'";
  for (const auto moment : {v1::FAILURE_MOMENT_BEFORE, v1::FAILURE_MOMENT_AFTER}) {
    for (size_t chunk : {1u, 16384u, 16389u, 1000000u}) {
      CodecFeed feed(MakeCodec(v1::PROTOCOL_POSTGRESQL), Those("bad", Failure("57014", moment)));
      feed.Client(Hello());
      feed.Server(Welcome());
      const std::string all = Simple(text) + Simple("good");
      for (size_t at = 0; at < all.size(); at += chunk) {
        feed.Client(all.substr(at, chunk));
        const bool more = at + chunk < Simple(text).size();
        // The server has nothing that it could answer.
        if (more && moment == v1::FAILURE_MOMENT_BEFORE) {
          ASSERT_LE(feed.to_server.size(), Hello().size() + 1) << chunk;
        }
      }
      const std::string first = moment == v1::FAILURE_MOMENT_AFTER ? Simple(text) : "";
      EXPECT_EQ(feed.to_server,
                Hello() + first + Simple("firedrill_planned_failure") + Simple("good"));
      EXPECT_EQ(feed.broken, "");
    }
  }
}

TEST(PostgresqlCodec, AFatalFailureEndsTheConnectionInOrder) {
  auto feed = Tell(After({{true, Simple("first") + Simple("bad")},
                          {false, Row("1") + Done("SELECT 1") + Ready() + TrapError() + Ready()}}),
                   Those("bad", Failure("57P01")));
  EXPECT_TRUE(feed->closed);
  EXPECT_FALSE(feed->cut);
  EXPECT_THAT(feed->to_client, HasSubstr(Ready() + "E"));
  EXPECT_THAT(feed->to_client, HasSubstr("FATAL"));
}

TEST(PostgresqlCodec, ASessionIsRefusedBeforeTheServerKnowsOfIt) {
  auto feed = Tell({{true, Hello()}}, [](const Request&) { return Failure("53300"); });
  EXPECT_EQ(feed->to_server, "");
  EXPECT_TRUE(feed->closed);
  EXPECT_THAT(feed->to_client, HasSubstr("FATAL"));
  EXPECT_THAT(feed->to_client, HasSubstr("sorry, too many clients already"));
}

TEST(PostgresqlCodec, AnAnswerIsCutAtTheByte) {
  const std::string answer = Columns() + Row("one") + Done("SELECT 1") + Ready();
  const std::string next = Done("NEXT") + Ready();
  for (uint32_t bytes = 0; bytes <= answer.size() + 3; ++bytes) {
    auto feed = Tell(After({{true, Simple("bad")}, {false, answer}}), Those("bad", Cut(bytes)));
    EXPECT_EQ(feed->cut, bytes < answer.size()) << bytes;
    EXPECT_EQ(feed->to_client, Welcome() + answer.substr(0, bytes));
  }
  // What is not so long passes whole, and the session goes on.
  const auto whole = Tell(After({{true, Simple("bad") + Simple("good")}, {false, answer + next}}),
                          Those("bad", Cut(100'000)));
  EXPECT_EQ(whole->to_client, Welcome() + answer + next);
  EXPECT_TRUE(whole->codec().Quiet());
  const std::string extended =
      Message('1') + Message('2') + Row("one") + Done("SELECT 1") + Ready();
  const auto batch =
      Tell(After({{true, Parse("", "bad") + Bind("", "") + Execute() + Sync()}, {false, extended}}),
           Those("bad", Cut(100'000)));
  EXPECT_FALSE(batch->cut);
  EXPECT_EQ(batch->to_client, Welcome() + extended);
  EXPECT_TRUE(batch->codec().Quiet());
}

TEST(PostgresqlCodec, NoSuchSqlStateFailsNothing) {
  for (const std::string code : {"00000", "1205", "LOADING"}) {
    auto feed = Tell(After({{true, Simple("bad")}, {false, Done("OK") + Ready()}}),
                     Those("bad", Failure(code)));
    EXPECT_EQ(feed->not_failed, 1);
    EXPECT_EQ(feed->to_client, Welcome() + Done("OK") + Ready());
  }
}

TEST(PostgresqlCodec, AnIdleSessionIsSmall) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not ours";
  constexpr int kSessions = 2000;
  std::vector<std::unique_ptr<Codec>> codecs(kSessions);
  const size_t before = mallinfo2().uordblks;
  for (auto& codec : codecs) {
    codec = MakePostgresqlCodec();
    const auto tell = [&](absl::string_view bytes, bool client) {
      while (!bytes.empty()) {
        const Piece piece = client ? codec->FromClient(bytes) : codec->FromServer(bytes);
        ASSERT_GT(piece.length, 0u);
        bytes.remove_prefix(piece.length);
      }
    };
    tell(Hello(), true);
    tell(Welcome(), false);
    for (const char* name : {"a", "b", "c"}) {
      tell(Parse(name, std::string("select 1 as ") + name) + Sync(), true);
      tell(Message('1') + Ready(), false);
      tell(Bind("", name) + Execute() + Sync(), true);
      tell(Message('2') + Done("SELECT 1") + Ready(), false);
    }
    ASSERT_TRUE(codec->Quiet());
  }
  const size_t each = (mallinfo2().uordblks - before) / kSessions;
  EXPECT_GT(each, sizeof(postgresql::PostgresqlCodec));
  EXPECT_LE(each, 600u);
}

}  // namespace
}  // namespace firedrill::wire
