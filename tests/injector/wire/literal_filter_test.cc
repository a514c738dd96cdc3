// What a regular expression needs, and that the filter never says no where it matches.
#include "injector/wire/literal_filter.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace firedrill::wire {
namespace {

TEST(LiteralFilterTest, FindsWhatEachMatchHas) {
  EXPECT_EQ(RequiredLiteral("(?i)WHERE\\s+nothing_7\\s*="), "nothing_7");
  EXPECT_EQ(RequiredLiteral("select .* from (users|accounts)"), "select ");
  EXPECT_EQ(RequiredLiteral("users|accounts"), "");
  EXPECT_EQ(RequiredLiteral("[0-9]+"), "");
  EXPECT_EQ(RequiredLiteral("abc"), "");
  EXPECT_EQ(RequiredLiteral("(optional)?"), "");
  EXPECT_EQ(RequiredLiteral("(twice ){2}"), "twice twice ");
  EXPECT_EQ(RequiredLiteral("not closed ("), "");
}

TEST(LiteralFilterTest, SaysNoToAlmostAllThatHasNone) {
  LiteralFilter filter;
  for (int i = 0; i < 7; ++i) filter.Add(absl::StrCat("nothing_", i));
  int maybe = 0;
  for (int i = 0; i < 1000; ++i) {
    maybe += filter.MayContainAny(
        absl::StrCat("SELECT abalance FROM pgbench_accounts WHERE aid = ", 100000 + i * 37, ";"));
  }
  EXPECT_LT(maybe, 200);
  EXPECT_FALSE(filter.MayContainAny(""));
  EXPECT_FALSE(filter.MayContainAny("not"));
}

TEST(LiteralFilterTest, NeverSaysNoToWhatMatches) {
  const std::vector<std::string> patterns = {"(?i)from\\s+users\\b", "accounts", "uploads?",
                                             "(?i)kelvin", "long since [a-z]+ [0-9]+"};
  const std::vector<std::string> pieces = {"from users",
                                           "FROM  Users ",
                                           "accounts",
                                           "upload",
                                           "uploads",
                                           "Kelvin",
                                           "\xE2\x84\xAA"
                                           "elvin",
                                           "long since ab 1",
                                           "a",
                                           "; ",
                                           "select ",
                                           "1234",
                                           "\xC5\xBF"};
  std::mt19937 random(20261121);
  int matches = 0;
  for (const std::string& pattern : patterns) {
    const RE2 regex(pattern);
    const std::string literal = RequiredLiteral(pattern);
    ASSERT_FALSE(literal.empty()) << pattern;
    LiteralFilter filter;
    filter.Add(literal);
    for (int i = 0; i < 5000; ++i) {
      std::string text;
      for (size_t n = random() % 6; n > 0; --n) text += pieces[random() % pieces.size()];
      if (!RE2::PartialMatch(text, regex)) continue;
      ++matches;
      EXPECT_TRUE(filter.MayContainAny(text)) << pattern << " on " << text;
    }
  }
  EXPECT_GT(matches, 1000);
}

TEST(LiteralFilterTest, IsAskedAtEachPlaceOfAText) {
  for (const std::string literal : {"abcd", "abcde", "abcdef", "abcdefg", "abcdefghijk"}) {
    LiteralFilter filter;
    filter.Add(literal);
    for (size_t before = 0; before < 9; ++before) {
      for (size_t after = 0; after < 9; ++after) {
        EXPECT_TRUE(filter.MayContainAny(
            absl::StrCat(std::string(before, '-'), literal, std::string(after, '-'))));
      }
    }
  }
}

}  // namespace
}  // namespace firedrill::wire
