// What is held, when it is let go, and that nothing of it is lost: with a time that is told.
#include "injector/wire/flow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "injector/wire/chance.h"

namespace firedrill::wire {
namespace {

constexpr Nanos kMs = 1'000'000;

Hold Network(uint32_t ms) { return {ms * 1000, 0}; }
Hold Request(uint32_t ms) { return {0, ms * 1000}; }

class FlowTest : public ::testing::Test {
 protected:
  // Everything that may go at `now`.
  std::string Take(Nanos now) {
    std::string taken;
    while (!flow_.Ready(now).empty()) {
      const absl::string_view ready = flow_.Ready(now);
      taken.append(ready.data(), ready.size());
      flow_.Wrote(ready.size(), now, &log_);
    }
    return taken;
  }

  Flow flow_;
  HoldLogs log_;
};

TEST_F(FlowTest, LetsGoWhenDueAndNotBefore) {
  flow_.Append("abc", 10 * kMs, Network(20));
  EXPECT_EQ(flow_.NextReady(10 * kMs), 30 * kMs);
  EXPECT_EQ(Take(30 * kMs - 1), "");
  EXPECT_EQ(Take(30 * kMs), "abc");
  EXPECT_TRUE(flow_.empty());
  EXPECT_EQ(flow_.NextReady(30 * kMs), kNever);
}

TEST_F(FlowTest, KeepsTheOrderOfWhatIsHeldForDifferentTimes) {
  flow_.Append("slow", 0, Request(100));
  flow_.Append("fast", 10 * kMs, {});
  flow_.Append("last", 20 * kMs, Network(10));
  EXPECT_EQ(Take(99 * kMs), "");
  EXPECT_EQ(Take(100 * kMs), "slowfastlast");
}

TEST_F(FlowTest, WhatIsBehindAStopStaysWhateverItsTime) {
  flow_.Append("before", 0, Request(10));
  flow_.Stop();
  flow_.Append("bye", 0, {});
  flow_.Stop();
  flow_.Append("after", 0, Network(5));
  EXPECT_FALSE(flow_.stopped());
  EXPECT_EQ(Take(10 * kMs), "before");
  EXPECT_TRUE(flow_.stopped());
  EXPECT_EQ(Take(100 * kMs), "");
  EXPECT_EQ(flow_.NextReady(100 * kMs), kNever);
  flow_.Relax(0, false);
  flow_.SetRate(1e6);
  EXPECT_EQ(flow_.CountWaiting(200 * kMs), 0u);
  EXPECT_EQ(Take(200 * kMs), "");
  flow_.SetRate(0);
  flow_.GoOn();
  EXPECT_EQ(Take(200 * kMs), "byeafter");
  flow_.Append("and on", 0, {});
  EXPECT_EQ(Take(200 * kMs), "and on");
}

TEST_F(FlowTest, WhatReplacesTheFrontMovesTheStop) {
  flow_.Append("statement", 0, Request(10));
  flow_.Stop();
  flow_.Append("bye", 0, {});
  flow_.ReplaceFront(9, "no", 0);
  EXPECT_EQ(Take(0), "no");
  EXPECT_TRUE(flow_.stopped());
  flow_.GoOn();
  EXPECT_EQ(Take(0), "bye");
}

TEST_F(FlowTest, EachChunkKeepsItsOwnTime) {
  flow_.Append("a", 0, Network(10));
  flow_.Append("b", 5 * kMs, Network(10));
  EXPECT_EQ(Take(10 * kMs), "a");
  EXPECT_EQ(flow_.NextReady(10 * kMs), 15 * kMs);
  EXPECT_EQ(Take(15 * kMs), "b");
}

TEST_F(FlowTest, DelaysOfNetworkAndRequestAddUp) {
  flow_.Append("a", 0, {10000, 20000});
  EXPECT_EQ(Take(29 * kMs), "");
  EXPECT_EQ(Take(30 * kMs), "a");
}

TEST_F(FlowTest, PartialWritesGoOnWhereTheyStopped) {
  flow_.Append("abcdef", 0, Network(1));
  flow_.Append("gh", 0, Network(2));
  flow_.Wrote(4, kMs, &log_);
  EXPECT_EQ(log_.all.count(), 0u);
  EXPECT_EQ(flow_.Ready(kMs), "ef");
  EXPECT_EQ(flow_.Ready(2 * kMs), "efgh");
  EXPECT_EQ(Take(2 * kMs), "efgh");
  EXPECT_EQ(log_.all.count(), 2u);
}

TEST_F(FlowTest, SaysWhatWasAskedAndWhatItWas) {
  flow_.Append("a", 0, Network(10));
  flow_.Append("b", kMs, {});
  EXPECT_EQ(Take(13 * kMs), "ab");
  std::vector<uint32_t> asked, held;
  log_.all.Read(&asked, &held);
  // What was not held is not among them.
  EXPECT_EQ(asked, std::vector<uint32_t>{10000});
  EXPECT_EQ(held, std::vector<uint32_t>{13000});
}

TEST_F(FlowTest, EachFaultIsToldWhatWasHeldForIt) {
  log_.network = std::make_shared<HoldLog>();
  log_.rules = {std::make_shared<HoldLog>(), nullptr, std::make_shared<HoldLog>()};
  flow_.Append("a", 0, {10000, 20000, 0b110});
  EXPECT_EQ(Take(31 * kMs), "a");
  flow_.Append("b", 40 * kMs, {0, 5000, 0b001});
  // Whose it was is not known any more.
  flow_.Relax(0, false);
  EXPECT_EQ(Take(50 * kMs), "b");
  std::vector<uint32_t> asked, held;
  log_.network->Read(&asked, &held);
  log_.rules[2]->Read(&asked, &held);
  EXPECT_EQ(asked, (std::vector<uint32_t>{10000, 20000}));
  EXPECT_EQ(held, (std::vector<uint32_t>{11000, 21000})) << "without what the other added";
  EXPECT_EQ(log_.rules[0]->count(), 0u);
}

TEST_F(FlowTest, RelaxingLetsGoWhatWouldNotBeHeldAnyMore) {
  flow_.Append("a", 0, Network(1000));
  flow_.Append("b", 0, Request(1000));
  flow_.Relax(20000, true);
  EXPECT_EQ(Take(19 * kMs), "");
  EXPECT_EQ(Take(20 * kMs), "a");
  EXPECT_EQ(Take(999 * kMs), "");
  flow_.Relax(0, false);
  EXPECT_EQ(Take(21 * kMs), "b");
}

TEST_F(FlowTest, RelaxingNeverHoldsLonger) {
  flow_.Append("a", 0, Network(10));
  flow_.Relax(1000000, true);
  EXPECT_EQ(Take(10 * kMs), "a");
}

TEST_F(FlowTest, WhatIsInFrontIsReplacedInItsPlace) {
  const Hold held = {.network = 10'000, .request = 90'000, .rules = 1, .ticket = 5};
  flow_.Append("gone", 0, {});
  EXPECT_EQ(Take(0), "gone");
  flow_.Append("slow", 0, held);
  flow_.Append("tail", 0, {});
  flow_.Append("same", 0, {.request = 90'000, .rules = 1, .ticket = 6});
  flow_.Append("late", 0, {.request = 95'000, .rules = 1, .ticket = 7});
  EXPECT_EQ(flow_.FrontHold(99 * kMs).ticket, 5u);
  EXPECT_EQ(flow_.FrontHold(100 * kMs).ticket, 0u) << "it is on its way";
  EXPECT_EQ(flow_.Held(), "slowtailsamelate");
  // All of the one, half of the next; no more than that is let go.
  flow_.ReplaceFront(6, "NEW", 2);
  EXPECT_EQ(Take(9 * kMs), "") << "the network's delay stays";
  EXPECT_EQ(Take(10 * kMs), "NEWil");
  EXPECT_EQ(flow_.FrontHold(0).ticket, 6u);
  flow_.ReplaceFront(4, "", 1);
  EXPECT_EQ(Take(10 * kMs), "late");
  EXPECT_TRUE(flow_.empty());
  EXPECT_EQ(log_.all.count(), 1u) << "of the network only";
  flow_.Append("slowest", 0, held);
  flow_.ReplaceFront(4, "new", 0);
  EXPECT_EQ(Take(10 * kMs), "new");
  EXPECT_EQ(Take(100 * kMs), "est");
  flow_.Append("slow", 0, held);
  flow_.ReplaceFront(4, "", 0);
  EXPECT_TRUE(flow_.empty());
  flow_.Append("more", 0, Request(5));
  EXPECT_EQ(Take(4 * kMs), "");
  EXPECT_EQ(Take(5 * kMs), "more");
}

TEST_F(FlowTest, ARateIsKeptSmoothly) {
  flow_.SetRate(1e6);
  flow_.Append(std::string(1 << 20, 'x'), 0, {});
  size_t gone = 0;
  Nanos now = 1000 * kMs;
  const Nanos begin = now;
  while (!flow_.empty()) {
    const absl::string_view ready = flow_.Ready(now);
    // Never more than 10 ms worth of it at once.
    EXPECT_LE(ready.size(), 10000u);
    gone += ready.size();
    if (!ready.empty()) flow_.Wrote(ready.size(), now, &log_);
    const Nanos next = flow_.NextReady(now);
    if (next == kNever) break;
    EXPECT_GT(next, now);
    // Wakes up late, as loops do.
    now = next + kMs / 2;
  }
  EXPECT_EQ(gone, size_t{1} << 20);
  EXPECT_NEAR(static_cast<double>(now - begin) / 1e9, 1.0486, 0.02);
}

TEST_F(FlowTest, ASlowRateSendsSingleBytes) {
  flow_.SetRate(100);
  flow_.Append("abc", 0, {});
  EXPECT_EQ(flow_.Ready(1000 * kMs), "a");
  flow_.Wrote(1, 1000 * kMs, &log_);
  EXPECT_EQ(flow_.Ready(1001 * kMs), "");
  EXPECT_EQ(flow_.Ready(1010 * kMs), "b");
}

TEST_F(FlowTest, WhatTheRateKeepsWaitingIsCountedOnce) {
  EXPECT_EQ(flow_.CountWaiting(kMs), 0u);
  // 5 ms worth of it, and as much again that was not used.
  flow_.SetRate(1e6);
  flow_.Append(std::string(10000, 'x'), 0, {});
  EXPECT_EQ(flow_.CountWaiting(1000 * kMs), 0u);
  flow_.Append("more", 0, {});
  EXPECT_EQ(flow_.CountWaiting(1000 * kMs), 4u);
  EXPECT_EQ(flow_.CountWaiting(1000 * kMs), 0u);
  flow_.Wrote(flow_.Ready(1000 * kMs).size(), 1000 * kMs, &log_);
  EXPECT_EQ(flow_.CountWaiting(1000 * kMs), 0u);
  // What is held for its delay does not wait for the rate.
  flow_.Append("later", 1000 * kMs, {.network = 50'000});
  EXPECT_EQ(flow_.CountWaiting(1000 * kMs), 0u);
  flow_.SetRate(0);
  flow_.Append(std::string(100000, 'x'), 0, {});
  EXPECT_EQ(flow_.CountWaiting(2000 * kMs), 0u);
}

TEST_F(FlowTest, WithoutARateEverythingGoesAtOnce) {
  flow_.SetRate(10);
  flow_.Append(std::string(1000, 'x'), 0, {});
  EXPECT_LT(flow_.Ready(kMs).size(), 10u);
  flow_.SetRate(0);
  EXPECT_EQ(flow_.Ready(kMs).size(), 1000u);
}

TEST_F(FlowTest, ManyRandomStepsLoseNothingAndKeepTheOrder) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Flow flow;
    uint64_t chance = seed;
    std::string in, out;
    // The latest time by which each byte has to be gone.
    std::vector<Nanos> due;
    Nanos now = 0;
    for (int step = 0; step < 400; ++step) {
      now += static_cast<Nanos>(NextChance(&chance) * 2e6);
      if (NextChance(&chance) < 0.5) {
        const std::string bytes(1 + static_cast<size_t>(NextChance(&chance) * 300),
                                static_cast<char>('a' + step % 26));
        const Hold hold = NextChance(&chance) < 0.3
                              ? Hold{}
                              : Hold{static_cast<uint32_t>(NextChance(&chance) * 20000),
                                     NextChance(&chance) < 0.1 ? 30000u : 0u};
        flow.Append(bytes, hold.none() ? 0 : now, hold);
        in += bytes;
        const Nanos own = hold.none() ? 0 : now + static_cast<Nanos>(hold.total()) * 1000;
        due.resize(in.size(), std::max(own, due.empty() ? 0 : due.back()));
      } else if (const absl::string_view ready = flow.Ready(now); !ready.empty()) {
        const size_t count =
            1 + static_cast<size_t>(NextChance(&chance) * static_cast<double>(ready.size() - 1));
        ASSERT_LE(due[out.size() + ready.size() - 1], now);
        if (out.size() + ready.size() < in.size()) {
          ASSERT_GT(due[out.size() + ready.size()], now);
        }
        out.append(ready.data(), count);
        flow.Wrote(count, now, &log_);
      }
      ASSERT_EQ(flow.held(), in.size() - out.size());
    }
    const absl::string_view rest = flow.Ready(kNever);
    out.append(rest.data(), rest.size());
    ASSERT_TRUE(in == out) << "seed " << seed;
  }
}

}  // namespace
}  // namespace firedrill::wire
