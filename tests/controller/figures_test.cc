// What Prometheus reads: every series is there before it matters, and nobody's words are.
#include "controller/figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time_proto.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::InjectorSummary Node(const std::string& name, bool connected,
                         const std::vector<v1::FaultState>& faults) {
  v1::InjectorSummary node;
  node.mutable_registration()->set_node(name);
  node.set_connected(connected);
  *node.mutable_last_seen() = ToProto(absl::FromUnixSeconds(1000));
  for (const v1::FaultState state : faults) node.mutable_figures()->add_faults()->set_state(state);
  return node;
}

TEST(FiguresTest, EverySeriesIsThereBeforeItMatters) {
  const std::string text = FiguresText({.injectors = {Node("db-1", true, {})}}, {});
  for (const char* line :
       {"firedrill_runs{phase=\"inject\"} 0", "firedrill_faults{node=\"db-1\",state=\"stuck\"} 0",
        "firedrill_faults{node=\"db-1\",state=\"unknown\"} 0",
        "firedrill_injector_connected{node=\"db-1\"} 1", "firedrill_leftovers{node=\"db-1\"} 0",
        "firedrill_lever_pulled 0", "firedrill_store_failures_total 0",
        "firedrill_calls_refused_total{reason=\"unauthenticated\"} 0",
        "# TYPE firedrill_calls_refused_total counter", "# TYPE firedrill_faults gauge"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(FiguresTest, WhatANodeHadWhenItWentAwayIsUnknownAndWhatIsStuckStaysSo) {
  const auto faults = {v1::FAULT_STATE_ACTIVE, v1::FAULT_STATE_ACTIVE, v1::FAULT_STATE_STUCK};
  std::string text = FiguresText({.injectors = {Node("db-1", true, faults)}}, {});
  EXPECT_THAT(text, HasSubstr("firedrill_faults{node=\"db-1\",state=\"active\"} 2"));
  EXPECT_THAT(text, HasSubstr("firedrill_faults{node=\"db-1\",state=\"unknown\"} 0"));
  text = FiguresText({.injectors = {Node("db-1", false, faults)}}, {});
  EXPECT_THAT(text, HasSubstr("firedrill_faults{node=\"db-1\",state=\"active\"} 0"));
  EXPECT_THAT(text, HasSubstr("firedrill_faults{node=\"db-1\",state=\"unknown\"} 2"));
  EXPECT_THAT(text, HasSubstr("firedrill_faults{node=\"db-1\",state=\"stuck\"} 1"));
  EXPECT_THAT(text, HasSubstr("firedrill_injector_connected{node=\"db-1\"} 0"));
}

TEST(FiguresTest, CountsAndTimesAreWhatTheyAre) {
  v1::InjectorSummary node = Node("db-1", true, {});
  node.mutable_registration()->add_leftovers()->set_reason("a password: hunter2");
  node.mutable_figures()->set_stopped("the file /var/lib/firedrill/STOP");
  *node.mutable_figures()->mutable_certificate_expires() = ToProto(absl::FromUnixSeconds(5000));
  const std::string text = FiguresText({.injectors = {node},
                                        .phases = {v1::PHASE_GATE, v1::PHASE_GATE},
                                        .lever_pulled = true,
                                        .lever_since = absl::FromUnixSeconds(4000),
                                        .certificate_expires = absl::FromUnixSeconds(6000),
                                        .store_failures = 7,
                                        .slots_missed = {{"leak", 3}}},
                                       {{"resource_exhausted", 9}});
  for (const char* line :
       {"firedrill_runs{phase=\"gate\"} 2", "firedrill_leftovers{node=\"db-1\"} 1",
        "firedrill_injector_stopped{node=\"db-1\"} 1", "firedrill_lever_pulled 1",
        "firedrill_lever_pulled_timestamp_seconds 4000",
        "firedrill_certificate_expires_timestamp_seconds{node=\"\",of=\"controller\"} 6000",
        "firedrill_certificate_expires_timestamp_seconds{node=\"db-1\",of=\"injector\"} 5000",
        "firedrill_store_failures_total 7", "firedrill_slots_missed_total{experiment=\"leak\"} 3",
        "firedrill_calls_refused_total{reason=\"resource_exhausted\"} 9"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, Not(HasSubstr("/var/lib")));
}

TEST(FiguresTest, OldOnesSayThatTheyAre) {
  FigureBoard board;
  board.Set({.now = absl::FromUnixSeconds(1000)});
  board.CountRefused("unauthenticated");
  const std::string text = board.Text(absl::FromUnixSeconds(1042));
  EXPECT_THAT(text, HasSubstr("firedrill_figures_age_seconds 42"));
  EXPECT_THAT(text, HasSubstr("firedrill_calls_refused_total{reason=\"unauthenticated\"} 1"));
}

}  // namespace
}  // namespace firedrill
