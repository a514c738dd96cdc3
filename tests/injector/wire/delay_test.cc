// What is drawn lies within the shape, and hangs on the seed alone.
#include "injector/wire/delay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/time_proto.h"
#include "injector/wire/chance.h"

namespace firedrill::wire {
namespace {

using ::testing::HasSubstr;

std::vector<uint32_t> Draws(const v1::DelayShape& shape, uint64_t seed, size_t count = 20000) {
  const absl::StatusOr<Delay> delay = Delay::Make(shape);
  EXPECT_TRUE(delay.ok()) << delay.status();
  std::vector<uint32_t> draws;
  for (uint64_t chance = Mix(seed); draws.size() < count;) draws.push_back(delay->Draw(&chance));
  EXPECT_LE(*std::max_element(draws.begin(), draws.end()), delay->longest());
  return draws;
}

double Mean(const std::vector<uint32_t>& draws) {
  double sum = 0;
  for (const uint32_t draw : draws) sum += draw;
  return sum / static_cast<double>(draws.size());
}

v1::DelayShape Uniform(absl::Duration min, absl::Duration max) {
  v1::DelayShape shape;
  *shape.mutable_uniform()->mutable_min() = ToProto(min);
  *shape.mutable_uniform()->mutable_max() = ToProto(max);
  return shape;
}

v1::DelayShape Normal(absl::Duration mean, absl::Duration deviation) {
  v1::DelayShape shape;
  *shape.mutable_normal()->mutable_mean() = ToProto(mean);
  *shape.mutable_normal()->mutable_deviation() = ToProto(deviation);
  return shape;
}

v1::DelayShape Pareto(absl::Duration min, double alpha, absl::Duration max) {
  v1::DelayShape shape;
  *shape.mutable_pareto()->mutable_min() = ToProto(min);
  shape.mutable_pareto()->set_shape(alpha);
  *shape.mutable_pareto()->mutable_max() = ToProto(max);
  return shape;
}

TEST(Delay, FixedIsAlwaysTheSame) {
  v1::DelayShape shape;
  *shape.mutable_delay() = ToProto(absl::Milliseconds(20));
  for (const uint32_t draw : Draws(shape, 1, 10)) EXPECT_EQ(draw, 20000u);
  // Rounded up, never down.
  *shape.mutable_delay() = ToProto(absl::Nanoseconds(1500));
  EXPECT_EQ(Draws(shape, 1, 1)[0], 2u);
}

TEST(Delay, UniformFillsItsRangeEvenly) {
  const auto draws = Draws(Uniform(absl::Milliseconds(10), absl::Milliseconds(30)), 1);
  EXPECT_GE(*std::min_element(draws.begin(), draws.end()), 10000u);
  EXPECT_GT(*std::max_element(draws.begin(), draws.end()), 29900u);
  EXPECT_NEAR(Mean(draws), 20000, 200);
}

TEST(Delay, NormalHasItsMeanAndDeviationAndNoNegatives) {
  const auto draws = Draws(Normal(absl::Milliseconds(20), absl::Milliseconds(2)), 1);
  EXPECT_NEAR(Mean(draws), 20000, 100);
  const auto within = std::count_if(draws.begin(), draws.end(),
                                    [](uint32_t draw) { return draw > 18000 && draw < 22000; });
  EXPECT_NEAR(static_cast<double>(within) / static_cast<double>(draws.size()), 0.683, 0.02);
  const auto wide = Draws(Normal(absl::Milliseconds(1), absl::Milliseconds(10)), 1);
  EXPECT_EQ(*std::min_element(wide.begin(), wide.end()), 0u);
}

TEST(Delay, ParetoIsMostlyShortAndSometimesLong) {
  auto draws = Draws(Pareto(absl::Milliseconds(10), 1.5, absl::Seconds(1)), 1);
  std::sort(draws.begin(), draws.end());
  EXPECT_GE(draws.front(), 10000u);
  // The median is min * 2^(1/shape).
  EXPECT_NEAR(draws[draws.size() / 2], 15874, 300);
  EXPECT_EQ(draws.back(), 1000000u);
}

TEST(Delay, TheSeedChangesTheDrawsAndRepeatsThem) {
  const auto shape = Uniform(absl::ZeroDuration(), absl::Seconds(1));
  EXPECT_EQ(Draws(shape, 1, 100), Draws(shape, 1, 100));
  EXPECT_NE(Draws(shape, 1, 100), Draws(shape, 2, 100));
}

TEST(Delay, RefusesWhatIsNoDelay) {
  const auto refusal = [](const v1::DelayShape& shape) {
    const absl::Status status = Delay::Make(shape).status();
    EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  constexpr auto kMs = [](int ms) { return absl::Milliseconds(ms); };
  EXPECT_THAT(refusal({}), HasSubstr("no shape"));
  EXPECT_THAT(refusal(Uniform(kMs(30), kMs(10))), HasSubstr("`max` of 10ms is below its `min`"));
  EXPECT_THAT(refusal(Uniform(kMs(-1), kMs(10))), HasSubstr("`min` of -1ms"));
  EXPECT_THAT(refusal(Normal(kMs(10), kMs(-1))), HasSubstr("`deviation`"));
  EXPECT_THAT(refusal(Pareto(kMs(10), 0, kMs(20))), HasSubstr("`shape` of 0"));
  EXPECT_THAT(refusal(Uniform(kMs(1), absl::Hours(1))), HasSubstr("not between 1us and 10m"));
}

TEST(Chance, PicksAboutTheShareAndAlwaysTheSame) {
  int picked = 0;
  int other = 0;
  for (uint64_t id = 0; id < 10000; ++id) {
    picked += Picked(1, 1, id, 0.3);
    other += Picked(1, 1, id, 0.3) != Picked(2, 1, id, 0.3);
    EXPECT_TRUE(Picked(1, 1, id, 1));
    EXPECT_FALSE(Picked(1, 1, id, 0));
    // Whoever is in a small share is in a larger one.
    EXPECT_LE(Picked(1, 1, id, 0.3), Picked(1, 1, id, 0.4));
  }
  EXPECT_NEAR(picked, 3000, 150);
  EXPECT_NEAR(other, 4200, 200);
}

}  // namespace
}  // namespace firedrill::wire
