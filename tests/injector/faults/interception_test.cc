// What all faults on live traffic have in common: workers, redirects, refusals.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "base/unique_fd.h"
#include "injector/faults/wire/addresses.h"
#include "injector/os/cgroup.h"
#include "tests/testing/busy_process.h"
#include "tests/testing/counting_server.h"
#include "tests/testing/wire_fault_stage.h"

namespace firedrill {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class InterceptionTest : public WireFaults {};

TEST_F(InterceptionTest, AddUpAndAreTakenBackOneByOne) {
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

TEST_F(InterceptionTest, EachDelayIsJudgedByWhatWasHeldForIt) {
  const v1::Fault longer = DelayUsers();
  v1::Fault shorter = longer;
  shorter.mutable_delay_queries()->mutable_match()->set_tables(0, "images");
  *shorter.mutable_delay_queries()->mutable_delay() = ToProto(absl::Milliseconds(10));
  v1::Fault bytes;
  bytes.mutable_delay_bytes()->set_profile("shop-db");
  bytes.mutable_delay_bytes()->set_listen(longer.delay_queries().listen());
  bytes.mutable_delay_bytes()->set_direction(v1::BYTE_DIRECTION_TO_SERVER);
  *bytes.mutable_delay_bytes()->mutable_delay() = ToProto(absl::Milliseconds(20));
  const auto users = Put(longer, "users");
  const auto images = Put(shorter, "images");
  const Session client = Client();
  EXPECT_GE(Ask(client, kUsers).took, kDelay);
  const auto all = Put(bytes, "bytes");
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(Ask(client, kImages).ok);

  const v1::Observation of_users = Look(users);
  EXPECT_TRUE(of_users.reached()) << "most of what was held was held for others";
  EXPECT_GE(of_users.real(), 150);
  const v1::Observation of_images = Look(images);
  EXPECT_EQ(of_images.requested(), 10);
  EXPECT_TRUE(of_images.reached());
  EXPECT_LT(of_images.real(), 150);
  const v1::Observation of_bytes = Look(all);
  EXPECT_TRUE(of_bytes.reached());
  EXPECT_GE(of_bytes.real(), 20);
  EXPECT_THAT(of_bytes.detail(), HasSubstr("7 times"));
  ExpectGone(users, "users");
  ExpectGone(images, "images");
  ExpectGone(all, "bytes");
}

// As faults of one run that begin together do.
TEST_F(InterceptionTest, ThoseThatComeAtOnceShareAWorker) {
  const v1::Fault delaying = DelayUsers();
  v1::Fault failing;
  failing.mutable_fail_queries()->set_profile("shop-db");
  failing.mutable_fail_queries()->set_listen(delaying.delay_queries().listen());
  failing.mutable_fail_queries()->mutable_match()->add_tables("images");
  failing.mutable_fail_queries()->set_error("57014");
  for (int round = 0; round < 5; ++round) {
    std::unique_ptr<Fault> users, images;
    std::thread one([&] { users = Put(delaying, "users"); });
    std::thread other([&] { images = Put(failing, "images"); });
    one.join();
    other.join();
    const Session client = Client();
    EXPECT_GE(Ask(client, kUsers).took, kDelay);
    EXPECT_EQ(Ask(client, kImages).code, "57014");
    ExpectGone(users, "users");
    ExpectGone(images, "images");
  }
}

// Each would lead the other's connections to itself, in a circle.
TEST_F(InterceptionTest, TwoNodesDoNotTouchEachOthersConnections) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  const v1::Fault message = DelayUsers();
  const auto first = Put(message, "first");
  node_.mutable_spec.set_name("another-node");
  const auto second = Put(message, "second");
  for (int i = 0; i < 3; ++i) {
    const Session client = Client();
    EXPECT_GE(Ask(client, kUsers).took, kDelay);
    EXPECT_LT(Fastest(client, kImages), kDelay / 2);
  }
  // Nobody else's either: these three, and none that a worker has made.
  EXPECT_LE(Look(first).figures().at("open") + Look(second).figures().at("open"), 3);
  ExpectGone(second, "second");
  node_.mutable_spec.set_name("node-of-test");
  ExpectGone(first, "first");
}

TEST_F(InterceptionTest, ADrainingWorkerIsUsedAgain) {
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

TEST_F(InterceptionTest, BringsBackWhatTheWorkerOfAnEarlierRunStillCarries) {
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

TEST_F(InterceptionTest, AServerOfIpv6OnlyIsMetToo) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  const UniqueFd six(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  if (bind(six.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    GTEST_SKIP() << "this machine has no ::1";
  }
  const auto server = PostgresServer::Start({.settings = {"listen_addresses=::1"}});
  ASSERT_NE(server, nullptr);
  server->Run("CREATE TABLE users (id int)");
  const std::string target = absl::StrCat("host=::1 port=", server->port(),
                                          " user=postgres password=postgres dbname=postgres ",
                                          "connect_timeout=10 sslmode=disable gssencmode=disable");
  const auto client = [&] { return Session(PQconnectdb(target.c_str()), PQfinish); };
  const Session pooled = client();
  ASSERT_TRUE(Ask(pooled, kUsers).ok) << PQerrorMessage(pooled.get());
  node_.AddProfile("six", "::1", server->port(), "postgres", "");
  v1::Fault message = DelayUsers();
  message.mutable_delay_queries()->set_profile("six");
  message.mutable_delay_queries()->set_reconnect(true);
  const auto fault = Put(message);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return !Ask(pooled, kUsers).ok; }));
  PQreset(pooled.get());
  EXPECT_GE(Ask(pooled, kUsers).took, kDelay);
  EXPECT_TRUE(Look(fault).reached());
  ExpectGone(fault);
  EXPECT_LT(Fastest(client(), kUsers), kDelay / 2);
}

TEST_F(InterceptionTest, AMappedAddressIsTheIpv4OneThatItStandsFor) {
  node_.AddProfile("mapped", "::ffff:127.0.0.1", server_->port(), "postgres", "");
  const auto way = FindWay(StageContext("it"), node_, {.profile = "mapped"});
  ASSERT_TRUE(way.ok()) << way.status();
  ASSERT_EQ(way->servers.size(), 1u);
  EXPECT_EQ(way->servers[0].ss_family, AF_INET);
  EXPECT_EQ(reinterpret_cast<const sockaddr_in&>(way->servers[0]).sin_addr.s_addr,
            htonl(INADDR_LOOPBACK));
}

// Their clients would be led to ::1, and find nothing there.
TEST_F(InterceptionTest, WithoutAnIpv6LoopbackClientsOfIpv6AddressesAreLeftAlone) {
  const auto left = [](const std::vector<std::string>& hosts) {
    std::vector<sockaddr_storage> addresses;
    for (const std::string& host : hosts) addresses.push_back(*AddressOf(host, 5432));
    const auto words = LeaveOutIpv6("db", &addresses);
    return std::pair(addresses.size(), words.ok() ? *words : words.status().ToString());
  };
  EXPECT_EQ(left({"127.0.0.1", "::1"}), std::pair(size_t{1}, std::string()));
  EXPECT_EQ(left({"2001:db8::5", "192.0.2.5", "2001:db8::6"}).second,
            "; clients of 2001:db8::5, 2001:db8::6 are left alone: this machine has no ::1 to lead "
            "them to");
  EXPECT_THAT(left({"2001:db8::5"}).second, HasSubstr("db has IPv6 addresses only"));

  if (!may_redirect_) GTEST_SKIP() << "needs root";
  bool made = false;
  std::thread([&] {
    // Its loopback is down.
    made = unshare(CLONE_NEWNET) == 0;
    if (!made) return;
    EXPECT_FALSE(HasIpv6Loopback());
    for (const std::string host : {"::1", "2001:db8::5"}) {
      node_.AddProfile(host, host, server_->port(), "postgres", "");
      v1::Fault message;
      message.mutable_stall_connections()->set_profile(host);
      const absl::Status status = (*MakeFault(message))->Validate(node_);
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("use `listen`"));
      EXPECT_FALSE(FindWay(StageContext("it"), node_, {.profile = host}).ok());
      EXPECT_TRUE(
          FindWay(StageContext("it"), node_, {.profile = host, .listen = "127.0.0.1:6432"}).ok());
    }
    EXPECT_EQ(CheckInterception(node_, {.profile = "shop-db"}), absl::OkStatus());
  }).join();
  if (!made) GTEST_SKIP() << "no network namespace can be made here";
}

