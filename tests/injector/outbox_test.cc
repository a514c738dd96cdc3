// Reports reach the history once each and in order, whatever happens to the stream.
#include "injector/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Report FaultOf(v1::FaultState state) {
  v1::Report report;
  report.mutable_event()->mutable_fault()->set_state(state);
  return report;
}
v1::Report SampleOf(double value) {
  v1::Report report;
  (*report.mutable_event()->mutable_sample()->mutable_values())["value"] = value;
  return report;
}

std::vector<uint64_t> FlushNumbers(Outbox& outbox) {
  std::vector<uint64_t> numbers;
  outbox.Flush([&](const v1::Report& report) { numbers.push_back(report.number()); });
  return numbers;
}

TEST(Outbox, NumbersWithoutGapsAndSendsOnce) {
  Outbox outbox;
  outbox.Add(SampleOf(1));
  outbox.Add(SampleOf(2));
  EXPECT_THAT(FlushNumbers(outbox), ElementsAre(1, 2));
  EXPECT_THAT(FlushNumbers(outbox), IsEmpty());
  outbox.Add(SampleOf(3));
  EXPECT_THAT(FlushNumbers(outbox), ElementsAre(3));
}

TEST(Outbox, SendsAgainWhatIsNotAcknowledged) {
  Outbox outbox;
  for (int i = 0; i < 4; ++i) outbox.Add(SampleOf(i));
  FlushNumbers(outbox);
  outbox.Acknowledge(2);
  outbox.Rewind();
  EXPECT_THAT(FlushNumbers(outbox), ElementsAre(3, 4));
  outbox.Acknowledge(4);
  EXPECT_TRUE(outbox.empty());
  // An old acknowledgement, late.
  outbox.Acknowledge(1);
  outbox.Add(SampleOf(5));
  EXPECT_THAT(FlushNumbers(outbox), ElementsAre(5));
}

TEST(Outbox, SendsNoMoreThanAWindowAhead) {
  Outbox outbox;
  for (size_t i = 0; i < Outbox::kWindow + 5; ++i) outbox.Add(SampleOf(0));
  EXPECT_EQ(FlushNumbers(outbox).size(), Outbox::kWindow);
  outbox.Acknowledge(5);
  EXPECT_EQ(FlushNumbers(outbox).size(), 5u);
}

TEST(Outbox, WhatAFaultBecameSurvivesAFloodOfSamples) {
  Outbox outbox;
  outbox.Add(FaultOf(v1::FAULT_STATE_REVERTED));
  outbox.Add(FaultOf(v1::FAULT_STATE_ACTIVE));
  outbox.Add(FaultOf(v1::FAULT_STATE_STUCK));
  for (size_t i = 0; i < Outbox::kMostWaiting + 1000; ++i) outbox.Add(SampleOf(0));
  EXPECT_EQ(outbox.dropped(), 1003u);
  std::vector<v1::FaultState> states;
  uint64_t last = 0;
  bool gap = false;
  while (!outbox.empty()) {
    outbox.Flush([&](const v1::Report& report) {
      gap = gap || report.number() != last + 1;
      last = report.number();
      if (report.event().has_fault()) states.push_back(report.event().fault().state());
    });
    outbox.Acknowledge(last);
  }
  EXPECT_FALSE(gap);
  EXPECT_THAT(states,
              ElementsAre(v1::FAULT_STATE_REVERTED, v1::FAULT_STATE_ACTIVE, v1::FAULT_STATE_STUCK));
}

TEST(Outbox, WithoutSamplesOldObservationsMakeRoom) {
  Outbox outbox;
  outbox.Add(FaultOf(v1::FAULT_STATE_REVERTED));
  for (size_t i = 0; i < Outbox::kMostWaiting + 10; ++i)
    outbox.Add(FaultOf(v1::FAULT_STATE_ACTIVE));
  EXPECT_EQ(outbox.dropped(), 11u);
}

}  // namespace
}  // namespace firedrill
