// One injector per node and user, and what the next one finds: real files, real locks.
#include "injector/state_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "injector/epochs.h"
#include "injector/leftovers.h"
#include "injector/node_file.h"
#include "injector/small_file.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StateDirTest : public testing::Test {
 protected:
  // What an injector that was killed leaves: a file it has changed, and the undo.
  void Break(const std::string& node, const std::string& file) {
    auto lock = NodeLock::Take(dir_, node);
    ASSERT_TRUE(lock.ok()) << lock.status();
    FileDisk disk(lock->folder());
    auto journal = *Journal::Open(disk, node);
    ASSERT_TRUE(journal->Begin("r1", "squeeze", "{}").ok());
    ASSERT_TRUE(journal
                    ->Record("r1", "squeeze",
                             {"file", file, "100", "50", absl::StrCat("echo 100 > ", file)})
                    .ok());
    ASSERT_TRUE(WriteSmallFile(file, "50").ok());
  }

  TempDir folder_{"firedrill-state"};
  const std::string dir_ = folder_.path() + "/state";
  const std::string file_ = folder_.path() + "/value";
};

TEST_F(StateDirTest, ASecondInjectorIsToldWhoIsThereAndWhatToDo) {
  auto first = NodeLock::Take(dir_, "db-1");
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = NodeLock::Take(dir_, "db-1");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("the node db-1 has an injector already, process ", getpid())));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("kill ", getpid())));
  EXPECT_EQ(LockHolder(dir_, "db-1"), getpid());
  EXPECT_TRUE(NodeLock::Take(dir_, "db-2").ok());
  first = absl::CancelledError("released");
  EXPECT_EQ(LockHolder(dir_, "db-1"), 0);
  EXPECT_TRUE(NodeLock::Take(dir_, "db-1").ok());
}

TEST_F(StateDirTest, ANodeNameIsNoPath) {
  for (const char* name : {"", "../x", "a/b", "A", "-x", "1x"}) {
    EXPECT_EQ(NodeLock::Take(dir_, name).status().code(), absl::StatusCode::kInvalidArgument)
        << name;
  }
}

