// Which requests rules hit.
#include "injector/wire/rules.h"

#include <gmock/gmock.h>
#include <rapidcheck.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/text_format.h"
#include "injector/wire/sql_facts.h"

namespace firedrill::wire {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

Rule Meaning(const std::string& match) {
  Rule rule;
  rule.name = "slow";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(match, &rule.match)) << match;
  rule.delay.emplace();
  rule.delay->mutable_delay()->set_nanos(200'000'000);
  return rule;
}

std::unique_ptr<Rules> Compiled(const std::vector<Rule>& rules, uint64_t seed = 1,
                                v1::Protocol protocol = v1::PROTOCOL_POSTGRESQL) {
  auto compiled = Rules::Compile(protocol, rules, seed);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return std::move(*compiled);
}

Request Sql(absl::string_view text) {
  Request request;
  request.text = text;
  request.user = "ann";
  request.database = "shop";
  return request;
}

bool Hits(const std::string& match, const Request& request, v1::Protocol protocol) {
  const auto rules = Compiled({Meaning(match)}, 1, protocol);
  const bool first = rules->Decide(request).hit == 1;
  // The second time it is remembered.
  EXPECT_EQ(rules->Decide(request).hit == 1, first) << request.text;
  return first;
}

bool Hits(const std::string& match, absl::string_view text,
          v1::Protocol protocol = v1::PROTOCOL_POSTGRESQL) {
  return Hits(match, Sql(text), protocol);
}

// A command of Redis.
bool HitsWords(const std::string& match, const std::vector<std::string>& words) {
  const std::string text = absl::StrJoin(words, " ");
  std::vector<uint16_t> ends;
  size_t end = 0;
  for (const std::string& word : words) {
    end += word.size() + (ends.empty() ? 0 : 1);
    ends.push_back(static_cast<uint16_t>(end));
  }
  Request request = Sql(text);
  request.words = Words(request.text, ends);
  return Hits(match, request, v1::PROTOCOL_REDIS);
}

bool HitsRedis(const std::string& match, absl::string_view line) {
  return HitsWords(match, absl::StrSplit(line, ' '));
}

TEST(Rules, WithoutAnyKeyAllRequestsAreMeantButConnect) {
  EXPECT_TRUE(Hits("", "select 1"));
  EXPECT_TRUE(Hits("", "anything (("));
  Request connect = Sql("");
  connect.connect = true;
  EXPECT_EQ(Compiled({Meaning("")})->Decide(connect).hit, 0u);
  EXPECT_EQ(Compiled({Meaning("verbs: 'connect'")})->Decide(connect).hit, 1u);
  EXPECT_EQ(Compiled({Meaning("verbs: 'connect' user: 'bob'")})->Decide(connect).hit, 0u);
}

TEST(Rules, TheVerbIsTheFirstWordWhateverStandsBeforeIt) {
  for (const std::string text :
       {"select 1", "SELECT 1", "  -- x\n /* y /* z */ */ SeLeCt 1", "((select 1) union select 2)",
        "with a as (select 1) select * from a", "begin; select 1"}) {
    EXPECT_TRUE(Hits("verbs: 'select'", text)) << text;
    EXPECT_TRUE(Hits("verbs: 'Select' verbs: 'x'", text)) << text;
    EXPECT_FALSE(Hits("verbs: 'update'", text)) << text;
  }
  EXPECT_TRUE(Hits("verbs: 'update'", "with a as (select 1) update t set b = 1"));
  EXPECT_TRUE(Hits("verbs: 'with'", "with a as (select 1) update t set b = 1"));
  EXPECT_FALSE(Hits("verbs: 'select'", "with a as (select 1) update t set b = 1"));
  EXPECT_FALSE(Hits("verbs: 'select'", "insert into t select 1"));
}

