// How problems are shown.
#include "experiment/problem.h"

#include "gtest/gtest.h"

namespace firedrill {
namespace {

Problem At(int line, int column, std::string message, std::string suggestion = "") {
  return {line, column, std::move(message), std::move(suggestion), "", false};
}

TEST(Rendering, ShowsPlaceLineCaretAndHelp) {
  EXPECT_EQ(
      RenderProblems("dir/x.yaml", "a: 1\nbb: 2\n", {At(2, 5, "no", "try 3"), At(0, 0, "gone")}),
      "dir/x.yaml:2:5: error: no\n"
      "  2 | bb: 2\n"
      "    |     ^\n"
      "  help: try 3\n"
      "dir/x.yaml: error: gone\n");
}

TEST(Rendering, CountsCharactersAndKeepsTabs) {
  EXPECT_EQ(RenderProblems("x", "\tgrö: ß!\n", {At(1, 8, "no")}),
            "x:1:8: error: no\n"
            "  1 | \tgrö: ß!\n"
            "    | \t      ^\n");
}

TEST(Rendering, KeepsTheCaretInViewOfALongLine) {
  const std::string line = std::string(300, 'a') + "X" + std::string(300, 'b');
  const std::string shown = RenderProblems("x", line, {At(1, 301, "no")});
  EXPECT_EQ(shown, "x:1:301: error: no\n  1 | ..." + std::string(70, 'a') + "X" +
                       std::string(39, 'b') + "...\n    | " + std::string(73, ' ') + "^\n");
}

TEST(Rendering, PointsBehindTheEndOfALine) {
  EXPECT_EQ(RenderProblems("x", "ab\r\n", {At(1, 9, "no")}),
            "x:1:9: error: no\n  1 | ab\n    |   ^\n");
}

TEST(Rendering, NeverSendsControlCharactersToATerminal) {
  EXPECT_EQ(RenderProblems("x", "a\x1b[2Jb\xff\n", {At(1, 1, "\x1b]0;t\x07")}),
            "x:1:1: error: ?]0;t?\n  1 | a?[2Jb?\n    | ^\n");
}

TEST(Rendering, HidesWhatMayBeASecretFromEveryProblemOfTheLine) {
  Problem secret = At(1, 4, "no secrets here");
  secret.secret = true;
  EXPECT_EQ(RenderProblems("x", "k: pass word, j: 1\n", {secret, At(1, 15, "no")}),
            "x:1:4: error: no secrets here\n  1 | k: **** ****, *: *\n    |    ^\n"
            "x:1:15: error: no\n  1 | k: **** ****, *: *\n    |               ^\n");
}

TEST(Rendering, WritesWorkflowCommandsForGithub) {
  EXPECT_EQ(RenderProblemsForGithub("a,b:c%.yaml",
                                    {At(2, 5, "100%\nbad", "try: 3, 4"), At(0, 0, "gone")}),
            "::error file=a%2Cb%3Ac%25.yaml,line=2,col=5::100%25%0Abad%0Ahelp: try: 3, 4\n"
            "::error file=a%2Cb%3Ac%25.yaml::gone\n");
}

TEST(Rendering, SortsByPlaceAndDropsRepetitions) {
  std::vector<Problem> problems = {At(3, 1, "c"), At(1, 9, "b"), At(1, 2, "a"), At(1, 9, "b")};
  SortProblems(&problems);
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].message + problems[1].message + problems[2].message, "abc");
}

TEST(Rendering, FindsPlacesInsideScalars) {
  const std::string text = "a: 'ok < 1'\nb: ok < 1\nc: \"o\\x6b < 1\"\nd: >-\n  ok < 1\n";
  EXPECT_EQ(PlaceInside(text, {1, 4}, "ok < 1", 5).column, 10);
  EXPECT_EQ(PlaceInside(text, {2, 4}, "ok < 1", 5).column, 9);
  // Written with an escape, or folded: only the begin is certain.
  EXPECT_EQ(PlaceInside(text, {3, 4}, "ok < 1", 5).column, 4);
  EXPECT_EQ(PlaceInside(text, {4, 4}, "ok < 1", 5).column, 4);
}

}  // namespace
}  // namespace firedrill
