// Temporary folders of tests that were killed are removed by the next start, and no others are.
#include "tests/testing/test_folder.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

namespace fs = std::filesystem;

// Makes a folder as its owner does, with something in it, and is killed.
void LeaveAFolder(const std::string& base, const std::string& binary) {
  const pid_t pid = fork();
  if (pid == 0) {
    fs::create_directories(absl::StrCat(base, "/", FolderNameOf(binary, getpid()), "/a/b"));
    kill(getpid(), SIGKILL);
  }
  waitpid(pid, nullptr, 0);
}

int FoldersIn(const std::string& base) {
  return static_cast<int>(std::distance(fs::directory_iterator(base), fs::directory_iterator()));
}

TEST(TestFolderTest, WhatAKilledTestLeavesIsRemovedByTheNextOfTheSameBinary) {
  const TempDir base("folders");
  LeaveAFolder(base.path(), "some_test");
  LeaveAFolder(base.path(), "other_test");
  ASSERT_EQ(FoldersIn(base.path()), 2);
  RemoveFoldersOfTheDead(base.path(), "some_test");
  EXPECT_EQ(FoldersIn(base.path()), 1);
  RemoveFoldersOfTheDead(base.path(), "other_test");
  EXPECT_EQ(FoldersIn(base.path()), 0);
}

TEST(TestFolderTest, TheFolderOfALivingTestStays) {
  const TempDir base("folders");
  const std::string mine = FolderNameOf("some_test", getpid());
  fs::create_directories(absl::StrCat(base.path(), "/", mine));
  RemoveFoldersOfTheDead(base.path(), "some_test");
  EXPECT_TRUE(fs::exists(absl::StrCat(base.path(), "/", mine)));
  // The same pid, and another process.
  fs::create_directories(absl::StrCat(base.path(), "/", mine, "0"));
  RemoveFoldersOfTheDead(base.path(), "some_test");
  EXPECT_EQ(FoldersIn(base.path()), 1);
}

TEST(TestFolderTest, WhatIsNamedOtherwiseIsNotTouched) {
  const TempDir base("folders");
  for (const char* name : {"firedrill-some_test", "firedrill-some_test.x.1", "some_test.1.1",
                           "firedrill-some_test.999999999.1.1"}) {
    fs::create_directories(absl::StrCat(base.path(), "/", name));
  }
  RemoveFoldersOfTheDead(base.path(), "some_test");
  EXPECT_EQ(FoldersIn(base.path()), 4);
}

TEST(TestFolderTest, HoldsEveryTemporaryFolderOfThisProcess) {
  const TempDir folder("folders");
  EXPECT_EQ(fs::path(folder.path()).parent_path(), TestFolder());
  EXPECT_NE(TestFolder().find(absl::StrCat(".", getpid(), ".")), std::string::npos);
}

}  // namespace
}  // namespace firedrill