TEST(Rules, ATableIsFoundWithAndWithoutItsSchema) {
  for (const std::string text :
       {"select * from orders", "select 1 from public.orders o join x on true",
        "insert into Orders values (1)", "update only orders set a = 1", "delete from orders",
        "with a as (delete from orders returning *) select * from a", "truncate a, orders",
        "copy orders from stdin", "drop table a, orders", "lock table orders",
        "comment on table orders is 'x'", "select 1 where exists (select 1 from a, \"orders\")"}) {
    EXPECT_TRUE(Hits("tables: 'orders'", text)) << text;
    EXPECT_FALSE(Hits("tables: 'order'", text)) << text;
  }
  EXPECT_TRUE(Hits("tables: 'public.orders'", "select 1 from public.orders"));
  EXPECT_TRUE(Hits("tables: 'public.orders'", "select 1 from orders"));
  EXPECT_FALSE(Hits("tables: 'public.orders'", "select 1 from old.orders"));
  EXPECT_FALSE(Hits("tables: 'orders'", "select orders from t"));
  EXPECT_FALSE(Hits("tables: 'orders'", "select 'x from orders' from t"));
  EXPECT_FALSE(Hits("tables: 'orders'", "select '\",\"relname\":\"orders\"' from t"));
}

TEST(Rules, AQuotedNameOfPostgresqlIsAnotherOneThanTheFolded) {
  for (const std::string text : {"select * from \"Users\"", "insert into shop.\"Users\" values (1)",
                                 "with a as (select 1) delete from \"Users\" using a"}) {
    EXPECT_FALSE(Hits("tables: 'users'", text)) << text;
    EXPECT_TRUE(Hits("tables: 'Users'", text)) << text;
    EXPECT_FALSE(Hits("tables: 'USERS'", text)) << text;
  }
  // Without quotes, case says nothing.
  for (const std::string match : {"tables: 'users'", "tables: 'Users'", "tables: 'USERS'"}) {
    EXPECT_TRUE(Hits(match, "select * from USERS")) << match;
    EXPECT_TRUE(Hits(match, "select * from \"users\"")) << match;
  }
  EXPECT_TRUE(Hits("tables: 'Shop.users'", "select * from shop.Users"));
}

TEST(Rules, ANameThatWithDefinesIsNoTable) {
  for (const std::string text :
       {"with orders as (select 1) select * from orders",
        "with orders as (select 1), b as (select * from orders) select * from b",
        "with recursive orders as (select 1 union select * from orders) select * from orders",
        "with orders as (select 1) insert into t select * from orders",
        "select 1 from t where a in (with orders as (select 1) select * from orders)"}) {
    EXPECT_FALSE(Hits("tables: 'orders'", text)) << text;
  }
  for (const std::string text :
       {"with orders as (select * from orders) select * from orders",
        "with orders as (select 1) select * from public.orders",
        "with orders as (select 1) insert into orders values (1)",
        "with a as (select 1) update orders set b = 1", "with a as (select 1) delete from orders",
        "with b as (select * from orders), orders as (select 1) select * from b",
        "with orders as (select 1) select 1; select * from orders",
        "create table x as with a as (select * from orders) select * from a",
        "copy (with a as (select 1) select * from a, orders) to stdout",
        "with a as (select 1) merge into orders using a on true when matched then delete",
        "select * from orders where a in (with orders as (select 1) select * from orders)",
        "create table orders as with a as (select 1) select * from a",
        "create view orders as with a as (select 1) select * from a"}) {
    EXPECT_TRUE(Hits("tables: 'orders'", text)) << text;
  }
}

