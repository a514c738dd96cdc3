// The MySQL codec by itself, over conversations that no server of this machine has.
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/injector/wire/mysql_messages.h"

namespace firedrill::wire {
namespace {

std::unique_ptr<CodecFeed> Tell(const std::vector<Line>& lines,
                                const CodecFeed::Decide& decide = nullptr) {
  return TellInEveryWay(v1::PROTOCOL_MYSQL, lines, decide);
}

TEST(MysqlCodec, LetsCachingSha2InAndKnowsWhoItIs) {
  const auto lines = LoggedIn(kUsual);
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, Both(lines, false));
  ASSERT_EQ(feed->requests.size(), 1u);
  EXPECT_TRUE(feed->requests[0].connect);
  EXPECT_EQ(feed->requests[0].user, "ann");
  EXPECT_EQ(feed->requests[0].database, "shop");
  EXPECT_TRUE(feed->codec().Quiet());
}

TEST(MysqlCodec, KnowsAGoodbyeFromWhatLooksLikeOne) {
  const std::string goodbye = Packet(0, "\x01");
  auto lines = LoggedIn(kUsual);
  lines.push_back({true, Packet(0, "\x03" + goodbye) + goodbye});
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->goodbyes, goodbye);
  EXPECT_EQ(feed->to_server, Both(lines, true));
}

TEST(MysqlCodec, TakesQueryAttributesOffTheText) {
  auto lines = LoggedIn(kUsual | kQueryAttributes);
  lines.push_back({true, Packet(0, "\x03\x00\x01"s + "SELECT 1")});
  lines.push_back({false, Packet(1, kOkPacket)});
  // Two attributes: a NULL, and the text "id".
  lines.push_back({true, Packet(0, "\x03\x02\x01\x01\x01"s + "\xfe\x00\x01"s + "a" +
                                       "\xfe\x00\x01"s + "b" + "\x02id" + "SELECT 2")});
  lines.push_back({false, Packet(1, kOkPacket)});
  const auto feed = Tell(lines);
  ASSERT_EQ(feed->requests.size(), 3u);
  EXPECT_EQ(feed->requests[1].text, "SELECT 1");
  EXPECT_EQ(feed->requests[2].text, "SELECT 2");
  EXPECT_EQ(feed->codec().lost(), "");
}

TEST(MysqlCodec, CommandsSentAtOnceFailInTheirTurn) {
  auto lines = LoggedIn(kUsual);
  const std::string ping = Packet(0, "\x0e");
  lines.push_back({true, ping + Packet(0, "\x03INSERT 1") + ping});
  lines.push_back({false, Packet(1, kOkPacket) + Packet(1, kOkPacket) + Packet(1, kOkPacket)});
  v1::QueryFailure failure;
  failure.set_error("1205");
  const auto feed = Tell(lines, [&](const Request& request) {
    return absl::StartsWith(request.text, "INSERT") ? &failure : nullptr;
  });
  EXPECT_TRUE(absl::EndsWith(feed->to_server, ping + ping + ping));
  EXPECT_TRUE(absl::EndsWith(
      feed->to_client,
      Packet(1, kOkPacket) +
          Packet(1, "\xff\xb5\x04#HY000Lock wait timeout exceeded; try restarting transaction") +
          Packet(1, kOkPacket)));
}

