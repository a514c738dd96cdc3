// What disturbances do to live connections, and that their end heals them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/injector/wire/proxy_stage.h"
#include "tests/testing/sanitized.h"

namespace firedrill::wire {
namespace {

constexpr auto Ms = [](double ms) { return absl::Milliseconds(ms); };

// From a byte sent at one end until it is heard at the other.
absl::Duration Took(int from, int to) {
  const absl::Time begin = absl::Now();
  Send(from, "x");
  EXPECT_EQ(Receive(to, 1), "x");
  return absl::Now() - begin;
}

TEST(Delayed, EachDirectionHasItsOwnAndNothingComesEarly) {
  Stage stage;
  const auto [client, server] = stage.Pair();
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(Ms(20))).ok());
  for (int i = 0; i < 20; ++i) {
    EXPECT_GE(Took(server.get(), client.get()), Ms(20));
    // Negative control: the other direction is not held.
    const absl::Duration other = Took(client.get(), server.get());
    EXPECT_TRUE(kSanitized || other < Ms(15)) << other;
  }
  ASSERT_TRUE(stage.proxy->Set(DelayToServer(Ms(30))).ok());
  EXPECT_GE(Took(client.get(), server.get()), Ms(30));
  // They are counted just after they have gone.
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().delayed == 21; }));
  const ProxyCounters counters = stage.proxy->Read();
  EXPECT_EQ(counters.asked_p50, Ms(20));
  EXPECT_GE(counters.held_p50, Ms(20));
  EXPECT_LT(counters.held_p50, Ms(25));
}

TEST(Delayed, ARemovedDelayLetsGoAtOnceAndInOrder) {
  Stage stage;
  const auto [client, server] = stage.Pair();
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(absl::Minutes(5))).ok());
  std::string sent;
  for (int i = 0; i < 100; ++i) {
    sent += absl::StrCat(i, " ");
    Send(server.get(), absl::StrCat(i, " "));
  }
  EXPECT_EQ(Listen(client.get(), Ms(50)), Heard::kSilence);
  // Shortened: what has waited long enough goes, the rest does not wait for 5 minutes.
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(Ms(60))).ok());
  EXPECT_EQ(Receive(client.get(), sent.size()), sent);
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(absl::Minutes(5))).ok());
  Send(server.get(), "again");
  EXPECT_EQ(Listen(client.get(), Ms(50)), Heard::kSilence);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  EXPECT_EQ(Receive(client.get(), 5), "again");
}

TEST(Delayed, FiftyThousandMessagesASecondArriveWhole) {
  constexpr size_t kSize = 64;
  constexpr int kRate = 50000;
  constexpr int kCount = kSanitized ? kRate / 10 : kRate * 2;
  Stage stage;
  const auto pair = stage.Pair();
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(Ms(100))).ok());
  std::thread sender([&] {
    const absl::Time begin = absl::Now();
    for (int i = 0; i < kCount;) {
      const int until = std::min<int>(
          kCount, static_cast<int>(absl::ToDoubleSeconds(absl::Now() - begin) * kRate) + 1);
      for (; i < until; ++i) {
        std::string message(kSize, '.');
        const int64_t now = absl::GetCurrentTimeNanos();
        memcpy(&message[0], &now, sizeof now);
        memcpy(&message[8], &i, sizeof i);
        Send(pair.second.get(), message);
      }
      absl::SleepFor(absl::Microseconds(100));
    }
  });
  std::vector<double> held;
  for (int i = 0; i < kCount; ++i) {
    const std::string message = Receive(pair.first.get(), kSize);
    const int64_t now = absl::GetCurrentTimeNanos();
    ASSERT_EQ(message.size(), kSize);
    int64_t sent;
    int number;
    memcpy(&sent, &message[0], sizeof sent);
    memcpy(&number, &message[8], sizeof number);
    ASSERT_EQ(number, i);
    held.push_back(static_cast<double>(now - sent) / 1e6);
  }
  sender.join();
  std::sort(held.begin(), held.end());
  RecordProperty("p99_ms", std::to_string(held[held.size() * 99 / 100]));
  std::cout << "p50 " << held[held.size() / 2] << " ms, p99 " << held[held.size() * 99 / 100]
            << "\n";
  EXPECT_GE(held.front(), 100.0);
  // 115 ms on a quiet machine: the benchmark looks at that.
  EXPECT_LT(held[held.size() / 2], 200.0);
}

