// Pieces that several reports are made of.
#include "controller/report_parts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "controller/words.h"

namespace firedrill::reporting {
std::string Paint(const ReportStyle& style, Ink ink, absl::string_view text) {
  if (!style.color || ink == Ink::kPlain) return std::string(text);
  const char* code = "";
  switch (ink) {
    case Ink::kBold:
      code = "1";
      break;
    case Ink::kDim:
      code = "2";
      break;
    case Ink::kRed:
      code = "1;31";
      break;
    case Ink::kYellow:
      code = "33";
      break;
    case Ink::kGreen:
      code = "32";
      break;
    case Ink::kPlain:
      break;
  }
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

Ink InkOf(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_FAILED:
      return Ink::kRed;
    case v1::VERDICT_INCONCLUSIVE:
      return Ink::kYellow;
    case v1::VERDICT_PASSED:
      return Ink::kGreen;
    default:
      return Ink::kPlain;
  }
}

size_t Visible(absl::string_view text) {
  size_t size = 0;
  bool in_code = false;
  for (const char c : text) {
    if (c == '\x1b') in_code = true;
    // Of a character of several bytes only the first counts.
    if (!in_code && (static_cast<unsigned char>(c) & 0xc0) != 0x80) ++size;
    if (in_code && c == 'm') in_code = false;
  }
  return size;
}

std::string Wrap(absl::string_view text, size_t width, size_t indent, size_t taken) {
  std::string wrapped;
  size_t used = taken;
  for (absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    const bool first = wrapped.empty();
    if (!first && used + 1 + Visible(word) > width) {
      absl::StrAppend(&wrapped, "\n", std::string(indent, ' '), word);
      used = indent + Visible(word);
    } else {
      absl::StrAppend(&wrapped, first ? "" : " ", word);
      used += (first ? 0 : 1) + Visible(word);
    }
  }
  return wrapped;
}

std::string Pad(absl::string_view text, size_t width) {
  const size_t size = Visible(text);
  return absl::StrCat(text, std::string(size < width ? width - size : 0, ' '));
}

std::vector<const v1::ExpectationResult*> WorstFirst(const v1::Judgement& judgement) {
  std::vector<const v1::ExpectationResult*> results;
  for (const v1::ExpectationResult& result : judgement.results()) results.push_back(&result);
  std::stable_sort(results.begin(), results.end(),
                   [](const auto* a, const auto* b) { return a->verdict() > b->verdict(); });
  return results;
}

std::string Place(const v1::RunCreated& created, const v1::ExpectationResult& result) {
  if (result.position().line() == 0) return result.path();
  return absl::StrCat(created.file(), ":", result.position().line());
}

bool NotJudged(const v1::Judgement& judgement, const v1::ExpectationResult& result) {
  if (result.verdict() != v1::VERDICT_INCONCLUSIVE) return false;
  if (result.code() == "not-run") return true;
  if (judgement.outcome() != v1::OUTCOME_ABORTED) return false;
  using Kind = v1::ExpectationResult;
  // Of the fault and of the impact themselves these say what stood against them.
  if (result.code() == "not-in-force") return result.kind() != Kind::KIND_EFFICACY;
  if (result.code() == "no-impact") return result.kind() != Kind::KIND_IMPACT;
  return result.code() == "cut-short" || result.code() == "never-fired" ||
         result.code() == "no-anchor";
}

std::string Tally(const v1::Judgement& judgement) {
  int failed = 0, inconclusive = 0, not_run = 0, passed = 0;
  for (const v1::ExpectationResult& result : judgement.results()) {
    int& count = result.verdict() == v1::VERDICT_FAILED   ? failed
                 : result.verdict() == v1::VERDICT_PASSED ? passed
                 : NotJudged(judgement, result)           ? not_run
                                                          : inconclusive;
    ++count;
  }
  std::vector<std::string> parts;
  const auto add = [&](int count, absl::string_view what) {
    if (count > 0) parts.push_back(absl::StrCat(count, " ", what));
  };
  add(failed, "failed");
  add(inconclusive, "inconclusive");
  add(not_run, "not judged");
  add(passed, "passed");
  return parts.empty() ? "nothing was expected" : absl::StrJoin(parts, ", ");
}

std::vector<MeasuredTime> MeasuredTimes(const v1::Judgement& judgement) {
  std::vector<MeasuredTime> times;
  const auto add = [&](bool has, absl::string_view name, const google::protobuf::Duration& time,
                       const std::string& meaning) {
    if (has) times.push_back({std::string(name), Short(FromProto(time)), meaning});
  };
  add(judgement.has_time_to_detect(), "detect", judgement.time_to_detect(),
      "fault in force to the expected alert firing");
  add(judgement.has_time_to_notify(), "notify", judgement.time_to_notify(),
      "fault in force to the receiver being told");
  add(judgement.has_time_to_resolve(), "resolve", judgement.time_to_resolve(),
      "last fault's end to the alert's end");
  add(judgement.has_time_to_recover(), "recover", judgement.time_to_recover(),
      "last fault's end to steady state");
  add(judgement.has_time_to_any_alert(), "first page", judgement.time_to_any_alert(),
      absl::StrCat("fault in force to ", judgement.any_alert()));
  return times;
}

absl::Time LastWord(const std::vector<v1::Event>& history) {
  const v1::Event& last = history.back();
  if (last.finished().cause() != v1::StopRequested::CAUSE_CONTROLLER_LOST)
    return FromProto(last.at());
  absl::Time latest = FromProto(history.front().at());
  for (const v1::Event& event : history) {
    if (event.epoch() < last.epoch()) latest = FromProto(event.at());
  }
  return latest;
}

}  // namespace firedrill::reporting
