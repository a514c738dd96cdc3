// Which statements change what a name of MySQL's SQL stands for, and what they say it is.
#include "injector/wire/codecs/mysql_sql.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "injector/wire/codec.h"

namespace firedrill::wire {
namespace {

using Kind = MysqlNaming;

TEST(MysqlSql, ReadsWhatAStatementIsPreparedFrom) {
  const std::vector<std::pair<std::string, std::string>> texts = {
      {R"('select 1')", "select 1"},
      {R"("select 'a', ""b""" ;)", R"(select 'a', "b")"},
      {R"('it''s' ' one'"!" -- not this)", "it's one!"},
      {R"('\'a\"\\b\n\t\0\Z\r\b\x' # nor this)", std::string("'a\"\\b\n\t\0\x1a\r\bx", 12)},
      {R"('like "5\%\_"')", R"(like "5\%\_")"},
      {R"(/* a */'' /* b */)", ""},
  };
  for (const auto& [literal, text] : texts) {
    for (const std::string& sql : {"PREPARE s FROM" + literal, "execute IMMEDIATE\n" + literal}) {
      const MysqlNaming naming = ReadMysqlNaming(sql, false, true);
      EXPECT_EQ(naming.kind, sql[0] == 'P' ? Kind::kPrepare : Kind::kImmediate) << sql;
      EXPECT_EQ(naming.text, text) << sql;
      EXPECT_FALSE(naming.cut);
    }
  }
  EXPECT_EQ(ReadMysqlNaming(R"(prepare s from 'a\b''c\')", false, false).text, R"(a\b'c\)");
  EXPECT_EQ(ReadMysqlNaming("execute immediate 'a' using 1, 'b'", false, true).text, "a");
}

TEST(MysqlSql, FoldsNames) {
  for (const std::string name : {"aB_1$", "`Ab_1$`", "/**/ab_1$", "\"AB_1$\""}) {
    for (const auto& [sql, kind] : std::vector<std::pair<std::string, Kind::Kind>>{
             {" prepare " + name + " from 'x'; select 2", Kind::kPrepare},
             {"-- a\n#b\n/* c */execute " + name + " using @a , 'b'", Kind::kExecute},
             {"EXECUTE " + name + ";", Kind::kExecute},
             {"deallocate prepare " + name, Kind::kForget},
             {"DROP PREPARE " + name, Kind::kForget}}) {
      const MysqlNaming naming = ReadMysqlNaming(sql, false, true);
      EXPECT_EQ(naming.kind, kind) << sql;
      EXPECT_EQ(naming.Name(), "ab_1$") << sql;
    }
  }
  EXPECT_EQ(ReadMysqlNaming("execute `a``\"b`", false, true).Name(), "a`\"b");
}

TEST(MysqlSql, WhatCannotBeKnownIsNotGuessed) {
  for (const std::string sql :
       {"prepare s from @prepare", "prepare s from concat('a', 'b')", "prepare s from 'a' || 'b'",
        "prepare s from _utf8'a'", "prepare s from N'a'", "prepare s from 'a",
        "prepare s from 'a\\", "prepare s from /*!50000 'a' */ 'b'"}) {
    EXPECT_EQ(ReadMysqlNaming(sql, false, true).kind, Kind::kForget) << sql;
  }
  for (const std::string sql :
       {"prepare \xc3\xa4 from 'a'", "prepare `\xc3\xa4` from 'a'", "drop prepare \xc3\xa4",
        "prepare s from 'a'; prepare t from 'b'", "deallocate prepare s; Prepare t from 'b'",
        "prepare /*!50000 s */ from 'a'"}) {
    EXPECT_EQ(ReadMysqlNaming(sql, false, true).kind, Kind::kForgetAll) << sql;
  }
  EXPECT_EQ(ReadMysqlNaming("prepare " + std::string(65, 'a') + " from 'a'", false, true).kind,
            Kind::kForgetAll);
  for (const std::string sql :
       {"", "execute", "execute s t", "execute s; select 1", "execute immediate @v",
        "execute immediate 'a'; select 1", "execute \xc3\xa4", "execute `s", "drop table prepare",
        "delete", "deallocate s", "select 1", "--", "/*", "xa prepare 'a'"}) {
    EXPECT_EQ(ReadMysqlNaming(sql, false, true).kind, Kind::kNone) << sql;
  }
}

TEST(MysqlSql, ABeginningIsSaidToBeOne) {
  const std::string sql = "prepare s from '" + std::string(kMaxText, 'x');
  for (const std::string end : {"", "\\"}) {
    const MysqlNaming naming = ReadMysqlNaming(sql.substr(0, 1000) + end, true, true);
    EXPECT_EQ(naming.kind, Kind::kPrepare);
    EXPECT_EQ(naming.text, std::string(1000 - 16, 'x'));
    EXPECT_TRUE(naming.cut);
  }
}

TEST(MysqlSql, KnowsWhatMayNameSomethingFarBehind) {
  for (const std::string sql :
       {"select 1; PREPARE s from 'a'", "begin not atomic select 1; drop prepare s; end",
        "/*!50717 Deallocate Prepare s */", "/*M! PREPARE s FROM @a */"}) {
    EXPECT_TRUE(MayName(sql)) << sql;
  }
  for (const std::string sql :
       {"select 'prepare'", "select 1; select 2", "select /*! 1 */", "select 'prepared';"}) {
    EXPECT_FALSE(MayName(sql)) << sql;
  }
}

TEST(MysqlSql, ReadsWhoseQueryIsKilled) {
  EXPECT_EQ(KilledQuery("KILL QUERY 7"), 7u);
  EXPECT_EQ(KilledQuery(" /* x */ kill soft\tquery 12345678901 ; "), 12345678901u);
  EXPECT_EQ(KilledQuery("KILL HARD QUERY 7 -- now"), 7u);
  for (const char* sql : {"KILL 7", "KILL CONNECTION 7", "KILL QUERY ID 7", "KILL QUERY USER ann",
                          "KILL QUERY 7; SELECT 1", "KILL QUERY", "KILLQUERY 7", "KILL QUERY 7x",
                          "SELECT 'KILL QUERY 7'", ""}) {
    EXPECT_EQ(KilledQuery(sql), 0u) << sql;
  }
}

TEST(MysqlSql, ReadsTheDatabaseOfUse) {
  EXPECT_EQ(UsedDatabase("use shop"), "shop");
  EXPECT_EQ(UsedDatabase(" USE `a-b` ; "), "a-b");
  EXPECT_EQ(UsedDatabase("/* app */ use other"), "other");
  EXPECT_EQ(UsedDatabase("# app\nuse/**/other -- c"), "other");
  EXPECT_EQ(UsedDatabase("use`other`;;"), "other");
  EXPECT_EQ(UsedDatabase("use a; drop table b"), "");
  EXPECT_EQ(UsedDatabase("use index"), "index");
  EXPECT_EQ(UsedDatabase("user"), "");
  EXPECT_EQ(UsedDatabase("select 1"), "");
}

}  // namespace
}  // namespace firedrill::wire