TEST(Rules, MysqlsTablesAreFoundByWords) {
  for (const std::string text :
       {"select * from `orders` where a = \"x\"",
        "select * from shop.orders o, b",
        "select * from b as x, orders",
        "insert ignore into orders (a) values (1)",
        "replace into orders values (1)",
        "update low_priority orders set a = 'it''s \\' from t'",
        "delete from orders",
        "select 1 # x\n from orders",
        "select /*! 1 */ a from x join orders",
        "with a as (select 1 from orders) select 1",
        "select * from (orders)",
        "select * from (orders join b using (id))",
        "select * from ((a, b), orders)",
        "select * from a left join (orders join b using (id)) using (id)",
        "select @r:=@r+1, u.id from (select @r:=0) r, orders u",
        "select * from a i, (select 1 x) y, orders u",
        "select * from a straight_join orders",
        "select * from a use index (i), orders",
        "select * from a use index for order by (i, j) ignore index (k), orders",
        "select * from a partition (p, q) as x, orders",
        "select * from json_table('[]', '$' columns (a int path '$')) j, orders",
        "select * from a join b on a.id = if(b.id, 1, 2), orders",
        "select 5--1 from orders",
        "select 1 from {oj orders left join a on orders.id = a.id}",
        "insert orders values (3)",
        "insert orders(id) values (3)",
        "insert delayed orders set id = 5",
        "replace orders values (4)",
        "explain orders",
        "describe orders",
        "desc orders id",
        "explain insert orders values (1)",
        "explain select * from orders",
        "create table k like orders",
        "create table if not exists orders (id int)",
        "create unique index j using btree on orders(id)",
        "drop index j on orders",
        "create trigger x before insert on orders for each row set @a = 1",
        "update (orders) set id = 6",
        "update a, orders set orders.id = 6",
        "delete a from a join orders using (id)",
        "delete from a using a, orders",
        "table orders",
        "select * from a where id in (table orders)",
        "select id from a union select 1 from orders",
        "lock tables a read, orders as o write",
        "handler orders open",
        "truncate orders",
        "drop table if exists k, orders",
        "rename table a to b, orders to c",
        "rename table a to orders",
        "load data infile 'x' into table orders (a) set b = 1",
        "optimize table a, orders",
        "select /*!50000 a from orders */",
        "select a /*M! from */ , b from /*!100100 orders */",
        "select 1 from tables, orders",
        "select 1 into @x from orders",
        "set @y = (select 1 from orders)",
        "(select 1 from orders)",
        "select 1; insert orders values (1)",
        "select a from b for update; update orders set c=1"}) {
    EXPECT_TRUE(Hits("tables: 'orders'", text, v1::PROTOCOL_MYSQL)) << text;
    EXPECT_FALSE(Hits("tables: 'order'", text, v1::PROTOCOL_MYSQL)) << text;
  }
  for (const std::string text :
       {"select 'a \\' from orders' from t",
        "insert into t values (1) on duplicate key update orders = 1",
        "insert into t select a from u on duplicate key update b = 1, orders = 2",
        "select * from a join b using (orders)", "select * from a use index (b, orders)",
        "select a, orders from b", "select * from a order by b, orders",
        "select * from a where b in (c, orders)", "update a set b = 1, orders = 2",
        "insert into a (b, orders) values (1, 2)", "select * from a -- orders\n where 1",
        "select * from a, b orders", "select replace(orders, 'a', 'b') from t",
        "create table t (id int, orders int) comment 'a', engine = orders",
        "alter table t add a int, add orders int", "select * from orders(1)"}) {
    EXPECT_FALSE(Hits("tables: 'orders'", text, v1::PROTOCOL_MYSQL)) << text;
  }
}

TEST(Rules, WhatTheParserCannotReadIsMatchedByWords) {
  const auto rules = Compiled({Meaning("tables: 'orders'")});
  EXPECT_EQ(rules->Decide(Sql("select * from orders where a in (1, 2, 'cut he")).hit, 1u);
  EXPECT_EQ(rules->Decide(Sql("select * from orders where a in (1, 2)")).hit, 1u);
}

TEST(Rules, AFingerprintIsPgQuerys) {
  const uint64_t print =
      FactsOf(Dialect::kPostgresql, "select a from t where b = 1", true).fingerprint;
  const std::string match = absl::StrCat("fingerprint: '", absl::Hex(print, absl::kZeroPad16), "'");
  EXPECT_NE(print, 0u);
  EXPECT_TRUE(Hits(match, "SELECT a FROM t WHERE b = 'other'"));
  EXPECT_FALSE(Hits(match, "SELECT a FROM t WHERE c = 1"));
}

TEST(Rules, AFingerprintIsToldAsAMatchWantsIt) {
  const absl::StatusOr<std::string> print = FingerprintOf("select a\nfrom t where b = 1;\n");
  ASSERT_TRUE(print.ok()) << print.status();
  const std::string match = absl::StrCat("fingerprint: '", *print, "'");
  EXPECT_TRUE(Hits(match, "SELECT a FROM t WHERE b = 'other'"));
  EXPECT_FALSE(Hits(match, "SELECT a FROM t WHERE c = 1"));
  const auto why = [](const std::string& text) {
    return std::string(FingerprintOf(text).status().message());
  };
  EXPECT_THAT(why("select from where"), HasSubstr("syntax error at or near \"where\""));
  EXPECT_THAT(why(" -- nothing\n"), HasSubstr("no statement"));
  EXPECT_THAT(why(absl::StrCat("select '", std::string(20000, 'x'), "'")), HasSubstr("regex"));
}

