// No codec allocates memory for a message of a connection that is under way, and no rule for a
// request whose shape its thread remembers. A statement of another shape is parsed for the rules
// that ask for its verb, table or fingerprint, and that allocates.
#include <gtest/gtest.h>
#include <malloc.h>

#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "injector/wire/rules.h"
#include "tests/injector/wire/mysql_messages.h"
#include "tests/injector/wire/postgresql_messages.h"
#include "tests/testing/sanitized.h"

namespace {

// By this thread, with `new` or without.
thread_local size_t allocations = 0;

}  // namespace

// A sanitizer has these itself.
#ifndef FIREDRILL_SANITIZED
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);

void* malloc(size_t size) noexcept {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) noexcept {
  ++allocations;
  return __libc_realloc(old, size);
}
}
#endif

namespace firedrill::wire {
namespace {

constexpr int kRounds = 200;

class Allocations : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "a sanitizer allocates in its own way";
  }

  // One rule of each kind that goes with the protocol, of which some meet.
  std::unique_ptr<Rules> RulesOf(v1::Protocol protocol, const std::vector<std::string>& matches) {
    std::vector<Rule> rules;
    for (const std::string& match : matches) {
      rules.emplace_back().name = absl::StrCat("rule-", rules.size());
      EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(match, &rules.back().match));
      rules.back().delay.emplace().mutable_normal()->mutable_mean()->set_nanos(1'000'000);
    }
    auto compiled = Rules::Compile(protocol, rules, 1);
    EXPECT_TRUE(compiled.ok()) << compiled.status();
    return *std::move(compiled);
  }

  static void Tell(Codec& codec, const Rules& rules, const Line& line, uint64_t* requests) {
    for (absl::string_view rest = line.bytes; !rest.empty();) {
      const Piece piece = line.from_client ? codec.FromClient(rest) : codec.FromServer(rest);
      if (piece.length == 0) FAIL() << "no progress at " << rest;
      if (piece.step == Step::kRequest) {
        ++*requests;
        rules.Decide(piece.request);
        codec.Ticket();
      }
      rest.remove_prefix(piece.length);
    }
  }

  // Of `kRounds` rounds, behind as many others.
  static void ExpectNone(v1::Protocol protocol, const Rules& rules, const std::vector<Line>& before,
                         const std::vector<Line>& round) {
    const std::unique_ptr<Codec> codec = MakeCodec(protocol);
    uint64_t requests = 0;
    for (const Line& line : before) Tell(*codec, rules, line, &requests);
    for (int i = 0; i < kRounds; ++i) {
      for (const Line& line : round) Tell(*codec, rules, line, &requests);
    }
    requests = 0;
    const size_t begun = allocations;
    for (int i = 0; i < kRounds; ++i) {
      for (const Line& line : round) Tell(*codec, rules, line, &requests);
    }
    EXPECT_EQ(allocations - begun, 0u) << Both(round, true);
    EXPECT_GE(requests, uint64_t{kRounds}) << "they are requests";
    EXPECT_TRUE(codec->Quiet());
    EXPECT_EQ(codec->lost(), "");
    EXPECT_GT(rules.CountOf(0).hit, uint64_t{kRounds}) << "the first rule meets them";
  }
};

// Who copies what passes is found out.
TEST_F(Allocations, AreCounted) {
  CodecFeed feed(MakeCodec(v1::PROTOCOL_REDIS));
  const size_t begun = allocations;
  for (int i = 0; i < kRounds; ++i) {
    feed.Client("*2\r\n$3\r\nGET\r\n$24\r\nand-a-key-that-is-so-long\r\n");
    feed.Server("$1\r\n1\r\n");
  }
  EXPECT_GE(allocations - begun, size_t{kRounds});
}

// Who sends another shape each time pays for it each time; of a known one next to nothing is left.
TEST_F(Allocations, AreForShapesThatAreNotRemembered) {
  constexpr size_t kShapes = 50;
  for (const v1::Protocol protocol : {v1::PROTOCOL_POSTGRESQL, v1::PROTOCOL_MYSQL}) {
    const auto rules = RulesOf(protocol, {"verbs: 'select' tables: 'users'"});
    std::vector<std::string> shapes;
    for (size_t i = 0; i < kShapes; ++i) {
      shapes.push_back(absl::StrCat("select name from users where column_", i, " = 7"));
    }
    const auto allocated = [&] {
      size_t hit = 0;
      const size_t begun = allocations;
      for (const std::string& shape : shapes) hit += rules->Decide({.text = shape}).hit;
      const size_t made = allocations - begun;
      EXPECT_EQ(hit, kShapes);
      return made;
    };
    const size_t unknown = allocated();
    EXPECT_GE(unknown, kShapes) << protocol;
    // A shape may have been driven from its place by another that falls on it.
    EXPECT_LE(allocated(), unknown / 4) << protocol;
  }
}

