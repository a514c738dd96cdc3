// Faults on live traffic, with the real worker between real clients and a real server. Redirects
// need root; without it they must be refused.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/time_proto.h"
#include "injector/faults/wire/interception.h"
#include "injector/os/connect_redirect.h"
#include "tests/testing/child.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

using Session = std::unique_ptr<PGconn, decltype(&PQfinish)>;

Session Connect(int port) {
  const std::string target = absl::StrCat(
      "host=127.0.0.1 port=", port,
      " user=postgres password=postgres dbname=postgres connect_timeout=10 sslmode=disable "
      "gssencmode=disable application_name=client");
  return Session(PQconnectdb(target.c_str()), PQfinish);
}

struct Answer {
  bool ok = false;
  std::string code;
  absl::Duration took;
};
Answer Ask(const Session& session, const std::string& sql) {
  const absl::Duration begin = RealClock().Boot();
  PGresult* result = PQexec(session.get(), sql.c_str());
  Answer answer;
  answer.took = RealClock().Boot() - begin;
  answer.ok =
      PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
  const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  if (code != nullptr) answer.code = code;
  PQclear(result);
  return answer;
}
// The fastest of a few: what the machine does meanwhile is no matter then.
absl::Duration Fastest(const Session& session, const std::string& sql) {
  absl::Duration fastest = absl::InfiniteDuration();
  for (int i = 0; i < 5; ++i) {
    const Answer answer = Ask(session, sql);
    EXPECT_TRUE(answer.ok) << PQerrorMessage(session.get());
    fastest = std::min(fastest, answer.took);
  }
  return fastest;
}

constexpr absl::Duration kDelay = absl::Milliseconds(150);
constexpr char kUsers[] = "SELECT count(*) FROM users";
constexpr char kImages[] = "SELECT count(*) FROM images";

class WireFaults : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    WireWorker::SetProgram(FIREDRILL_BINARY_DIR "/firedrill-wire");
    server_ = PostgresServer::Start().release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE TABLE users (id int); CREATE TABLE images (id int)");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    may_redirect_ = ConnectRedirect::Check("").ok();
    node_.mutable_spec.set_name("node-of-test");
    node_.AddProfile("shop-db", "127.0.0.1", server_->port(), "postgres", "");
  }
  void TearDown() override { WireWorker::Tidy(); }

  template <typename Message>
  void Aim(Message* message) {
    message->set_profile("shop-db");
    if (may_redirect_) {
      port_ = server_->port();
      return;
    }
    port_ = FreePort();
    message->set_listen(absl::StrCat("127.0.0.1:", port_));
  }
  v1::Fault DelayUsers() {
    v1::Fault fault;
    Aim(fault.mutable_delay_queries());
    fault.mutable_delay_queries()->mutable_match()->add_tables("users");
    *fault.mutable_delay_queries()->mutable_delay() = ToProto(kDelay);
    return fault;
  }
  std::unique_ptr<Fault> Put(const v1::Fault& message, const std::string& name = "it",
                             absl::Duration lasts = absl::Seconds(60)) {
    auto fault = MakeFault(message);
    EXPECT_TRUE(fault.ok()) << fault.status();
    EXPECT_EQ((*fault)->Validate(node_), absl::OkStatus());
    NoChanges changes;
    EXPECT_EQ((*fault)->Apply(StageContext(name, absl::Seconds(10), lasts), node_, changes),
              absl::OkStatus());
    return *std::move(fault);
  }
  v1::Observation Look(const std::unique_ptr<Fault>& fault) {
    const auto seen = fault->Observe(StageContext("it"), node_);
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.ok() ? *seen : v1::Observation();
  }
  void ExpectGone(const std::unique_ptr<Fault>& fault, const std::string& name = "it") {
    fault->Release();
    const absl::Status gone = fault->ReadBack(StageContext(name), node_);
    EXPECT_TRUE(gone.ok()) << gone;
  }
  Session Client() {
    Session session = Connect(port_);
    EXPECT_EQ(PQstatus(session.get()), CONNECTION_OK) << PQerrorMessage(session.get());
    return session;
  }

  static inline PostgresServer* server_ = nullptr;
  bool may_redirect_ = false;
  int port_ = 0;
  StageNode node_;
};