TEST(Delayed, TheSeedChangesTheDrawsAndRepeatsThem) {
  const auto draws = [](uint64_t seed) {
    Stage stage;
    Disturbance disturbance;
    disturbance.seed = seed;
    v1::DelayShape shape;
    shape.mutable_uniform()->mutable_min()->set_nanos(0);
    shape.mutable_uniform()->mutable_max()->set_nanos(40'000'000);
    disturbance.delay_to_client = shape;
    EXPECT_TRUE(stage.proxy->Set(disturbance).ok());
    const auto [client, server] = stage.Pair();
    std::vector<int64_t> asked;
    for (uint64_t i = 0; i < 5; ++i) {
      Took(server.get(), client.get());
      EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().delayed == i + 1; }));
      // The median of i + 1 draws: enough to tell sequences apart.
      asked.push_back(absl::ToInt64Microseconds(stage.proxy->Read().asked_p50));
    }
    return asked;
  };
  const auto first = draws(1);
  EXPECT_EQ(first, draws(1));
  EXPECT_NE(first, draws(2));
}

TEST(Limited, ARateIsKeptAndItsEndFreesTheRest) {
  Stage stage;
  const auto pair = stage.Pair();
  Disturbance slow;
  slow.rate_to_client = 1e6;
  ASSERT_TRUE(stage.proxy->Set(slow).ok());
  std::thread sender([&] { Send(pair.second.get(), std::string(4 << 20, 'x')); });
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Receive(pair.first.get(), 300000).size(), 300000u);
  EXPECT_GE(absl::Now() - begin, Ms(280));
  EXPECT_LE(absl::Now() - begin, Ms(600));
  EXPECT_LT(stage.proxy->Read().bytes_to_client, 800000u);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  const absl::Time freed = absl::Now();
  EXPECT_EQ(Receive(pair.first.get(), (4 << 20) - 300000).size(), size_t{4 << 20} - 300000);
  EXPECT_LT(absl::Now() - freed, absl::Seconds(2));
  sender.join();
}

TEST(Stalled, HealingGoesOnWithoutLossOrClose) {
  Stage stage;
  const auto pair = stage.Pair();
  ASSERT_TRUE(Stage::Alive(pair));
  ASSERT_TRUE(stage.proxy->Set(Stall(1)).ok());
  EXPECT_EQ(stage.proxy->Read().stalled, 1u);
  Send(pair.first.get(), "question");
  Send(pair.second.get(), "answer");
  EXPECT_EQ(Listen(pair.first.get(), Ms(50)), Heard::kSilence);
  EXPECT_EQ(Listen(pair.second.get(), Ms(50)), Heard::kSilence);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  EXPECT_EQ(stage.proxy->Read().stalled, 0u);
  EXPECT_EQ(Receive(pair.second.get(), 8), "question");
  EXPECT_EQ(Receive(pair.first.get(), 6), "answer");
  EXPECT_TRUE(Stage::Alive(pair));
}

TEST(Stalled, NewConnectionsMeetSilenceUntilHealed) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(Stall(1)).ok());
  const UniqueFd client = stage.Connect();
  Send(client.get(), "hello?");
  EXPECT_FALSE(stage.server.HasCaller(Ms(50)));
  EXPECT_EQ(Listen(client.get(), Ms(20)), Heard::kSilence);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  const UniqueFd server = stage.server.Accept();
  EXPECT_EQ(Receive(server.get(), 6), "hello?");
  Send(server.get(), "yes");
  EXPECT_EQ(Receive(client.get(), 3), "yes");
}

