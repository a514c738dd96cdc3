// Whole runs, ten thousand of them, through the shipped conductor, runs, fleet, session, warden and
// work, over a simulated clock, network, disk and store. Each has a seed, and replays bit for bit:
//   FIREDRILL_SIM_SEED=1234 simulation_test     runs one, and prints its history
//   FIREDRILL_SIM_RUNS=100000 simulation_test   runs more
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/time_proto.h"
#include "tests/simulation/world.h"
#include "tests/testing/sanitized.h"

namespace firedrill::simulation {
namespace {

constexpr uint64_t kShards = 8;
// A sanitizer takes ten times as long and wants each line run, not each order of events.
constexpr uint64_t kRuns = kSanitized ? 1000 : 10000;
// Failed seeds that are told in full.
constexpr int kMostTold = 10;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

Outcome RunSeed(uint64_t seed, bool keep_histories = false) {
  spdlog::set_level(spdlog::level::off);
  return World(seed).Run(keep_histories);
}

struct Sum {
  int runs = 0, effects = 0, completed = 0, aborted = 0, not_started = 0, closed = 0,
      unconfirmed = 0, passed = 0, with_effect = 0, stuck = 0, reaped = 0, killed_by_reaper = 0,
      killed_in_write = 0, controllers = 0, events = 0, late = 0, unknown = 0, missing = 0,
      alerts = 0;
  uint64_t steps = 0;
  absl::Duration length;
  std::array<int, kTroubles> troubles{};

  void Add(const Outcome& one) {
    runs += one.runs;
    effects += one.effects;
    with_effect += one.effects > 0 ? 1 : 0;
    completed += one.completed;
    aborted += one.aborted;
    not_started += one.not_started;
    closed += one.closed;
    unconfirmed += one.unconfirmed;
    passed += one.passed;
    stuck += one.stuck;
    reaped += one.reaped;
    killed_by_reaper += one.killed_by_reaper;
    killed_in_write += one.killed_in_write;
    controllers += one.controllers;
    events += one.events;
    late += one.weather.late_samples;
    unknown += one.weather.unknown_samples;
    missing += one.weather.missing_samples;
    alerts += one.weather.alerts;
    steps += one.steps;
    length += one.length;
    for (size_t i = 0; i < troubles.size(); ++i) troubles[i] += one.troubles[i];
  }
  std::string Text(uint64_t seeds) const {
    std::string text = absl::StrCat(
        seeds, " seeds, ", runs, " runs of ", absl::ToInt64Seconds(length / seeds),
        " s: ", completed, " completed (", passed, " passed), ", aborted, " aborted, ", not_started,
        " not started, ", closed, " closed by another controller, ", unconfirmed,
        " undo not confirmed; ", with_effect, " seeds with ", effects, " faults on; ", events,
        " events, ", steps, " steps, ", controllers, " controllers, ", reaped, " replays and ",
        killed_by_reaper, " kills by reapers, ", killed_in_write, " killed in a write, ", stuck,
        " stuck, samples ", late, " late ", unknown, " unknown ", missing, " missing, ", alerts,
        " alerts\n  ");
    for (int i = 0; i < kTroubles; ++i) {
      absl::StrAppend(&text, i > 0 ? ", " : "", TroubleName(static_cast<Trouble>(i)), " ",
                      troubles[static_cast<size_t>(i)]);
    }
    return text;
  }
};

class Simulation : public testing::TestWithParam<uint64_t> {};

TEST_P(Simulation, NothingStaysBehind) {
  if (std::getenv("FIREDRILL_SIM_SEED") != nullptr) GTEST_SKIP() << "one seed is replayed";
  const uint64_t each = FromEnvironment("FIREDRILL_SIM_RUNS", kRuns) / kShards;
  const uint64_t first = GetParam() * each + 1;
  Sum sum;
  int failed = 0;
  for (uint64_t seed = first; seed < first + each; ++seed) {
    const Outcome outcome = RunSeed(seed);
    sum.Add(outcome);
    if (outcome.failures.empty()) continue;
    if (++failed <= kMostTold) {
      ADD_FAILURE() << absl::StrJoin(outcome.failures, "\n")
                    << "\nreplay: FIREDRILL_SIM_SEED=" << seed;
    }
  }
  std::cout << "seeds " << first << " to " << first + each - 1 << ": " << sum.Text(each) << "\n";
  EXPECT_EQ(failed, 0) << "seeds that failed, of " << each;
}

INSTANTIATE_TEST_SUITE_P(Shards, Simulation, testing::Range<uint64_t>(0, kShards));

TEST(Simulation, ASeedReplaysBitForBit) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Outcome one = RunSeed(seed), two = RunSeed(seed);
    EXPECT_EQ(one.digest, two.digest) << "seed " << seed;
    EXPECT_EQ(one.steps, two.steps) << "seed " << seed;
  }
}

