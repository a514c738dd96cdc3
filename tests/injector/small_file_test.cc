// Small files, and the undoing of changes to them: compare and restore, never undo a person.
#include "injector/small_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "injector/undo.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

class SmallFileTest : public testing::Test {
 protected:
  UndoResult RunIt() {
    why_.clear();
    return RunUndo({"file", path_, "100", "50", "echo 100 > it"}, &why_);
  }

  TempDir folder_{"firedrill-small-file"};
  const std::string path_ = folder_.path() + "/value";
  std::string why_;
};

TEST_F(SmallFileTest, KeepsNewlineModeAndNothingElse) {
  WriteFile(path_, "100\n");
  chmod(path_.c_str(), 0640);
  ASSERT_TRUE(WriteSmallFile(path_, "5").ok());
  EXPECT_EQ(ReadFile(path_), "5\n");
  struct stat info {};
  stat(path_.c_str(), &info);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  WriteFile(path_, "100");
  ASSERT_TRUE(WriteSmallFile(path_, "5").ok());
  EXPECT_EQ(ReadFile(path_), "5");
}

TEST_F(SmallFileTest, FollowsNoLinksAndReadsNoLargeFiles) {
  WriteFile(path_, std::string(5000, 'x'));
  EXPECT_EQ(ReadSmallFile(path_).status().code(), absl::StatusCode::kInvalidArgument);
  const std::string link = folder_.path() + "/link";
  ASSERT_EQ(symlink(path_.c_str(), link.c_str()), 0);
  EXPECT_FALSE(ReadSmallFile(link).ok());
  EXPECT_FALSE(WriteSmallFile(link, "1").ok());
}

TEST_F(SmallFileTest, PutsBackWhatIsStillOurs) {
  WriteFile(path_, "50\n");
  EXPECT_EQ(RunIt(), UndoResult::kRestored) << why_;
  EXPECT_EQ(ReadFile(path_), "100\n");
  EXPECT_EQ(RunIt(), UndoResult::kUntouched);
}

TEST_F(SmallFileTest, LeavesAloneWhatSomebodyElseHasWritten) {
  WriteFile(path_, "70\n");
  EXPECT_EQ(RunIt(), UndoResult::kSuperseded);
  EXPECT_EQ(ReadFile(path_), "70\n");
  EXPECT_NE(why_.find("somebody else"), std::string::npos);
}

TEST_F(SmallFileTest, AFileThatIsGoneIsNotMade) {
  EXPECT_EQ(RunIt(), UndoResult::kSuperseded);
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(SmallFileTest, AValueThatIsNotKeptIsAFailure) {
  // The kernel takes such a write and keeps what it likes.
  EXPECT_EQ(RunUndo({"file", "/dev/null", "100", "", "-"}, &why_), UndoResult::kFailed) << why_;
}

}  // namespace
}  // namespace firedrill
