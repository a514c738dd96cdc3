// Durations as people write and read them.
#include "base/text.h"

#include <gtest/gtest.h>

namespace firedrill {
namespace {

TEST(ParseDuration, TakesWhatPeopleWrite) {
  EXPECT_EQ(*ParseDuration("250ms"), absl::Milliseconds(250));
  EXPECT_EQ(*ParseDuration("1m30s"), absl::Seconds(90));
  EXPECT_EQ(*ParseDuration("1.5h"), absl::Minutes(90));
  EXPECT_EQ(*ParseDuration("0s"), absl::ZeroDuration());
}

TEST(ParseDuration, RefusesTheRest) {
  for (const char* text :
       {"", "5", "s", "5 s", "-1s", "1x", "1e9h", "..s", "9999999999d", "1m30"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(FormatDuration, IsReadAsItWasWritten) {
  for (const char* text : {"250ms", "1m30s", "1.5s", "2h5m", "0s", "12h0.25s"}) {
    EXPECT_EQ(firedrill::FormatDuration(*ParseDuration(text)), text);
  }
  EXPECT_EQ(firedrill::FormatDuration(-absl::Milliseconds(1500)), "-1.5s");
}

TEST(NearestOf, FindsASlipAndNotAStranger) {
  const std::vector<std::string> known = {"holdConnections", "terminateSessions"};
  EXPECT_EQ(NearestOf("holdConection", known), "holdConnections");
  EXPECT_EQ(NearestOf("banana", known), "");
  // The commonest slip of all.
  EXPECT_EQ(NearestOf("tabel", {"verb", "table"}), "table");
  EXPECT_EQ(NearestOf("tablo", {"label"}), "");
}

}  // namespace
}  // namespace firedrill