TEST(MysqlCodec, ALongCommandFailsAfterItsLastByte) {
  v1::QueryFailure failure;
  failure.set_error("1205");
  // The second one is two packets long, and its answer is counted on from them.
  for (const size_t length : {2 * kMaxText, size_t{kMysqlMaxPacket}}) {
    CodecFeed feed(MakeCodec(v1::PROTOCOL_MYSQL), [&](const Request& request) {
      return absl::StartsWith(request.text, "INSERT") ? &failure : nullptr;
    });
    for (const Line& line : LoggedIn(kUsual)) {
      line.from_client ? feed.Client(line.bytes) : feed.Server(line.bytes);
    }
    const std::string before = feed.to_server;
    const std::string command = "\x03INSERT " + std::string(length, 'x');
    std::string packets = Packet(0, command.substr(0, kMysqlMaxPacket));
    if (command.size() >= kMysqlMaxPacket) packets += Packet(1, command.substr(kMysqlMaxPacket));
    for (size_t at = 0; at < packets.size() - 1; at += 100'000) {
      feed.Client(
          absl::string_view(packets).substr(at, 100'000).substr(0, packets.size() - 1 - at));
      ASSERT_LE(feed.to_server.size(), before.size() + 1);
    }
    feed.Client(packets.substr(packets.size() - 1));
    EXPECT_EQ(feed.to_server, before + Packet(0, "\x0e"));
    feed.Server(Packet(1, kOkPacket));
    const int sequence = command.size() >= kMysqlMaxPacket ? 2 : 1;
    EXPECT_TRUE(
        absl::EndsWith(feed.to_client, Packet(sequence,
                                              "\xff\xb5\x04#HY000Lock wait timeout exceeded; try "
                                              "restarting transaction")));
    EXPECT_EQ(feed.broken, "");
    EXPECT_TRUE(feed.codec().Quiet());
  }
}

TEST(MysqlCodec, RefusesAConnectionInAnswerToItsLogin) {
  v1::QueryFailure failure;
  failure.set_error("1040");
  const auto feed = Tell({{false, Greeting(kUsual)}, {true, Login(kUsual)}, {true, "late bytes"}},
                         [&](const Request&) { return &failure; });
  EXPECT_EQ(feed->to_server, "");
  EXPECT_EQ(feed->to_client,
            Greeting(kUsual) + Packet(2, "\xff\x10\x04#08004Too many connections"));
  EXPECT_TRUE(feed->closed);
}

TEST(MysqlCodec, AKilledConnectionEndsBehindItsError) {
  v1::QueryFailure failure;
  failure.set_error("1927");
  auto lines = LoggedIn(kUsual);
  lines.push_back({true, Packet(0, "\x03SELECT 1")});
  lines.push_back({false, Packet(1, kOkPacket)});
  const auto feed =
      Tell(lines, [&](const Request& request) { return request.connect ? nullptr : &failure; });
  EXPECT_TRUE(feed->closed);
  EXPECT_TRUE(absl::EndsWith(feed->to_client, "#70100Connection was killed"));
}

TEST(MysqlCodec, NumbersOfStatementsHoldForTheProcessAndOneDatabase) {
  auto lines = LoggedIn(kUsual);
  const std::string execute = Packet(0, "\x17\x01\0\0\0\0\x01\0\0\0"s);
  lines.push_back({true, Packet(0, "\x16INSERT 1")});
  lines.push_back({false, Packet(1, "\0\x01\0\0\0\0\0\0\0\0\0\0"s)});
  for (const std::string& bytes : {execute, execute, Packet(0, "\x02other"), execute}) {
    lines.push_back({true, bytes});
    lines.push_back({false, Packet(1, kOkPacket)});
  }
  const auto one = Tell(lines);
  const auto two = Tell(lines);
  ASSERT_EQ(one->requests.size(), 5u);
  EXPECT_EQ(one->requests[1].text, "INSERT 1");
  EXPECT_EQ(one->requests[1].statement, one->requests[2].statement);
  EXPECT_EQ(one->requests[4].database, "other");
  EXPECT_NE(one->requests[2].statement, one->requests[4].statement);
  EXPECT_NE(one->requests[1].statement, two->requests[1].statement);
}

TEST(MysqlCodec, NumbersOfABrokenConnectionBreakIt) {
  v1::QueryFailure failure;
  failure.set_error("2006");
  auto lines = LoggedIn(kUsual);
  lines.push_back({true, Packet(0, "\x03SELECT 1")});
  const auto feed =
      Tell(lines, [&](const Request& request) { return request.connect ? nullptr : &failure; });
  EXPECT_TRUE(feed->cut);
  EXPECT_FALSE(absl::StrContains(feed->to_server, "SELECT"));
}

TEST(MysqlCodec, PassesEverythingOnceItIsEncryptedOrCompressed) {
  const std::string tls = Packet(1, Little(kUsual | kSsl, 4) + std::string(28, '\0'));
  const auto encrypted = Tell(
      {{false, Greeting(kUsual | kSsl)}, {true, tls}, {true, "\x16\x03\x01"}, {false, "\x16\x03"}});
  EXPECT_TRUE(encrypted->codec().encrypted());
  EXPECT_TRUE(encrypted->requests.empty());
  auto lines = LoggedIn(kUsual | kCompress);
  lines.push_back({true, "\x01\x02"});
  const auto compressed = Tell(lines);
  EXPECT_NE(compressed->codec().lost(), "");
  EXPECT_EQ(compressed->to_server, Both(lines, true));
}

TEST(MysqlCodec, TheErrorBehindALocalFileHasItsPlaceInTheCount) {
  v1::QueryFailure failure;
  failure.set_error("1205");
  failure.set_moment(v1::FAILURE_MOMENT_AFTER);
  auto lines = LoggedIn(kUsual);
  lines.push_back({true, Packet(0, "\x03LOAD")});
  lines.push_back({false, Packet(1, "\xfb/file")});
  lines.push_back({true, Packet(2, "data") + Packet(3, "")});
  lines.push_back({false, Packet(4, kOkPacket)});
  const auto feed =
      Tell(lines, [&](const Request& request) { return request.connect ? nullptr : &failure; });
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_TRUE(absl::EndsWith(
      feed->to_client,
      Packet(1, "\xfb/file") +
          Packet(4, "\xff\xb5\x04#HY000Lock wait timeout exceeded; try restarting transaction")));
}

TEST(MysqlCodec, TheRestOfALargeRowIsNoPacketOfItsOwn) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_MYSQL));
  for (const Line& line : LoggedIn(kUsual)) {
    line.from_client ? feed.Client(line.bytes) : feed.Server(line.bytes);
  }
  feed.Client(Packet(0, "\x03SELECT"));
  feed.Server(Packet(1, "\x01") +
              Packet(2,
                     "\x03"
                     "def") +
              Packet(3, std::string(kMysqlMaxPacket, 'x')) + Packet(4, "\xfe\0\0\x02\0\0\0"s));
  // That looked like the end, and was not.
  EXPECT_FALSE(feed.codec().Quiet());
  feed.Server(Packet(5, "\xfe\0\0\x02\0\0\0"s));
  EXPECT_TRUE(feed.codec().Quiet());
  EXPECT_EQ(feed.codec().lost(), "");
}

