// What the tests of faults on live traffic share: the real worker between real clients and a real
// server. Redirects need root; without it clients come to a listener.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "injector/faults/wire/interception.h"
#include "injector/os/connect_redirect.h"
#include "tests/testing/child.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {

using Session = std::unique_ptr<PGconn, decltype(&PQfinish)>;

inline Session Connect(int port) {
  const std::string target = absl::StrCat(
      "host=127.0.0.1 port=", port,
      " user=postgres password=postgres dbname=postgres connect_timeout=10 sslmode=disable "
      "gssencmode=disable application_name=client");
  return Session(PQconnectdb(target.c_str()), PQfinish);
}

// Any client's, without a word.
inline UniqueFd ConnectToPort(int port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

struct Answer {
  bool ok = false;
  std::string code;
  absl::Duration took;
};
inline Answer Ask(const Session& session, const std::string& sql) {
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
inline absl::Duration Fastest(const Session& session, const std::string& sql) {
  absl::Duration fastest = absl::InfiniteDuration();
  for (int i = 0; i < 5; ++i) {
    const Answer answer = Ask(session, sql);
    EXPECT_TRUE(answer.ok) << PQerrorMessage(session.get());
    fastest = std::min(fastest, answer.took);
  }
  return fastest;
}

inline constexpr absl::Duration kDelay = absl::Milliseconds(150);
inline constexpr char kUsers[] = "SELECT count(*) FROM users";
inline constexpr char kImages[] = "SELECT count(*) FROM images";

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

}  // namespace firedrill
