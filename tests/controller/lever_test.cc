// The lever holds whatever the disk does, and acts before it asks the disk.
#include "controller/lever.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

bool Within(const std::function<bool()>& done) {
  const absl::Time end = absl::Now() + kPatience;
  while (!done() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(5));
  return done();
}

class LeverTest : public ::testing::Test {
 protected:
  Lever::Acts Counted() {
    return {.pulled =
                [this](const Pull& pull) {
                  ++pulled_;
                  by_hand_ = by_hand_ || pull.by.empty();
                  file_was_there_ = access(path_.c_str(), F_OK) == 0;
                  return Lever::Reached{2, 3};
                },
            .released = [this] { ++released_; }};
  }

  TempDir folder_{"firedrill-lever"};
  const std::string path_ = folder_.path() + "/STOP";
  std::atomic<int> pulled_ = 0, released_ = 0;
  std::atomic<bool> by_hand_ = false, file_was_there_ = false;
};

TEST_F(LeverTest, ActsFirstAndHoldsAcrossRestarts) {
  {
    Lever lever(path_);
    lever.Act(Counted());
    EXPECT_FALSE(lever.Pulled().has_value());
    const Lever::Answer answer = lever.PullIt("alice", "a real\noutage");
    EXPECT_TRUE(answer.kept.ok()) << answer.kept;
    EXPECT_EQ(answer.reached.runs, 2u);
    EXPECT_EQ(answer.reached.injectors, 3u);
    EXPECT_FALSE(file_was_there_) << "the disk was asked before the faults were off";
  }
  EXPECT_EQ(pulled_, 1);
  const Lever again(path_);
  ASSERT_TRUE(again.Pulled().has_value());
  EXPECT_EQ(again.Pulled()->Words(), "alice: a real outage");
  EXPECT_LT(absl::AbsDuration(absl::Now() - again.Pulled()->at), absl::Minutes(1));
}

TEST_F(LeverTest, TheFirstPullIsRememberedAndEachOneActs) {
  Lever lever(path_);
  lever.Act(Counted());
  lever.PullIt("alice", "first");
  const Lever::Answer second = lever.PullIt("bob", "second");
  EXPECT_EQ(second.pull.Words(), "alice: first");
  EXPECT_EQ(lever.Pulled()->Words(), "alice: first");
  EXPECT_EQ(pulled_, 2);
  ASSERT_TRUE(lever.Release().ok());
  EXPECT_TRUE(lever.Release().ok());
  EXPECT_FALSE(lever.Pulled().has_value());
  EXPECT_GE(released_, 1);
}

TEST_F(LeverTest, AReasonThatComesLaterIsAddedToAPullThatHadNone) {
  Lever lever(path_);
  lever.Act(Counted());
  const absl::Time since = lever.PullIt("alice", " \n").pull.at;
  EXPECT_EQ(lever.Pulled()->Words(), "alice: no reason given");
  const absl::Time at = lever.Pulled()->at;
  EXPECT_LT(absl::AbsDuration(at - since), absl::Minutes(1));
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(lever.PullIt("bob", "").pull.Words(), "alice: no reason given");
  EXPECT_EQ(lever.PullIt("bob", "it is on fire").pull.Words(),
            "alice: no reason given; bob: it is on fire");
  // Once: what has a reason stays.
  EXPECT_EQ(lever.PullIt("carol", "me too").pull.reason, "no reason given; bob: it is on fire");
  const Lever again(path_);
  EXPECT_EQ(again.Pulled()->by, "alice");
  EXPECT_EQ(again.Pulled()->reason, "no reason given; bob: it is on fire");
  EXPECT_EQ(again.Pulled()->at, at) << "since when";
  EXPECT_EQ(pulled_, 4) << "each of them acts";
  ASSERT_TRUE(lever.Release().ok());
  lever.PullIt("alice", "");
  EXPECT_EQ(lever.PullIt("alice", "a").pull.Words(), "alice: a") << "her own";
  EXPECT_EQ(Lever(path_).Pulled()->Words(), "alice: a");
  ASSERT_TRUE(lever.Release().ok());
  std::ofstream(path_).close();
  EXPECT_EQ(lever.PullIt("bob", "whoever touched it").pull.Words(), "bob: whoever touched it");
}

TEST_F(LeverTest, HoldsWithoutADisk) {
  Lever lever(folder_.path() + "/gone/STOP");
  lever.Act(Counted());
  const Lever::Answer answer = lever.PullIt("alice", "a full disk");
  EXPECT_FALSE(answer.kept.ok());
  EXPECT_THAT(std::string(answer.kept.message()), HasSubstr("may not outlast a restart"));
  EXPECT_EQ(pulled_, 1);
  ASSERT_TRUE(lever.Pulled().has_value());
  EXPECT_EQ(lever.Pulled()->Words(), "alice: a full disk");
  EXPECT_TRUE(lever.Release().ok());
  EXPECT_FALSE(lever.Pulled().has_value());
}

TEST_F(LeverTest, AFilePutThereByHandActsAndItsRemovalReleases) {
  Lever lever(path_);
  lever.Act(Counted());
  std::ofstream(path_).close();
  ASSERT_TRUE(Within([&] { return pulled_ == 1; }));
  EXPECT_TRUE(by_hand_);
  EXPECT_EQ(lever.Pulled()->Words(), "no reason given");
  unlink(path_.c_str());
  ASSERT_TRUE(Within([&] { return released_ == 1; }));
  EXPECT_FALSE(lever.Pulled().has_value());
  // It rests before what it calls is gone.
  lever.Rest();
  std::ofstream(path_).close();
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(pulled_, 1);
}

TEST_F(LeverTest, WhatIsPulledAlreadyAtTheStartIsNoNews) {
  std::ofstream(path_) << "alice: yesterday\n";
  Lever lever(path_);
  lever.Act(Counted());
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(pulled_, 0);
  EXPECT_EQ(lever.Pulled()->by, "alice");
}

}  // namespace
}  // namespace firedrill