TEST_F(Allocations, AreNoneForPostgresql) {
  const auto rules =
      RulesOf(v1::PROTOCOL_POSTGRESQL,
              {"", "verbs: 'select' tables: 'users'", "regex: 'u.*rs'", "user: 'ann' share: 0.5",
               "fingerprint: '0123456789abcdef'", "tables: 'images' database: 'shop'"});
  const std::string select = "select name from users where id = 7 and name <> 'nobody at all'";
  const std::string rows = Columns() + Row("ann") + Row("bob") + Done("SELECT 2");
  const std::vector<Line> hello = {{true, Hello()}, {false, Welcome()}};
  const auto none = [&](const std::vector<Line>& before, const std::vector<Line>& round) {
    std::vector<Line> all = hello;
    all.insert(all.end(), before.begin(), before.end());
    ExpectNone(v1::PROTOCOL_POSTGRESQL, *rules, all, round);
  };
  none({}, {{true, Simple(select)}, {false, rows + Ready()}});
  none({}, {{true, Simple("begin")},
            {false, Done("BEGIN") + Ready('T')},
            {true, Simple(select)},
            {false, rows + Ready('T')},
            {true, Simple("commit")},
            {false, Done("COMMIT") + Ready()}});
  none({}, {{true, Parse("", select) + Bind("", "") + Describe('P', "") + Execute() + Sync()},
            {false, Message('1') + Message('2') + rows + Ready()}});
  none({{true, Parse("named", select) + Sync()}, {false, Message('1') + Ready()}},
       {{true, Bind("", "named") + Execute() + Sync()},
        {false, Message('2') + Row("ann") + Done("SELECT 1") + Ready()}});
  none({{true, Simple("prepare named as " + select)}, {false, Done("PREPARE") + Ready()}},
       {{true, Simple("execute named")}, {false, rows + Ready()}});
}

TEST_F(Allocations, AreNoneForMysql) {
  const auto rules = RulesOf(v1::PROTOCOL_MYSQL, {"", "verbs: 'select' tables: 'users'",
                                                  "regex: 'u.*rs'", "user: 'ann' share: 0.5"});
  const std::string select = "select name from users where id = 7 and name <> 'nobody at all'";
  std::vector<Line> before = LoggedIn(kUsual);
  const Line ok = {false, Packet(1, kOkPacket)};
  ExpectNone(v1::PROTOCOL_MYSQL, *rules, before, {{true, Packet(0, "\x03" + select)}, ok});
  before.push_back({true, Packet(0, "\x16" + select)});
  before.push_back({false, Packet(1, "\0\x01\0\0\0\0\0\0\0\0\0\0"s)});
  ExpectNone(v1::PROTOCOL_MYSQL, *rules, before,
             {{true, Packet(0, "\x17\x01\0\0\0\0\x01\0\0\0"s)}, ok});
  before.push_back({true, Packet(0, "\x03prepare named from 'select 1'")});
  before.push_back(ok);
  ExpectNone(v1::PROTOCOL_MYSQL, *rules, before, {{true, Packet(0, "\3execute named")}, ok});
}

TEST_F(Allocations, AreNoneForRedis) {
  const auto rules = RulesOf(v1::PROTOCOL_REDIS, {"", "verbs: 'get' tables: 'user:*'",
                                                  "regex: 'user:[0-9]+'", "share: 0.5"});
  const std::string get = "*2\r\n$3\r\nGET\r\n$31\r\nuser:7:with-a-name-that-is-long\r\n";
  ExpectNone(v1::PROTOCOL_REDIS, *rules, {}, {{true, get}, {false, "$3\r\nann\r\n"}});
  ExpectNone(v1::PROTOCOL_REDIS, *rules, {},
             {{true, "*1\r\n$5\r\nMULTI\r\n" + get + "*1\r\n$4\r\nEXEC\r\n"},
              {false, "+OK\r\n+QUEUED\r\n*1\r\n$3\r\nann\r\n"}});
}

TEST_F(Allocations, AreNoneForHttp) {
  const auto rules = RulesOf(v1::PROTOCOL_HTTP, {"", "verbs: 'get' tables: '/api/users/*'",
                                                 "regex: 'users/[0-9]+'", "share: 0.5"});
  const std::string host = " HTTP/1.1\r\nHost: shop\r\n";
  const std::string chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nann\r\n0\r\n\r\n";
  ExpectNone(v1::PROTOCOL_HTTP, *rules, {},
             {{true, "GET /api/users/7?with=a-question-that-is-long" + host + "\r\n"},
              {false, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nann"},
              {true, "POST /api/users/7" + host + chunks},
              {false, "HTTP/1.1 200 OK\r\n" + chunks}});
}

}  // namespace
}  // namespace firedrill::wire
