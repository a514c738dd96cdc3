// What the tests of the judgement share: short ways to judge a course, and to name what came of it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/time_proto.h"
#include "controller/judge.h"
#include "tests/testing/history_builder.h"

namespace firedrill {

using Result = v1::ExpectationResult;
inline constexpr char kAlert[] = "PostgresConnectionsNearLimit";

inline v1::Judgement JudgeOf(const HistoryBuilder& history) { return Judge(history.Build()); }
inline v1::Judgement JudgeOf(const ShopCourse& course) { return JudgeOf(ShopHistory(course)); }

inline const Result& Of(const v1::Judgement& judgement, const std::string& name) {
  for (const Result& result : judgement.results()) {
    if (result.name() == name) return result;
  }
  ADD_FAILURE() << "no result " << name << " in\n" << judgement.DebugString();
  static const Result none;
  return none;
}

// "passed", "failed late", "inconclusive blind".
inline std::string Word(const Result& result) {
  const std::string code = result.code().empty() ? "" : " " + result.code();
  switch (result.verdict()) {
    case v1::VERDICT_PASSED:
      return "passed" + code;
    case v1::VERDICT_INCONCLUSIVE:
      return "inconclusive" + code;
    case v1::VERDICT_FAILED:
      return "failed" + code;
    default:
      return "none" + code;
  }
}

inline std::string Word(const v1::Judgement& judgement, const std::string& name) {
  return Word(Of(judgement, name));
}

inline double Measured(const v1::Judgement& judgement, const std::string& name) {
  return absl::ToDoubleSeconds(FromProto(Of(judgement, name).measured()));
}

inline double Seconds(const google::protobuf::Duration& duration) {
  return absl::ToDoubleSeconds(FromProto(duration));
}

inline bool HasFinding(const v1::Judgement& judgement, const std::string& code) {
  for (const v1::Finding& finding : judgement.findings()) {
    if (finding.code() == code) return true;
  }
  return false;
}

// A run with other expectations, otherwise like the shop's.
inline HistoryBuilder Changed(const ShopCourse& course,
                              const std::function<void(v1::RunCreated&)>& change) {
  HistoryBuilder builder = ShopHistory(course);
  return builder.Change(change);
}

}  // namespace firedrill
