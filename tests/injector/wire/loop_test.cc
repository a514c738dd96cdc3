// Alarms go off in their order and never early; tasks of other threads are run.
#include "injector/wire/loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <vector>

namespace firedrill::wire {
namespace {

constexpr Nanos kMs = 1'000'000;

// Writes down when it was woken, and may set itself anew.
class Sleeper final : public Watcher {
 public:
  explicit Sleeper(std::function<void(Sleeper&)> woken) : woken_(std::move(woken)) {}
  void OnEvents(int, uint32_t) override {}
  void OnAlarm() override { woken_(*this); }
  Nanos wanted = 0;

 private:
  std::function<void(Sleeper&)> woken_;
};

// Runs `task` on the loop's thread and waits for it.
void RunOn(Loop& loop, const std::function<void()>& task) {
  std::promise<void> done;
  loop.Post([&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

TEST(Loop, AlarmsGoOffInOrderAndNeverEarly) {
  Loop loop;
  ASSERT_TRUE(loop.Start().ok());
  std::vector<Nanos> wanted;
  std::atomic<int> early = 0;
  std::promise<void> all;
  std::vector<std::unique_ptr<Sleeper>> sleepers;
  for (int i = 0; i < 200; ++i) {
    sleepers.push_back(std::make_unique<Sleeper>([&](Sleeper& sleeper) {
      if (NowNanos() < sleeper.wanted) ++early;
      wanted.push_back(sleeper.wanted);
      if (wanted.size() == 150) all.set_value();
    }));
  }
  RunOn(loop, [&] {
    const Nanos now = NowNanos();
    for (int i = 0; i < 200; ++i) {
      Sleeper& sleeper = *sleepers[static_cast<size_t>(i)];
      sleeper.wanted = now + 10 * kMs + (i * 7919 % 200) * kMs / 10;
      loop.WakeAt(&sleeper, sleeper.wanted + (i % 3) * kMs);
      loop.WakeAt(&sleeper, sleeper.wanted);
    }
    // Every fourth is taken away again.
    for (size_t i = 0; i < 200; i += 4) loop.WakeAt(sleepers[i].get(), kNever);
  });
  all.get_future().wait();
  loop.Stop();
  EXPECT_EQ(early, 0);
  EXPECT_EQ(wanted.size(), 150u);
  EXPECT_TRUE(std::is_sorted(wanted.begin(), wanted.end()));
}

TEST(Loop, ARetiredWatcherIsNotWokenAndIsDestroyed) {
  Loop loop;
  ASSERT_TRUE(loop.Start().ok());
  std::atomic<bool> woken = false;
  auto gone = std::make_shared<bool>(true);
  const std::weak_ptr<bool> alive = gone;
  auto sleeper = std::make_unique<Sleeper>([&woken, gone](Sleeper&) { woken = true; });
  gone = nullptr;
  RunOn(loop, [&] {
    loop.WakeAt(sleeper.get(), NowNanos() + kMs);
    loop.Retire(std::move(sleeper));
  });
  loop.Stop();
  EXPECT_FALSE(woken);
  EXPECT_TRUE(alive.expired());
}

TEST(Loop, TasksAfterTheEndAreDropped) {
  Loop loop;
  ASSERT_TRUE(loop.Start().ok());
  int ran = 0;
  RunOn(loop, [&] { ++ran; });
  loop.Stop([&] { ran += 10; });
  loop.Stop([&] { ran += 100; });
  loop.Post([&] { ran += 1000; });
  EXPECT_EQ(ran, 11);
}

TEST(Loop, ManyTasksOfManyThreadsAllRun) {
  Loop loop;
  ASSERT_TRUE(loop.Start().ok());
  int ran = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 2000; ++k) loop.Post([&] { ++ran; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.Stop();
  EXPECT_EQ(ran, 8000);
}

}  // namespace
}  // namespace firedrill::wire
