// promote_replica against a real primary and its streaming standby: what fences, what does not, and
// that nothing is promoted where that was not seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/time_proto.h"
#include "injector/disk.h"
#include "injector/journal.h"
#include "injector/os/postgres.h"
#include "injector/policy.h"
#include "injector/remedies/remedy.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class PromoteReplicaTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // The standby may be away while backups and restarts of the primary recycle what it lacks.
    primary_ = PostgresServer::Start(
                   {.settings = {"wal_retrieve_retry_interval=200ms", "wal_keep_size=128MB"}})
                   .release();
    ASSERT_NE(primary_, nullptr);
    primary_->Run("CREATE ROLE app LOGIN; CREATE TABLE sale (id int); GRANT ALL ON sale TO app");
    standby_ = PostgresServer::StartReplica(*primary_).release();
    ASSERT_NE(standby_, nullptr);
  }
  static void TearDownTestSuite() {
    delete standby_;
    delete primary_;
  }

  void SetUp() override {
    folder_ = TestFolder() + "/promote-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    // A test before this one may have started the primary again. Both must know of each other: what
    // one alone says may be from before.
    ASSERT_TRUE(Within(
        absl::Seconds(20),
        [] {
          return primary_->Number(
                     "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") > 0 &&
                 standby_->Number(
                     "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == 1;
        }))
        << "the primary says:\n"
        << EndOfLog(*primary_) << "\nthe standby says:\n"
        << EndOfLog(*standby_);
    Profile("primary", *primary_, "postgres");
    Profile("standby", *standby_, "postgres");
    promotion_.set_replica("standby");
    promotion_.set_old_primary("primary");
    promotion_.set_refuse_sessions(true);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  v1::PostgresqlServer& Profile(const std::string& name, const PostgresServer& server,
                                const std::string& user) {
    node_.AddProfile(name, server.folder(), server.port(), user, "");
    return *node_.mutable_spec.mutable_profiles(node_.spec().profiles_size() - 1)
                ->mutable_postgresql();
  }
  static std::string EndOfLog(const PostgresServer& server) {
    std::ifstream file(server.folder() + "/log");
    const std::string all(std::istreambuf_iterator<char>(file), {});
    return all.substr(all.size() - std::min<size_t>(all.size(), 2000));
  }
  // The fence is a script with these lines; $p is the old primary's main process.
  void FenceBy(const std::string& lines) {
    std::ofstream(folder_ + "/fence") << "#!/bin/sh\np=" << primary_->pid() << "\n"
                                      << lines << "\n";
    chmod((folder_ + "/fence").c_str(), 0700);
    v1::Program* program = node_.mutable_spec.add_programs();
    program->set_name("fence");
    program->set_path(folder_ + "/fence");
    promotion_.set_fence_program("fence");
  }
  void GiveUpAfter(absl::Duration length) { *promotion_.mutable_timeout() = ToProto(length); }

  v1::PlannedRemedy Planned() const {
    v1::PlannedRemedy planned;
    planned.set_name("failover");
    planned.set_node("db");
    *planned.mutable_remedy()->mutable_promote_replica() = promotion_;
    return planned;
  }
  v1::RemedyReport Run(std::stop_token stop = {}) {
    FileDisk disk(folder_);
    const auto journal = *Journal::Open(disk, "db");
    const v1::RemedyReport report =
        RunRemedyBlocking(Planned(), node_, RemedyContext{"r1a2b3", {}, stop, journal.get()});
    EXPECT_TRUE(journal->empty()) << report.output();
    return report;
  }
  // Empty where it was done; and nothing may have been promoted where not.
  std::string WhyNot(std::stop_token stop = {}) {
    const v1::RemedyReport report = Run(std::move(stop));
    EXPECT_TRUE(IsStandby(*standby_)) << report.output();
    return report.state() == v1::REMEDY_STATE_FAILED ? report.output() : "";
  }

  static bool IsStandby(const PostgresServer& server) {
    return server.Run("SELECT pg_is_in_recovery()").at(0).at(0) == "t";
  }
  // One client's attempt to write, its way round any read-only setting; the server's words if not.
  static std::string Write(const PostgresServer& server, const std::string& user) {
    PostgresAccount account{
        .host = server.folder(), .port = server.port(), .user = user, .database = "postgres"};
    const Patience patience(absl::Seconds(5));
    auto session = PostgresSession::Open(account, "shop",
                                         {{"default_transaction_read_only", "off"}}, patience);
    if (!session.ok()) return std::string(session.status().message());
    const auto done = (*session)->Query("INSERT INTO sale VALUES (0)", {}, patience);
    return std::string(done.status().message());
  }
  // The fence that a promotion left, removed as a person would.
  static void OpenByHand(const PostgresServer& server) {
    const std::string text =
        "host=" + server.folder() + " port=" + std::to_string(server.port()) +
        " user=postgres dbname=postgres options='-c session_preload_libraries='";
    PGconn* connection = PQconnectdb(text.c_str());
    PQclear(PQexec(connection, "ALTER SYSTEM RESET session_preload_libraries"));
    PQclear(PQexec(connection, "SELECT pg_reload_conf()"));
    PQfinish(connection);
    EXPECT_TRUE(Within(absl::Seconds(5), [&] { return Write(server, "app").empty(); }));
  }
  // All processes of the primary.
  static void SignalPrimary(int signal) {
    kill(primary_->pid(), signal);
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream stat(entry.path() / "stat");
      std::string pid, name, state;
      pid_t parent = 0;
      if (stat >> pid >> name >> state >> parent && parent == primary_->pid()) {
        kill(std::stoi(pid), signal);
      }
    }
  }
  // Keeps the standby from getting anything more, or lets it.
  static void StopStream(int signal) {
    static int receiver = 0;
    if (signal == SIGSTOP) receiver = standby_->Number("SELECT pid FROM pg_stat_wal_receiver");
    kill(receiver, signal);
  }

  static inline PostgresServer* primary_ = nullptr;
  // Never promoted: for all tests that see a refusal.
  static inline PostgresServer* standby_ = nullptr;
  std::string folder_;
  v1::PromoteReplica promotion_;
  StageNode node_;
};

