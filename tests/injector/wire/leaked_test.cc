// Connections whose clients have gone and whose server is not told.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "tests/injector/wire/postgresql_messages.h"
#include "tests/injector/wire/proxy_stage.h"

namespace firedrill::wire {
namespace {

constexpr auto Ms = [](double ms) { return absl::Milliseconds(ms); };

TEST(Leaked, TheServerNeverHearsOfTheClientsEndUntilHealed) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(Leak(1)).ok());
  auto closed = stage.Pair();
  auto crashed = stage.Pair();
  Send(closed.first.get(), "last words");
  closed.first.Reset();
  ResetAndClose(std::move(crashed.first));
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().leaked == 2; }));
  EXPECT_EQ(Receive(closed.second.get(), 10), "last words");
  EXPECT_EQ(Listen(closed.second.get(), Ms(50)), Heard::kSilence);
  EXPECT_EQ(Listen(crashed.second.get(), Ms(1)), Heard::kSilence);
  // Nobody hears it, and nobody minds.
  Send(closed.second.get(), "hello?");
  Send(crashed.second.get(), "hello?");
  absl::SleepFor(Ms(20));
  EXPECT_EQ(stage.proxy->Read().leaked, 2u);
  ASSERT_TRUE(stage.proxy->Set({}).ok());
  EXPECT_NE(Listen(closed.second.get()), Heard::kSilence);
  EXPECT_EQ(Listen(crashed.second.get()), Heard::kReset);
  closed.second.Reset();
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
  EXPECT_EQ(stage.proxy->Read().leaked, 0u);
}

TEST(Leaked, AServerThatClosesEndsTheLeak) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(Leak(1)).ok());
  auto pair = stage.Pair();
  pair.first.Reset();
  ASSERT_TRUE(Eventually([&] { return stage.proxy->Read().leaked == 1; }));
  pair.second.Reset();
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().open == 0; }));
  EXPECT_EQ(stage.proxy->Read().leaked, 0u);
}

TEST(Leaked, AGoodbyeOfTheProtocolIsNotPassedOn) {
  const absl::string_view goodbye("X\0\0\0\4", 5);
  Stage stage([](ProxyOptions& options) {
    options.protocol = v1::PROTOCOL_POSTGRESQL;
    options.make_codec = [] { return nullptr; };
  });
  auto usual = stage.Pair();
  Send(usual.first.get(), goodbye);
  EXPECT_EQ(Receive(usual.second.get(), 5), goodbye);
  ASSERT_TRUE(stage.proxy->Set(Leak(1)).ok());
  auto leaking = stage.Pair();
  Send(leaking.first.get(), goodbye);
  leaking.first.Reset();
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().leaked == 1; }));
  EXPECT_EQ(Listen(leaking.second.get(), Ms(20)), Heard::kSilence);
}

// A driver may say its last words and goodbye at once.
TEST(Leaked, OnlyTheGoodbyeIsKeptBackOfWhatComesTogether) {
  Stage stage([](ProxyOptions& options) { options.protocol = v1::PROTOCOL_POSTGRESQL; });
  const auto session = [&] {
    auto pair = stage.Pair();
    Send(pair.first.get(), Hello());
    EXPECT_EQ(Receive(pair.second.get(), Hello().size()), Hello());
    Send(pair.second.get(), Welcome());
    EXPECT_EQ(Receive(pair.first.get(), Welcome().size()), Welcome());
    return pair;
  };
  const std::string query = Simple("commit");
  const std::string all = query + Message('X');
  auto usual = session();
  Send(usual.first.get(), all);
  EXPECT_EQ(Receive(usual.second.get(), all.size()), all);
  ASSERT_TRUE(stage.proxy->Set(Leak(1)).ok());
  auto leaking = session();
  Send(leaking.first.get(), all);
  leaking.first.Reset();
  EXPECT_EQ(Receive(leaking.second.get(), query.size()), query);
  EXPECT_TRUE(Eventually([&] { return stage.proxy->Read().leaked == 1; }));
  EXPECT_EQ(Listen(leaking.second.get(), Ms(20)), Heard::kSilence);
}

constexpr absl::string_view kGoodbye("X\0\0\0\4", 5);
constexpr absl::string_view kNotice("N\0\0\0\5\0", 6);

// With a codec, and where nobody looks.
class KeptBack : public ::testing::TestWithParam<bool> {
 protected:
  std::pair<UniqueFd, UniqueFd> Session() {
    auto pair = stage_.Pair();
    Send(pair.first.get(), Hello());
    EXPECT_EQ(Receive(pair.second.get(), Hello().size()), Hello());
    Send(pair.second.get(), Welcome());
    EXPECT_EQ(Receive(pair.first.get(), Welcome().size()), Welcome());
    return pair;
  }
  bool Leaks(uint64_t count) {
    return Eventually([&] { return stage_.proxy->Read().leaked == count; });
  }

  Stage stage_{[](ProxyOptions& options) {
    options.protocol = v1::PROTOCOL_POSTGRESQL;
    if (!GetParam()) options.make_codec = [] { return nullptr; };
  }};
};

