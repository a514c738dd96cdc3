// Our sessions of a real PostgreSQL server.
#include "injector/os/postgres.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

// Under load the answer and the end arrive together, or nothing is being waited for at all.
TEST(PostgresSessionTest, SaysWhyTheServerHasEndedItAlsoBetweenTwoStatements) {
  const auto server = PostgresServer::Start();
  ASSERT_NE(server, nullptr);
  PostgresAccount account;
  account.host = server->folder();
  account.port = server->port();
  account.user = "postgres";
  account.database = "postgres";
  for (const bool answered : {true, false}) {
    auto session =
        PostgresSession::Open(account, "firedrill:test", {}, Patience(absl::Seconds(20)));
    ASSERT_TRUE(session.ok()) << session.status();
    const std::string pid = absl::StrCat((*session)->backend_pid());
    ASSERT_TRUE((*session)->Send("SELECT 1").ok());
    ASSERT_TRUE(Within(absl::Seconds(20), [&] {
      return server->Number(
                 "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT 1' AND "
                 "state = 'idle' AND pid = " +
                 pid) == 1;
    }));
    while (answered && !(*session)->Quiet()) ASSERT_TRUE((*session)->Drain().ok());
    server->Run("SELECT pg_terminate_backend(" + pid + ", 20000)");
    absl::Status end;
    EXPECT_TRUE(Within(absl::Seconds(20), [&] {
      end = (*session)->Drain();
      return !end.ok();
    }));
    EXPECT_EQ(SqlState(end), "57P01") << end;
    EXPECT_FALSE((*session)->usable());
  }
}

}  // namespace
}  // namespace firedrill
