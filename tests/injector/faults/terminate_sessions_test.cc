// terminate_sessions against a real PostgreSQL server: whom it ends, and whom never.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include "base/status_macros.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

class TerminateSessionsTest : public ::testing::Test {
 protected:
  using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

  static void SetUpTestSuite() {
    // Replication needs a WAL level and slots for senders.
    server_ =
        PostgresServer::Start({.max_connections = 30, .settings = {"wal_level=logical"}}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE ROLE dba LOGIN IN ROLE pg_signal_backend, pg_read_all_stats");
    server_->Run("CREATE ROLE blind LOGIN IN ROLE pg_signal_backend");
    server_->Run("CREATE ROLE shop LOGIN REPLICATION");
    server_->Run("CREATE ROLE other LOGIN");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    for (const char* role : {"dba", "blind", "shop"}) {
      node_.AddProfile(role, server_->folder(), server_->port(), role, "");
    }
  }
  void TearDown() override {
    connections_.clear();
    fault_.reset();
    EXPECT_TRUE(Within(absl::Seconds(2), [] {
      return server_->Number("SELECT count(*) FROM pg_stat_activity WHERE usename <> 'postgres'") ==
             0;
    }));
  }

  PGconn* Open(const std::string& user, const std::string& application,
               const std::string& more = "") {
    const std::string text =
        absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                     " dbname=postgres user=", user, " application_name=", application, " ", more);
    connections_.emplace_back(PQconnectdb(text.c_str()), PQfinish);
    EXPECT_EQ(PQstatus(connections_.back().get()), CONNECTION_OK)
        << PQerrorMessage(connections_.back().get());
    return connections_.back().get();
  }
  static bool Alive(PGconn* connection) {
    PQclear(PQexec(connection, "SELECT 1"));
    return PQstatus(connection) == CONNECTION_OK;
  }
  // A replication session answers no SQL, but IDENTIFY_SYSTEM.
  static bool Replicates(PGconn* connection) {
    PQclear(PQexec(connection, "IDENTIFY_SYSTEM"));
    return PQstatus(connection) == CONNECTION_OK;
  }

