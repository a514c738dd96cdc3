// A failover whose injector dies at every step of it: the old primary takes sessions again as long
// as nothing can have been promoted, and stays closed, and named, from then on. There are never two
// that take writes, and never none without a word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <filesystem>

#include "injector/os/postgres.h"
#include "injector/remedies/remedy.h"
#include "tests/injector/doomed_injector.h"
#include "tests/testing/postgres_server.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PromoteCrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    primary_ = PostgresServer::Start(
        {.settings = {"wal_retrieve_retry_interval=200ms", "wal_keep_size=128MB"}});
    ASSERT_NE(primary_, nullptr);
    primary_->Run("CREATE TABLE sale (id int)");
    folder_ = TestFolder() + "/promote-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override {
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    std::filesystem::remove_all(folder_);
  }

  // A standby that streams, where there is none any more.
  void HaveStandby() {
    if (standby_ == nullptr || Promoted()) {
      standby_.reset();
      standby_ = PostgresServer::StartReplica(*primary_);
    }
    ASSERT_NE(standby_, nullptr);
    ASSERT_TRUE(Within(absl::Seconds(20), [this] {
      return standby_->Number(
                 "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == 1;
    }));
  }
  bool Promoted() const { return standby_->Run("SELECT pg_is_in_recovery()").at(0).at(0) == "f"; }
  // The server's words where it does not take a write.
  std::string Refusal() const {
    PostgresAccount account{.host = primary_->folder(),
                            .port = primary_->port(),
                            .user = "postgres",
                            .database = "postgres"};
    const Patience patience(absl::Seconds(5));
    auto session = PostgresSession::Open(account, "shop", {}, patience);
    if (!session.ok()) return std::string(session.status().message());
    return std::string(
        (*session)->Query("INSERT INTO sale VALUES (0)", {}, patience).status().message());
  }

  void Promote(Journal& journal, const std::function<bool()>& word,
               const std::function<void(bool)>& tell) const {
    StageNode node;
    node.AddProfile("primary", primary_->folder(), primary_->port(), "postgres", "");
    node.AddProfile("standby", standby_->folder(), standby_->port(), "postgres", "");
    v1::PlannedRemedy planned;
    planned.set_name("failover");
    v1::PromoteReplica& promotion = *planned.mutable_remedy()->mutable_promote_replica();
    promotion.set_replica("standby");
    promotion.set_old_primary("primary");
    promotion.set_refuse_sessions(true);
    if (!word()) _exit(80);
    tell(RunRemedyBlocking(planned, node, {DoomedInjector::kRunOf, {}, {}, &journal}).state() ==
         v1::REMEDY_STATE_DONE);
  }

  // As a person would, by what was said.
  void OpenByHand(const v1::Leftover& left) {
    EXPECT_EQ(left.run(), DoomedInjector::kRunOf);
    EXPECT_EQ(left.fault(), "failover");
    EXPECT_THAT(left.reason(), HasSubstr("another server may have been promoted in its place"));
    EXPECT_EQ(system((left.undo_by_hand() + "\n").c_str()), 0) << left.undo_by_hand();
  }

  std::unique_ptr<PostgresServer> primary_, standby_;
  std::string folder_;
};

TEST_F(PromoteCrashTest, AnInjectorThatDiesAtAnyStepLeavesOnePrimaryOrSaysWhatToDo) {
  int steps = 0, lifted = 0, left_closed = 0, promoted = 0;
  for (int step = 1;; ++step) {
    HaveStandby();
    if (HasFailure()) break;
    DoomedInjector injector(
        folder_, [this](Journal& journal, const std::function<bool()>& word,
                        const std::function<void(bool)>& tell) { Promote(journal, word, tell); });
    const bool stopped = RunUntilStep(injector, step);
    const std::string when = absl::StrCat("killed at step ", step);
    const bool fenced = !Refusal().empty();
    const bool journalled = std::filesystem::exists(
        absl::StrCat(NodeFolder(folder_, DoomedInjector::kName), "/", Journal::kFile));
    // Every other time whoever starts next finds it.
    const bool both = step % 2 == 0;
    if (both) kill(injector.reaper(), SIGKILL);
    injector.Kill();
    CodeOfReaper(injector.reaper());
    std::vector<v1::Leftover> named;
    for (const NodeLeftovers& left : ReplayOwnerless(folder_, absl::Seconds(1))) {
      EXPECT_EQ(left.trouble, "") << when;
      named.insert(named.end(), left.entries.begin(), left.entries.end());
    }
    const std::string refusal = Refusal();
    promoted += Promoted();
    lifted += fenced && refusal.empty();
    if (refusal.empty()) {
      EXPECT_FALSE(Promoted()) << when << ": two primaries";
      EXPECT_THAT(named, IsEmpty()) << when;
    } else {
      EXPECT_THAT(refusal, HasSubstr("firedrill_fence_r1a2b3")) << when;
      // What it did to its end it says itself.
      EXPECT_EQ(named.size(), journalled ? 1u : 0u) << when;
      EXPECT_TRUE(journalled || Promoted()) << when;
      left_closed += !named.empty();
      for (const v1::Leftover& left : named) OpenByHand(left);
      if (named.empty()) {
        EXPECT_EQ(system(("PGOPTIONS='-c session_preload_libraries=' psql -qX -h " +
                          primary_->folder() + " -p " + std::to_string(primary_->port()) +
                          " -U postgres -c 'ALTER SYSTEM RESET session_preload_libraries' -c "
                          "'SELECT pg_reload_conf()' >/dev/null")
                             .c_str()),
                  0);
      }
      EXPECT_TRUE(Within(absl::Seconds(10), [this] { return Refusal().empty(); })) << when;
    }
    // Opened by a person, it is not named any more.
    for (const NodeLeftovers& left : ReplayOwnerless(folder_, absl::Seconds(1))) {
      EXPECT_THAT(left.entries, IsEmpty()) << when;
    }
    EXPECT_EQ(LastingLeftovers(folder_), 0) << when;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  RecordProperty("lifted", lifted);
  RecordProperty("left_closed", left_closed);
  RecordProperty("promoted", promoted);
  EXPECT_GT(steps, 60);
  // Else no death was in the middle of anything.
  EXPECT_GT(lifted, 5);
  EXPECT_GT(left_closed, 5);
  EXPECT_GT(promoted, 5);
}

}  // namespace
}  // namespace firedrill