TEST_F(WireFaults, DelaysOneTableAndNoOther) {
  const auto fault = Put(DelayUsers());
  const Session client = Client();
  EXPECT_FALSE(Look(fault).reached()) << "nothing was met yet";
  EXPECT_LT(Fastest(client, kImages), kDelay / 2);
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  const v1::Observation seen = Look(fault);
  EXPECT_TRUE(seen.reached()) << seen.detail();
  EXPECT_EQ(seen.requested(), 150);
  EXPECT_GE(seen.real(), 150);
  EXPECT_EQ(seen.figures().at("hit"), 1);
  ExpectGone(fault);
  EXPECT_LT(Fastest(client, kUsers), kDelay / 2) << "the same connection goes on untouched";
}

TEST_F(WireFaults, BringsPooledConnectionsThroughTheFault) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  v1::Fault message = DelayUsers();
  const Session pooled = Client();
  EXPECT_LT(Fastest(pooled, kUsers), kDelay / 2);
  const auto without = Put(message);
  EXPECT_LT(Fastest(pooled, kUsers), kDelay / 2) << "it was there before";
  ExpectGone(without);

  message.mutable_delay_queries()->set_reconnect(true);
  const auto fault = Put(message);
  EXPECT_FALSE(Ask(pooled, kUsers).ok) << "its connection was ended";
  PQreset(pooled.get());
  EXPECT_GE(Ask(pooled, kUsers).took, kDelay);
  EXPECT_GE(Look(fault).figures().at("reconnected"), 1);
  ExpectGone(fault);
}

TEST_F(WireFaults, AddUpAndAreTakenBackOneByOne) {
  const auto users = Put(DelayUsers(), "users");
  v1::Fault failing;
  *failing.mutable_fail_queries()->mutable_profile() = "shop-db";
  failing.mutable_fail_queries()->set_listen(DelayUsers().delay_queries().listen());
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  failing.mutable_fail_queries()->mutable_match()->add_tables("images");
  failing.mutable_fail_queries()->set_error("57014");
  const auto images = Put(failing, "images");
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  EXPECT_EQ(Ask(client, kImages).code, "57014");
  EXPECT_FALSE(users->ReadBack(StageContext("users"), node_).ok());
  ExpectGone(users, "users");
  EXPECT_LT(Fastest(client, kUsers), kDelay / 2);
  EXPECT_EQ(Ask(client, kImages).code, "57014") << "the other fault stays";
  EXPECT_TRUE(Look(images).reached());
  ExpectGone(images, "images");
  EXPECT_TRUE(Ask(client, kImages).ok);
}

TEST_F(WireFaults, ADrainingWorkerIsUsedAgain) {
  v1::Fault message = DelayUsers();
  auto first = Put(message);
  const Session client = Client();
  ExpectGone(first);
  first.reset();
  EXPECT_LT(Fastest(client, kUsers), kDelay / 2);
  const auto second = Put(message, "again");
  EXPECT_GE(Ask(client, kUsers).took, kDelay) << "its connection is still carried";
  ExpectGone(second, "again");
}

TEST_F(WireFaults, BringsBackWhatTheWorkerOfAnEarlierRunStillCarries) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  v1::Fault message = DelayUsers();
  const auto earlier = Put(message);
  const Session pooled = Client();
  EXPECT_GE(Ask(pooled, kUsers).took, kDelay);
  ExpectGone(earlier);
  // Another node's workers are as strange to this one as those of an injector that is gone.
  node_.mutable_spec.set_name("another-node");
  message.mutable_delay_queries()->set_reconnect(true);
  const auto fault = Put(message, "again");
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return !Ask(pooled, kImages).ok; }));
  PQreset(pooled.get());
  EXPECT_GE(Ask(pooled, kUsers).took, kDelay);
  ExpectGone(fault, "again");
}