TEST_F(InterceptionTest, ACgroupMeansThoseInItAndBeneathIt) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  const CgroupHierarchy hierarchy{.version = 2, .mount = *CgroupRoot()};
  const TestGroup group(Cgroup(hierarchy.mount), UniqueGroupName());
  if (!group->IsThere()) GTEST_SKIP() << "no cgroup can be made in " << hierarchy.mount;
  const TestGroup deeper(*group, "deeper");
  const auto home = Cgroup::Of(getpid(), hierarchy);
  ASSERT_TRUE(home.ok()) << home.status();
  // A socket stays with the group that its process was in when it was made.
  const auto in = [&](const Cgroup& where, const auto& connect) {
    EXPECT_EQ(where.Take(getpid()), absl::OkStatus());
    connect();
    EXPECT_EQ(home->Take(getpid()), absl::OkStatus());
  };
  v1::Fault message = DelayUsers();
  message.mutable_delay_queries()->set_cgroup(group->folder());
  message.mutable_delay_queries()->set_reconnect(true);
  const Session outside = Client();
  Session inside(nullptr, PQfinish), beneath(nullptr, PQfinish);
  in(*group, [&] { inside = Client(); });
  in(*deeper, [&] { beneath = Client(); });
  const auto fault = Put(message);
  EXPECT_EQ(Look(fault).figures().at("reconnected"), 2);
  EXPECT_LT(Fastest(outside, kUsers), kDelay / 2);
  EXPECT_LT(Fastest(Client(), kUsers), kDelay / 2);
  const auto expect_met = [&](const Session& session, const Cgroup& its) {
    EXPECT_TRUE(Within(absl::Seconds(5), [&] { return !Ask(session, kImages).ok; }));
    in(its, [&] { PQreset(session.get()); });
    EXPECT_GE(Ask(session, kUsers).took, kDelay) << its.folder();
  };
  expect_met(inside, *group);
  expect_met(beneath, *deeper);
  ExpectGone(fault);
}

