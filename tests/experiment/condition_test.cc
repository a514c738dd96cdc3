// The language of `is`.
#include "experiment/condition.h"

#include <cmath>
#include <map>

#include "gtest/gtest.h"

namespace firedrill {
namespace {

using Values = std::map<std::string, double>;

Condition Parsed(absl::string_view text) {
  absl::StatusOr<Condition> condition = ParseCondition(text);
  EXPECT_TRUE(condition.ok()) << condition.status();
  return condition.ok() ? *condition : Condition{};
}

TEST(Condition, ReadsFieldsRelationsAndUnits) {
  Condition condition = Parsed("ok >= 99%, p95 < 250ms,latency<=1m30s , value != -1.5e3");
  ASSERT_EQ(condition.comparisons.size(), 4u);
  EXPECT_EQ(condition.comparisons[0].field, "ok");
  EXPECT_EQ(condition.comparisons[0].relation, Relation::kGreaterOrEqual);
  EXPECT_EQ(condition.comparisons[0].value, 99);
  EXPECT_EQ(condition.comparisons[0].unit, Unit::kPercent);
  EXPECT_EQ(condition.comparisons[1].offset, 11u);
  EXPECT_EQ(condition.comparisons[1].value, 0.25);
  EXPECT_EQ(condition.comparisons[1].unit, Unit::kSeconds);
  EXPECT_EQ(condition.comparisons[2].value, 90);
  EXPECT_EQ(condition.comparisons[3].value, -1500);
  EXPECT_EQ(condition.comparisons[3].unit, Unit::kPlain);
}

TEST(Condition, TakesTheProbesValueWhereNoFieldStands) {
  Condition condition = Parsed("< 0.6");
  EXPECT_EQ(condition.comparisons[0].field, "");
  EXPECT_EQ(Evaluate(condition, Values{{"value", 0.5}}), Truth::kTrue);
  EXPECT_EQ(Evaluate(condition, Values{{"value", 0.6}}), Truth::kFalse);
}

TEST(Condition, AppliesEveryRelationAtItsBoundary) {
  struct Case {
    const char* text;
    Truth below, at, above;
  };
  constexpr Truth kTrue = Truth::kTrue, kFalse = Truth::kFalse;
  for (const Case& c : std::initializer_list<Case>{{"< 2", kTrue, kFalse, kFalse},
                                                   {"<= 2", kTrue, kTrue, kFalse},
                                                   {"== 2", kFalse, kTrue, kFalse},
                                                   {"!= 2", kTrue, kFalse, kTrue},
                                                   {">= 2", kFalse, kTrue, kTrue},
                                                   {"> 2", kFalse, kFalse, kTrue}}) {
    EXPECT_EQ(Evaluate(Parsed(c.text), Values{{"value", 1}}), c.below) << c.text;
    EXPECT_EQ(Evaluate(Parsed(c.text), Values{{"value", 2}}), c.at) << c.text;
    EXPECT_EQ(Evaluate(Parsed(c.text), Values{{"value", 3}}), c.above) << c.text;
  }
}

TEST(Condition, IsUnknownWhereAFieldIsMissingOrNaN) {
  Condition condition = Parsed("ok >= 99%, p95 < 250ms");
  EXPECT_EQ(Evaluate(condition, Values{{"ok", 100}}), Truth::kUnknown);
  EXPECT_EQ(Evaluate(condition, Values{{"ok", 100}, {"p95", std::nan("")}}), Truth::kUnknown);
  EXPECT_EQ(Evaluate(condition, Values{}), Truth::kUnknown);
}

TEST(Condition, IsFalseWhereOneComparisonFailsAndAnotherIsUnknown) {
  EXPECT_EQ(Evaluate(Parsed("p95 < 250ms, ok >= 99%"), Values{{"ok", 12}}), Truth::kFalse);
}

TEST(Condition, SaysWhereATextIsWrong) {
  struct Case {
    const char* text;
    size_t offset;
    const char* words;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"", 0, "expected one of"},
           {"ok", 2, "after 'ok'"},
           {"ok = 1", 3, "expected one of"},
           {"ok >= ", 6, "expected a number"},
           {"ok >= 99% p95 < 1s", 10, "expected a comma"},
           {"ok >= 99%,", 10, "expected one of"},
           {"p95 < 250mss", 6, "neither a number nor a duration"},
           {"p95 < 1.2.3", 6, "not a number"},
           {"< nan", 2, "expected a number"},
           {"< 1e999", 2, "not a number"},
           {"ok >= 99%%", 9, "expected a comma"},
       }) {
    size_t offset = 999;
    absl::StatusOr<Condition> condition = ParseCondition(c.text, &offset);
    ASSERT_FALSE(condition.ok()) << c.text;
    EXPECT_EQ(offset, c.offset) << c.text << ": " << condition.status();
    EXPECT_NE(condition.status().message().find(c.words), absl::string_view::npos)
        << condition.status();
  }
}

TEST(Condition, RefusesMoreComparisonsThanItsLimit) {
  std::string text = "a < 1";
  for (int i = 0; i < 15; ++i) text += ", a < 1";
  EXPECT_TRUE(ParseCondition(text).ok());
  EXPECT_FALSE(ParseCondition(text + ", a < 1").ok());
}

TEST(Condition, DescribesWhatWasObserved) {
  EXPECT_EQ(Describe(Values{{"ok", 43.14}, {"p95", 1.2}}, Parsed("ok >= 99%, p95 < 250ms")),
            "ok 43.1%, p95 1.2s");
  EXPECT_EQ(Describe(Values{{"ok", 43.14}}, Parsed("ok >= 99%, p95 < 250ms")),
            "ok 43.1%, p95 unknown");
  EXPECT_EQ(Describe(Values{{"value", 0.7193}}, Parsed("< 0.6")), "0.7193");
  EXPECT_EQ(Describe(Values{{"status", 503}}, Parsed("status >= 200, status < 300")), "status 503");
  EXPECT_EQ(Describe(Values{{"latency", 0.0421}}, Parsed("latency < 1s")), "latency 42.1ms");
  EXPECT_EQ(Describe(Values{{"latency", 130.2}}, Parsed("latency < 1s")), "latency 2m10s");
}

}  // namespace
}  // namespace firedrill