TEST(MysqlCodec, LosesTrackAloudAndPasses) {
  const std::vector<std::vector<Line>> wrong = {{{true, "GET / HTTP/1.1\r\n\r\n"}},
                                                {{false, "HTTP/1.1 400 Bad Request\r\n\r\n"}},
                                                {{false, Packet(0, "\x09old")}}};
  for (const auto& lines : wrong) {
    const auto feed = Tell(lines);
    EXPECT_NE(feed->codec().lost(), "");
    EXPECT_EQ(feed->to_client, Both(lines, false));
    EXPECT_EQ(feed->to_server, Both(lines, true));
  }
  for (const std::string& command : {"\x12"s, "\x1e"s, "\xfe"s}) {
    auto lines = LoggedIn(kUsual);
    lines.push_back({true, Packet(0, command)});
    lines.push_back({false, "\x01\x02\x03"});
    const auto feed = Tell(lines);
    EXPECT_NE(feed->codec().lost(), "");
    EXPECT_EQ(feed->to_client, Both(lines, false));
  }
}

// What each query is seen as; those with '!' in front are answered by an error.
std::vector<std::string> Seen(const std::vector<std::string>& queries,
                              const std::string& ok = kOkPacket) {
  auto lines = LoggedIn(kUsual);
  for (const std::string& query : queries) {
    const bool bad = query[0] == '!';
    // Anything below a letter is a command of its own.
    lines.push_back({true, Packet(0, query[0] < ' ' ? query : "\x03" + query.substr(bad ? 1 : 0))});
    lines.push_back({false, Packet(1, bad ? "\xff\x28\x04#42000syntax" : ok)});
  }
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->codec().lost(), "");
  EXPECT_EQ(feed->to_server, Both(lines, true));
  std::vector<std::string> texts;
  for (const SeenRequest& request : feed->requests) texts.push_back(request.text);
  texts.erase(texts.begin());
  return texts;
}