TEST_F(InterceptionTest, AKilledOrStoppedWorkerLeavesNothing) {
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

TEST_F(InterceptionTest, ClientsSeeForThemselvesThatTheServerRefuses) {
  if (!may_redirect_) GTEST_SKIP() << "needs root";
  const auto fault = Put(DelayUsers());
  ASSERT_TRUE(Ask(Client(), kUsers).ok);
  EXPECT_THAT(Look(fault).detail(), Not(HasSubstr("refused")));
  server_->Stop();
  EXPECT_TRUE(Within(absl::Seconds(5), [&] {
    const Session refused = Connect(port_);
    return absl::StrContains(PQerrorMessage(refused.get()), "Connection refused");
  }));
  EXPECT_THAT(Look(fault).detail(),
              ContainsRegex(absl::StrCat(
                  "; [0-9]+ clients? w[a-z]+ refused by the server itself at 127.0.0.1:", port_,
                  ", and new ones see that for themselves: is it up[?]")));
  ASSERT_TRUE(server_->StartAgain());
  EXPECT_TRUE(Within(absl::Seconds(10), [&] {
    const Session client = Connect(port_);
    return PQstatus(client.get()) == CONNECTION_OK && Ask(client, kUsers).took >= kDelay;
  })) << "and again through the fault when it is back";
  EXPECT_THAT(Look(fault).detail(), HasSubstr(" refused by the server itself at"));
  EXPECT_THAT(Look(fault).detail(), Not(HasSubstr("is it up?")));
  ExpectGone(fault);
}

// A pool's connection outlives a fault, and is carried into the next one.
TEST_F(InterceptionTest, CountsEncryptedConnectionsThatWereThereBefore) {
  CountingServer server;
  v1::Profile* profile = node_.mutable_spec.add_profiles();
  profile->set_name("front");
  profile->mutable_http()->set_host("127.0.0.1");
  profile->mutable_http()->set_port(static_cast<uint32_t>(server.port()));
  v1::Fault message;
  message.mutable_delay_queries()->set_profile("front");
  const int port = FreePort();
  message.mutable_delay_queries()->set_listen(absl::StrCat("127.0.0.1:", port));
  *message.mutable_delay_queries()->mutable_delay() = ToProto(kDelay);

  const auto first = Put(message, "first");
  const UniqueFd pooled = ConnectToPort(port);
  const absl::string_view hello = "\x16\x03\x01 and so on";
  ASSERT_EQ(write(pooled.get(), hello.data(), hello.size()), static_cast<ssize_t>(hello.size()));
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Look(first).figures().at("encrypted") == 1; }));
  ExpectGone(first, "first");

  const auto second = Put(message, "second");
  EXPECT_THAT(Look(second).detail(), HasSubstr("1 of 1 connections are encrypted"));
  EXPECT_EQ(Look(second).figures().at("encrypted"), 1);
  const UniqueFd plain = ConnectToPort(port);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] {
    return absl::StrContains(Look(second).detail(), "1 of 2 connections are encrypted");
  })) << Look(second).detail();
  ExpectGone(second, "second");
}

