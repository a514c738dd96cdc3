// How often somebody may call.
#include "identity/pace.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

int Granted(Pace& pace, const std::string& name, absl::Duration now, int tries) {
  int granted = 0;
  for (int i = 0; i < tries; ++i) granted += pace.Take(name, now) ? 1 : 0;
  return granted;
}

TEST(PaceTest, ABurstAndThenSoManyASecond) {
  Pace pace(10, 30);
  EXPECT_EQ(Granted(pace, "alice", absl::Seconds(100), 100), 30);
  EXPECT_EQ(Granted(pace, "alice", absl::Seconds(100), 100), 0);
  EXPECT_EQ(Granted(pace, "alice", absl::Seconds(101), 100), 10);
  // Never more than at first, however long it was quiet.
  EXPECT_EQ(Granted(pace, "alice", absl::Hours(5), 100), 30);
}

TEST(PaceTest, NobodyUsesUpWhatIsAnothers) {
  Pace pace(10, 30);
  EXPECT_EQ(Granted(pace, "alice", absl::Seconds(100), 100), 30);
  EXPECT_EQ(Granted(pace, "bob", absl::Seconds(100), 100), 30);
}

TEST(PaceTest, ManyNamesTakeNoMoreMemoryAndDoNotFillTheBusiest) {
  Pace pace(1, 2);
  EXPECT_EQ(Granted(pace, "alice", absl::Seconds(1), 5), 2);
  for (int i = 0; i < 50000; ++i) {
    EXPECT_TRUE(pace.Take(absl::StrCat("somebody-", i), absl::Seconds(1)));
    EXPECT_FALSE(pace.Take("alice", absl::Seconds(1)));
  }
}

}  // namespace
}  // namespace firedrill
