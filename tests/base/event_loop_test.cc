// The executor of real processes keeps its promises.
#include "base/event_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "absl/time/clock.h"

namespace firedrill {
namespace {

TEST(EventLoop, RunsTasksInTheOrderTheyWerePosted) {
  EventLoop loop;
  std::vector<int> seen;
  for (int i = 0; i < 100; ++i) loop.Post([&seen, i] { seen.push_back(i); });
  loop.Run([] {});
  ASSERT_EQ(seen.size(), 100u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST(EventLoop, ATimerIsNeverEarlyAndCanBeCancelled) {
  EventLoop loop;
  std::atomic<bool> cancelled_ran = false;
  std::atomic<bool> done = false;
  const absl::Duration begin = RealClock().Boot();
  absl::Duration waited;
  const Executor::TimerId id = loop.After(absl::Milliseconds(10), [&] { cancelled_ran = true; });
  loop.Cancel(id);
  loop.After(absl::Milliseconds(30), [&] {
    waited = RealClock().Boot() - begin;
    done = true;
  });
  while (!done) loop.Run([] {});
  EXPECT_GE(waited, absl::Milliseconds(30));
  EXPECT_FALSE(cancelled_ran);
}

TEST(EventLoop, BlockingWorkDoesNotHoldUpTheLoop) {
  EventLoop loop;
  Mutex mutex;
  CondVar changed;
  bool release = false;
  std::atomic<bool> done = false;
  loop.Block(
      [&] {
        MutexLock lock(mutex);
        while (!release) changed.Wait(mutex);
      },
      [&] { done = true; });
  bool ran = false;
  loop.Run([&] { ran = true; });
  EXPECT_TRUE(ran);
  EXPECT_FALSE(done);
  {
    MutexLock lock(mutex);
    release = true;
    changed.NotifyAll();
  }
  while (!done) loop.Run([] {});
}

TEST(EventLoop, StopWaitsForBlockingWork) {
  std::atomic<bool> worked = false;
  EventLoop loop;
  loop.Block(
      [&] {
        absl::Time until = absl::Now() + absl::Milliseconds(50);
        while (absl::Now() < until) {
        }
        worked = true;
      },
      nullptr);
  loop.Stop();
  EXPECT_TRUE(worked);
}

}  // namespace
}  // namespace firedrill
