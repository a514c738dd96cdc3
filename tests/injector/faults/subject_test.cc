// Who a server is, asked through profiles that lead to it in different ways.
#include "injector/subject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/mariadb_server.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/redis_server.h"

namespace firedrill {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

v1::PlannedFault Hold(const std::string& profile, v1::Protocol protocol) {
  v1::PlannedFault planned;
  planned.set_name("leak");
  planned.mutable_fault()->mutable_hold_connections()->set_profile(profile);
  planned.mutable_fault()->mutable_hold_connections()->set_protocol(protocol);
  return planned;
}

class SubjectTest : public testing::Test {
 protected:
  v1::Subject Of(const std::string& profile, v1::Protocol protocol) {
    return OfAll({Hold(profile, protocol)}).at(0);
  }
  std::vector<v1::Subject> OfAll(const std::vector<v1::PlannedFault>& faults) {
    v1::SubjectsAsked asked;
    for (const v1::PlannedFault& fault : faults) *asked.add_faults() = fault;
    return FindSubjects(asked, node_, clock_, clock_.Boot() + absl::Seconds(20));
  }
  v1::Profile& Add(const std::string& name) {
    v1::Profile& profile = *node_.mutable_spec.add_profiles();
    profile.set_name(name);
    return profile;
  }

  RealClock clock_;
  StageNode node_;
};

TEST_F(SubjectTest, APostgresqlServerIsOneByEveryWayThatLeadsToIt) {
  const auto server = PostgresServer::Start();
  ASSERT_NE(server, nullptr);
  server->Run("CREATE ROLE leaker LOGIN PASSWORD 'secret'");
  server->Run("CREATE ROLE other LOGIN PASSWORD 'secret'");
  const std::string identity = absl::StrCat(
      "postgresql/", server->Run("SELECT system_identifier FROM pg_control_system()")[0][0], "/",
      server->port());
  node_.AddProfile("socket", server->folder(), server->port(), "leaker", "");
  node_.AddProfile("another", server->folder(), server->port(), "other", "");
  const v1::Subject subject = Of("socket", v1::PROTOCOL_POSTGRESQL);
  EXPECT_EQ(subject.identity(), identity);
  EXPECT_EQ(subject.family(), "postgresql");
  EXPECT_THAT(subject.unsure(), IsEmpty());
  EXPECT_EQ(Of("another", v1::PROTOCOL_POSTGRESQL).identity(), identity);

  const auto second = PostgresServer::Start();
  ASSERT_NE(second, nullptr);
  second->Run("CREATE ROLE leaker LOGIN");
  node_.AddProfile("second", second->folder(), second->port(), "leaker", "");
  EXPECT_THAT(Of("second", v1::PROTOCOL_POSTGRESQL).identity(),
              ::testing::AllOf(StartsWith("postgresql/"), Not(identity)));

  // It asks, and leaves nothing.
  EXPECT_EQ(server->Number("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ "
                           "'^firedrill' AND state <> 'idle'"),
            0);
  server->Stop();
  const v1::Subject down = Of("socket", v1::PROTOCOL_POSTGRESQL);
  EXPECT_THAT(down.identity(), IsEmpty());
  EXPECT_THAT(down.unsure(), HasSubstr("opening the control connection of profile socket"));
}

TEST_F(SubjectTest, AMariaDbServerSaysWhoItIs) {
  const auto server = MariadbServer::Start();
  ASSERT_NE(server, nullptr);
  v1::MysqlServer& where = *Add("shop").mutable_mysql();
  where.set_host("127.0.0.1");
  where.set_port(server->port());
  // Who only watches its traffic cannot ask it.
  const v1::Subject unasked = Of("shop", v1::PROTOCOL_MYSQL);
  EXPECT_THAT(unasked.identity(), IsEmpty());
  EXPECT_THAT(unasked.unsure(), IsEmpty());
  EXPECT_THAT(unasked.addresses(), SizeIs(1));
  where.set_user("passer");
  EXPECT_THAT(Of("shop", v1::PROTOCOL_MYSQL).unsure(),
              HasSubstr("opening the control connection of profile shop"));
  server->Run("CREATE USER passer@'127.0.0.1'");
  const v1::Subject subject = Of("shop", v1::PROTOCOL_MYSQL);
  EXPECT_THAT(subject.unsure(), IsEmpty());
  EXPECT_THAT(subject.identity(),
              ::testing::AllOf(StartsWith("mysql/"), EndsWith(absl::StrCat("/", server->port()))));
}

TEST_F(SubjectTest, ARedisServerIsAnotherOneOnceItWasStartedAgain) {
  const auto server = RedisServer::Start();
  ASSERT_NE(server, nullptr);
  v1::RedisServer& where = *Add("cache").mutable_redis();
  where.set_host("localhost");
  where.set_port(server->port());
  const v1::Subject subject = Of("cache", v1::PROTOCOL_REDIS);
  EXPECT_THAT(subject.identity(), StartsWith("redis/"));
  EXPECT_EQ(subject.identity().size(), 6u + 40u);
  EXPECT_EQ(Of("cache", v1::PROTOCOL_REDIS).identity(), subject.identity());
  server->Stop();
  ASSERT_TRUE(server->StartAgain());
  EXPECT_NE(Of("cache", v1::PROTOCOL_REDIS).identity(), subject.identity());
}

TEST_F(SubjectTest, WhatHasNoIdentityIsKnownByItsResolvedAddress) {
  const auto add = [this](const std::string& name, const std::string& host) {
    v1::TcpServer& where = *Add(name).mutable_tcp();
    where.set_host(host);
    where.set_port(8080);
  };
  add("near", "127.0.0.1");
  add("named", "localhost");
  add("far", "192.0.2.7");
  const auto all = OfAll({Hold("near", v1::PROTOCOL_TCP), Hold("named", v1::PROTOCOL_TCP),
                          Hold("far", v1::PROTOCOL_TCP), Hold("nobody", v1::PROTOCOL_TCP)});
  ASSERT_THAT(all, SizeIs(4));
  ASSERT_THAT(all[0].addresses(), SizeIs(1));
  EXPECT_THAT(all[0].addresses(0), EndsWith(":8080"));
  EXPECT_THAT(all[0].addresses(0), Not(HasSubstr("127.0.0.1")));
  EXPECT_THAT(all[1].addresses(), Contains(all[0].addresses(0)));
  EXPECT_THAT(all[2].addresses(), ::testing::ElementsAre("192.0.2.7:8080"));
  for (const v1::Subject& each : all) {
    EXPECT_THAT(each.identity(), IsEmpty());
    EXPECT_THAT(each.unsure(), IsEmpty());
  }
  EXPECT_THAT(all[3].addresses(), IsEmpty());
}

}  // namespace
}  // namespace firedrill