TEST(Rules, EveryRegexIsAskedAboutTheWholeText) {
  const auto rules = Compiled({Meaning("regex: 'a+b$'"), Meaning("regex: '(?i)FROM t'"),
                               Meaning("regex: '^x' verbs: 'select'")});
  EXPECT_EQ(rules->Decide(Sql("select 1 from t aab")).hit, 0b011u);
  EXPECT_EQ(rules->Decide(Sql("select 1 from t aac")).hit, 0b010u);
  EXPECT_EQ(rules->Decide(Sql("x")).hit, 0u);
}

TEST(Rules, UserAndDatabaseAreTheSessions) {
  EXPECT_TRUE(Hits("user: 'ann'", "x"));
  EXPECT_FALSE(Hits("user: 'an'", "x"));
  EXPECT_TRUE(Hits("database: 'shop' user: 'ann'", "x"));
  EXPECT_FALSE(Hits("database: 'shop' user: 'bob'", "x"));
}

TEST(Rules, RedisHasItsKeysInManyPlaces) {
  const auto meant = [](const char* line) { return HitsRedis("tables: 'users'", line); };
  for (const char* line :
       {"GET a", "SET a users", "MSET a users", "BLPOP a b users", "BITOP users d a",
        "SMOVE a b users", "OBJECT users a", "ZUNIONSTORE d 1 a users", "EVAL users 1 a users",
        "EVAL s x users", "XREAD STREAMS a users", "XREAD users", "LMPOP 1 a users",
        "BLMPOP users 1 a left", "PING"}) {
    EXPECT_FALSE(meant(line)) << line;
  }
}

TEST(Rules, RedisKeysAndValuesMayBeEmptyOrHaveBlanks) {
  const auto meant = [](const std::vector<std::string>& words) {
    return HitsWords("tables: 'users'", words);
  };
  EXPECT_TRUE(meant({"MSET", "a", "{\"k\": 1}", "users", "x"}));
  EXPECT_TRUE(meant({"MSET", "", "1", "users", "2"}));
  EXPECT_TRUE(meant({"MSET", "k", "", "users", "2"}));
  EXPECT_TRUE(meant({"MGET", "a b", "users"}));
  EXPECT_TRUE(meant({"EVAL", "return redis.call('get', KEYS[1])", "1", "users"}));
  EXPECT_TRUE(meant({"MIGRATE", "h", "1", "", "0", "10", "KEYS", "a", "users"}));
  EXPECT_FALSE(meant({"SET", "", "users"}));
  EXPECT_FALSE(meant({"SET", "a b c", "users"}));
  EXPECT_FALSE(meant({"GET", "users and more"}));
  EXPECT_FALSE(meant({"MSET", "a b", "users", "c", "d"}));
  EXPECT_TRUE(HitsWords("tables: 'a b'", {"GET", "a b"}));
}

TEST(Rules, RedisMatchesKeysAndHttpPaths) {
  EXPECT_TRUE(HitsRedis("verbs: 'set' tables: 'cart:*'", "SET cart:7 value"));
  EXPECT_FALSE(HitsRedis("tables: 'cart:*'", "SET other cart:7"));
  EXPECT_TRUE(HitsRedis("tables: 'c'", "MGET a b c"));
  EXPECT_TRUE(HitsRedis("tables: 'c'", "MSET a b c d"));
  EXPECT_FALSE(HitsRedis("tables: 'd'", "MSET a b c d"));
  const auto http = v1::PROTOCOL_HTTP;
  EXPECT_TRUE(Hits("verbs: 'GET' tables: '/cart'", "GET /cart?x=1 HTTP/1.1", http));
  EXPECT_TRUE(Hits("tables: '/cart/*'", "POST /cart/7 HTTP/1.1", http));
  EXPECT_FALSE(Hits("tables: '/cart'", "GET /cart/7 HTTP/1.1", http));
  EXPECT_TRUE(Hits("tables: '/cart'", "GET http://shop:80/cart?x=1 HTTP/1.1", http));
  EXPECT_TRUE(Hits("tables: '/'", "GET http://shop HTTP/1.1", http));
  EXPECT_FALSE(Hits("tables: '/cart'", "GET /go?to=http://shop/cart HTTP/1.1", http));
  EXPECT_TRUE(Hits("tables: '/go'", "GET /go?to=http://shop/cart HTTP/1.1", http));
}