// A client that writes as fast as it is let, and knows what was acknowledged.
class Shopper {
 public:
  explicit Shopper(const PostgresServer& server)
      : account_{.host = server.folder(),
                 .port = server.port(),
                 .user = "app",
                 .database = "postgres"},
        thread_([this](std::stop_token stop) { Work(std::move(stop)); }) {}
  int acknowledged() const { return acknowledged_; }
  // Ends; then the last id that was acknowledged.
  int End() {
    thread_.request_stop();
    thread_.join();
    return acknowledged_;
  }

 private:
  void Work(std::stop_token stop) {
    const Patience patience(absl::Seconds(60), stop);
    std::unique_ptr<PostgresSession> session;
    while (!stop.stop_requested()) {
      if (session == nullptr || !session->usable()) {
        auto opened =
            PostgresSession::Open(account_, "shop", {}, patience.AtMost(absl::Seconds(1)));
        session = opened.ok() ? *std::move(opened) : nullptr;
        if (session == nullptr) absl::SleepFor(absl::Milliseconds(5));
        continue;
      }
      const std::string next = std::to_string(acknowledged_ + 1);
      const auto done = session->Query("INSERT INTO sale VALUES ($1::int)", {next},
                                       patience.AtMost(absl::Seconds(1)));
      if (done.ok()) ++acknowledged_;
    }
  }

  const PostgresAccount account_;
  std::atomic<int> acknowledged_ = 0;
  std::jthread thread_;
};

TEST_F(PromoteReplicaTest, RefusesSessionsPromotesAndLosesNothing) {
  const auto standby = PostgresServer::StartReplica(*primary_);
  ASSERT_NE(standby, nullptr);
  Profile("second", *standby, "postgres");
  promotion_.set_replica("second");
  primary_->Run("TRUNCATE sale");
  Shopper shopper(*primary_);
  ASSERT_TRUE(Within(absl::Seconds(10), [&] { return shopper.acknowledged() > 20; }));

  const v1::RemedyReport report = Run();
  const int last = shopper.End();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE) << report.output();
  EXPECT_EQ(report.leaves(), v1::LEAVES_CHANGED);
  for (const char* step :
       {"looked in ", ": streams, ", "\nfenced in ", ": sessions are refused, ", "\nfence seen in ",
        "the open session was ended, a new session is refused: could not access", "\nreplayed in ",
        "\nfence seen again in ", "\npromoted in ", "\nwrite seen in ",
        "\nfence seen afterwards in "}) {
    EXPECT_THAT(report.output(), HasSubstr(step));
  }
  EXPECT_FALSE(IsStandby(*standby));
  EXPECT_EQ(Write(*standby, "app"), "");
  EXPECT_GT(last, 20);
  EXPECT_EQ(standby->Number("SELECT count(*) FROM generate_series(1, " + std::to_string(last) +
                            ") i WHERE NOT EXISTS (SELECT FROM sale WHERE id = i)"),
            0)
      << "acknowledged, and lost";
  EXPECT_THAT(Write(*primary_, "app"), HasSubstr("firedrill_fence_r1a2b3"));
  EXPECT_THAT(Write(*primary_, "postgres"), HasSubstr("firedrill_fence_r1a2b3"));
  // Neither the setting nor the refusal has come over with the stream.
  EXPECT_EQ(standby->Run("SHOW session_preload_libraries").at(0).at(0), "");
  OpenByHand(*primary_);
}

