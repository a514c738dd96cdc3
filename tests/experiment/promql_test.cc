// Which series a PromQL expression reads.
#include "experiment/promql.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Of(const std::string& query) {
  std::vector<std::string> texts;
  for (const SeriesSelector& selector : ExtractSelectors(query)) texts.push_back(selector.Text());
  return texts;
}

TEST(Promql, FindsSelectorsAmongFunctionsAndLabelLists) {
  EXPECT_THAT(Of("up"), ElementsAre("up"));
  EXPECT_THAT(Of("sum by (instance) (pg_stat_activity_count) / on (instance) "
                 "max by (instance) (pg_settings_max_connections) > 0.8"),
              ElementsAre("pg_stat_activity_count", "pg_settings_max_connections"));
  EXPECT_THAT(Of("sum(rate(http_requests_total{code=~\"5..\"}[30s])) without (pod)\n/ sum "
                 "without(pod)(rate(http_requests_total[30s]))"),
              ElementsAre("http_requests_total{code=~\"5..\"}", "http_requests_total"));
  EXPECT_THAT(Of("a * on(x) group_left(y, z) b{c=\"d\"} and ignoring (q) e unless f or g"),
              ElementsAre("a", "b{c=\"d\"}", "e", "f", "g"));
  EXPECT_THAT(Of("avg_over_time(deriv(job:x:rate5m[10m])[1h:5m]) > bool 3"),
              ElementsAre("job:x:rate5m"));
  EXPECT_THAT(Of("sum BY (a) (b) + SUM(c)"), ElementsAre("b", "c"));
}

TEST(Promql, LeavesOutModifiersNumbersAndStrings) {
  EXPECT_THAT(Of("foo offset 5m"), ElementsAre("foo"));
  EXPECT_THAT(Of("foo @ start() + bar @ 1609746000"), ElementsAre("foo", "bar"));
  EXPECT_THAT(Of("label_replace(foo, \"a\", 'b', `c`, \"d(e)\")"), ElementsAre("foo"));
  EXPECT_THAT(Of("foo > 1e3 and bar < +Inf or baz == NaN or qux > 0x1F"),
              ElementsAre("foo", "bar", "baz", "qux"));
  EXPECT_THAT(Of("foo # and bar\n+ baz"), ElementsAre("foo", "baz"));
  EXPECT_THAT(Of("vector(1)"), IsEmpty());
  EXPECT_THAT(Of("time() > 3"), IsEmpty());
}

TEST(Promql, KeepsMatchersAsTheyStand) {
  EXPECT_THAT(Of(R"(foo {a = "x,}y\"", b!~'z',})"), ElementsAre(R"(foo{a = "x,}y\"",b!~'z'})"));
  EXPECT_THAT(Of("{__name__=~\"a.*\", job=\"j\"}"), ElementsAre("{__name__=~\"a.*\",job=\"j\"}"));
  EXPECT_THAT(Of("foo{} + foo"), ElementsAre("foo"));
}

TEST(Promql, AbsenceIsAskedForByItsFunctionsOnly) {
  EXPECT_TRUE(AsksForAbsence("absent(pg_up)"));
  EXPECT_TRUE(AsksForAbsence("up == 0 or on () Absent_Over_Time (pg_up{job=\"a\"}[5m])"));
  EXPECT_FALSE(AsksForAbsence("absent > 0"));
  EXPECT_FALSE(AsksForAbsence("pg_up{state=\"absent()\"} == 0  # absent(up)"));
  EXPECT_FALSE(AsksForAbsence("sessions_absent(up)"));
}

TEST(Promql, SurvivesWhatIsNoExpression) {
  for (const char* text : {"", "{", "foo{", "foo{a=\"", "[", "\"", "by (", "foo{a=\"b\\"}) {
    ExtractSelectors(text);
  }
}

TEST(Promql, RelaxedKeepsNameAndTargetLabels) {
  const auto relaxed = [](const std::string& query) {
    return ExtractSelectors(query).at(0).Relaxed({"job", "instance"}).Text();
  };
  EXPECT_EQ(relaxed("foo{job=\"a\", code=~\"5..\", instance !~ \"x\"}"),
            "foo{job=\"a\",instance !~ \"x\"}");
  EXPECT_EQ(relaxed("foo{code=\"5\"}"), "foo");
  EXPECT_EQ(relaxed("{__name__=\"foo\", code=\"5\"}"), "{__name__=\"foo\"}");
  EXPECT_EQ(relaxed("{code=\"5\"}"), "{code=\"5\"}");  // Nothing would be left.
}

}  // namespace
}  // namespace firedrill