TEST(Rules, TheLongestDelayAndTheFirstFailureOfThoseThatHit) {
  Rule longer = Meaning("");
  longer.delay->mutable_delay()->set_nanos(900'000'000);
  Rule failing = Meaning("");
  failing.delay.reset();
  failing.failure.emplace().set_error("57014");
  Rule other = failing;
  other.failure->set_error("40P01");
  const auto rules = Compiled({Meaning(""), longer, failing, other});
  const Decision decision = rules->Decide(Sql("x"));
  EXPECT_EQ(decision.delay, absl::Milliseconds(900));
  ASSERT_NE(decision.failure, nullptr);
  EXPECT_EQ(decision.failure->error(), "57014");
  EXPECT_EQ(decision.hit, 0b1111u);
}

TEST(Rules, AfterAndFirstAreExactWithFourThreads) {
  const auto rules = Compiled({Meaning("after: 1000 first: 777")});
  std::atomic<uint64_t> hits{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 5000; ++n) hits += rules->Decide(Sql("select 1")).hit;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(hits, 777u);
  EXPECT_EQ(rules->CountOf(0).matched, 20000u);
  EXPECT_EQ(rules->CountOf(0).hit, 777u);
}

TEST(Rules, AfterLetsTheFirstOnesPass) {
  const auto rules = Compiled({Meaning("after: 2 first: 2")});
  std::vector<uint64_t> hits;
  for (int i = 0; i < 6; ++i) hits.push_back(rules->Decide(Sql("x")).hit);
  EXPECT_THAT(hits, ::testing::ElementsAre(0, 0, 1, 1, 0, 0));
}

std::vector<int64_t> Course(uint64_t seed) {
  Rule rule = Meaning("share: 0.3");
  rule.delay->mutable_uniform()->mutable_max()->set_seconds(1);
  const auto rules = Compiled({rule}, seed);
  std::vector<int64_t> course;
  for (int i = 0; i < 10000; ++i) {
    const Decision decision = rules->Decide(Sql("select 1"));
    course.push_back(decision.hit == 0 ? -1 : absl::ToInt64Microseconds(decision.delay));
  }
  return course;
}

TEST(Rules, AShareIsThatShareAndTheSeedRepeatsIt) {
  for (uint64_t seed = 1; seed < 20; ++seed) {
    const std::vector<int64_t> course = Course(seed);
    const auto hit = std::count_if(course.begin(), course.end(), [](int64_t d) { return d >= 0; });
    // Five deviations of 10 000 draws.
    EXPECT_NEAR(hit, 3000, 230) << seed;
  }
  EXPECT_EQ(Course(7), Course(7));
  EXPECT_NE(Course(7), Course(8));
}

TEST(Rules, AStatementsNumberIsEnough) {
  const auto rules = Compiled({Meaning("tables: 'orders'")});
  Request request = Sql("select * from orders");
  request.statement = 4711;
  EXPECT_EQ(rules->Decide(request).hit, 1u);
  request.text = "";
  EXPECT_EQ(rules->Decide(request).hit, 1u);
  // Other rules know nothing of it.
  EXPECT_EQ(Compiled({Meaning("tables: 'orders'")})->Decide(request).hit, 0u);
}

TEST(Rules, WrongOnesAreRefusedByNameAndKey) {
  const auto words = [](Rule rule, v1::Protocol protocol = v1::PROTOCOL_POSTGRESQL) {
    return std::string(Rules::Compile(protocol, {std::move(rule)}, 1).status().message());
  };
  EXPECT_THAT(words(Meaning("regex: '('")), HasSubstr("`slow`: `regex` ("));
  EXPECT_THAT(words(Meaning("fingerprint: 'xyz'")), HasSubstr("16 hexadecimal digits"));
  EXPECT_THAT(words(Meaning("fingerprint: '0123456789abcdef'"), v1::PROTOCOL_MYSQL),
              HasSubstr("PostgreSQL"));
  EXPECT_THAT(words(Meaning("user: 'x'"), v1::PROTOCOL_HTTP), HasSubstr("`user`"));
  EXPECT_THAT(words(Meaning(""), v1::PROTOCOL_TCP), HasSubstr("nobody looks into"));
  EXPECT_THAT(words(Meaning("share: 1.5")), HasSubstr("`share`"));
  Rule failing = Meaning("");
  failing.failure.emplace().set_error("1205");
  EXPECT_THAT(words(failing), HasSubstr("SQLSTATE"));
  EXPECT_EQ(words(failing, v1::PROTOCOL_MYSQL), "");
  EXPECT_THAT(words(failing, v1::PROTOCOL_REDIS), HasSubstr("first word"));
  EXPECT_THAT(words(failing, v1::PROTOCOL_HTTP), HasSubstr("HTTP status"));
  failing.failure->set_error("00000");
  EXPECT_THAT(words(failing), HasSubstr("SQLSTATE"));
  EXPECT_FALSE(Rules::Compile(v1::PROTOCOL_POSTGRESQL, std::vector<Rule>(65, failing), 1).ok());
}

