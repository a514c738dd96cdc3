// Control groups: what version 2 says of limits, read from files as its kernel writes them; and
// threaded groups of a real one, where this machine has it mounted.
#include "injector/os/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "injector/small_file.h"
#include "tests/testing/busy_process.h"
#include "tests/testing/fault_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

// The files of a group of version 2 with the controller cpu, as kernel 6.1 shows them.
class CgroupV2FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteFile(File("cgroup.controllers"), "cpuset cpu io memory pids\n");
    WriteFile(File("cgroup.subtree_control"), "\n");
    WriteFile(File("cgroup.type"), "domain\n");
    WriteFile(File("cgroup.procs"), "");
    WriteFile(File("cpu.max"), "max 100000\n");
    WriteFile(File("cpu.stat"),
              "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 40\n"
              "nr_throttled 30\nthrottled_usec 1500000\nnr_bursts 0\nburst_usec 0\n");
  }
  std::string File(const char* name) const { return folder_.path() + "/" + name; }

  const TempDir folder_{"firedrill-cgroup"};
  const Cgroup group_{folder_.path()};
};

TEST_F(CgroupV2FilesTest, ReadsAndWritesItsLimit) {
  ASSERT_EQ(group_.version(), 2);
  EXPECT_FALSE(group_.Limit()->quota_us.has_value());
  EXPECT_EQ(group_.LimitText(*group_.Limit()), "max 100000");
  ASSERT_TRUE(group_.SetLimit(group_.Limit()->To(0.5)).ok());
  EXPECT_EQ(*ReadSmallFile(group_.LimitFile()), "50000 100000");
  EXPECT_EQ(group_.Limit()->cpus(), 0.5);
  // Of its own period.
  WriteFile(File("cpu.max"), "300000 200000\n");
  EXPECT_EQ(group_.LimitText(group_.Limit()->To(0.25)), "50000 200000");
  WriteFile(File("cpu.max"), "something new\n");
  EXPECT_FALSE(group_.Limit().ok());
  std::filesystem::remove(File("cpu.max"));
  EXPECT_TRUE(absl::IsNotFound(group_.Limit().status()));
}

TEST_F(CgroupV2FilesTest, CountsWhatItUsedAndHowItWasHeldBack) {
  const auto count = group_.Count();
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(count->periods, 40);
  EXPECT_EQ(count->throttled, 30);
  EXPECT_EQ(count->held_back, absl::Milliseconds(1500));
  EXPECT_EQ(count->used, absl::Milliseconds(2500));
}

TEST_F(CgroupV2FilesTest, SaysWhyItCanHaveNoGroupInIt) {
  EXPECT_TRUE(group_.CanMakeInner().ok()) << group_.CanMakeInner();
  EXPECT_FALSE(group_.PassesOnCpu());
  WriteFile(File("cgroup.subtree_control"), "cpu pids\n");
  EXPECT_TRUE(group_.PassesOnCpu());
  EXPECT_TRUE(group_.CanMakeInner().ok()) << group_.CanMakeInner();
  std::filesystem::create_directory(File("theirs"));
  WriteFile(File("theirs/cgroup.type"), "domain\n");
  EXPECT_THAT(std::string(group_.CanMakeInner().message()), HasSubstr("/theirs in it, beside"));
  WriteFile(File("theirs/cgroup.type"), "threaded\n");
  WriteFile(File("cgroup.subtree_control"), "cpu pids\n");
  EXPECT_TRUE(group_.CanMakeInner().ok()) << group_.CanMakeInner();
  WriteFile(File("cgroup.subtree_control"), "\n");
  EXPECT_THAT(std::string(group_.CanMakeInner().message()),
              HasSubstr("would change the shares of " + File("theirs")));
  WriteFile(File("cgroup.controllers"), "memory pids\n");
  EXPECT_THAT(std::string(group_.CanMakeInner().message()),
              HasSubstr("has no controller cpu, since the one above it does not pass it on"));
}

// Of version 2 as this kernel has it, also without controllers.
class ThreadedGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string why = WhyNoCpuGroups();
    if (!why.empty()) GTEST_SKIP() << why;
    for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
      if (Cgroup(mount).IsThere() && Cgroup(mount).version() == 2) mount_ = mount;
    }
    if (mount_.empty()) GTEST_SKIP() << "version 2 is not mounted here";
  }
  std::string mount_;
};

// Its processes are told by their threads, and go back whole, those born meanwhile too.
TEST_F(ThreadedGroupTest, GivesBackItsProcesses) {
  const TestGroup domain(Cgroup(mount_), UniqueGroupName());
  const BusyProcess busy(
      {.children = 1, .breeds = true, .first = [&] { domain->Take(getpid()).IgnoreError(); }});
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return domain->Members()->size() >= 2; }));
  const Cgroup inner = domain->Inner("firedrill-r1-slow");
  ASSERT_EQ(mkdir(inner.folder().c_str(), 0755), 0);
  ASSERT_TRUE(WriteSmallFile(inner.folder() + "/cgroup.type", "threaded").ok());
  for (const Process& process : busy.Tree()) inner.Take(process.pid).IgnoreError();
  const auto members = inner.Members();
  ASSERT_TRUE(members.ok()) << members.status();
  EXPECT_GE(members->size(), 2u);
  EXPECT_EQ(members->front(), busy.pid());
  const absl::Status unmade = domain->Unmake(inner, /*take_back_controller=*/false);
  EXPECT_TRUE(unmade.ok()) << unmade;
  EXPECT_FALSE(inner.IsThere());
  EXPECT_TRUE(domain->Unmake(inner, /*take_back_controller=*/true).ok());
  EXPECT_THAT(*domain->Members(), ::testing::Contains(busy.pid()));
  EXPECT_EQ(*ReadSmallFile(domain->folder() + "/cgroup.type"), "domain");
}

}  // namespace
}  // namespace firedrill
