// Sizes beyond which nothing is read, and texts that nobody meant to write: mutations never crash.
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "experiment/reader.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

std::string TextOf(const std::string& name) {
  return ReadFileText(absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/experiment/valid/", name))
      .value_or("");
}

// Brackets of a valid file in which none stand in texts or comments.
std::vector<std::pair<size_t, size_t>> PairsOf(const std::string& text) {
  std::vector<size_t> open;
  std::vector<std::pair<size_t, size_t>> pairs;
  bool quoted = false, comment = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') comment = false;
    if (text[i] == '#') comment = true;
    if (text[i] == '"' && !comment) quoted = !quoted;
    if (comment || quoted) continue;
    if (text[i] == '{' || text[i] == '[') open.push_back(i);
    if ((text[i] == '}' || text[i] == ']') && !open.empty()) {
      pairs.emplace_back(open.back(), i);
      open.pop_back();
    }
  }
  return pairs;
}

int LineOf(const std::string& text, size_t at) {
  return static_cast<int>(std::count(text.begin(), text.begin() + at, '\n')) + 1;
}

int ColumnOf(const std::string& text, size_t at) {
  const size_t begin = text.rfind('\n', at) + 1;
  return static_cast<int>(CountCharacters(absl::string_view(text).substr(begin, at - begin))) + 1;
}

std::string Nested(int depth) {
  return "a: " + std::string(depth - 1, '[') + std::string(depth - 1, ']');
}

