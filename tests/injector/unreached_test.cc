// What is said of a controller that cannot be reached.
#include "injector/unreached.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

TEST(Unreached, EachReasonIsSaidAtOnceAndThenSeldom) {
  Unreached unreached;
  absl::Duration now = absl::Hours(5);
  EXPECT_EQ(unreached.Reached(now), std::nullopt);
  EXPECT_EQ(unreached.Failed("refused", now), "refused");
  int said = 0;
  for (int i = 0; i < 59; ++i) said += unreached.Failed("refused", now += absl::Seconds(1)) ? 1 : 0;
  EXPECT_EQ(said, 0);
  EXPECT_EQ(unreached.Failed("no such name", now), "no such name (61 tries in 59s)");
  EXPECT_EQ(unreached.Failed("refused", now += absl::Seconds(1)), "refused (62 tries in 1m)");
  EXPECT_EQ(unreached.Failed("no such name", now), std::nullopt);
  EXPECT_EQ(unreached.Reached(now + absl::Seconds(2)), "63 tries had failed, the first 1m2s ago");
  EXPECT_EQ(unreached.Reached(now), std::nullopt);
  EXPECT_EQ(unreached.Failed("refused", now), "refused") << "it had got through meanwhile";
}

TEST(Unreached, ReasonsThatAreNeverTheSameDoNotFillTheLog) {
  Unreached unreached;
  int said = 0;
  for (int i = 0; i < 1000; ++i) {
    said += unreached.Failed(absl::StrCat("port ", i), absl::Milliseconds(i)) ? 1 : 0;
  }
  EXPECT_EQ(said, 9);
}

}  // namespace
}  // namespace firedrill
