// The store's contract: append-only, one writer, all or nothing.
#include "controller/sqlite_store.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

class SqliteStoreTest : public testing::Test {
 protected:
  SqliteStoreTest() {
    std::string folder = std::filesystem::temp_directory_path() / "firedrill_store_XXXXXX";
    folder_ = mkdtemp(folder.data());
    path_ = folder_ + "/history.db";
    store_ = Open();
  }
  ~SqliteStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  static v1::Event Created(const std::string& experiment = "leak") {
    v1::Event event;
    *event.mutable_at() = ToProto(absl::FromUnixSeconds(1000));
    event.mutable_created()->mutable_experiment()->mutable_metadata()->set_name(experiment);
    return event;
  }
  static v1::Event Timer(const std::string& name) {
    v1::Event event;
    event.mutable_timer()->set_name(name);
    return event;
  }

  std::string folder_, path_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(SqliteStoreTest, ReadsBackWhatWasAppendedAlsoAfterReopening) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created(), Timer("a")}).ok());
  ASSERT_TRUE(store_->Append("r1", 3, 1, {Timer("b")}).ok());
  store_ = Open();
  const auto events = store_->Read("r1", 2);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ((*events)[0].timer().name(), "a");
  EXPECT_EQ((*events)[1].timer().name(), "b");
}

TEST_F(SqliteStoreTest, RefusesASecondWriter) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created()}).ok());
  ASSERT_TRUE(store_->Append("r1", 2, 1, {Timer("first")}).ok());
  const absl::Status second = store_->Append("r1", 2, 1, {Timer("second")});
  EXPECT_TRUE(absl::IsAborted(second)) << second;
  EXPECT_EQ(store_->Read("r1", 1)->size(), 2u);
}

TEST_F(SqliteStoreTest, RefusesALowerEpoch) {
  ASSERT_TRUE(store_->Append("r1", 1, 5, {Created()}).ok());
  EXPECT_TRUE(absl::IsAborted(store_->Append("r1", 2, 4, {Timer("stale")})));
  EXPECT_TRUE(store_->Append("r1", 2, 6, {Timer("taken over")}).ok());
  EXPECT_TRUE(absl::IsAborted(store_->Append("r1", 3, 5, {Timer("stale again")})));
}

TEST_F(SqliteStoreTest, ARunBeginsWithItsCreation) {
  EXPECT_TRUE(absl::IsNotFound(store_->Append("r1", 1, 1, {Timer("a")})));
  EXPECT_TRUE(absl::IsNotFound(store_->Read("r1", 1).status()));
}

TEST_F(SqliteStoreTest, HistoryCannotBeChangedByAnyone) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created()}).ok());
  SQLite::Database other(path_, SQLite::OPEN_READWRITE);
  EXPECT_THROW(other.exec("DELETE FROM event"), SQLite::Exception);
  EXPECT_THROW(other.exec("UPDATE event SET epoch = 9"), SQLite::Exception);
}

TEST_F(SqliteStoreTest, EpochsGrowAcrossReopening) {
  EXPECT_EQ(*store_->TakeEpoch(), 1u);
  store_ = Open();
  EXPECT_EQ(*store_->TakeEpoch(), 2u);
}

TEST_F(SqliteStoreTest, ListsTheNewestFirstWithItsOutcome) {
  v1::Event finished;
  finished.mutable_finished()->set_outcome(v1::OUTCOME_ABORTED);
  v1::Event late = Created("later");
  *late.mutable_at() = ToProto(absl::FromUnixSeconds(2000));
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created(), finished}).ok());
  ASSERT_TRUE(store_->Append("r2", 1, 1, {late}).ok());
  const auto runs = store_->List(10);
  ASSERT_TRUE(runs.ok());
  ASSERT_EQ(runs->size(), 2u);
  EXPECT_EQ((*runs)[0].experiment(), "later");
  EXPECT_EQ((*runs)[1].outcome(), v1::OUTCOME_ABORTED);
  EXPECT_EQ((*runs)[1].phase(), v1::PHASE_FINISHED);
}

TEST_F(SqliteStoreTest, ADeliveryIsTakenOnce) {
  EXPECT_TRUE(*store_->Deliver("oncall", "f", absl::FromUnixSeconds(1), "firing"));
  EXPECT_FALSE(*store_->Deliver("oncall", "f", absl::FromUnixSeconds(1), "firing"));
  EXPECT_TRUE(*store_->Deliver("oncall", "f", absl::FromUnixSeconds(1), "resolved"));
}

TEST_F(SqliteStoreTest, AFullDiskIsAnErrorAndLosesNothing) {
  ASSERT_TRUE(store_->Append("r1", 1, 1, {Created()}).ok());
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{200 << 10, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  absl::Status status;
  uint64_t seq = 2;
  for (; seq < 1000 && status.ok(); ++seq) {
    status = store_->Append("r1", seq, 1, {Timer(std::string(4096, 'x'))});
  }
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(path_), absl::string_view::npos) << status;
  store_ = Open();
  EXPECT_EQ(store_->Read("r1", 1)->size(), seq - 2);
}

}  // namespace
}  // namespace firedrill