TEST_F(PromoteReplicaTest, SessionsAreNotRefusedWithoutAJournal) {
  const v1::RemedyReport report =
      RunRemedyBlocking(Planned(), node_, RemedyContext{"r1a2b3", {}, {}});
  EXPECT_THAT(report.output(), AllOf(HasSubstr("there is no journal to keep its undo in"),
                                     HasSubstr("nothing was promoted")));
  EXPECT_EQ(Write(*primary_, "app"), "");
}

// docs/undo-by-hand.md says that the report has it.
TEST_F(PromoteReplicaTest, WhatTheSettingWasIsInTheCommandThatOpensTheOldPrimary) {
  const auto standby = PostgresServer::StartReplica(*primary_);
  ASSERT_NE(standby, nullptr);
  Profile("second", *standby, "postgres");
  promotion_.set_replica("second");
  primary_->Run("ALTER SYSTEM SET session_preload_libraries = auto_explain, 'pg_prewarm'");
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE) << report.output();
  const size_t begin = report.output().find("PGOPTIONS=");
  ASSERT_NE(begin, std::string::npos) << report.output();
  EXPECT_EQ(system((report.output().substr(begin) + " >/dev/null").c_str()), 0);
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Write(*primary_, "app").empty(); }));
  EXPECT_EQ(primary_->Run("SHOW session_preload_libraries").at(0).at(0),
            "auto_explain, pg_prewarm");
  primary_->Run("ALTER SYSTEM RESET session_preload_libraries");
  primary_->Run("SELECT pg_reload_conf()");
}

TEST_F(PromoteReplicaTest, SessionsAreNotRefusedWhereAFaultIsOn) {
  // After the fence nobody could log in to see its end.
  PostgresAccount account{
      .host = primary_->folder(), .port = primary_->port(), .user = "app", .database = "postgres"};
  for (const char* name : {"firedrill:r1a2b3:leak", "firedrill-undo"}) {
    const auto held = PostgresSession::Open(account, name, {}, Patience(absl::Seconds(5)));
    ASSERT_TRUE(held.ok());
    EXPECT_THAT(WhyNot(),
                AllOf(HasSubstr("a fault is on or prepared there ("),
                      HasSubstr("use a fenceProgram"), HasSubstr("nothing was promoted")));
    EXPECT_TRUE((*held)->usable());
    EXPECT_EQ(Write(*primary_, "app"), "");
  }
}

TEST_F(PromoteReplicaTest, AFenceHoldsOverARestartOfTheOldPrimary) {
  const auto standby = PostgresServer::StartReplica(*primary_);
  ASSERT_NE(standby, nullptr);
  Profile("second", *standby, "postgres");
  promotion_.set_replica("second");
  ASSERT_EQ(Run().state(), v1::REMEDY_STATE_DONE);
  primary_->Stop();
  // The server dies with the thread that started it, and is not said to be there before it lets
  // somebody in: so it is this thread that starts it.
  std::atomic<bool> refused = false;
  std::jthread person([&refused] {
    refused = Within(absl::Seconds(12), [] {
      return Write(*primary_, "app").find("firedrill_fence") != std::string::npos;
    });
    OpenByHand(*primary_);
  });
  EXPECT_TRUE(primary_->StartAgain());
  person.join();
  EXPECT_TRUE(refused);
}

TEST_F(PromoteReplicaTest, AProgramThatStopsTheOldPrimaryIsAFence) {
  const auto standby = PostgresServer::StartReplica(*primary_);
  ASSERT_NE(standby, nullptr);
  Profile("second", *standby, "postgres");
  promotion_.set_replica("second");
  FenceBy("kill -INT $p; while [ -S " + primary_->folder() + "/.s.PGSQL." +
          std::to_string(primary_->port()) + " ]; do sleep 0.05; done");
  primary_->Run("TRUNCATE sale; INSERT INTO sale VALUES (7)");
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE) << report.output();
  EXPECT_THAT(report.output(),
              AllOf(HasSubstr("program fence"),
                    HasSubstr("the open session was ended, nobody listens there")));
  EXPECT_FALSE(IsStandby(*standby));
  EXPECT_EQ(standby->Number("SELECT count(*) FROM sale WHERE id = 7"), 1);
  primary_->Stop();
  ASSERT_TRUE(primary_->StartAgain());
}

