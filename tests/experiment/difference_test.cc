// What is different between two definitions, as a person reads it.
#include "experiment/difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "experiment/reader.h"

namespace firedrill {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr char kText[] = R"yaml(apiVersion: firedrill/v1
kind: Experiment
metadata: {name: held, labels: {team: web}}
spec:
  hypothesis: It is gone.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database}}}
  limits: {environments: [lab, staging], maxDuration: 60s}
  steadyState:
    - {name: fine, prometheus: {query: up}, is: "== 1"}
  faults:
    - {name: hold, target: db-node, duration: 30s,
       holdConnections: {profile: holder, state: idle, count: 3}}
    - {name: cut, target: db-node, at: 1s, terminateSessions: {profile: dba, user: shop}}
  expect:
    recovery:
      - {name: fine-again, probe: fine, since: hold.end, within: 2s}
)yaml";

v1::Experiment Read(const std::string& text) {
  const ExperimentFile file = ReadExperiment(text, "held.yaml");
  EXPECT_TRUE(file.ok()) << file.Report();
  return file.experiment;
}

std::vector<std::string> Changed(
    const std::vector<std::pair<absl::string_view, absl::string_view>>& how) {
  const std::string text = absl::StrReplaceAll(kText, how);
  EXPECT_NE(text, kText);
  return Differences(Read(kText), Read(text));
}

TEST(DifferenceTest, WhatMeansTheSameIsNoDifference) {
  EXPECT_THAT(Changed({{"60s", "1m"}, {"  hypothesis", "  # a comment\n  hypothesis"}}), IsEmpty());
}

TEST(DifferenceTest, NamesTheKeyAndBothValues) {
  EXPECT_THAT(
      Changed({{"duration: 30s", "duration: 20s"}, {"state: idle", "state: idleInTransaction"}}),
      ElementsAre("faults[hold].duration: 30s -> 20s",
                  "faults[hold].holdConnections.state: idle -> idleInTransaction"));
  EXPECT_THAT(Changed({{"count: 3", "fillTo: 0.5"}}),
              ElementsAre("faults[hold].holdConnections.count: 3 -> nothing",
                          "faults[hold].holdConnections.fillTo: now 0.5"));
  EXPECT_THAT(Changed({{"[lab, staging]", "[lab]"}, {"team: web", "team: shop"}}),
              ElementsAre("limits.environments[1]: staging -> nothing",
                          "metadata.labels.team: web -> shop"));
}

TEST(DifferenceTest, AnEntryThatIsGoneIsNotTheNextOne) {
  const auto lines =
      Changed({{"    - {name: hold, target: db-node, duration: 30s,\n"
                "       holdConnections: {profile: holder, state: idle, count: 3}}\n",
                ""},
               {"hold.end", "cut.end"}});
  for (const std::string& line : lines)
    EXPECT_THAT(line, testing::Not(testing::HasSubstr("[cut]")));
  EXPECT_GT(lines.size(), 3u);
}

}  // namespace
}  // namespace firedrill
