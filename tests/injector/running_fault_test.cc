// A fault on a thread of its own: order of the steps, interruption, and the end in every way.
#include "injector/running_fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "injector/node_file.h"
#include "tests/testing/memory_disk.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;

// What the test's fault does and has seen. Any thread.
struct Script {
  std::atomic<bool> block_in_apply{false};
  std::atomic<bool> held{false};
  std::atomic<int> ticks{0};
  std::atomic<int> observations{0};
  std::atomic<bool> lingers{false};
  std::atomic<bool> unreachable{false};
  std::atomic<int> prepared{0};
};

class TestFault final : public Fault, public Prepares, public Sustains {
 public:
  explicit TestFault(Script& script) : script_(script) {}
  absl::Status Validate(const Node&) const override { return absl::OkStatus(); }
  absl::Status Prepare(const Context&, Node&) override {
    ++script_.prepared;
    return script_.unreachable ? absl::UnavailableError("nobody listens") : absl::OkStatus();
  }
  absl::Status Apply(const Context& context, Node&, Changes&) override {
    script_.held = true;
    while (script_.block_in_apply && !context.stop.stop_requested()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return context.stop.stop_requested() ? absl::CancelledError("stopped") : absl::OkStatus();
  }
  absl::StatusOr<v1::Observation> Observe(const Context&, const Node&) const override {
    ++script_.observations;
    v1::Observation observation;
    observation.set_reached(script_.held);
    return observation;
  }
  void Release() override { script_.held = false; }
  absl::Status ReadBack(const Context&, const Node&) const override {
    return script_.lingers ? absl::UnavailableError("still there") : absl::OkStatus();
  }
  absl::Duration pace() const override { return absl::Milliseconds(5); }
  absl::Status Tick(const Context&, Node&) override {
    ++script_.ticks;
    return absl::OkStatus();
  }

 private:
  Script& script_;
};

class RunningFaultTest : public testing::Test {
 protected:
  RunningFaultTest() {
    v1::PlannedFault planned;
    planned.set_name("leak");
    planned.set_ending(v1::ENDING_DIES_WITH_PROCESS);
    const auto factory =
        ThreadedFaultsOf([this](const v1::Fault&) { return std::make_unique<TestFault>(script_); },
                         loop_, node_, *journal_);
    fault_ =
        *factory("r1", planned,
                 {.prepared = [this](absl::Status) { Say("prepared"); },
                  .applied = [this](absl::Status status,
                                    absl::Time) { Say(status.ok() ? "applied" : "not applied"); },
                  .observed =
                      [this](absl::StatusOr<v1::Observation> seen, absl::Time) {
                        if (seen.ok() && seen->reached()) Say("reached");
                      },
                  .ended =
                      [this](FaultEnd end) {
                        Say(end.how == FaultEnd::How::kReverted ? "reverted" : "stuck");
                      }});
  }
  ~RunningFaultTest() override {
    fault_.reset();
    loop_.Stop();
  }

  void Say(const std::string& what) {
    // Observations repeat.
    if (said_.empty() || said_.back() != what) said_.push_back(what);
  }
  std::vector<std::string> Said() {
    std::vector<std::string> said;
    loop_.Run([&] { said = said_; });
    return said;
  }
  bool Within(absl::Duration limit, const std::function<bool()>& done) {
    const absl::Duration end = RealClock().Boot() + limit;
    while (!done()) {
      if (RealClock().Boot() > end) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }
  bool Saw(const std::string& what) {
    return Within(absl::Seconds(10), [&] {
      const auto said = Said();
      return std::find(said.begin(), said.end(), what) != said.end();
    });
  }
  absl::Duration In(absl::Duration length) { return RealClock().Boot() + length; }

  Script script_;
  MemoryDisk disk_;
  FileNode node_{v1::NodeSpec()};
  std::unique_ptr<Journal> journal_ = *Journal::Open(disk_, "db-1");
  EventLoop loop_;
  std::vector<std::string> said_;
  std::unique_ptr<RunningFault> fault_;
};

TEST_F(RunningFaultTest, PreparesAppliesSustainsAndReverts) {
  fault_->Prepare();
  ASSERT_TRUE(Saw("prepared"));
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Saw("reached"));
  EXPECT_TRUE(Within(absl::Seconds(10), [&] { return script_.ticks > 10; }));
  fault_->Revert();
  ASSERT_TRUE(Saw("reverted"));
  EXPECT_FALSE(script_.held);
  EXPECT_THAT(Said(), ElementsAre("prepared", "applied", "reached", "reverted"));
  const int ticks = script_.ticks;
  absl::SleepFor(absl::Milliseconds(30));
  EXPECT_EQ(script_.ticks, ticks);
  EXPECT_TRUE(journal_->empty());
}

// Nobody could look at a server that does not even let us in: that is no fault left behind.
TEST_F(RunningFaultTest, WhatCannotBePreparedIsRefusedAndNotStuck) {
  script_.unreachable = script_.lingers = true;
  fault_->Prepare();
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Saw("reverted"));
  EXPECT_THAT(Said(), ElementsAre("prepared", "not applied", "reverted"));
  EXPECT_TRUE(journal_->empty());
}

TEST_F(RunningFaultTest, IsPreparedOnce) {
  fault_->Prepare();
  ASSERT_TRUE(Saw("prepared"));
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Saw("reached"));
  EXPECT_EQ(script_.prepared, 1);
}

TEST_F(RunningFaultTest, TicksBetweenObservationsNotInsteadOfThem) {
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Within(absl::Seconds(10), [&] { return script_.observations >= 3; }));
  EXPECT_GT(script_.ticks, script_.observations);
}

TEST_F(RunningFaultTest, EndsByItselfAtItsAbsoluteEnd) {
  fault_->Apply(In(absl::Milliseconds(150)));
  ASSERT_TRUE(Saw("reverted"));
  EXPECT_FALSE(script_.held);
}

TEST_F(RunningFaultTest, ARevertInterruptsAnApplyThatBlocks) {
  script_.block_in_apply = true;
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Within(absl::Seconds(10), [&] { return script_.held.load(); }));
  fault_->Revert();
  ASSERT_TRUE(Saw("reverted"));
  EXPECT_THAT(Said(), ElementsAre("not applied", "reverted"));
}

TEST_F(RunningFaultTest, ARevertBeforeTheApplyWins) {
  fault_->Revert();
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Saw("reverted"));
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_FALSE(script_.held) << "whichever of the two the thread saw first, it must be off";
}

TEST_F(RunningFaultTest, WhatStuckMayBeTriedAgain) {
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Saw("reached"));
  script_.lingers = true;
  fault_->Revert();
  ASSERT_TRUE(Saw("stuck"));
  script_.lingers = false;
  fault_->Revert();
  ASSERT_TRUE(Saw("reverted"));
}

TEST_F(RunningFaultTest, TheDestructorRevertsAndDoesNotHang) {
  script_.block_in_apply = true;
  fault_->Apply(In(absl::Seconds(60)));
  ASSERT_TRUE(Within(absl::Seconds(10), [&] { return script_.held.load(); }));
  fault_.reset();
  EXPECT_FALSE(script_.held);
}

}  // namespace
}  // namespace firedrill
