// One living controller a store: the second is told who has it, and death lets go of it.
#include "controller/store_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

absl::Status Taken(const std::string& state_dir) {
  return StoreLock::Take(state_dir, "0.0.0.0:2", absl::ZeroDuration()).status();
}

TEST(StoreLockTest, IsHeldUntilItsProcessEndsInWhateverWay) {
  const TempDir folder("firedrill-store");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = StoreLock::Take(folder.path(), "0.0.0.0:7443");
    (void)!write(ready[1], lock.ok() ? "y" : "n", 1);
    pause();
    _exit(1);
  }
  char held = 0;
  ASSERT_EQ(read(ready[0], &held, 1), 1);
  ASSERT_EQ(held, 'y');
  const absl::Status refused = Taken(folder.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  for (const std::string& said :
       {folder.path(), absl::StrCat("process ", child, ", listening on 0.0.0.0:7443"),
        absl::StrCat("kill ", child), std::string("a stateDir of its own")}) {
    EXPECT_THAT(refused.message(), HasSubstr(said));
  }
  kill(child, SIGSTOP);
  EXPECT_TRUE(absl::IsFailedPrecondition(Taken(folder.path()))) << "it only hangs";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Taken(folder.path()).ok());
  close(ready[0]);
  close(ready[1]);
}

TEST(StoreLockTest, IsAnothersAsSoonAsItIsLetGo) {
  const TempDir folder("firedrill-store"), other("firedrill-store");
  {
    const auto first = StoreLock::Take(folder.path(), "0.0.0.0:1");
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_FALSE(Taken(folder.path()).ok());
    EXPECT_TRUE(Taken(other.path()).ok()) << "another store";
  }
  EXPECT_TRUE(Taken(folder.path()).ok());
  EXPECT_THAT(Taken(folder.path() + "/missing").message(), HasSubstr("state folder's owner"));
}

}  // namespace
}  // namespace firedrill