  absl::Status Apply(const std::string& text) {
    v1::Fault fault;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "terminate_sessions { protocol: PROTOCOL_POSTGRESQL " + text + " }", &fault));
    fault_ = *MakeFault(fault);
    RETURN_IF_ERROR(fault_->Validate(node_));
    NoChanges changes;
    return fault_->Apply(StageContext("cut"), node_, changes);
  }
  v1::Observation Seen() { return *fault_->Observe(StageContext("cut"), node_); }
  bool Reached() {
    return Within(absl::Seconds(3), [this] { return Seen().reached(); });
  }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
  std::vector<Connection> connections_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(TerminateSessionsTest, EndsTheSessionsOfAUser) {
  PGconn* a = Open("shop", "web");
  PGconn* b = Open("shop", "worker");
  PGconn* other = Open("other", "web");
  ASSERT_TRUE(Apply("profile: 'dba' user: 'shop'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_EQ(Seen().requested(), 2);
  EXPECT_EQ(Seen().real(), 2);
  EXPECT_EQ(Seen().detail(), "2 of 2 sessions of user shop ended");
  EXPECT_THAT(Seen().subject(), HasSubstr(absl::StrCat("/", server_->port())));
  EXPECT_FALSE(Alive(a));
  EXPECT_FALSE(Alive(b));
  EXPECT_TRUE(Alive(other));
  fault_->Release();
  EXPECT_TRUE(Within(absl::Seconds(1), [] {
    return server_->Number(
               "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ "
               "'^firedrill'") == 0;
  }));
}

TEST_F(TerminateSessionsTest, EndsTheSessionsOfAnApplication) {
  PGconn* web = Open("shop", "web");
  PGconn* other = Open("other", "web");
  PGconn* worker = Open("shop", "worker");
  ASSERT_TRUE(Apply("profile: 'dba' application_name: 'web'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(web));
  EXPECT_FALSE(Alive(other));
  EXPECT_TRUE(Alive(worker));
}

TEST_F(TerminateSessionsTest, EndsOnlyOldSessions) {
  PGconn* old = Open("shop", "web");
  absl::SleepFor(absl::Milliseconds(400));
  PGconn* young = Open("shop", "web");
  ASSERT_TRUE(Apply("profile: 'dba' user: 'shop' older_than { nanos: 300000000 }").ok());
  EXPECT_TRUE(Reached());
  EXPECT_EQ(Seen().detail(), "1 of 1 sessions of user shop older than 300ms ended");
  EXPECT_FALSE(Alive(old));
  EXPECT_TRUE(Alive(young));
}

TEST_F(TerminateSessionsTest, EndsAtMostSoManyOldestFirst) {
  PGconn* first = Open("shop", "web");
  PGconn* second = Open("shop", "web");
  PGconn* third = Open("shop", "web");
  ASSERT_TRUE(Apply("profile: 'dba' user: 'shop' at_most: 2").ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(first));
  EXPECT_FALSE(Alive(second));
  EXPECT_TRUE(Alive(third));
}

TEST_F(TerminateSessionsTest, NeverEndsOurOwnNorReplication) {
  PGconn* held = Open("shop", "firedrill:r1a2b3:leak");
  PGconn* control = Open("shop", "firedrill-control:r1a2b3");
  PGconn* logical = Open("shop", "standby", "replication=database");
  PGconn* physical = Open("shop", "standby", "replication=true");
  PGconn* shop = Open("shop", "web");
  ASSERT_TRUE(Apply("profile: 'dba' user: 'shop'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_EQ(Seen().requested(), 1);
  EXPECT_FALSE(Alive(shop));
  EXPECT_TRUE(Alive(held));
  EXPECT_TRUE(Alive(control));
  EXPECT_TRUE(Replicates(logical));
  EXPECT_TRUE(Replicates(physical));
}

TEST_F(TerminateSessionsTest, EndsSessionsOfItsOwnRoleOnlyWhenNamed) {
  PGconn* person = Open("dba", "web");
  PGconn* shop = Open("shop", "web");
  ASSERT_TRUE(Apply("profile: 'dba' application_name: 'web'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(shop));
  EXPECT_TRUE(Alive(person));
  ASSERT_TRUE(Apply("profile: 'dba' user: 'dba'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(person));
}

TEST_F(TerminateSessionsTest, LeavesSuperusersAloneAndSaysSo) {
  PGconn* admin = Open("postgres", "web");
  PGconn* shop = Open("shop", "web");
  ASSERT_TRUE(Apply("profile: 'dba' application_name: 'web'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_EQ(
      Seen().detail(),
      "1 of 1 sessions of application web ended; 1 of superusers left alone: an ordinary role "
      "may not end them");
  EXPECT_FALSE(Alive(shop));
  EXPECT_TRUE(Alive(admin));
}

TEST_F(TerminateSessionsTest, WithoutAMatchIsNotInForce) {
  ASSERT_TRUE(Apply("profile: 'dba' user: 'shop'").ok());
  EXPECT_FALSE(Seen().reached());
  EXPECT_EQ(Seen().real(), 0);
  EXPECT_EQ(Seen().detail(), "no session of user shop was there to be ended");
}

TEST_F(TerminateSessionsTest, RefusesARoleThatSeesTooLittle) {
  PGconn* shop = Open("shop", "web");
  const absl::Status status = Apply("profile: 'blind' user: 'shop'");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(),
            "profile blind: the role blind may not see and end sessions of others; as a superuser: "
            "GRANT pg_read_all_stats TO blind");
  // A role may always end its own.
  ASSERT_TRUE(Apply("profile: 'shop' user: 'shop'").ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(shop));
}

TEST_F(TerminateSessionsTest, RefusesToEndEverything) {
  EXPECT_THAT(std::string(Apply("profile: 'dba'").message()), HasSubstr("say whose"));
  EXPECT_THAT(std::string(Apply("profile: 'dba' application_name: 'firedrill:x:y'").message()),
              HasSubstr("never ends its own"));
}

TEST_F(TerminateSessionsTest, ActsOnAServerThatFilledUpAfterPrepare) {
  PGconn* shop = Open("shop", "web");
  v1::Fault message;
  message.mutable_terminate_sessions()->set_profile("dba");
  message.mutable_terminate_sessions()->set_user("shop");
  fault_ = *MakeFault(message);
  ASSERT_TRUE(dynamic_cast<Prepares&>(*fault_).Prepare(StageContext("cut"), node_).ok());
  EXPECT_TRUE(Alive(shop));
  for (int i = 0; i < 25; ++i) Open("other", "crowd");
  NoChanges changes;
  EXPECT_TRUE(fault_->Apply(StageContext("cut"), node_, changes).ok());
  EXPECT_TRUE(Reached());
  EXPECT_FALSE(Alive(shop));
}

}  // namespace
}  // namespace firedrill
