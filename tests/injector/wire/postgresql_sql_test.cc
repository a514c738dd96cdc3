// Which statements the server takes data for, and which end a transaction.
#include "injector/wire/codecs/postgresql_sql.h"

#include <gtest/gtest.h>

namespace firedrill::wire::postgresql {
namespace {

TEST(PostgresqlSql, ACopyFromTheClientIsTold) {
  for (const absl::string_view text :
       {"copy t from stdin", "COPY t FROM STDIN;", "copy t from stdout",
        "/* a */ copy -- b\n binary \"a b\" . \"from\" (\"x\"\"(\", y) from /**/stdin with csv",
        "copy t(a)from stdin", "select 1; copy t from stdin", "copy t from stdin; select 1",
        // Not understood, and so perhaps.
        "/* /* */ */ copy t from stdin", "copy u&\"t\" from stdin", "copy t (aaaa"}) {
    EXPECT_TRUE(CopiesIn(text)) << text;
  }
}

TEST(PostgresqlSql, NothingElseIs) {
  for (const absl::string_view text :
       {"select 'copy', 'stdin'", "insert into copy values ('stdin')", "copy t to stdout",
        "copy t (a) to stdout", "copy (select 'from stdin') to stdout", "copy t from '/stdin'",
        "copy t from program 'stdin'", "-- copy t from stdin\nselect 1 ;  ", "",
        "select 1; select 2", "copystdin"}) {
    EXPECT_FALSE(CopiesIn(text)) << text;
  }
}

TEST(PostgresqlSql, ACommitEndsThisTransactionAndNothingElse) {
  for (const absl::string_view text : {"commit", " /* a */ COMMIT work; ", "End Transaction ;;",
                                       "commit and chain", "end and no chain"}) {
    EXPECT_TRUE(Commits(text)) << text;
  }
  for (const absl::string_view text :
       {"commit prepared 'x'", "commit; select 1", "select 1; commit", "rollback", "", "committed",
        "endless", "commit 'x'", "/* commit", "create table commit (a int)"}) {
    EXPECT_FALSE(Commits(text)) << text;
  }
}

}  // namespace
}  // namespace firedrill::wire::postgresql