TEST_F(WireFaults, EndsByItselfWhenItsTimeIsOver) {
  const auto fault = Put(DelayUsers(), "it", absl::Milliseconds(600));
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  EXPECT_TRUE(Within(absl::Seconds(3), [&] { return Ask(client, kUsers).took < kDelay / 2; }));
  EXPECT_TRUE(fault->ReadBack(StageContext("it"), node_).ok());
}

TEST_F(WireFaults, AKilledOrStoppedWorkerLeavesNothing) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    v1::Fault message = DelayUsers();
    const auto fault = Put(message);
    ASSERT_EQ(PQstatus(Client().get()), CONNECTION_OK);
    pid_t pid = 0;
    {
      const auto way = FindWay(StageContext("it"), node_, InterceptionOf(message.delay_queries()));
      ASSERT_TRUE(way.ok());
      const auto worker = WireWorker::Find(way->key);
      ASSERT_NE(worker, nullptr);
      pid = worker->pid();
    }
    kill(pid, signal);
    const absl::Duration begin = RealClock().Boot();
    EXPECT_TRUE(Within(absl::Seconds(6), [&] {
      return fault->ReadBack(StageContext("it"), node_).ok();
    })) << signal;
    if (may_redirect_) {
      EXPECT_LT(Fastest(Client(), kUsers), kDelay / 2) << "connects go direct";
    }
    const absl::Status over = fault->Observe(StageContext("it"), node_).status();
    EXPECT_TRUE(absl::IsAborted(over)) << over;
    EXPECT_THAT(std::string(over.message()),
                HasSubstr(signal == SIGKILL ? "was killed by signal 9" : "does not answer"));
    ExpectGone(fault);
    EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(9));
  }
}

TEST_F(WireFaults, FailsWithTheServersOwnCodes) {
  v1::Fault message;
  Aim(message.mutable_fail_queries());
  message.mutable_fail_queries()->mutable_match()->add_tables("users");
  message.mutable_fail_queries()->set_error("40P01");
  const auto fault = Put(message);
  const Session client = Client();
  EXPECT_EQ(Ask(client, kUsers).code, "40P01");
  EXPECT_TRUE(Ask(client, kImages).ok) << "the session lives on";
  EXPECT_TRUE(Look(fault).reached());
  ExpectGone(fault);
  EXPECT_TRUE(Ask(client, kUsers).ok);
}

TEST_F(WireFaults, StallsAndGoesOnWhereItStopped) {
  v1::Fault message;
  Aim(message.mutable_stall_connections());
  const auto fault = Put(message);
  std::atomic<bool> answered = false;
  std::jthread client([&] { answered = Ask(Client(), kUsers).ok; });
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Look(fault).reached(); }));
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_FALSE(answered);
  ExpectGone(fault);
  client.join();
  EXPECT_TRUE(answered) << "no byte is lost, nothing was closed";
}