TEST(Stalled, EndsThatComeMeanwhileArePassedOnAfterwards) {
  Stage stage;
  auto closed = stage.Pair();
  auto crashed = stage.Pair();
  ASSERT_TRUE(stage.proxy->Set(Stall(1)).ok());
  Send(closed.first.get(), "bye");
  closed.first.Reset();
  ResetAndClose(std::move(crashed.first));
  EXPECT_EQ(Listen(closed.second.get(), Ms(50)), Heard::kSilence);
  EXPECT_EQ(Listen(crashed.second.get(), Ms(1)), Heard::kSilence);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  EXPECT_EQ(Receive(closed.second.get(), 3), "bye");
  EXPECT_EQ(Listen(closed.second.get()), Heard::kFin);
  EXPECT_EQ(Listen(crashed.second.get()), Heard::kReset);
}

TEST(Stalled, TheShareIsPickedBySeed) {
  Stage stage;
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
  for (int i = 0; i < 40; ++i) pairs.push_back(stage.Pair());
  const auto stalled = [&](uint64_t seed) {
    EXPECT_TRUE(stage.proxy->Set(Stall(0.5, seed)).ok());
    const uint64_t count = stage.proxy->Read().stalled;
    std::string which;
    for (const auto& [client, server] : pairs) Send(client.get(), "x");
    absl::SleepFor(Ms(30));
    uint64_t silent = 0;
    for (const auto& [client, server] : pairs) {
      const bool silence = Listen(server.get(), Ms(0)) == Heard::kSilence;
      which += silence ? 's' : '.';
      silent += silence;
    }
    EXPECT_EQ(silent, count);
    EXPECT_TRUE(stage.proxy->Set({}).ok());
    for (const auto& [client, server] : pairs) EXPECT_EQ(Receive(server.get(), 1), "x");
    return which;
  };
  const std::string first = stalled(1);
  EXPECT_THAT(first, ::testing::AllOf(::testing::HasSubstr("s"), ::testing::HasSubstr(".")));
  EXPECT_EQ(stalled(1), first);
  EXPECT_NE(stalled(2), first);
}

TEST(Reset, HitsIdleConnectionsToo) {
  Stage stage([](ProxyOptions& options) { options.threads = 2; });
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
  for (int i = 0; i < 20; ++i) pairs.push_back(stage.Pair());
  EXPECT_EQ(stage.proxy->Reset(0, 1), 0u);
  EXPECT_TRUE(Stage::Alive(pairs[0]));
  EXPECT_EQ(stage.proxy->Reset(1, 1), 20u);
  for (const auto& [client, server] : pairs) {
    EXPECT_EQ(Listen(client.get()), Heard::kReset);
    EXPECT_NE(Listen(server.get()), Heard::kSilence);
  }
  EXPECT_EQ(stage.proxy->Read().reset, 20u);
  EXPECT_EQ(stage.proxy->Read().open, 0u);
  EXPECT_TRUE(Stage::Alive(stage.Pair()));
}

TEST(Reset, ABusyConnectionHearsAResetAndNoEnd) {
  Stage stage;
  auto pair = stage.Pair();
  std::thread download([&, fd = std::move(pair.second)] {
    const std::string much(1 << 20, 'd');
    try {
      for (;;) Send(fd.get(), much);
    } catch (const std::runtime_error&) {
      // The client is gone, as it should be.
    }
  });
  EXPECT_EQ(Receive(pair.first.get(), 1 << 20).size(), size_t{1} << 20);
  EXPECT_EQ(stage.proxy->Reset(1, 1), 1u);
  std::string buffer(1 << 20, 0);
  ssize_t count = 1;
  while (count > 0) count = recv(pair.first.get(), buffer.data(), buffer.size(), 0);
  EXPECT_EQ(count, -1);
  EXPECT_EQ(errno, ECONNRESET);
  download.join();
}