TEST_F(PromoteReplicaTest, AProgramThatFencesNothingPromotesNothing) {
  FenceBy("exit 0");
  GiveUpAfter(absl::Seconds(2));
  EXPECT_THAT(WhyNot(), AllOf(HasSubstr("nothing was promoted: the old primary ("),
                              HasSubstr("an open session still writes")));
  FenceBy("echo no such host; exit 3");
  EXPECT_THAT(WhyNot(), HasSubstr("the fence program fence failed with exit code 3: no such host"));
  EXPECT_EQ(Write(*primary_, "app"), "");
}

TEST_F(PromoteReplicaTest, AReadOnlyDefaultIsNoFence) {
  const std::string psql = "psql -qX -h " + primary_->folder() + " -p " +
                           std::to_string(primary_->port()) + " -U postgres -c ";
  FenceBy(psql + "'ALTER SYSTEM SET default_transaction_read_only = on' && " + psql +
          "'SELECT pg_reload_conf()' && " + psql +
          "\"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client "
          "backend' AND pid <> pg_backend_pid()\"");
  GiveUpAfter(absl::Seconds(3));
  EXPECT_THAT(WhyNot(), HasSubstr("a new session still writes"));
  primary_->Run("ALTER SYSTEM RESET default_transaction_read_only");
  primary_->Run("SELECT pg_reload_conf()");
}

TEST_F(PromoteReplicaTest, AHungPrimaryIsNotFenced) {
  FenceBy("kill -STOP $p $(ps -o pid= --ppid $p)");
  GiveUpAfter(absl::Seconds(3));
  const std::string why = WhyNot();
  EXPECT_THAT(why, AllOf(HasSubstr("nothing was promoted"), HasSubstr("open session")));
  // Now it hangs from the beginning.
  GiveUpAfter(absl::Seconds(5));
  promotion_.clear_fence();
  promotion_.set_refuse_sessions(true);
  promotion_.set_dead_is_fenced(true);
  promotion_.set_allow_lag(true);
  EXPECT_THAT(WhyNot(), HasSubstr("one that hangs takes writes when it goes on"));
  SignalPrimary(SIGCONT);
  // It does: what a promotion would have made of that.
  EXPECT_EQ(Write(*primary_, "app"), "");
}

TEST_F(PromoteReplicaTest, LiftsItsFenceWhenTheReplicaDoesNotGetEverything) {
  StopStream(SIGSTOP);
  GiveUpAfter(absl::Seconds(4));
  const std::string why = WhyNot();
  EXPECT_THAT(why, AllOf(HasSubstr("the replica has not replayed all: "),
                         HasSubstr("the fence was lifted: the old primary takes sessions")));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Write(*primary_, "app").empty(); }));
  StopStream(SIGCONT);
}

TEST_F(PromoteReplicaTest, AStopLiftsTheFenceAndNothingStartsAfterIt) {
  StopStream(SIGSTOP);
  std::stop_source source;
  std::jthread stopper([&source] {
    Within(absl::Seconds(10), [] { return !Write(*primary_, "app").empty(); });
    source.request_stop();
  });
  const std::string why = WhyNot(source.get_token());
  StopStream(SIGCONT);
  EXPECT_THAT(why, AllOf(HasSubstr("the run was stopped"), HasSubstr("the fence was lifted")));
  EXPECT_TRUE(Within(absl::Seconds(5), [] { return Write(*primary_, "app").empty(); }));
  EXPECT_EQ(WhyNot(source.get_token()), "nothing was begun: stopped");
}