TEST(MysqlCodec, ANameOfSqlIsSeenAsWhatItStandsForWhenItIsExecuted) {
  const std::string prepare = "prepare S from 'select 1'";
  using Texts = std::vector<std::string>;
  EXPECT_EQ(Seen({prepare, "execute `s`"}), (Texts{prepare, "select 1"}));
  // Until it stands for something else, or nothing that is known.
  EXPECT_EQ(Seen({prepare, "PREPARE s FROM 'select 2'", "execute s"}).back(), "select 2");
  EXPECT_EQ(Seen({prepare, "PREPARE s FROM @v", "execute s"}).back(), "execute s");
  EXPECT_EQ(Seen({prepare, "!PREPARE s FROM 'selekt'", "execute s"}).back(), "execute s");
  EXPECT_EQ(Seen({prepare, "DROP PREPARE S", "execute s"}).back(), "execute s");
  EXPECT_EQ(Seen({prepare, "deallocate prepare t", "execute s"}).back(), "select 1");
  EXPECT_EQ(Seen({prepare, "select 1; drop prepare s", "execute s"}).back(), "execute s");
  EXPECT_EQ(Seen({prepare, "/*!50717 PREPARE s FROM @v */", "execute s"}).back(), "execute s");
  EXPECT_EQ(Seen({prepare, "select 'prepared;'", "execute s"}).back(), "select 1");
  EXPECT_EQ(Seen({prepare, "\x1f", "execute s"}).back(), "execute s");
  const std::string change = "\x11"s + "bob\0\0other\0"s;
  EXPECT_EQ(Seen({prepare, change, "execute s"}).back(), "execute s");
}

TEST(MysqlCodec, WhatASqlNameExecutesMayChangeTheDatabase) {
  auto lines = LoggedIn(kUsual);
  for (const char* query : {"prepare s from 'use other'", "execute s", "select 1"}) {
    lines.push_back({true, Packet(0, absl::StrCat("\x03", query))});
    lines.push_back({false, Packet(1, kOkPacket)});
  }
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->requests.at(2).database, "shop");
  EXPECT_EQ(feed->requests.at(3).database, "other");
}

TEST(MysqlCodec, ABackslashIsOnlyOneWhereTheServerSaysSo) {
  const std::string prepare = R"(prepare s from 'a\')";
  const std::string plain = "\x00\x00\x00\x02\x02\x00\x00"s;
  EXPECT_EQ(Seen({"set sql_mode", prepare, "execute s"}, plain).back(), R"(a\)");
  // The quote is escaped, and so the literal has no end.
  EXPECT_EQ(Seen({prepare, "execute s"}).back(), "execute s");
}

TEST(MysqlCodec, NamesOfCommandsSentAtOnceHoldInTheirTurn) {
  auto lines = LoggedIn(kUsual);
  const auto query = [](const char* text) { return Packet(0, absl::StrCat("\x03", text)); };
  lines.push_back({true, query("prepare s from 'select 1'") + query("execute s") +
                             query("drop prepare s") + query("execute s")});
  const std::string ok = Packet(1, kOkPacket);
  lines.push_back({false, ok + ok + ok + Packet(1, "\xff\xdb\x04#HY000unknown")});
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->requests.at(2).text, "select 1");
  EXPECT_EQ(feed->requests.at(4).text, "execute s");
}

TEST(MysqlCodec, APreparationThatIsFailedBeforeTheServerSawItLeavesTheNameAsItWas) {
  v1::QueryFailure failure;
  failure.set_error("1205");
  auto lines = LoggedIn(kUsual);
  for (const char* query : {"prepare s from 'select 1'", "prepare s from 'bad'", "execute s"}) {
    lines.push_back({true, Packet(0, absl::StrCat("\x03", query))});
    lines.push_back({false, Packet(1, kOkPacket)});
  }
  const auto feed = Tell(lines, [&](const Request& request) {
    return absl::StrContains(request.text, "bad") ? &failure : nullptr;
  });
  EXPECT_EQ(feed->requests.at(3).text, "select 1");
}

}  // namespace
}  // namespace firedrill::wire