TEST(Simulation, DifferentSeedsAreDifferentRuns) {
  std::set<uint64_t> digests;
  for (uint64_t seed = 1; seed <= 40; ++seed) digests.insert(RunSeed(seed).digest);
  EXPECT_EQ(digests.size(), 40u);
}

// What the invariants promise is worth as much as what really went wrong.
TEST(Simulation, EverythingThatMayGoWrongDoes) {
  constexpr uint64_t kSeeds = 600;
  Sum sum;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) sum.Add(RunSeed(seed));
  for (int i = 0; i < kTroubles; ++i) {
    EXPECT_GT(sum.troubles[static_cast<size_t>(i)], 3) << TroubleName(static_cast<Trouble>(i));
  }
  EXPECT_GT(sum.with_effect, static_cast<int>(kSeeds) * 6 / 10);
  EXPECT_GT(sum.completed, static_cast<int>(kSeeds) / 5);
  EXPECT_GT(sum.aborted, static_cast<int>(kSeeds) / 10);
  EXPECT_GT(sum.closed, 0);
  EXPECT_GT(sum.unconfirmed, 0);
  EXPECT_GT(sum.reaped, 0);
  EXPECT_GT(sum.killed_by_reaper, 0);
  EXPECT_GT(sum.killed_in_write, 0);
  EXPECT_GT(sum.stuck, 0);
  EXPECT_GT(sum.late, 0);
  EXPECT_GT(sum.unknown, 0);
  EXPECT_GT(sum.missing, 0);
  EXPECT_GT(sum.alerts, 0);
}

TEST(Simulation, OneSeed) {
  if (std::getenv("FIREDRILL_SIM_SEED") == nullptr) GTEST_SKIP() << "FIREDRILL_SIM_SEED names none";
  const uint64_t seed = FromEnvironment("FIREDRILL_SIM_SEED", 1);
  spdlog::set_level(std::getenv("FIREDRILL_SIM_LOG") != nullptr ? spdlog::level::info
                                                                : spdlog::level::off);
  const Scenario scenario = DrawScenario(seed);
  for (const Disturbance& one : scenario.disturbances) {
    std::cout << "at " << one.at << " for " << one.length << ": " << TroubleName(one.what)
              << ", node " << one.node << ", " << one.amount << "\n";
  }
  const Outcome outcome = World(seed).Run(/*keep_histories=*/true);
  for (const auto& [run, history] : outcome.histories) {
    const absl::Time begin = FromProto(history.front().at());
    for (const v1::Event& event : history) {
      v1::Event body = event;
      for (const char* field :
           {"run", "seq", "at", "epoch", "clock_offset", "clock_error", "source_time"}) {
        body.GetReflection()->ClearField(&body, body.GetDescriptor()->FindFieldByName(field));
      }
      if (body.has_created()) body.mutable_created()->Clear();
      if (body.has_command()) {
        for (const char* field : {"apply", "prepare", "start_load", "start_probe", "run_remedy"}) {
          v1::Command& command = *body.mutable_command()->mutable_command();
          command.GetReflection()->ClearField(&command,
                                              command.GetDescriptor()->FindFieldByName(field));
        }
      }
      std::cout << run << " #" << event.seq() << " e" << event.epoch() << " "
                << FromProto(event.at()) - begin << " " << body.ShortDebugString() << "\n";
    }
  }
  Sum sum;
  sum.Add(outcome);
  std::cout << sum.Text(1) << "\ndigest " << outcome.digest << "\n";
  EXPECT_TRUE(outcome.failures.empty()) << absl::StrJoin(outcome.failures, "\n");
}

}  // namespace
}  // namespace firedrill::simulation