TEST(Reset, TakesAShareBySeed) {
  const auto survivors = [](uint64_t seed) {
    Stage stage;
    std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
    for (int i = 0; i < 40; ++i) pairs.push_back(stage.Pair());
    const size_t count = stage.proxy->Reset(0.5, seed);
    std::string which;
    for (const auto& [client, server] : pairs) {
      which += Listen(client.get(), Ms(5)) == Heard::kReset ? 'r' : '.';
    }
    EXPECT_EQ(static_cast<size_t>(std::count(which.begin(), which.end(), 'r')), count);
    return which;
  };
  const std::string first = survivors(1);
  EXPECT_EQ(first, survivors(1));
  EXPECT_NE(first, survivors(2));
}

// The leading peer deadlocked for good, within three rounds: a delay was removed while clients with
// downloads in flight disconnected.
TEST(Churn, SetNeverHangsWhileClientsLeaveInTheMiddleOfDownloads) {
  constexpr int kCycles = kSanitized ? 100 : 1000;
  Stage stage([](ProxyOptions& options) { options.threads = 2; });
  std::atomic<bool> over = false;
  std::thread server([&] {
    std::vector<std::thread> downloads;
    const std::string much(1 << 20, 'd');
    while (!over) {
      if (!stage.server.HasCaller(Ms(10))) continue;
      downloads.emplace_back([&, fd = stage.server.Accept()] {
        const timeval limit = {5, 0};
        setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        try {
          while (!over) Send(fd.get(), much);
        } catch (const std::runtime_error&) {
          // The client has left, as it should.
        }
      });
      if (downloads.size() < 64) continue;
      for (std::thread& download : downloads) download.join();
      downloads.clear();
    }
    for (std::thread& download : downloads) download.join();
  });
  std::vector<std::thread> clients;
  std::atomic<int> left = 0;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] {
      while (!over) {
        UniqueFd client = stage.Connect();
        Receive(client.get(), 300000);
        if (i == 0) ResetAndClose(std::move(client));
        ++left;
        absl::SleepFor(Ms(1));
      }
    });
  }
  absl::Duration worst;
  // That a cycle takes 100 ms at most is the benchmark's to measure (`./dev bench wire`, "applying
  // and reverting under churn"); here 2 s tell one that hangs from a busy machine.
  const absl::Time end = absl::Now() + absl::Minutes(3);
  int cycles = 0;
  for (; cycles < kCycles && absl::Now() < end; ++cycles) {
    const absl::Time begin = absl::Now();
    EXPECT_TRUE(stage.proxy->Set(DelayToClient(Ms(1 + cycles % 5))).ok());
    EXPECT_TRUE(stage.proxy->Set({}).ok());
    worst = std::max(worst, absl::Now() - begin);
    absl::SleepFor(Ms(1));
  }
  std::cout << cycles << " cycles, worst " << worst << ", clients that left " << left << "\n";
  over = true;
  stage.proxy->Reset(1, 1);
  for (std::thread& client : clients) client.join();
  server.join();
  EXPECT_EQ(cycles, kCycles);
  EXPECT_GT(left, 10);
  EXPECT_LT(worst, absl::Seconds(2));
}

TEST(Churn, SetReachesManyConnectionsQuicklyAndBreaksNone) {
  constexpr size_t kCount = 1000;
  Stage stage;
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs;
  for (size_t i = 0; i < kCount; ++i) pairs.push_back(stage.Pair());
  ASSERT_TRUE(stage.proxy->Set(DelayToClient(absl::Minutes(1))).ok());
  for (const auto& [client, server] : pairs) Send(server.get(), "held");
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().open == kCount; }));
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  const absl::Duration took = absl::Now() - begin;
  std::cout << "Set took " << took << "\n";
  EXPECT_LT(took, absl::Seconds(1));
  for (const auto& [client, server] : pairs) ASSERT_EQ(Receive(client.get(), 4), "held");
}

}  // namespace
}  // namespace firedrill::wire