// A statement of parts, some of which are literals.
rc::Gen<std::vector<std::string>> Parts() {
  return rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
      "a", "b = ?", "c > ?", "d in (?, ?)", "e like ?", "(f + ?) * g < ?", "h is null"));
}

rc::Gen<std::string> Literal() {
  return rc::gen::oneOf(
      rc::gen::map(rc::gen::inRange(0, 1000000), [](int n) { return std::to_string(n); }),
      rc::gen::map(rc::gen::inRange(0, 1000), [](int n) { return absl::StrCat(n, ".5e+", n % 9); }),
      rc::gen::map(rc::gen::string<std::string>(),
                   [](const std::string& text) {
                     std::string quoted = "'";
                     for (char c : text) {
                       if (c == '\0') continue;
                       quoted += c == '\'' ? "''" : std::string(1, c);
                     }
                     return quoted + "'";
                   }),
      rc::gen::element<std::string>("E'it\\'s'", "$$x ' y$$", "$t$ $$ $t$", "''"));
}

std::string Written(const std::vector<std::string>& parts, const std::string& blank) {
  std::string text = "select x from t where true";
  for (const std::string& part : parts) {
    absl::StrAppend(&text, blank, "and", blank);
    for (char c : part) {
      if (c == '?') {
        text += *Literal();
      } else if (c == ' ') {
        text += blank;
      } else {
        text += c;
      }
    }
  }
  return text;
}

TEST(ShapeLaws, LiteralsCaseAndBlanksAreNoPartOfAShape) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<std::string> parts = *Parts();
    const std::string one = Written(parts, " ");
    const std::string two = "SELECT X" + Written(parts, " /* x */\n ").substr(8);
    for (const Dialect dialect : {Dialect::kPostgresql}) {
      RC_ASSERT(ShapeOf(dialect, one) == ShapeOf(dialect, two));
    }
  }));
}

TEST(ShapeLaws, OneShapeHasOneFingerprint) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<std::string> parts = *Parts();
    const SqlFacts one = FactsOf(Dialect::kPostgresql, Written(parts, " "), true);
    const SqlFacts two = FactsOf(Dialect::kPostgresql, Written(parts, "\n"), true);
    // Texts that are no UTF-8 are none that the parser reads.
    if (!one.by_words && !two.by_words) RC_ASSERT(one.fingerprint == two.fingerprint);
  }));
}

TEST(ShapeLaws, OtherWordsAreAnotherShape) {
  std::vector<std::string> texts = {"select a from t",
                                    "select a from tt",
                                    "select b from t",
                                    "select a from \"T\"",
                                    "select a from t where b = $1",
                                    "select a from t where b = $2",
                                    "select ab from t",
                                    "select a b from t",
                                    "select a, b from t",
                                    "select é from t",
                                    "select É from t",
                                    "set a = 'x'",
                                    "set a = 'y'",
                                    "select 1; set a = 'x'",
                                    "select 1; set a = 'y'",
                                    ""};
  std::vector<uint64_t> shapes;
  for (const std::string& text : texts) shapes.push_back(ShapeOf(Dialect::kPostgresql, text));
  std::sort(shapes.begin(), shapes.end());
  EXPECT_EQ(std::unique(shapes.begin(), shapes.end()), shapes.end());
}

TEST(ShapeLaws, AnyBytesHaveAShapeAndFacts) {
  EXPECT_TRUE(rc::check([](const std::string& text) {
    for (const Dialect dialect : {Dialect::kPostgresql, Dialect::kMysql}) {
      const std::string odd = absl::StrCat("select /* ", text, "'\"$", text, "`--");
      RC_ASSERT(ShapeOf(dialect, odd) == ShapeOf(dialect, odd));
      FactsOf(dialect, odd, true);
    }
  }));
}

}  // namespace
}  // namespace firedrill::wire
