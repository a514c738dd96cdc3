// A copy of the store, made while it is written, and what it takes to put one back.
#include "controller/backup.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/time_proto.h"
#include "controller/epoch_lock.h"
#include "controller/going_marks.h"
#include "controller/sqlite_store.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using testing::HasSubstr;

class BackupTest : public testing::Test {
 protected:
  static std::unique_ptr<SqliteStore> Open(const std::string& folder) {
    auto store = SqliteStore::Open(folder + "/history.db");
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  static void AddRun(Store& store, const std::string& run) {
    v1::Event created;
    created.mutable_created()->mutable_experiment()->mutable_metadata()->set_name("leak");
    ASSERT_TRUE(store.Append(run, 1, 1, {created}).ok());
  }
  static std::string ReadAll(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  absl::StatusOr<Restored> PutBack() { return Restore(to_.path(), copy_, RealClock()); }

  TempDir from_{"firedrill-backup"}, to_{"firedrill-restore"};
  const std::string copy_ = from_.path() + "/copy.db";
};

TEST_F(BackupTest, WhatIsPutBackIsWhatWasThere) {
  {
    auto store = Open(from_.path());
    AddRun(*store, "r1");
    v1::AppliedExperiment applied;
    applied.set_name("leak");
    *applied.mutable_due_after() = ToProto(absl::FromUnixSeconds(1000));
    ASSERT_TRUE(store->PutExperiment(applied).ok());
    // Still open, with its newest events in the write-ahead log only.
    ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  }
  struct stat info {};
  ASSERT_EQ(stat(copy_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const absl::Time before = absl::Now();
  const auto restored = PutBack();
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->runs, 1u);
  EXPECT_EQ(restored->experiments, 1u);
  auto store = Open(to_.path());
  EXPECT_EQ(store->Read("r1", 1)->size(), 1u);
  // Which of the slots up to now were fired nobody knows.
  EXPECT_GE(FromProto(store->Experiments()->front().due_after()), before);
}

// The copy says that they go on, and nobody knows how they have ended since.
TEST_F(BackupTest, NoRunOfACopyGoesOn) {
  AddRun(*Open(from_.path()), "r1");
  ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  const GoingMarks marks(to_.path());
  ASSERT_TRUE(marks.Make("r1").ok());
  ASSERT_TRUE(PutBack().ok());
  EXPECT_FALSE(marks.Has("r1"));
}

TEST_F(BackupTest, WhatIsInTheWayIsReplacedWithItsLog) {
  AddRun(*Open(from_.path()), "kept");
  ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  {
    auto other = Open(to_.path());
    for (int i = 0; i < 50; ++i) AddRun(*other, absl::StrCat("other-", i));
  }
  ASSERT_TRUE(PutBack().ok());
  const auto runs = Open(to_.path())->List(100);
  ASSERT_EQ(runs->size(), 1u);
  EXPECT_EQ(runs->front().run(), "kept");
}

TEST_F(BackupTest, InjectorsObeyWhoComesAfterARestore) {
  auto store = Open(from_.path());
  (void)*store->TakeEpoch();
  ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  uint64_t seen = 0;
  for (int i = 0; i < 100; ++i) seen = *store->TakeEpoch();
  ASSERT_TRUE(PutBack().ok());
  EXPECT_GT(*Open(to_.path())->TakeEpoch(), seen);
  // Twice of the same copy, over a store that has gone on since.
  seen = *Open(to_.path())->TakeEpoch();
  ASSERT_TRUE(PutBack().ok());
  EXPECT_GT(*Open(to_.path())->TakeEpoch(), seen);
}

TEST_F(BackupTest, IsOfOneInstantWhileAnotherWrites) {
  auto store = Open(from_.path());
  AddRun(*store, "r1");
  std::atomic<bool> over = false;
  std::thread writing([&] {
    v1::Event pair[2];
    pair[0].mutable_timer()->set_name(std::string(2000, 'x'));
    pair[1] = pair[0];
    for (uint64_t seq = 2; !over; seq += 2) {
      if (!store->Append("r1", seq, 1, {pair[0], pair[1]}).ok()) return;
    }
  });
  for (int i = 0; i < 10; ++i) {
    const absl::Status status = BackUp(from_.path(), copy_);
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_TRUE(PutBack().ok());
    // Events come two at a time, or not at all.
    EXPECT_EQ(Open(to_.path())->Read("r1", 1)->size() % 2, 1u);
  }
  over = true;
  writing.join();
}

TEST_F(BackupTest, NothingIsPutBackWhileAControllerLives) {
  AddRun(*Open(from_.path()), "r1");
  ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  auto lock = EpochLock::Take(to_.path(), 7);
  ASSERT_TRUE(lock.ok());
  const absl::Status refused = PutBack().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(refused.message(), HasSubstr(absl::StrCat("epoch 7, process ", getpid())));
  EXPECT_THAT(refused.message(), HasSubstr("end it first"));
  std::optional<EpochLock> gone(*std::move(lock));
  gone.reset();
  EXPECT_TRUE(PutBack().ok());
}

TEST_F(BackupTest, ADamagedCopyIsRefusedAndNothingIsChanged) {
  {
    auto store = Open(from_.path());
    for (int i = 0; i < 200; ++i) AddRun(*store, absl::StrCat("r", i));
  }
  ASSERT_TRUE(BackUp(from_.path(), copy_).ok());
  AddRun(*Open(to_.path()), "here");
  const std::string whole = ReadAll(copy_);
  std::string damaged = whole;
  for (size_t i = 4096; i < 4096 + 2000; ++i) damaged[i] = static_cast<char>(~damaged[i]);
  for (const std::string& text :
       {damaged, whole.substr(0, whole.size() / 2), std::string(9000, 'x'), std::string()}) {
    std::ofstream(copy_) << text;
    const absl::Status refused = PutBack().status();
    EXPECT_FALSE(refused.ok());
    EXPECT_THAT(refused.message(), HasSubstr(copy_));
    EXPECT_EQ(Open(to_.path())->List(10)->front().run(), "here");
  }
  // The check is not one that refuses everything.
  std::ofstream(copy_) << whole;
  EXPECT_TRUE(PutBack().ok());
}

TEST_F(BackupTest, ACopyOfANewerVersionIsRefused) {
  {
    SQLite::Database newer(copy_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    newer.exec("CREATE TABLE run (a); CREATE TABLE event (a); PRAGMA user_version = 99");
  }
  EXPECT_THAT(PutBack().status().message(), HasSubstr("written by a newer firedrill (schema 99"));
}

TEST_F(BackupTest, OnlyAnotherBackupIsReplaced) {
  const std::string store = from_.path() + "/history.db";
  AddRun(*Open(from_.path()), "r1");
  const absl::Status itself = BackUp(from_.path(), store);
  EXPECT_TRUE(absl::IsInvalidArgument(itself));
  EXPECT_THAT(itself.message(), HasSubstr("history.db is the history itself"));
  EXPECT_TRUE(absl::IsInvalidArgument(Restore(from_.path(), store, RealClock()).status()));
  EXPECT_EQ(Open(from_.path())->List(10)->size(), 1u);
  const auto refused = [this] {
    const std::string before = ReadAll(copy_);
    const absl::Status status = BackUp(from_.path(), copy_);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(status.message(),
                HasSubstr(copy_ + " is there, and is no history of firedrill: name another file"));
    EXPECT_EQ(ReadAll(copy_), before);
  };
  for (const std::string text : {"apiVersion: firedrill/v1", "SQLite format 3", ""}) {
    std::ofstream(copy_) << text;
    refused();
  }
  // Whole, of a version of its own, and somebody else's.
  for (const char* statement : {"CREATE TABLE precious (a); PRAGMA user_version = 2",
                                "CREATE TABLE run (a); CREATE TABLE event (a)"}) {
    ASSERT_EQ(unlink(copy_.c_str()), 0);
    SQLite::Database(copy_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec(statement);
    refused();
    EXPECT_THAT(PutBack().status().message(), HasSubstr("no history of firedrill"));
  }
  ASSERT_EQ(unlink(copy_.c_str()), 0);
  EXPECT_TRUE(BackUp(from_.path(), copy_).ok());
  EXPECT_TRUE(BackUp(from_.path(), copy_).ok());
}

TEST_F(BackupTest, WhatCannotBeWrittenIsSaidAndLeavesNothing) {
  AddRun(*Open(from_.path()), "r1");
  EXPECT_THAT(BackUp(from_.path(), "/nonexistent/copy.db").message(),
              HasSubstr("writing /nonexistent/copy.db.new: No such file or directory"));
  EXPECT_THAT(BackUp(to_.path(), copy_).message(), HasSubstr("backing up"));
  EXPECT_THAT(Restore(to_.path(), "/nonexistent/copy.db", RealClock()).status().message(),
              HasSubstr("reading /nonexistent/copy.db: No such file or directory"));
}

}  // namespace
}  // namespace firedrill
