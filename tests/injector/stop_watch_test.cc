// The file that stops a node is seen whatever the injector's loop does.
#include "injector/stop_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "tests/testing/child.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

class StopWatchTest : public ::testing::Test {
 protected:
  void Start(absl::Duration patience) {
    watch_ = std::make_unique<StopWatch>(
        loop_, StopWatch::Options{.paths = {of_node_, of_all_},
                                  .look_every = absl::Milliseconds(10),
                                  .patience = patience,
                                  .stop = [this](const std::string&) { ++stopped_; },
                                  .give_up =
                                      [this](const std::string& why) {
                                        why_ = why;
                                        ++given_up_;
                                      }});
  }
  void TearDown() override {
    hangs_ = false;
    loop_.Run([this] { watch_.reset(); });
    loop_.Stop();
  }
  void Put(const std::string& path) { std::ofstream(path).close(); }
  static bool Within(const std::function<bool()>& done) {
    const absl::Time end = absl::Now() + kPatience;
    while (!done() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
    return done();
  }

  TempDir folder_{"firedrill-stop"};
  const std::string of_node_ = folder_.path() + "/nodes/db-1/STOP";
  const std::string of_all_ = folder_.path() + "/STOP";
  std::atomic<int> stopped_ = 0, given_up_ = 0;
  std::atomic<bool> hangs_ = false;
  std::string why_;
  EventLoop loop_;
  std::unique_ptr<StopWatch> watch_;
};

TEST_F(StopWatchTest, TheLoopHearsOfEachFileOnce) {
  Start(kPatience);
  EXPECT_EQ(StopFileIn({of_node_, of_all_}), "");
  Put(of_all_);
  EXPECT_EQ(StopFileIn({of_node_, of_all_}), of_all_);
  ASSERT_TRUE(Within([this] { return stopped_ == 1; }));
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(stopped_, 1);
  unlink(of_all_.c_str());
  absl::SleepFor(absl::Milliseconds(500));
  Put(of_all_);
  EXPECT_TRUE(Within([this] { return stopped_ == 2; }));
  EXPECT_EQ(given_up_, 0);
}

TEST_F(StopWatchTest, ALoopThatHangsIsGivenUp) {
  Start(absl::Milliseconds(100));
  loop_.Post([this] {
    hangs_ = true;
    while (hangs_) absl::SleepFor(absl::Milliseconds(1));
  });
  ASSERT_TRUE(Within([this] { return hangs_.load(); }));
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(given_up_, 0) << "there is no file yet";
  Put(of_all_);
  ASSERT_TRUE(Within([this] { return given_up_ == 1; }));
  EXPECT_THAT(why_, HasSubstr("did not hear of it within 100ms"));
}

TEST_F(StopWatchTest, WhatCannotBeLookedAtStops) {
  // A path through a file is none, and stops nobody.
  Put(folder_.path() + "/file");
  EXPECT_EQ(StopFileIn({folder_.path() + "/file/STOP"}), "");
  const std::string too_long = folder_.path() + "/" + std::string(300, 'x');
  EXPECT_EQ(StopFileIn({too_long}), too_long);
}

}  // namespace
}  // namespace firedrill
