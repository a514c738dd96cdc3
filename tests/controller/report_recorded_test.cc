// The whole report of runs as they happened on the rehearsal stack, on a busy machine.
// FIREDRILL_UPDATE_GOLDEN=1 writes the reports anew: read what has changed against the lanes and
// the tables. recorded/record.py takes a run out of a history.
#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/util/delimited_message_util.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/unique_fd.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "controller/report_facts.h"
#include "controller/report_parts.h"
#include "tests/testing/golden.h"

namespace firedrill {
namespace {

constexpr const char* kRuns[] = {"lost-index", "slow-release-unfixed", "frequent-report"};

std::vector<v1::Event> Recorded(const std::string& name) {
  const std::string path =
      absl::StrCat(FIREDRILL_SOURCE_DIR, "/tests/controller/recorded/", name, ".events");
  std::vector<v1::Event> history;
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    ADD_FAILURE() << path << " is missing";
    return history;
  }
  google::protobuf::io::FileInputStream stream(file.get());
  bool end = false;
  v1::Event event;
  while (google::protobuf::util::ParseDelimitedFromZeroCopyStream(&event, &stream, &end)) {
    history.push_back(event);
    event.Clear();
  }
  EXPECT_TRUE(end) << path << " is no record of a run";
  return history;
}

class RecordedRun : public testing::TestWithParam<const char*> {};

TEST_P(RecordedRun, IsReportedAsItWasRead) {
  const auto history = Recorded(GetParam());
  ASSERT_FALSE(history.empty());
  const v1::Judgement judgement = Judge(history);
  const std::string name = absl::StrCat("tests/controller/recorded/", GetParam());
  ReportStyle narrow;
  narrow.width = 80;
  ExpectGolden(absl::StrCat(name, ".txt"), ReportText(history, judgement, {}));
  ExpectGolden(absl::StrCat(name, ".md"), ReportMarkdown(history, judgement));
  ExpectGolden(absl::StrCat(name, ".summary.txt"), SummaryText(history, judgement, narrow));
}

TEST_P(RecordedRun, KeepsToTheTerminal) {
  const auto history = Recorded(GetParam());
  ASSERT_FALSE(history.empty());
  for (const size_t width : {80, 120}) {
    ReportStyle style;
    style.width = width;
    for (absl::string_view line :
         absl::StrSplit(ReportText(history, Judge(history), style), '\n')) {
      EXPECT_LE(reporting::Visible(line), width) << line;
    }
  }
}

TEST_P(RecordedRun, ClosesWithSixLinesOfFindingsAtMost) {
  const auto history = Recorded(GetParam());
  ASSERT_FALSE(history.empty());
  ReportStyle narrow;
  narrow.width = 80;
  int lines = 0;
  bool finding = false;
  for (absl::string_view line :
       absl::StrSplit(SummaryText(history, Judge(history), narrow), '\n')) {
    finding = line.substr(0, 4) == "  - " || (finding && line.substr(0, 4) == "    ");
    lines += finding ? 1 : 0;
  }
  EXPECT_GT(lines, 0);
  EXPECT_LE(lines, 6);
}

// Nothing of an alert's time is lost, and nothing is counted twice.
TEST_P(RecordedRun, HasBreakdownsThatSumUp) {
  const auto history = Recorded(GetParam());
  ASSERT_FALSE(history.empty());
  const auto facts = reporting::FactsOf(history, Judge(history));
  ASSERT_FALSE(facts.breakdowns.empty());
  for (const reporting::AlertBreakdown& breakdown : facts.breakdowns) {
    ASSERT_TRUE(breakdown.total.has_value()) << breakdown.expectation;
    absl::Duration sum;
    for (const reporting::AlertPart& part : breakdown.parts) {
      if (!part.within && part.took.has_value()) sum += *part.took;
    }
    EXPECT_EQ(sum, *breakdown.total->took);
  }
}

std::string NameOf(const testing::TestParamInfo<const char*>& info) {
  std::string name;
  for (absl::string_view part : absl::StrSplit(info.param, '-')) {
    name.push_back(static_cast<char>(std::toupper(part[0])));
    absl::StrAppend(&name, part.substr(1));
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(OnTheLab, RecordedRun, testing::ValuesIn(kRuns), NameOf);

}  // namespace
}  // namespace firedrill