TEST_F(PromoteReplicaTest, RefusesALagThatIsTooGreat) {
  StopStream(SIGSTOP);
  primary_->Run("INSERT INTO sale SELECT i FROM generate_series(1, 5000) i");
  promotion_.set_max_lag_bytes(100'000);
  EXPECT_THAT(WhyNot(), AllOf(HasSubstr(" bytes of WAL behind, only 100000 are permitted"),
                              HasSubstr("nothing was changed")));
  EXPECT_EQ(Write(*primary_, "app"), "");
  StopStream(SIGCONT);
}

TEST_F(PromoteReplicaTest, RefusesServersThatAreNotWhatTheyShouldBe) {
  promotion_.set_replica("primary");
  promotion_.set_old_primary("standby");
  EXPECT_THAT(Run().output(), HasSubstr("is no standby: it takes writes already"));
  promotion_.set_replica("standby");
  EXPECT_THAT(WhyNot(), HasSubstr("the old primary is the replica itself"));
  const auto other = PostgresServer::Start();
  ASSERT_NE(other, nullptr);
  Profile("other", *other, "postgres");
  promotion_.set_old_primary("other");
  EXPECT_THAT(WhyNot(), HasSubstr("is no standby of the old primary"));
  Profile("twin", *standby_, "app");
  promotion_.set_old_primary("twin");
  EXPECT_THAT(WhyNot(), HasSubstr("is a standby already; check the profile oldPrimary"));
}

TEST_F(PromoteReplicaTest, RefusesRolesThatMayNot) {
  Profile("app-there", *standby_, "app");
  promotion_.set_replica("app-there");
  EXPECT_THAT(WhyNot(), HasSubstr("GRANT EXECUTE ON FUNCTION pg_promote TO app"));
  primary_->Run("GRANT EXECUTE ON FUNCTION pg_promote TO app");
  EXPECT_TRUE(Within(absl::Seconds(5), [this] {
    return WhyNot().find("GRANT pg_monitor TO app") != std::string::npos;
  }));
  promotion_.set_replica("standby");
  Profile("app-here", *primary_, "app");
  promotion_.set_old_primary("app-here");
  EXPECT_THAT(WhyNot(), HasSubstr("this role is no superuser"));
  promotion_.set_old_primary("primary");
  primary_->Run("ALTER ROLE app SET session_preload_libraries = ''");
  EXPECT_THAT(WhyNot(), HasSubstr("has a session_preload_libraries of its own, which wins"));
  primary_->Run("ALTER ROLE app RESET session_preload_libraries");
}

TEST_F(PromoteReplicaTest, ADeadPrimaryIsFencedOnlyWhereSomebodySaysSo) {
  const auto standby = PostgresServer::StartReplica(*primary_);
  ASSERT_NE(standby, nullptr);
  Profile("second", *standby, "postgres");
  promotion_.clear_fence();
  promotion_.set_dead_is_fenced(true);
  EXPECT_THAT(WhyNot(), HasSubstr("lives, and deadIsFenced fences nobody"));
  primary_->Stop();
  EXPECT_THAT(WhyNot(), HasSubstr("allowLag: true accepts that what it has not got is lost"));
  promotion_.set_dead_is_fenced(false);
  promotion_.set_refuse_sessions(true);
  promotion_.set_allow_lag(true);
  EXPECT_THAT(WhyNot(), HasSubstr("nothing keeps it from coming back"));
  FenceBy("exit 1");
  EXPECT_THAT(WhyNot(), HasSubstr("failed with exit code 1"));
  promotion_.set_replica("second");
  promotion_.clear_fence();
  promotion_.set_dead_is_fenced(true);
  const v1::RemedyReport report = Run();
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE) << report.output();
  EXPECT_THAT(report.output(), AllOf(HasSubstr("(allowed)"), HasSubstr("nobody listens there")));
  EXPECT_FALSE(IsStandby(*standby));
  ASSERT_TRUE(primary_->StartAgain());
}

TEST_F(PromoteReplicaTest, HasNoDefaultFenceAndFallsUnderTheNodesPolicy) {
  promotion_.clear_fence();
  EXPECT_THAT(WhyNot(), HasSubstr("promoteReplica has no fence: two servers would take writes"));
  promotion_.set_refuse_sessions(false);
  EXPECT_THAT(WhyNot(), HasSubstr("promoteReplica has no fence"));
  promotion_.set_fence_program("pull-the-plug");
  EXPECT_THAT(WhyNot(), HasSubstr("there is no pull-the-plug"));
  promotion_.set_refuse_sessions(true);
  const auto remedy = MakeRemedy(Planned().remedy());
  const auto leaves = (*remedy)->Leaves(node_);
  EXPECT_EQ(*leaves, v1::LEAVES_CHANGED);
  EXPECT_THAT(std::string(PermitsRemedy(node_.spec(), Planned(), *leaves).message()),
              HasSubstr("set policy.lastingRemedies"));
  node_.mutable_spec.mutable_policy()->set_lasting_remedies(true);
  EXPECT_TRUE(PermitsRemedy(node_.spec(), Planned(), *leaves).ok());
}

}  // namespace
}  // namespace firedrill