TEST_F(WireFaults, LeaksUntilItIsHealed) {
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

TEST_F(WireFaults, ResetsIdleConnectionsOnce) {
  v1::Fault message;
  Aim(message.mutable_reset_connections());
  auto fault = MakeFault(message);
  ASSERT_TRUE(fault.ok());
  auto& prepares = dynamic_cast<Prepares&>(**fault);
  ASSERT_TRUE(prepares.Prepare(StageContext("it"), node_).ok());
  const Session idle = Client();
  NoChanges changes;
  ASSERT_EQ((*fault)->Apply(StageContext("it"), node_, changes), absl::OkStatus());
  EXPECT_FALSE(Ask(idle, kUsers).ok);
  EXPECT_TRUE(Look(*fault).reached());
  EXPECT_TRUE(Ask(Client(), kUsers).ok);
  ExpectGone(*fault);
}

TEST_F(WireFaults, ThrottlesAndDelaysBytes) {
  v1::Fault message;
  Aim(message.mutable_throttle_bytes());
  message.mutable_throttle_bytes()->set_rate(200'000);
  message.mutable_throttle_bytes()->set_direction(v1::BYTE_DIRECTION_TO_CLIENT);
  const auto throttle = Put(message);
  {
    const Session client = Client();
    Look(throttle);
    const Answer answer = Ask(client, "SELECT repeat('x', 200000)");
    EXPECT_TRUE(answer.ok);
    EXPECT_GT(answer.took, absl::Milliseconds(500));
    const v1::Observation seen = Look(throttle);
    EXPECT_TRUE(seen.reached()) << seen.detail();
  }
  ExpectGone(throttle);

  v1::Fault delay;
  Aim(delay.mutable_delay_bytes());
  *delay.mutable_delay_bytes()->mutable_delay() = ToProto(absl::Milliseconds(20));
  const auto slow = Put(delay);
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, absl::Milliseconds(40)) << "there and back";
  EXPECT_TRUE(Look(slow).reached()) << Look(slow).detail();
  ExpectGone(slow);
}

TEST_F(WireFaults, ClientsSeeForThemselvesThatTheServerRefuses) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  const auto fault = Put(DelayUsers());
  ASSERT_TRUE(Ask(Client(), kUsers).ok);
  server_->Stop();
  EXPECT_TRUE(Within(absl::Seconds(5), [&] {
    const Session refused = Connect(port_);
    return absl::StrContains(PQerrorMessage(refused.get()), "Connection refused");
  }));
  ASSERT_TRUE(server_->StartAgain());
  EXPECT_TRUE(Within(absl::Seconds(10), [&] {
    const Session client = Connect(port_);
    return PQstatus(client.get()) == CONNECTION_OK && Ask(client, kUsers).took >= kDelay;
  })) << "and again through the fault when it is back";
  ExpectGone(fault);
}

TEST_F(WireFaults, RefusesWhatItCannotSeeOrUndo) {
  const auto refusal = [&](const v1::Fault& message) {
    const absl::Status status = (*MakeFault(message))->Validate(node_);
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  };
  v1::Fault message = DelayUsers();
  node_.AddProfile("by-socket", server_->folder(), server_->port(), "postgres", "");
  message.mutable_delay_queries()->set_profile("by-socket");
  EXPECT_THAT(refusal(message), HasSubstr("TCP address"));

  node_.AddProfile("secret", "127.0.0.1", server_->port(), "postgres", "");
  node_.mutable_spec.mutable_profiles(2)->mutable_postgresql()->set_ssl_mode("verify-full");
  message.mutable_delay_queries()->set_profile("secret");
  EXPECT_THAT(refusal(message), HasSubstr("demands TLS"));

  v1::Profile* tcp = node_.mutable_spec.add_profiles();
  tcp->set_name("raw");
  tcp->mutable_tcp()->set_host("127.0.0.1");
  tcp->mutable_tcp()->set_port(server_->port());
  message.mutable_delay_queries()->set_profile("raw");
  EXPECT_THAT(refusal(message), HasSubstr("without a protocol"));

  message = DelayUsers();
  message.mutable_delay_queries()->set_listen("127.0.0.1:6432");
  message.mutable_delay_queries()->set_reconnect(true);
  EXPECT_THAT(refusal(message), HasSubstr("leave them out"));

  message = DelayUsers();
  message.mutable_delay_queries()->clear_listen();
  message.mutable_delay_queries()->set_client_user("no-such-user");
  EXPECT_THAT(refusal(message), HasSubstr("no-such-user"));

  message = DelayUsers();
  message.mutable_delay_queries()->mutable_match()->set_regex("(");
  auto fault = *MakeFault(message);
  EXPECT_FALSE(dynamic_cast<Prepares&>(*fault).Prepare(StageContext("it"), node_).ok());
}

}  // namespace
}  // namespace firedrill
