// leak_connections: what clients close stays open at the server.
#include <poll.h>
#include <sys/socket.h>

#include <initializer_list>

#include "tests/testing/mariadb_stage.h"
#include "tests/testing/redis_server.h"
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

constexpr absl::string_view kPostgresqlGoodbye("X\0\0\0\4", 5);
constexpr absl::string_view kMysqlGoodbye("\1\0\0\0\1", 5);

class LeakConnectionsTest : public WireFaults {
 protected:
  // Says it and stays; or tells the server that nothing more will come, and stays.
  static void Say(int client, absl::string_view goodbye, bool half_close) {
    EXPECT_EQ(send(client, goodbye.data(), goodbye.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(goodbye.size()));
    if (half_close) shutdown(client, SHUT_WR);
  }
  static bool HearsSomething(int client, absl::Duration within) {
    pollfd wait{client, POLLIN, 0};
    return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(within))) > 0;
  }
  // Up to the end, which is to come within 5 seconds.
  static std::string Rest(int client) {
    std::string rest;
    while (HearsSomething(client, absl::Seconds(5))) {
      char bytes[512];
      const ssize_t count = recv(client, bytes, sizeof(bytes), 0);
      if (count <= 0) return absl::StrCat(rest, count == 0 ? "<end>" : "<reset>");
      rest.append(bytes, static_cast<size_t>(count));
    }
    return absl::StrCat(rest, "<silence>");
  }
  // Clients that have said goodbye hear nothing, count as leaked, and hear it all at the end.
  void ExpectAnsweredAtTheEnd(const std::unique_ptr<Fault>& fault,
                              std::initializer_list<int> clients, absl::string_view answer) {
    EXPECT_TRUE(Within(absl::Seconds(5), [&] {
      return Look(fault).real() == static_cast<double>(clients.size());
    })) << Look(fault).detail();
    EXPECT_TRUE(Look(fault).reached());
    for (const int client : clients) EXPECT_FALSE(HearsSomething(client, absl::ZeroDuration()));
    ExpectGone(fault);
    for (const int client : clients) EXPECT_EQ(Rest(client), absl::StrCat(answer, "<end>"));
  }
};

TEST_F(LeakConnectionsTest, LeaksUntilItIsHealed) {
  v1::Fault message;
  Aim(message.mutable_leak_connections());
  const auto fault = Put(message);
  const std::string count =
      "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'client'";
  const int before = server_->Number(count);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Ask(Client(), kUsers).ok);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Look(fault).real() == 3; }));
  EXPECT_EQ(server_->Number(count), before + 3) << "their clients are gone";
  ExpectGone(fault);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return server_->Number(count) == before; }));
}

TEST_F(LeakConnectionsTest, WhoSaidGoodbyeToPostgresqlHearsItsEndWhenHealed) {
  v1::Fault message;
  Aim(message.mutable_leak_connections());
  const auto fault = Put(message);
  const Session waits = Client();
  const Session half_closed = Client();
  Say(PQsocket(waits.get()), kPostgresqlGoodbye, false);
  Say(PQsocket(half_closed.get()), kPostgresqlGoodbye, true);
  ExpectAnsweredAtTheEnd(fault, {PQsocket(waits.get()), PQsocket(half_closed.get())}, "");
}

TEST_F(LeakConnectionsTest, WhoSaidQuitToRedisHearsItsWordWhenHealed) {
  const auto redis = RedisServer::Start();
  ASSERT_NE(redis, nullptr);
  v1::Profile* profile = node_.mutable_spec.add_profiles();
  profile->set_name("cache");
  profile->mutable_redis()->set_host("127.0.0.1");
  profile->mutable_redis()->set_port(redis->port());
  v1::Fault message;
  message.mutable_leak_connections()->set_profile("cache");
  const int port = FreePort();
  message.mutable_leak_connections()->set_listen(absl::StrCat("127.0.0.1:", port));
  const auto fault = Put(message);
  const UniqueFd waits = ConnectToPort(port);
  const UniqueFd half_closed = ConnectToPort(port);
  Say(waits.get(), "QUIT\r\n", false);
  Say(half_closed.get(), "*1\r\n$4\r\nquit\r\n", true);
  ExpectAnsweredAtTheEnd(fault, {waits.get(), half_closed.get()}, "+OK\r\n");
}

TEST_F(LeakConnectionsTest, WhoSaidQuitToMariadbHearsItsEndWhenHealed) {
  const auto mariadb = MariadbServer::Start();
  ASSERT_NE(mariadb, nullptr);
  AddMysqlProfile(node_, "orders", *mariadb, "tester");
  v1::Fault message;
  message.mutable_leak_connections()->set_profile("orders");
  const int port = FreePort();
  message.mutable_leak_connections()->set_listen(absl::StrCat("127.0.0.1:", port));
  const auto fault = Put(message);
  const auto client = [&] {
    std::unique_ptr<MYSQL, decltype(&mysql_close)> session(mysql_init(nullptr), mysql_close);
    EXPECT_NE(mysql_real_connect(session.get(), "127.0.0.1", "tester", "tester", "test",
                                 static_cast<unsigned>(port), nullptr, 0),
              nullptr)
        << mysql_error(session.get());
    return session;
  };
  const auto waits = client();
  const auto half_closed = client();
  const auto socket_of = [](const auto& session) {
    return static_cast<int>(mysql_get_socket(session.get()));
  };
  Say(socket_of(waits), kMysqlGoodbye, false);
  Say(socket_of(half_closed), kMysqlGoodbye, true);
  ExpectAnsweredAtTheEnd(fault, {socket_of(waits), socket_of(half_closed)}, "");
}

}  // namespace
}  // namespace firedrill
