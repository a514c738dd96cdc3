// The simulated executor keeps its own promises: what the simulation proves rests on them.
#include "tests/testing/sim_executor.h"

#include <gtest/gtest.h>

#include <string>

namespace firedrill {
namespace {

TEST(SimExecutor, RunsByTimeThenByOrderOfPosting) {
  SimTime time;
  SimExecutor one(time), two(time);
  std::string seen;
  one.After(absl::Seconds(2), [&] { seen += 'd'; });
  one.Post([&] { seen += 'a'; });
  two.Post([&] { seen += 'b'; });
  two.After(absl::Seconds(1), [&] { seen += 'c'; });
  time.RunFor(absl::Seconds(2));
  EXPECT_EQ(seen, "abcd");
  EXPECT_EQ(one.clock().Boot(), absl::Seconds(1002));
}

TEST(SimExecutor, CancelledAndKilledTasksDoNotRun) {
  SimTime time;
  SimExecutor one(time), two(time);
  int ran = 0;
  const auto id = one.After(absl::Seconds(1), [&] { ++ran; });
  one.Cancel(id);
  two.After(absl::Seconds(1), [&] { ++ran; });
  two.Kill();
  two.Post([&] { ++ran; });
  time.RunFor(absl::Seconds(5));
  EXPECT_EQ(ran, 0);
}

TEST(SimExecutor, FrozenTasksRunLateAndInOrder) {
  SimTime time;
  SimExecutor one(time), two(time);
  std::string seen;
  one.After(absl::Seconds(1), [&] { seen += 'a'; });
  one.After(absl::Seconds(2), [&] { seen += 'b'; });
  two.After(absl::Seconds(3), [&] { seen += 'c'; });
  one.Freeze();
  time.RunFor(absl::Seconds(4));
  EXPECT_EQ(seen, "c");
  one.Thaw();
  time.Settle();
  EXPECT_EQ(seen, "cab");
  EXPECT_EQ(time.boot(), absl::Seconds(1004));
}

TEST(SimExecutor, BlockingWorkTakesItsTime) {
  SimTime time;
  SimExecutor one(time);
  one.block_latency = [] { return absl::Milliseconds(30); };
  bool worked = false;
  absl::Duration done;
  one.Block([&] { worked = true; }, [&] { done = one.clock().Boot(); });
  time.Settle();
  EXPECT_TRUE(worked);
  time.RunFor(absl::Seconds(1));
  EXPECT_EQ(done, absl::Seconds(1000) + absl::Milliseconds(30));
}

TEST(SimExecutor, TheWallMayJumpWhileBootTimeDoesNot) {
  SimTime time;
  SimExecutor one(time);
  const absl::Time before = one.clock().Now();
  one.JumpWall(-absl::Hours(1));
  EXPECT_EQ(one.clock().Now(), before - absl::Hours(1));
  EXPECT_EQ(one.clock().Boot(), absl::Seconds(1000));
}

}  // namespace
}  // namespace firedrill
