// hold_connections against a real PostgreSQL server: every state and size, and how it ends.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <fstream>
#include <iostream>
#include <mutex>
#include <thread>

#include "absl/strings/str_join.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/sanitized.h"

namespace firedrill {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr char kOurs[] =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^firedrill:'";
constexpr char kAnyOfUs[] =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^firedrill'";
constexpr char kClients[] =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND pid <> pg_backend_pid()";

class HoldConnectionsTest : public ::testing::Test {
 public:
  static v1::Fault Message(const std::string& text) {
    v1::Fault fault;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "hold_connections { protocol: PROTOCOL_POSTGRESQL " + text + " }", &fault));
    return fault;
  }

 protected:
  static void SetUpTestSuite() {
    server_ = PostgresServer::Start({.max_connections = 60, .reserved = 3}).release();
    ASSERT_NE(server_, nullptr);
    server_->Run("CREATE ROLE leaker LOGIN PASSWORD 'secret'");
    server_->Run("CREATE ROLE shop LOGIN PASSWORD 'secret'");
    server_->Run("CREATE ROLE dba LOGIN IN ROLE pg_signal_backend, pg_read_all_stats");
    server_->Run("CREATE ROLE monitor LOGIN PASSWORD 'secret' IN ROLE pg_monitor");
    WriteFile("good", "secret\n");
    WriteFile("wrong", "guess\n");
    WriteFile("root", "postgres\n");
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    node_.AddProfile("leaker", "127.0.0.1", server_->port(), "leaker", File("good"));
    node_.AddProfile("monitor", "127.0.0.1", server_->port(), "monitor", File("good"));
    node_.AddProfile("socket", server_->folder(), server_->port(), "leaker", "");
    node_.AddProfile("wrong", "127.0.0.1", server_->port(), "leaker", File("wrong"));
    node_.AddProfile("superuser", "127.0.0.1", server_->port(), "postgres", File("root"));
    node_.AddProfile("dba", server_->folder(), server_->port(), "dba", "");
    node_.AddProfile("named", "localhost", server_->port(), "leaker", File("good"));
  }
  void TearDown() override {
    fault_.reset();
    if (server_ == nullptr || server_->pid() < 0) return;
    EXPECT_TRUE(Within(absl::Seconds(2), [] { return server_->Number(kAnyOfUs) == 0; }));
  }

  static std::string File(const std::string& name) { return server_->folder() + "/" + name; }
  static void WriteFile(const std::string& name, const std::string& text) {
    std::ofstream(File(name)) << text;
    chmod(File(name).c_str(), 0600);
  }

  Fault& Make(const std::string& text) {
    fault_ = *MakeFault(Message(text));
    return *fault_;
  }
  absl::Status Apply(const std::string& text) {
    Make(text);
    NoChanges changes;
    return fault_->Apply(StageContext("leak"), node_, changes);
  }
  bool Reached(absl::Duration limit) {
    return Within(limit, [this] {
      const auto seen = fault_->Observe(StageContext("leak"), node_);
      return seen.ok() && seen->reached();
    });
  }
  v1::Observation Seen() {
    const auto seen = fault_->Observe(StageContext("leak"), node_);
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.ok() ? *seen : v1::Observation();
  }

  static inline PostgresServer* server_ = nullptr;
  StageNode node_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(HoldConnectionsTest, HoldsSoManyIdleSessions) {
  ASSERT_TRUE(Apply("profile: 'leaker' state: SESSION_STATE_IDLE count: 20").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  EXPECT_EQ(server_->Number(absl::StrCat(kOurs, " AND state = 'idle'")), 20);
  EXPECT_EQ(server_->Number(kOurs), 20);
  const v1::Observation seen = Seen();
  EXPECT_EQ(seen.requested(), 20);
  EXPECT_EQ(seen.real(), 20);
  EXPECT_EQ(seen.unit(), "sessions");
  EXPECT_THAT(seen.detail(),
              ContainsRegex("2[0-9] of 57 usable slots taken, 20 by this fault .idle."));
  EXPECT_EQ(seen.subject(),
            absl::StrCat("postgresql/",
                         server_->Run("SELECT system_identifier FROM pg_control_system()")[0][0],
                         "/", server_->port()));
}

TEST_F(HoldConnectionsTest, HoldsSessionsInsideATransaction) {
  ASSERT_TRUE(Apply("profile: 'leaker' state: SESSION_STATE_IDLE_IN_TRANSACTION count: 20").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  EXPECT_EQ(server_->Number(absl::StrCat(kOurs, " AND state = 'idle in transaction'")), 20);
}

TEST_F(HoldConnectionsTest, HoldsSessionsInsideAStatement) {
  ASSERT_TRUE(Apply("profile: 'leaker' state: SESSION_STATE_ACTIVE count: 20").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  EXPECT_EQ(server_->Number(absl::StrCat(kOurs, " AND state = 'active'")), 20);
  fault_->Release();
  const absl::Duration begin = RealClock().Boot();
  EXPECT_TRUE(fault_->ReadBack(StageContext("leak"), node_).ok());
  std::cout << "20 active sessions gone after " << RealClock().Boot() - begin << "\n";
  EXPECT_EQ(server_->Number(kOurs), 0);
}

TEST_F(HoldConnectionsTest, FillsTheServerToTheLastUsableSlot) {
  const absl::Duration begin = RealClock().Boot();
  ASSERT_TRUE(Apply("profile: 'leaker' state: SESSION_STATE_IDLE_IN_TRANSACTION fill_to: 1").ok());
  ASSERT_TRUE(Reached(absl::Seconds(10)));
  std::cout << "57 slots full after " << RealClock().Boot() - begin << "\n";
  // The control connection takes one of them.
  EXPECT_EQ(server_->Number(kOurs), 56);
  EXPECT_TRUE(Within(absl::Seconds(1), [this] { return Seen().real() == 57; }));
  EXPECT_EQ(Seen().requested(), 57);
  // The slots for a person's repair stay free.
  EXPECT_EQ(server_->Number("SELECT 1"), 1);

  const absl::Duration released = RealClock().Boot();
  fault_->Release();
  const absl::Duration closed = RealClock().Boot();
  EXPECT_TRUE(fault_->ReadBack(StageContext("leak"), node_).ok());
  std::cout << "closed in " << closed - released << ", read back after "
            << RealClock().Boot() - released << "\n";
  EXPECT_EQ(server_->Number(kOurs), 0);
}

TEST_F(HoldConnectionsTest, FillsToAShareCountingEveryone) {
  const std::string others = absl::StrCat("host=", server_->folder(), " port=", server_->port(),
                                          " user=shop dbname=postgres");
  std::vector<std::unique_ptr<PGconn, decltype(&PQfinish)>> shop;
  for (int i = 0; i < 5; ++i) shop.emplace_back(PQconnectdb(others.c_str()), PQfinish);
  for (const char* profile : {"leaker", "monitor"}) {
    ASSERT_TRUE(Apply(absl::StrCat("profile: '", profile, "' fill_to: 0.5")).ok());
    ASSERT_TRUE(Reached(absl::Seconds(5)));
    EXPECT_EQ(Seen().requested(), 29);  // of 57, rounded up
    EXPECT_EQ(Within(absl::Seconds(1), [] { return server_->Number(kClients) == 29; }), true);
    EXPECT_EQ(server_->Number(kOurs), 29 - 5 - 1);
    fault_.reset();
    EXPECT_TRUE(Within(absl::Seconds(2), [] { return server_->Number(kAnyOfUs) == 0; }));
  }
}

TEST_F(HoldConnectionsTest, LeavesSoManyFree) {
  ASSERT_TRUE(Apply("profile: 'leaker' leave_free: 7").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  EXPECT_EQ(Seen().real(), 50);
  EXPECT_EQ(server_->Number(kClients), 50);
}

TEST_F(HoldConnectionsTest, RampsUpLinearly) {
  ASSERT_TRUE(Apply("profile: 'leaker' count: 40 ramp { seconds: 2 }").ok());
  absl::SleepFor(absl::Seconds(1));
  const int half = server_->Number(kOurs);
  EXPECT_GE(half, 12);
  EXPECT_LE(half, 28);
  EXPECT_FALSE(Seen().reached());
  EXPECT_TRUE(Reached(absl::Seconds(4)));
}

TEST_F(HoldConnectionsTest, DoesNotTakeBackWithoutRefill) {
  ASSERT_TRUE(Apply("profile: 'leaker' count: 10").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  server_->Run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
      " WHERE application_name ~ '^firedrill:' LIMIT 4");
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(server_->Number(kOurs), 6);
  const v1::Observation seen = Seen();
  EXPECT_FALSE(seen.reached());
  EXPECT_EQ(seen.real(), 6);
  EXPECT_EQ(seen.figures().at("lost"), 4);
}

TEST_F(HoldConnectionsTest, TakesBackWithRefill) {
  ASSERT_TRUE(Apply("profile: 'leaker' count: 10 refill: true").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  std::vector<std::string> ended;
  for (const auto& row : server_->Run("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
                                      " WHERE application_name ~ '^firedrill:' LIMIT 4")) {
    ended.push_back(row[0]);
  }
  ASSERT_EQ(ended.size(), 4u);
  const std::string still = absl::StrCat(kOurs, " AND pid IN (", absl::StrJoin(ended, ","), ")");
  EXPECT_TRUE(Within(absl::Seconds(15),
                     [&] { return server_->Number(still) == 0 && server_->Number(kOurs) == 10; }));
  EXPECT_TRUE(Reached(absl::Seconds(1)));
}

// An application as they usually are: a pool, requests that arrive 40 times a second, and a new
// connection for a request that finds none. A connection that turns out to be dead empties the
// whole pool.
class Application {
 public:
  Application(const PostgresServer& server, int pool)
      : target_(absl::StrCat("host=127.0.0.1 port=", server.port(),
                             " user=shop password=secret dbname=postgres application_name=shop")),
        most_(pool) {
    for (int i = 0; i < pool; ++i) idle_.push_back(Connect());
    arrivals_ = std::jthread([this](std::stop_token stop) {
      std::vector<std::jthread> requests;
      while (!stop.stop_requested()) {
        absl::SleepFor(absl::Milliseconds(25));
        requests.emplace_back([this] { Serve(); });
      }
    });
  }
  ~Application() {
    arrivals_.request_stop();
    arrivals_.join();
  }
  int connected() const { return connected_; }

 private:
  using Connection = std::shared_ptr<PGconn>;

  Connection Connect() {
    PGconn* connection = PQconnectdb(target_.c_str());
    if (PQstatus(connection) != CONNECTION_OK) {
      PQfinish(connection);
      return nullptr;
    }
    ++connected_;
    return {connection, [this](PGconn* old) {
              PQfinish(old);
              --connected_;
            }};
  }

  void Serve() {
    Connection connection;
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        connection = idle_.front();
        idle_.pop_front();
      }
    }
    for (int attempt = 0; attempt < 2; ++attempt) {
      if (connection == nullptr && connected_ < most_) connection = Connect();
      if (connection == nullptr) return;
      const std::unique_ptr<PGresult, decltype(&PQclear)> result(
          PQexec(connection.get(), "SELECT 1"), PQclear);
      std::lock_guard lock(mutex_);
      if (PQresultStatus(result.get()) == PGRES_TUPLES_OK) {
        idle_.push_back(connection);
        return;
      }
      connection.reset();
      idle_.clear();
    }
  }

  const std::string target_;
  const int most_;
  std::atomic<int> connected_ = 0;
  std::mutex mutex_;
  std::deque<Connection> idle_;
  std::jthread arrivals_;
};

// Fills the server under an application with a warm pool of this size, cuts it off, and says how
// many slots it has a second later.
int SlotsRegained(const PostgresServer& server, StageNode& node, int pool, bool refill = true) {
  Application shop(server, pool);
  v1::Fault leak = HoldConnectionsTest::Message(
      "profile: 'leaker' state: SESSION_STATE_IDLE_IN_TRANSACTION fill_to: 1");
  leak.mutable_hold_connections()->set_refill(refill);
  v1::Fault cut;
  cut.mutable_terminate_sessions()->set_profile("dba");
  cut.mutable_terminate_sessions()->set_user("shop");
  auto holds = *MakeFault(leak);
  auto terminates = *MakeFault(cut);
  NoChanges changes;
  EXPECT_TRUE(dynamic_cast<Prepares&>(*terminates).Prepare(StageContext("cut"), node).ok());
  EXPECT_TRUE(holds->Apply(StageContext("leak"), node, changes).ok());
  const auto full = [&] {
    const auto seen = holds->Observe(StageContext("leak"), node);
    return seen.ok() && seen->reached();
  };
  EXPECT_TRUE(Within(absl::Seconds(10), full));
  // A warm pool does not notice a full server.
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(shop.connected(), pool);
  EXPECT_TRUE(terminates->Apply(StageContext("cut"), node, changes).ok());
  absl::SleepFor(absl::Seconds(1));
  // While requests knock, one slot may be fought for longer than it is taken.
  const auto nearly_full = [&] {
    const auto seen = holds->Observe(StageContext("leak"), node);
    return seen.ok() && seen->real() >= seen->requested() - 1;
  };
  EXPECT_TRUE(!refill || Within(absl::Seconds(2), nearly_full));
  return shop.connected();
}

// On a quiet machine all are won; with five busy processes a core about one in fifteen is lost,
// and more with sanitizers, which slow us and not the server.
TEST_F(HoldConnectionsTest, RefillWinsAgainstAnApplicationThatReconnects) {
  if (kSanitized) GTEST_SKIP() << "who is first is a question of speed";
  EXPECT_EQ(SlotsRegained(*server_, node_, 1, /*refill=*/false), 1);
  int lost = 0;
  for (int attempt = 0; attempt < 6; ++attempt) lost += SlotsRegained(*server_, node_, 1);
  std::cout << "the application came back in " << lost << " of 6 tries\n";
  EXPECT_LE(lost, 3);
}

// With several slots freed at one instant a request may slip in between; most are ours.
TEST_F(HoldConnectionsTest, RefillTakesMostOfAPoolThatIsCutOff) {
  if (kSanitized) GTEST_SKIP() << "who is first is a question of speed";
  int lost = 0;
  for (int attempt = 0; attempt < 3; ++attempt) lost += SlotsRegained(*server_, node_, 10);
  std::cout << "the application got " << lost << " of 30 slots back\n";
  EXPECT_LE(lost, 10);
}

TEST_F(HoldConnectionsTest, RefusesASuperuser) {
  const absl::Status status = Apply("profile: 'superuser' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("profile superuser is the superuser postgres"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("`superuser: true`"));
  EXPECT_TRUE(Within(absl::Seconds(15), [&] { return server_->Number(kAnyOfUs) == 0; }));
}

TEST_F(HoldConnectionsTest, AcceptsASuperuserWhereTheDefinitionSaysSo) {
  ASSERT_TRUE(Apply("profile: 'superuser' count: 3 superuser: true").ok());
  EXPECT_TRUE(Reached(absl::Seconds(5)));
}

TEST_F(HoldConnectionsTest, NamesAWrongPassword) {
  const absl::Status status = Apply("profile: 'wrong' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(
      status.message(),
      absl::StrCat("opening the control connection of profile wrong to 127.0.0.1:", server_->port(),
                   " as leaker: password authentication failed for user "
                   "\"leaker\" (SQLSTATE 28P01); check the profile's user and password, and "
                   "the server's pg_hba.conf"));
}

TEST_F(HoldConnectionsTest, NamesAMissingServer) {
  node_.AddProfile("nowhere", "127.0.0.1", 1, "leaker", "");
  const absl::Status status = Apply("profile: 'nowhere' count: 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("opening the control connection of profile nowhere to 127.0.0.1:1 as leaker: "));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("check that the server runs and the profile's host and port"));
}

TEST_F(HoldConnectionsTest, NamesAMissingProfileAndAHostThatIsNone) {
  EXPECT_EQ(Make("profile: 'nobody' count: 3").Validate(node_).code(), absl::StatusCode::kNotFound);
  node_.AddProfile("lost", "no-such-host.invalid", 5432, "leaker", "");
  const absl::Status status = Apply("profile: 'lost' count: 3");
  EXPECT_THAT(std::string(status.message()), HasSubstr("resolving the name no-such-host.invalid"));
}

TEST_F(HoldConnectionsTest, RefusesMoreThanTheServerHas) {
  const absl::Status status = Apply("profile: 'leaker' count: 58");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 57 usable slots"));
}

TEST_F(HoldConnectionsTest, WorksOverAUnixSocketAndAHostName) {
  for (const char* profile : {"socket", "named"}) {
    ASSERT_TRUE(Apply(absl::StrCat("profile: '", profile, "' count: 5")).ok());
    EXPECT_TRUE(Reached(absl::Seconds(5)));
  }
}

TEST_F(HoldConnectionsTest, ActsOnAServerThatFilledUpAfterPrepare) {
  auto leak = MakeFault(Message("profile: 'leaker' fill_to: 1"));
  auto& late = Make("profile: 'monitor' fill_to: 1 refill: true");
  ASSERT_TRUE(dynamic_cast<Prepares&>(late).Prepare(StageContext("late"), node_).ok());
  NoChanges changes;
  ASSERT_TRUE((*leak)->Apply(StageContext("leak"), node_, changes).ok());
  ASSERT_TRUE(Within(absl::Seconds(10),
                     [&] { return (*leak)->Observe(StageContext("leak"), node_)->reached(); }));
  EXPECT_TRUE(late.Apply(StageContext("late"), node_, changes).ok());
  EXPECT_EQ(late.Observe(StageContext("late"), node_)->real(), 57);
  // Without Prepare() there is no way in any more.
  auto third = MakeFault(Message("profile: 'monitor' fill_to: 1"));
  const absl::Status status = (*third)->Apply(StageContext("third"), node_, changes);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

TEST_F(HoldConnectionsTest, ReadBackFindsWhatIsStillThere) {
  ASSERT_TRUE(Apply("profile: 'leaker' count: 4").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  const absl::Status status = fault_->ReadBack(StageContext("leak", absl::Seconds(1)), node_);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("4 sessions named firedrill:r1a2b3:leak are still there"));
}

TEST_F(HoldConnectionsTest, EndsOnADeadServerToo) {
  auto own = PostgresServer::Start({.max_connections = 20, .reserved = 3});
  ASSERT_NE(own, nullptr);
  own->Run("CREATE ROLE leaker LOGIN");
  node_.AddProfile("own", own->folder(), own->port(), "leaker", "");
  ASSERT_TRUE(Apply("profile: 'own' fill_to: 1 refill: true").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  own->Stop();
  EXPECT_FALSE(fault_->Observe(StageContext("leak"), node_).ok());
  // It comes back, and the fault with it.
  ASSERT_TRUE(own->StartAgain());
  EXPECT_TRUE(Reached(absl::Seconds(5)));
  own->Stop();
  fault_->Release();
  EXPECT_TRUE(fault_->ReadBack(StageContext("leak"), node_).ok());
}

TEST_F(HoldConnectionsTest, DoesNotCallAHungServerClean) {
  auto own = PostgresServer::Start({.max_connections = 20, .reserved = 3});
  ASSERT_NE(own, nullptr);
  own->Run("CREATE ROLE leaker LOGIN");
  node_.AddProfile("own", own->folder(), own->port(), "leaker", "");
  ASSERT_TRUE(Apply("profile: 'own' count: 5 refill: true").ok());
  ASSERT_TRUE(Reached(absl::Seconds(5)));
  std::vector<int> frozen{own->pid()};
  for (const auto& row :
       own->Run("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")) {
    frozen.push_back(std::stoi(row[0]));
  }
  for (const int pid : frozen) kill(pid, SIGSTOP);
  const absl::Duration begin = RealClock().Boot();
  EXPECT_FALSE(fault_->Observe(StageContext("leak", absl::Milliseconds(500)), node_).ok());
  fault_->Release();
  EXPECT_FALSE(fault_->ReadBack(StageContext("leak", absl::Milliseconds(500)), node_).ok());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(3));
  for (const int pid : frozen) kill(pid, SIGCONT);
  EXPECT_TRUE(fault_->ReadBack(StageContext("leak"), node_).ok());
}

// A process of its own that holds ten sessions in each state, for `lasts`, until it is killed.
pid_t SpawnHolder(const PostgresServer& server, absl::Duration lasts) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  StageNode node;
  node.AddProfile("socket", server.folder(), server.port(), "leaker", "");
  NoChanges changes;
  std::vector<std::unique_ptr<Fault>> faults;
  for (const v1::SessionState state :
       {v1::SESSION_STATE_IDLE, v1::SESSION_STATE_IDLE_IN_TRANSACTION, v1::SESSION_STATE_ACTIVE}) {
    v1::Fault message;
    message.mutable_hold_connections()->set_profile("socket");
    message.mutable_hold_connections()->set_state(state);
    message.mutable_hold_connections()->set_count(10);
    message.mutable_hold_connections()->set_refill(true);
    faults.push_back(*MakeFault(message));
    const std::string name = absl::StrCat("leak", state);
    if (!faults.back()->Apply(StageContext(name, absl::Seconds(5), lasts), node, changes).ok()) {
      _exit(1);
    }
  }
  for (;;) pause();
}

TEST_F(HoldConnectionsTest, DiesWithItsProcess) {
  const pid_t holder = SpawnHolder(*server_, absl::Seconds(60));
  EXPECT_TRUE(Within(absl::Seconds(10), [] { return server_->Number(kOurs) == 30; }));
  const absl::Duration begin = RealClock().Boot();
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  EXPECT_TRUE(Within(absl::Seconds(1), [] { return server_->Number(kAnyOfUs) == 0; }));
  std::cout << "30 sessions gone " << RealClock().Boot() - begin << " after kill -9\n";
}

TEST_F(HoldConnectionsTest, ServerEndsTheSessionsOfAHungProcess) {
  const absl::Duration begin = RealClock().Boot();
  const pid_t holder = SpawnHolder(*server_, absl::Seconds(2));
  EXPECT_TRUE(Within(absl::Seconds(10), [] { return server_->Number(kOurs) == 30; }));
  kill(holder, SIGSTOP);
  EXPECT_EQ(server_->Number(kOurs), 30);
  EXPECT_TRUE(Within(absl::Seconds(8), [] { return server_->Number(kOurs) == 0; }));
  const absl::Duration took = RealClock().Boot() - begin;
  std::cout << "sessions of a hung process gone " << took << " after the fault of 2 s began\n";
  EXPECT_GE(took, absl::Seconds(2));
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
}

}  // namespace
}  // namespace firedrill
