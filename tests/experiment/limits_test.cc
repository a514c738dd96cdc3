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
  EXPECT_THAT(ReadExperiment(comment, "x").Report(), HasSubstr("larger than 256 KiB"));
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
  EXPECT_THAT(std::string(ReadFileText("/dev/zero").status().message()), HasSubstr("larger"));
}

}  // namespace
}  // namespace firedrill