TEST_P(KeptBack, WhoWaitsForTheServersWordIsLeakedAndHearsItWhenHealed) {
  ASSERT_TRUE(stage_.proxy->Set(Leak(1)).ok());
  auto waits = Session();
  auto half_closed = Session();
  Send(waits.first.get(), kGoodbye);
  Send(half_closed.first.get(), kGoodbye);
  shutdown(half_closed.first.get(), SHUT_WR);
  EXPECT_TRUE(Leaks(2));
  // Other faults come and go.
  Disturbance more = Leak(1);
  more.delay_to_server = FixedDelay(Ms(1));
  ASSERT_TRUE(stage_.proxy->Set(more).ok());
  EXPECT_EQ(Listen(waits.second.get(), Ms(50)), Heard::kSilence);
  EXPECT_EQ(Listen(half_closed.second.get(), Ms(1)), Heard::kSilence);
  EXPECT_EQ(stage_.proxy->Read().leaked, 2u);

  ASSERT_TRUE(stage_.proxy->Set({}).ok());
  EXPECT_EQ(Receive(waits.second.get(), kGoodbye.size()), kGoodbye);
  EXPECT_EQ(Receive(half_closed.second.get(), kGoodbye.size()), kGoodbye);
  EXPECT_EQ(Listen(waits.second.get(), Ms(50)), Heard::kSilence) << "it has not closed";
  EXPECT_EQ(Listen(half_closed.second.get()), Heard::kFin);
  EXPECT_EQ(stage_.proxy->Read().leaked, 0u);
  for (auto* pair : {&waits, &half_closed}) {
    Send(pair->second.get(), kNotice);
    pair->second.Reset();
    EXPECT_EQ(Receive(pair->first.get(), kNotice.size()), kNotice);
    EXPECT_EQ(Listen(pair->first.get()), Heard::kFin);
    pair->first.Reset();
  }
  EXPECT_TRUE(Eventually([&] { return stage_.proxy->Read().open == 0; }));
}

TEST_P(KeptBack, WhatComesBehindItStaysBehindIt) {
  ASSERT_TRUE(stage_.proxy->Set(Leak(1)).ok());
  auto pair = Session();
  Send(pair.first.get(), kGoodbye);
  EXPECT_TRUE(Leaks(1));
  Send(pair.first.get(), Simple("too late"));
  EXPECT_EQ(Listen(pair.second.get(), Ms(50)), Heard::kSilence);
  ASSERT_TRUE(stage_.proxy->Set({}).ok());
  const std::string all = std::string(kGoodbye) + Simple("too late");
  EXPECT_EQ(Receive(pair.second.get(), all.size()), all);
}

TEST_P(KeptBack, AServerThatClosesIsHeardByWhoWaits) {
  ASSERT_TRUE(stage_.proxy->Set(Leak(1)).ok());
  auto pair = Session();
  Send(pair.first.get(), kGoodbye);
  EXPECT_TRUE(Leaks(1));
  Send(pair.second.get(), kNotice);
  pair.second.Reset();
  EXPECT_EQ(Receive(pair.first.get(), kNotice.size()), kNotice);
  EXPECT_EQ(Listen(pair.first.get()), Heard::kFin);
  EXPECT_TRUE(Eventually([&] { return stage_.proxy->Read().open == 0; }));
  EXPECT_EQ(stage_.proxy->Read().leaked, 0u);
}

TEST_P(KeptBack, WhoHasGoneForGoodEndsInOrderWhenHealed) {
  ASSERT_TRUE(stage_.proxy->Set(Leak(1)).ok());
  auto closed = Session();
  auto crashed = Session();
  Send(closed.first.get(), kGoodbye);
  Send(crashed.first.get(), kGoodbye);
  closed.first.Reset();
  EXPECT_TRUE(Leaks(2));
  ResetAndClose(std::move(crashed.first));
  EXPECT_EQ(Listen(closed.second.get(), Ms(50)), Heard::kSilence);
  EXPECT_EQ(Listen(crashed.second.get(), Ms(1)), Heard::kSilence);
  EXPECT_EQ(stage_.proxy->Read().leaked, 2u);
  ASSERT_TRUE(stage_.proxy->Set({}).ok());
  EXPECT_EQ(Receive(closed.second.get(), kGoodbye.size()), kGoodbye);
  EXPECT_EQ(Listen(closed.second.get()), Heard::kFin);
  EXPECT_NE(Listen(crashed.second.get()), Heard::kSilence);
  closed.second.Reset();
  EXPECT_TRUE(Eventually([&] { return stage_.proxy->Read().open == 0; }));
}

INSTANTIATE_TEST_SUITE_P(Goodbyes, KeptBack, ::testing::Bool());

// As one does that has heard a goodbye which nobody could keep back.
TEST(Leaked, WhatTheServerClosesSoonWasNoLeak) {
  Stage stage;
  ASSERT_TRUE(stage.proxy->Set(Leak(1)).ok());
  auto pair = stage.Pair();
  const absl::Time begin = absl::Now();
  pair.first.Reset();
  EXPECT_EQ(Listen(pair.second.get(), Ms(300)), Heard::kSilence);
  uint64_t most = stage.proxy->Read().leaked;
  pair.second.Reset();
  EXPECT_TRUE(Eventually([&] {
    const ProxyCounters now = stage.proxy->Read();
    most = std::max(most, now.leaked);
    return now.open == 0;
  }));
  if (absl::Now() - begin > absl::Seconds(1)) GTEST_SKIP() << "this machine is too busy";
  EXPECT_EQ(most, 0u);
}

}  // namespace
}  // namespace firedrill::wire