// Its clients' goodbye would have to be kept back, and is not seen.
TEST_F(InterceptionTest, ALeakOfWhatIsEncryptedIsSaidAndIsNotInForce) {
  CountingServer server;
  node_.AddProfile("silent", "127.0.0.1", server.port(), "postgres", "");
  v1::Fault message;
  message.mutable_leak_connections()->set_profile("silent");
  const int port = FreePort();
  message.mutable_leak_connections()->set_listen(absl::StrCat("127.0.0.1:", port));
  const auto fault = Put(message);
  const auto come_and_go = [&](absl::string_view saying) {
    const UniqueFd client = ConnectToPort(port);
    EXPECT_EQ(write(client.get(), saying.data(), saying.size()),
              static_cast<ssize_t>(saying.size()));
  };
  come_and_go("\x16\x03\x01 and so on");
  EXPECT_TRUE(Within(absl::Seconds(10), [&] { return Look(fault).real() == 1; }));
  EXPECT_FALSE(Look(fault).reached());
  EXPECT_THAT(Look(fault).detail(), HasSubstr("1 of 1 connections are encrypted"));
  come_and_go("hello");
  EXPECT_TRUE(Within(absl::Seconds(10), [&] { return Look(fault).real() == 2; }));
  EXPECT_TRUE(Look(fault).reached()) << "one of them is not encrypted";
  EXPECT_THAT(Look(fault).detail(), HasSubstr("1 of 2 connections are encrypted"));
  ExpectGone(fault);
}

// One connection would become as many as there are descriptors.
TEST_F(InterceptionTest, RefusesToLeadTheTrafficInACircle) {
  const int port = FreePort();
  const auto check = [&](const std::string& server, const std::string& listen, bool reset) {
    StageNode node;
    node.mutable_spec.set_name("node-of-test");
    node.AddProfile("shop-db", server, port, "postgres", "");
    v1::Fault message;
    if (reset) {
      message.mutable_reset_connections()->set_profile("shop-db");
      message.mutable_reset_connections()->set_listen(listen);
    } else {
      message.mutable_stall_connections()->set_profile("shop-db");
      message.mutable_stall_connections()->set_listen(listen);
    }
    return (*MakeFault(message))->Validate(node);
  };
  const auto at = [&](absl::string_view host) { return absl::StrCat(host, ":", port); };
  for (const bool reset : {false, true}) {
    for (const auto& [server, listen] :
         std::vector<std::pair<std::string, std::string>>{{"127.0.0.1", at("127.0.0.1")},
                                                          {"127.0.0.1", at("")},
                                                          {"127.0.0.1", at("0.0.0.0")},
                                                          {"127.8.8.8", at("0.0.0.0")},
                                                          {"localhost", at("127.0.0.1")},
                                                          {"localhost", at("0.0.0.0")},
                                                          {"0.0.0.0", at("127.0.0.1")},
                                                          {"0.0.0.0", at("0.0.0.0")}}) {
      const absl::Status status = check(server, listen, reset);
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << server << ' ' << listen << ' ' << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("in a circle; choose a port"));
    }
    EXPECT_EQ(check("127.0.0.1", at("127.0.0.2"), reset), absl::OkStatus());
    EXPECT_EQ(check("192.0.2.1", at("0.0.0.0"), reset), absl::OkStatus()) << "another machine's";
    EXPECT_EQ(check("127.0.0.1", absl::StrCat("127.0.0.1:", port + 1), reset), absl::OkStatus());
  }
  // A name is known once it is resolved.
  const auto host = [] {
    char name[256] = {};
    gethostname(name, sizeof(name) - 1);
    return std::string(name);
  }();
  node_.AddProfile("by-name", host, port, "postgres", "");
  v1::Fault message;
  message.mutable_stall_connections()->set_profile("by-name");
  message.mutable_stall_connections()->set_listen(at("0.0.0.0"));
  auto fault = *MakeFault(message);
  EXPECT_EQ(fault->Validate(node_), absl::OkStatus());
  const absl::Status status = dynamic_cast<Prepares&>(*fault).Prepare(StageContext("it"), node_);
  if (!absl::IsInvalidArgument(status)) GTEST_SKIP() << "this machine's name: " << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("in a circle"));
}

TEST_F(InterceptionTest, RefusesWhatItCannotSeeOrUndo) {
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
  v1::Fault leak;
  leak.mutable_leak_connections()->set_profile("secret");
  leak.mutable_leak_connections()->set_listen("127.0.0.1:6432");
  EXPECT_THAT(refusal(leak), HasSubstr("demands TLS"));
  v1::Fault stall;
  stall.mutable_stall_connections()->set_profile("secret");
  stall.mutable_stall_connections()->set_listen("127.0.0.1:6432");
  EXPECT_EQ((*MakeFault(stall))->Validate(node_), absl::OkStatus());

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
