// The HTTP codec by itself: where messages end, and answers in their turn.
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

CodecFeed::Decide Fails(const std::string& word, const v1::QueryFailure& failure) {
  return [=](const Request& request) -> const v1::QueryFailure* {
    return absl::StrContains(request.text, word) ? &failure : nullptr;
  };
}

std::unique_ptr<CodecFeed> Tell(const std::vector<Line>& lines,
                                const CodecFeed::Decide& decide = nullptr) {
  return TellInEveryWay(v1::PROTOCOL_HTTP, lines, decide);
}

std::string Get(const std::string& path, const std::string& more = "") {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: h\r\n", more, "\r\n");
}

std::string Answer(const std::string& body) {
  return absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}

const std::string k503 =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\r\n"
    "Service Unavailable\n";
const std::string k503Close =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n"
    "Connection: close\r\n\r\nService Unavailable\n";

TEST(HttpCodec, PassesEveryKindOfBodyUnchanged) {
  const std::vector<Line> lines = {
      {true, Get("/a") + "\r\nPOST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET " +
                 "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nT: "
                 "1\r\n\r\n" +
                 "HEAD /d HTTP/1.1\r\n\r\n" + "GET /e HTTP/1.0\nConnection: keep-alive\n\n"},
      {false, Answer("hello") + "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n" +
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nA\r\n0123456789\r\n" +
                  "0\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" +
                  "HTTP/1.0 200 OK\r\n\r\nuntil close HTTP/1.1 200 OK\r\n\r\n"}};
  const auto feed = Tell(lines);
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, Both(lines, false));
  ASSERT_EQ(feed->requests.size(), 5u);
  EXPECT_EQ(feed->requests[0].text, "GET /a HTTP/1.1");
  EXPECT_EQ(feed->requests[2].text, "PUT /c HTTP/1.1");
  EXPECT_EQ(feed->requests[4].text, "GET /e HTTP/1.0");
  EXPECT_EQ(feed->codec().lost(), "");
}

