// One alert's contract on its way through the parts of its judgement. Nobody but judge_alert*.cc
// includes this.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controller/judge_case.h"

namespace firedrill::judging {

// One expected alert on its way through the parts of its contract.
struct Contract {
  const v1::AlertExpectation& expected;
  std::string path;
  const v1::AlertArithmetic* arithmetic = nullptr;
  std::optional<Since> since;
  // Episodes that this run's fault may have caused, and those that were there before it.
  std::vector<const AlertEpisode*> credited;
  std::vector<const AlertEpisode*> before;
  // The first of the credited that fired.
  const AlertEpisode* fired = nullptr;
  // Where none did: what fired of the same rule with labels that are not asked for.
  const AlertEpisode* otherwise = nullptr;
  v1::AlertTimes* times = nullptr;
};

// True where it was active before the fault. Where the clocks cannot tell it is credited, and the
// comparison of its time with the budget is what counts.
bool WasActiveBefore(const AlertEpisode& episode, const Instant& started);

// Whether it resolved and fired again while its cause was in force, steady state was not back, and
// the experiment itself did nothing in between; or may still do so. Then the result says that,
// though it fired in time.
bool DidNotStay(Case& run, const Contract& contract, v1::ExpectationResult& result);
// After the firing was judged.
void JudgeResolved(Case& run, Contract& contract);
void JudgeOrder(Case& run, const Contract& contract, const std::string& symptom);

}  // namespace firedrill::judging
