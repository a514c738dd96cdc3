// Prometheus matchers and anchors.
#include "experiment/matcher.h"

#include <map>

#include "experiment/anchor.h"
#include "gtest/gtest.h"

namespace firedrill {
namespace {

using Labels = std::map<std::string, std::string>;

bool Match(absl::string_view text, const Labels& labels) {
  absl::StatusOr<Matcher> matcher = ParseMatcher(text);
  EXPECT_TRUE(matcher.ok()) << text << ": " << matcher.status();
  return matcher.ok() && Matches(*matcher, labels);
}

TEST(Matcher, MatchesByEachOfItsFourKinds) {
  Labels page = {{"severity", "page"}};
  EXPECT_TRUE(Match("severity=\"page\"", page));
  EXPECT_FALSE(Match("severity=\"pag\"", page));
  EXPECT_TRUE(Match(" severity != \"ticket\" ", page));
  EXPECT_FALSE(Match("severity!=\"page\"", page));
  EXPECT_TRUE(Match("severity=~\"page|ticket\"", page));
  EXPECT_FALSE(Match("severity!~\"pa.*\"", page));
}

TEST(Matcher, AnchorsRegularExpressions) {
  EXPECT_FALSE(Match("severity=~\"age\"", {{"severity", "page"}}));
  EXPECT_FALSE(Match("severity=~\"a|b\"", {{"severity", "ab"}}));
}

TEST(Matcher, TakesAnAbsentLabelAsEmpty) {
  EXPECT_TRUE(Match("team=\"\"", {}));
  EXPECT_TRUE(Match("team!=\"web\"", {}));
  EXPECT_FALSE(Match("team=~\".+\"", {}));
}

TEST(Matcher, ReadsEscapes) {
  EXPECT_TRUE(Match(R"(a="q\"\\\n")", {{"a", "q\"\\\n"}}));
  EXPECT_EQ(MatcherText(*ParseMatcher(R"(a =~ "q\"\\\n")")), R"(a=~"q\"\\\n")");
}

TEST(Matcher, SaysWhereATextIsWrong) {
  struct Case {
    const char* text;
    size_t offset;
    const char* words;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"", 0, "begins with the name of a label"},
           {"=\"a\"", 0, "begins with the name of a label"},
           {"9a=\"a\"", 0, "begins with the name of a label"},
           {"severity", 8, "expected one of"},
           {"severity=page", 9, "double quotes"},
           {"severity=\"page", 9, "closing"},
           {"severity=\"page\",team=\"web\"", 15, "one matcher ends here"},
           {"severity=~\"(\"", 10, "not a regular expression"},
           {"a=\"\\d\"", 3, "unknown escape"},
       }) {
    size_t offset = 999;
    absl::StatusOr<Matcher> matcher = ParseMatcher(c.text, &offset);
    ASSERT_FALSE(matcher.ok()) << c.text;
    EXPECT_EQ(offset, c.offset) << c.text << ": " << matcher.status();
    EXPECT_NE(matcher.status().message().find(c.words), absl::string_view::npos)
        << matcher.status();
  }
}

TEST(Anchor, ReadsEveryPointAndWritesItAgain) {
  for (const char* text : {"leak.start", "leak.reached", "leak.end", "restart-shop.done"}) {
    absl::StatusOr<Anchor> anchor = ParseAnchor(text);
    ASSERT_TRUE(anchor.ok()) << text;
    EXPECT_EQ(AnchorText(*anchor), text);
  }
  EXPECT_EQ(ParseAnchor("leak.reached")->point, AnchorPoint::kReached);
  EXPECT_EQ(ParseAnchor("leak.reached")->step, "leak");
}

TEST(Anchor, RefusesWhatIsNone) {
  for (const char* text : {"", "leak", ".end", "leak.", "leak.begin", "leak.END"}) {
    EXPECT_FALSE(ParseAnchor(text).ok()) << text;
  }
}

}  // namespace
}  // namespace firedrill