TEST(HttpCodec, IsQuietBetweenRequestsOnly) {
  EXPECT_FALSE(Tell({{true, Get("/")}})->codec().Quiet());
  EXPECT_FALSE(Tell({{true, Get("/")}, {false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1"}})
                   ->codec()
                   .Quiet());
  EXPECT_TRUE(Tell({{true, Get("/")}, {false, Answer("12")}})->codec().Quiet());
}

TEST(HttpCodec, AFailedRequestIsNotSentAndIsAnsweredInItsTurn) {
  const std::vector<Line> lines = {
      {true, Get("/1") + "POST /bad HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello" + Get("/3")},
      {false, Answer("one") + Answer("three")}};
  const auto feed = Tell(lines, Fails("/bad", Failure("503")));
  EXPECT_EQ(feed->to_server, Get("/1") + Get("/3"));
  EXPECT_EQ(feed->to_client, Answer("one") + k503 + Answer("three"));
  EXPECT_TRUE(feed->codec().Quiet());
  // With nothing under way, at once.
  const auto alone = Tell({{true, Get("/bad") + Get("/2")}}, Fails("/bad", Failure("503")));
  EXPECT_EQ(alone->to_client, k503);
  EXPECT_EQ(alone->to_server, Get("/2"));
}

TEST(HttpCodec, AnAnswerIsSwallowedAndReplacedAfterwards) {
  const std::vector<Line> lines = {
      {true, Get("/bad") + Get("/2")},
      {false, "HTTP/1.1 100 Continue\r\n\r\n" + Answer("one") + Answer("two")}};
  const auto feed = Tell(lines, Fails("/bad", Failure("503", true)));
  EXPECT_EQ(feed->to_server, Both(lines, true));
  EXPECT_EQ(feed->to_client, "HTTP/1.1 100 Continue\r\n\r\n" + k503 + Answer("two"));
  // Swallowed, with one behind it that was never sent.
  const auto both = Tell({{true, Get("/bad") + Get("/bad2")}, {false, Answer("one")}},
                         [](const Request& request) {
                           static const v1::QueryFailure after = Failure("503", true);
                           static const v1::QueryFailure before = Failure("503");
                           return absl::StrContains(request.text, "bad2") ? &before : &after;
                         });
  EXPECT_EQ(both->to_client, k503 + k503);
  // One that only the connection's end ends.
  const auto close = Tell({{true, Get("/bad")}, {false, "HTTP/1.1 200 OK\r\n\r\nbody"}},
                          Fails("/bad", Failure("503", true)));
  EXPECT_EQ(close->to_client, k503Close);
}

TEST(HttpCodec, ConnectionIsClosedWhereItMustBe) {
  EXPECT_EQ(Tell({{true, Get("/bad", "Connection: close\r\n")}}, Fails("/bad", Failure("503")))
                ->to_client,
            k503Close);
  // Whether the body comes is for the client to choose, so what comes is for nobody.
  const auto expects = Tell({{true,
                              "PUT /bad HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: "
                              "5\r\n\r\n"},
                             {true, "hello" + Get("/2")}},
                            Fails("/bad", Failure("503")));
  EXPECT_EQ(expects->to_client, k503Close);
  EXPECT_EQ(expects->to_server, "");
  EXPECT_TRUE(expects->closed);
  const auto head = Tell({{true, "HEAD /bad HTTP/1.1\r\n\r\n"}}, Fails("/bad", Failure("503")));
  EXPECT_TRUE(absl::EndsWith(head->to_client, "Content-Length: 20\r\n\r\n"));
}

TEST(HttpCodec, CutsInTheMiddleOfTheAnswer) {
  v1::QueryFailure failure;
  failure.set_cut_after(41);
  const std::vector<Line> lines = {{true, Get("/1") + Get("/bad")},
                                   {false, Answer("one") + Answer("0123456789")}};
  const auto feed = Tell(lines, Fails("/bad", failure));
  EXPECT_TRUE(feed->cut);
  EXPECT_EQ(feed->to_client, Answer("one") + Answer("0123456789").substr(0, 41));
  failure.set_cut_after(0);
  EXPECT_EQ(Tell(lines, Fails("/bad", failure))->to_client, Answer("one"));
  for (const uint32_t bytes : {static_cast<uint32_t>(Answer("0123456789").size()), 1'000'000u}) {
    failure.set_cut_after(bytes);
    const auto whole = Tell(lines, Fails("/bad", failure));
    EXPECT_FALSE(whole->cut);
    EXPECT_EQ(whole->to_client, Both(lines, false));
    EXPECT_TRUE(whole->codec().Quiet());
  }
}

TEST(HttpCodec, StopsLookingAtWhatIsNoLongerHttp) {
  const std::vector<std::vector<Line>> others = {
      {{true, Get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n")},
       {false, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello"},
       {true, "\x81\x80"}},
      {{true, "CONNECT db:5432 HTTP/1.1\r\n\r\n"}, {false, "HTTP/1.1 200 OK\r\n\r\n"}, {true, "Q"}},
      {{true, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, {false, "\x01\x02"}},
      {{true, "\x01\x02\x03"}, {false, "\x04"}},
      {{true, "GET /\r\n"}, {false, "old"}},
      {{true, Get("/", "Content-Length: 1\r\nContent-Length: 2\r\n")}},
      {{true, Get("/")}, {false, "ICY 200 OK\r\n\r\n"}},
      {{false, "HTTP/1.1 408 Request Timeout\r\n\r\n"}}};
  for (const auto& lines : others) {
    const auto feed = Tell(lines);
    EXPECT_NE(feed->codec().lost(), "") << lines[0].bytes;
    EXPECT_EQ(feed->to_client, Both(lines, false));
    EXPECT_EQ(feed->to_server, Both(lines, true));
    EXPECT_EQ(feed->client_held + feed->server_held, "");
  }
  EXPECT_TRUE(Tell({{true, "\x16\x03\x01"}})->codec().encrypted());
  // Refused an upgrade, it goes on as it was.
  EXPECT_EQ(
      Tell(
          {{true, Get("/ws", "Connection: upgrade\r\n")}, {false, Answer("no")}, {true, Get("/2")}})
          ->requests.size(),
      2u);
}

TEST(HttpCodec, LongHeadsAreLostAndLongBodiesAreNot) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_HTTP));
  feed.Client(Get("/", "X: " + std::string(20'000, 'x') + "\r\n"));
  EXPECT_EQ(feed.codec().lost(), "a head of more than 16 KiB");
  EXPECT_EQ(feed.broken, "");
  CodecFeed body(MakeCodec(v1::PROTOCOL_HTTP));
  const std::string bytes = "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" +
                            std::string(1'000'000, 'b') + Get("/2");
  body.Client(bytes);
  EXPECT_EQ(body.to_server, bytes);
  EXPECT_EQ(body.requests.size(), 2u);
}

}  // namespace
}  // namespace firedrill::wire
