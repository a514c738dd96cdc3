// Pieces that several reports are made of. Nobody but report*.cc and live_lines.cc includes this.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/report.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill::reporting {

enum class Ink { kPlain, kBold, kDim, kRed, kYellow, kGreen };
std::string Paint(const ReportStyle& style, Ink ink, absl::string_view text);
Ink InkOf(v1::Verdict verdict);

// How many columns the text takes, without colours.
size_t Visible(absl::string_view text);
// Broken at spaces so that no line is longer than `width`; every line but the first begins with
// `indent` spaces. `taken`: what stands on the first line already.
std::string Wrap(absl::string_view text, size_t width, size_t indent, size_t taken);
// Padded with spaces to `width` columns; longer text is kept.
std::string Pad(absl::string_view text, size_t width);

// Failed, then inconclusive, then passed, each in the order of the file.
std::vector<const v1::ExpectationResult*> WorstFirst(const v1::Judgement& judgement);
// "experiments/x.yaml:44"; the path where the position is not known.
std::string Place(const v1::RunCreated& created, const v1::ExpectationResult& result);
// Not even an attempt could be made: nothing was injected, or the run was stopped before what it
// hangs on could happen. All of these have one reason, which is that of the run's end.
bool NotJudged(const v1::Judgement& judgement, const v1::ExpectationResult& result);
// "1 failed, 2 inconclusive, 9 passed".
std::string Tally(const v1::Judgement& judgement);
// What was measured, as (what, how long, of what).
struct MeasuredTime {
  std::string name;
  std::string value;
  std::string meaning;
};
std::vector<MeasuredTime> MeasuredTimes(const v1::Judgement& judgement);

// When the run's last word was written by whoever conducted it; what was added later is not of it.
absl::Time LastWord(const std::vector<v1::Event>& history);
// Something was asked of a node.
bool AnythingTouched(const std::vector<v1::Event>& history);

}  // namespace firedrill::reporting