TEST(Limits, RefusesNestingBeyondThirtyTwoLevels) {
  EXPECT_THAT(ReadExperiment(Nested(33), "x").Report(), HasSubstr("x:1:35: error: nested more"));
  EXPECT_FALSE(absl::StrContains(ReadExperiment(Nested(32), "x").Report(), "nested"));
  EXPECT_THAT(ReadExperiment(Nested(100'000), "x").Report(), HasSubstr("nested more than 32"));
}

TEST(Limits, RefusesMoreThanTenThousandValues) {
  std::string many = "a: [";
  for (int i = 0; i < 10'000; ++i) absl::StrAppend(&many, "1,");
  EXPECT_THAT(ReadExperiment(many + "]", "x").Report(), HasSubstr("more than 10000 values"));
}

TEST(Limits, RefusesFilesBeyondTheirSize) {
  const std::string comment = "# " + std::string(256 * 1024, 'x');
  EXPECT_THAT(ReadExperiment(comment, "x").Report(),
              HasSubstr("x:1:1: error: the file is larger than 256 KiB"));
}

TEST(Limits, RefusesAnAliasBombWithoutExpandingIt) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string before = absl::StrCat("*", std::string(1, c - 1));
    absl::StrAppend(&bomb, std::string(1, c), ": &", std::string(1, c), " [");
    for (int i = 0; i < 9; ++i) absl::StrAppend(&bomb, before, i < 8 ? "," : "]\n");
  }
  const ExperimentFile file = ReadExperiment(bomb, "x");
  EXPECT_THAT(file.Report(), HasSubstr("x:2:8: error: aliases (*name) are not allowed"));
}

TEST(Limits, RefusesCyclesOfAliases) {
  EXPECT_THAT(ReadExperiment("a: &a [*a]\n", "x").Report(), HasSubstr("x:1:8: error: aliases"));
}

TEST(Limits, ReadsAFileThatBeginsWithAByteOrderMark) {
  const ExperimentFile file = ReadExperiment("\xef\xbb\xbfkind: Nothing\n", "x");
  EXPECT_THAT(file.Report(), HasSubstr("x:1:7: error: 'kind' cannot be 'Nothing'\n"
                                       "  1 | kind: Nothing\n    |       ^"));
}

// The parser goes on past a bracket that is not closed, and stops somewhere further down. Each of
// them, left out in turn, is reported where its partner opens, or one that stands around that.
TEST(Brackets, OneThatIsNotClosedIsReportedWhereItOpens) {
  int left_out = 0, exact = 0;
  for (const char* name : {"unclosed-connections.yaml", "site.yaml"}) {
    const std::string valid = TextOf(name);
    const std::vector<std::pair<size_t, size_t>> pairs = PairsOf(valid);
    for (const auto& [opens, closes] : pairs) {
      std::string text = valid;
      text.erase(closes, 1);
      const ExperimentFile read = ReadExperiment(text, "x");
      ASSERT_FALSE(read.ok());
      const Problem& problem = read.problems.front();
      SCOPED_TRACE(absl::StrCat(name, ":", LineOf(valid, opens), "\n", read.Report()));
      EXPECT_EQ(problem.line, LineOf(valid, opens));
      EXPECT_TRUE(absl::StrContains(problem.message, "the bracket that opens here is not closed"));
      ++left_out;
      exact += problem.column == ColumnOf(valid, opens) ? 1 : 0;
    }
  }
  EXPECT_GT(left_out, 60);
  // Of brackets of one kind inside each other it is the outermost that stays open.
  EXPECT_GT(exact, left_out / 2);
}

TEST(Brackets, OtherMistakesBehindAnOpenBracketStayWhereTheyAre) {
  EXPECT_THAT(ReadExperiment("spec: {a: b,\n  c: @home}\n", "x").Report(), HasSubstr("x:2:6: "));
  EXPECT_THAT(ReadExperiment("a: |\n  {\n  [\nb: @c\n", "x").Report(), HasSubstr("x:4:4: "));
  EXPECT_THAT(ReadExperiment("a: b {c\n# [\nd: '{'\ne: @c\n", "x").Report(), HasSubstr("x:4:4: "));
  EXPECT_THAT(ReadExperiment("a: [b]]\n", "x").Report(), HasSubstr("and none is open"));
}

// Every text is either a definition or has problems with a place in it.
void ExpectSaneReading(const std::string& text) {
  for (const DefinitionFile& file :
       {DefinitionFile(ReadExperiment(text, "x")), DefinitionFile(ReadSite(text, "x")),
        ReadDefinition(text, "x")}) {
    const int lines = static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;
    for (const Problem& problem : file.problems) {
      EXPECT_FALSE(problem.message.empty());
      EXPECT_LE(problem.line, lines) << problem.message;
      EXPECT_TRUE(problem.line == 0 || problem.column >= 1) << problem.message;
    }
    EXPECT_EQ(file.ok(), file.Report().empty());
    file.ReportForGithub();
    file.Positions();
  }
}

TEST(Limits, SurvivesTwoThousandMutationsOfValidFiles) {
  constexpr int kMutations = 1000;  // Of each file.
  const unsigned seed = 20250215;
  std::mt19937 random(seed);
  const std::string kBytes = "{}[]:,-#&*!|>'\"%@`?\n \t0aZ=~<\\\xc3\xa9\xff\x01";
  for (const char* name : {"unclosed-connections.yaml", "site.yaml"}) {
    const std::string valid = TextOf(name);
    ASSERT_FALSE(valid.empty());
    for (int i = 0; i < kMutations; ++i) {
      std::string text = valid;
      const int edits = 1 + random() % 4;
      for (int edit = 0; edit < edits && !text.empty(); ++edit) {
        const size_t at = random() % text.size();
        switch (random() % 5) {
          case 0:
            text.resize(at);
            break;
          case 1:
            text[at] = kBytes[random() % kBytes.size()];
            break;
          case 2:
            text.insert(at, 1, kBytes[random() % kBytes.size()]);
            break;
          case 3:
            text.erase(at, 1 + random() % 40);
            break;
          case 4:
            text.insert(at, text.substr(random() % text.size(), random() % 200));
            break;
        }
      }
      SCOPED_TRACE(absl::StrCat(name, ", seed ", seed, ", mutation ", i));
      ExpectSaneReading(text);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(Files, SayWhyTheyCannotBeRead) {
  EXPECT_THAT(std::string(ReadFileText("/no/such/file").status().message()),
              HasSubstr("cannot read /no/such/file: No such file or directory"));
  EXPECT_THAT(std::string(ReadFileText("/tmp").status().message()), HasSubstr("Is a directory"));
  // Without an end: only a beginning is read, and refused for its size.
  EXPECT_THAT(ReadExperiment(ReadFileText("/dev/zero").value_or(""), "x").Report(),
              HasSubstr("x:1:1: error: the file is larger than 256 KiB"));
}

}  // namespace
}  // namespace firedrill