TEST_F(StateDirTest, FoldersAreForThisUserOnly) {
  ASSERT_TRUE(NodeLock::Take(dir_, "db-1").ok());
  struct stat info {};
  ASSERT_EQ(stat(dir_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(StateDirTest, LeftoversAreNamedAndTouchedByNobody) {
  WriteFile(file_, "100\n");
  Break("db-1", file_);
  const auto left = Leftovers(dir_);
  ASSERT_THAT(left, SizeIs(1));
  EXPECT_EQ(left[0].node, "db-1");
  EXPECT_EQ(left[0].owner, 0);
  ASSERT_THAT(left[0].entries, SizeIs(2));
  EXPECT_EQ(left[0].entries[0].resource(), file_);
  EXPECT_EQ(left[0].entries[0].undo_by_hand(), absl::StrCat("echo 100 > ", file_));
  EXPECT_EQ(ReadFile(file_), "50\n");
}

TEST_F(StateDirTest, AnOwnerlessJournalIsReplayedAndSaysWhatItDid) {
  WriteFile(file_, "100\n");
  Break("db-1", file_);
  const auto replayed = ReplayOwnerless(dir_);
  ASSERT_THAT(replayed, SizeIs(1));
  EXPECT_THAT(replayed[0].entries, IsEmpty());
  EXPECT_THAT(replayed[0].undone, testing::Contains(HasSubstr(file_)));
  EXPECT_EQ(ReadFile(file_), "100\n");
  EXPECT_THAT(Leftovers(dir_), IsEmpty());
  EXPECT_THAT(ReplayOwnerless(dir_), IsEmpty());
}

TEST_F(StateDirTest, AnOwnedJournalIsLeftToItsOwner) {
  WriteFile(file_, "100\n");
  Break("db-1", file_);
  const auto lock = NodeLock::Take(dir_, "db-1");
  EXPECT_THAT(ReplayOwnerless(dir_), IsEmpty());
  EXPECT_EQ(ReadFile(file_), "50\n");
  ASSERT_THAT(Leftovers(dir_), SizeIs(1));
  EXPECT_EQ(Leftovers(dir_)[0].owner, getpid());
}

TEST_F(StateDirTest, WhatAPersonHasChangedIsLeftAloneAndSaid) {
  WriteFile(file_, "100\n");
  Break("db-1", file_);
  WriteFile(file_, "70\n");
  const auto replayed = ReplayOwnerless(dir_);
  ASSERT_THAT(replayed, SizeIs(1));
  ASSERT_THAT(replayed[0].entries, SizeIs(1));
  EXPECT_THAT(replayed[0].entries[0].reason(), HasSubstr("somebody else"));
  EXPECT_EQ(ReadFile(file_), "70\n");
  EXPECT_THAT(Leftovers(dir_), IsEmpty());
}

TEST_F(StateDirTest, WithoutAStateDirNothingIsLeft) {
  EXPECT_THAT(Leftovers(dir_ + "/nowhere"), IsEmpty());
  EXPECT_THAT(ReplayOwnerless(dir_ + "/nowhere"), IsEmpty());
}

// The real thing under a disk that is full: files may not grow beyond a few bytes.
TEST_F(StateDirTest, AFullDiskUnderTheJournalIsAClearErrorAndNothingIsTouched) {
  WriteFile(file_, "100\n");
  const auto lock = NodeLock::Take(dir_, "db-1");
  FileDisk disk(lock->folder());
  auto journal = *Journal::Open(disk, "db-1");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit tiny{300, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const auto recorded = journal->Record("r1", "squeeze", {"file", file_, "100", "50", "echo"});
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(recorded.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(recorded.status().message()), HasSubstr("writing the undo journal"));
  EXPECT_THAT(std::string(recorded.status().message()), HasSubstr("free some space"));
  // The half line is gone, and the next record is whole.
  ASSERT_TRUE(journal->Record("r1", "squeeze", {"file", file_, "100", "50", "echo"}).ok());
  auto again = *Journal::Open(disk, "db-1");
  EXPECT_THAT(again->open(), SizeIs(1));
  EXPECT_THAT(again->damaged(), IsEmpty());
}

TEST_F(StateDirTest, EpochsAreKeptAndDoNotGoBack) {
  const auto lock = NodeLock::Take(dir_, "db-1");
  FileDisk disk(lock->folder());
  {
    Epochs epochs = *Epochs::Open(disk);
    EXPECT_TRUE(epochs.Admit("a b\nc", 4).ok());
    EXPECT_TRUE(epochs.Admit("main", 7).ok());
    EXPECT_TRUE(epochs.Admit("main", 9).ok());
    EXPECT_TRUE(epochs.Admit("main", 9).ok());
  }
  Epochs epochs = *Epochs::Open(disk);
  EXPECT_EQ(epochs.Highest("a b\nc"), 4u);
  EXPECT_EQ(epochs.Highest("main"), 9u);
  EXPECT_EQ(epochs.Highest("never"), 0u);
  EXPECT_EQ(epochs.Admit("main", 8).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(epochs.Admit("main", 8).message()), HasSubstr("this node has seen 9"));
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(epochs.Admit(absl::StrCat("private-", i), 1).ok());
  EXPECT_EQ(Epochs::Open(disk)->Highest("private-299"), 1u);
  WriteFile(lock->folder() + "/epochs", "seven main\n");
  EXPECT_THAT(std::string(Epochs::Open(disk).status().message()),
              HasSubstr("\"seven main\" is not one"));
}

TEST_F(StateDirTest, AFileThatOthersCouldWriteIsNotRead) {
  WriteFile(file_, "x");
  chmod(file_.c_str(), 0644);
  EXPECT_TRUE(CheckOwnership(file_).ok());
  chmod(file_.c_str(), 0664);
  EXPECT_THAT(std::string(CheckOwnership(file_).message()),
              HasSubstr(absl::StrCat("chmod go-w ", file_)));
  chmod(file_.c_str(), 0646);
  EXPECT_FALSE(CheckOwnership(file_).ok());
  chmod(file_.c_str(), 0644);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file_.c_str(), 12345, 12345), 0);
    EXPECT_THAT(std::string(CheckOwnership(file_).message()),
                HasSubstr("it belongs to user 12345"));
  }
  EXPECT_TRUE(absl::IsNotFound(CheckOwnership(file_ + ".no")));
}

}  // namespace
}  // namespace firedrill
