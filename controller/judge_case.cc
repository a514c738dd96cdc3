// Gathers what the parts of the judgement share.
#include "controller/judge_case.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/words.h"

namespace firedrill::judging {
namespace {

// Shorter ones hide nothing: an alert lives for longer, and its start is told afterwards.
constexpr absl::Duration kShortestGap = absl::Seconds(3);

std::vector<Gap> GapsOf(const std::vector<v1::Event>& history, absl::Time end) {
  // A gap is told when it opens and again when it closes.
  std::map<std::pair<std::string, absl::Time>, Gap> gaps;
  std::vector<Gap> all;
  for (const v1::Event& event : history) {
    if (event.has_resumed()) {
      const absl::Time back = FromProto(event.at());
      all.push_back({.source = "controller",
                     .from = back - FromProto(event.resumed().gap()),
                     .to = back,
                     .reason = "the controller was started again",
                     .away = true});
    }
    if (!event.has_gap()) continue;
    const v1::MonitorGap& told = event.gap();
    const absl::Time from = FromProto(told.has_from() ? told.from() : event.at());
    Gap& gap = gaps[{told.source(), from}];
    gap.source = told.source();
    gap.from = from;
    gap.covered = told.covered();
    gap.to = told.has_to() ? FromProto(told.to()) : end;
    if (!told.reason().empty()) gap.reason = told.reason();
  }
  for (auto& [key, gap] : gaps) all.push_back(std::move(gap));
  std::sort(all.begin(), all.end(), [](const Gap& a, const Gap& b) { return a.from < b.from; });
  return all;
}

// Everything that is not a fault's anchor counts from the first fault.
std::optional<Instant> StartOf(const RunSteps& steps, const Anchor& anchor) {
  if (!steps.IsFault(anchor.step)) return steps.FirstStart();
  return steps.Find({anchor.step, AnchorPoint::kStart});
}

std::string RefusedBecause(const RunSteps& steps, const std::string& step) {
  for (const FaultCourse& fault : steps.faults()) {
    if (fault.planned.name() == step && fault.last == v1::FAULT_STATE_REFUSED) {
      return absl::StrCat(": ", fault.planned.node(), " refused it",
                          fault.reason.empty() ? "" : ", ", fault.reason);
    }
  }
  return "";
}

// Why what is anchored here cannot be judged; true where there is a reason.
bool NotInForce(const Case& run, const Anchor& anchor, v1::ExpectationResult& result) {
  std::vector<std::string> steps;
  if (run.steps.IsFault(anchor.step)) {
    steps.push_back(anchor.step);
  } else {
    // A remedy is judged against the faults that were on when it ended.
    const std::optional<Instant> done = run.steps.Find(anchor);
    for (const FaultCourse& fault : run.steps.faults()) {
      if (done.has_value() && fault.start.has_value() && fault.start->at <= done->at) {
        steps.push_back(fault.planned.name());
      }
    }
  }
  for (const std::string& step : steps) {
    if (run.steps.InForce(step)) continue;
    if (!run.finished.has_value() && !run.stop.has_value()) {
      Doubt(result, "open", absl::StrCat("fault ", step, " has not been seen in force yet"));
      return true;
    }
    if (run.stop.has_value() && !run.steps.Applied(step)) {
      Doubt(result, "cut-short", absl::StrCat("the run was stopped before fault ", step, " began"));
      return true;
    }
    if (StoppedOnItsWay(run, step)) {
      Doubt(result, "cut-short",
            absl::StrCat("the run was stopped before fault ", step, " was in force"));
      return true;
    }
    Doubt(result, "not-in-force",
          absl::StrCat("fault ", step, " was never seen in force", RefusedBecause(run.steps, step),
                       ", so that nothing can be expected because of it"),
          absl::StrCat("see what fault ", step, " measured of itself, and why it fell short"));
    return true;
  }
  return false;
}

std::string NoAnchorReason(const Case& run, const Anchor& anchor) {
  for (const RemedyCourse& remedy : run.steps.remedies()) {
    if (remedy.planned.name() != anchor.step) continue;
    if (remedy.last.state() == v1::REMEDY_STATE_FAILED) {
      return absl::StrCat("remedy ", anchor.step, " failed", FailedWords(remedy.last));
    }
    return absl::StrCat("remedy ", anchor.step, " was not done");
  }
  return absl::StrCat(AnchorText(anchor), " was never seen");
}

}  // namespace

Case::Case(const std::vector<v1::Event>& events)
    : history(events),
      created(events.front().created()),
      spec(created.experiment().spec()),
      plan(created.plan()),
      steps(events),
      episodes(AlertEpisodes(events)),
      end(FromProto(events.back().at())) {
  std::optional<absl::Time> stopped;
  for (const v1::Event& event : events) {
    if (event.has_phase() && event.phase().phase() == v1::PHASE_INJECT && !gate_passed) {
      gate_passed = FromProto(event.at());
    }
    if (event.has_stop() && !stop.has_value()) {
      stop = event.stop();
      stopped = FromProto(event.at());
    }
    if (event.has_finished() && !finished.has_value()) finished = event.finished();
  }
  horizon = stopped.value_or(end);
  gaps = GapsOf(events, end);
}

std::string Case::At(absl::Time time) const {
  return Signed(time - gate_passed.value_or(FromProto(history.front().at())));
}

v1::ExpectationResult& Case::Add(v1::ExpectationResult::Kind kind, const std::string& name,
                                 const std::string& path, absl::string_view part) {
  v1::ExpectationResult& result = *out->add_results();
  result.set_kind(kind);
  result.set_name(name);
  result.set_path(path);
  for (const std::string& key : {path, absl::StrCat(path, ".", part)}) {
    auto position = created.positions().find(key);
    if (position != created.positions().end()) *result.mutable_position() = position->second;
  }
  return result;
}

void Case::Note(absl::string_view code, absl::string_view subject, const std::string& message,
                const std::string& mend) {
  v1::Finding& finding = *out->add_findings();
  finding.set_kind(v1::Finding::KIND_OBSERVATION);
  finding.set_code(std::string(code));
  finding.set_subject(std::string(subject));
  finding.set_message(message);
  finding.set_mend(mend);
}

void Pass(v1::ExpectationResult& result, const std::string& observed) {
  result.set_verdict(v1::VERDICT_PASSED);
  result.set_observed(observed);
  result.clear_code();
  result.clear_reason();
  result.clear_mend();
}

void Doubt(v1::ExpectationResult& result, absl::string_view code, const std::string& reason,
           const std::string& mend) {
  result.set_verdict(v1::VERDICT_INCONCLUSIVE);
  result.set_code(std::string(code));
  result.set_reason(reason);
  result.set_mend(mend);
}

void Fail(v1::ExpectationResult& result, absl::string_view code, const std::string& reason,
          const std::string& mend) {
  result.set_verdict(v1::VERDICT_FAILED);
  result.set_code(std::string(code));
  result.set_reason(reason);
  result.set_mend(mend);
}

void DoubtNotRun(const Case& run, v1::ExpectationResult& result) {
  if (!run.finished.has_value()) {
    return Doubt(result, "open", "nothing has been injected yet");
  }
  Doubt(result, "not-run", absl::StrCat("nothing was injected: ", run.finished->reason()));
}

Fit Compare(absl::Duration measured, absl::Duration budget, absl::Duration error) {
  if (measured + error <= budget) return Fit::kWithin;
  if (measured - error > budget) return Fit::kBeyond;
  return Fit::kTooCloseToCall;
}

std::optional<Since> Anchored(const Case& run, const std::string& since,
                              v1::ExpectationResult& result) {
  const absl::StatusOr<Anchor> anchor = ParseAnchor(since);
  if (!anchor.ok()) {
    Doubt(result, "no-anchor", std::string(anchor.status().message()));
    return std::nullopt;
  }
  if (NotInForce(run, *anchor, result)) return std::nullopt;
  const std::optional<Instant> at = run.steps.Find(*anchor);
  const std::optional<Instant> started = StartOf(run.steps, *anchor);
  if (!at.has_value() || !started.has_value()) {
    if (!run.finished.has_value()) {
      Doubt(result, "open", absl::StrCat(AnchorText(*anchor), " has not happened yet"));
    } else if (run.stop.has_value()) {
      Doubt(result, "cut-short", absl::StrCat("the run was stopped before ", AnchorText(*anchor)));
    } else {
      Doubt(result, "no-anchor", NoAnchorReason(run, *anchor));
    }
    return std::nullopt;
  }
  return Since{*anchor, *at, *started};
}

std::string Seen(const Case& run, const TruthPoint& point) {
  return absl::StrCat(point.observed, " at ", run.At(point.at));
}

void DoubtBlind(const Case& run, const std::vector<TruthPoint>& points, absl::Time from,
                absl::Time to, v1::ExpectationResult& result) {
  std::map<std::string, int> codes;
  const TruthPoint* example = nullptr;
  for (const TruthPoint& point : points) {
    if (point.at < from || point.at > to || point.truth != Truth::kUnknown) continue;
    ++codes[point.code];
    example = &point;
  }
  std::string code = "blind";
  int most = 0;
  for (const auto& [name, count] : codes) {
    if (count > most) {
      most = count;
      code = name;
    }
  }
  if (example == nullptr) {
    return Doubt(result, "blind", "there were no answers in the time in which this is judged",
                 "see whether the probe or the load was running");
  }
  result.set_observed(Seen(run, *example));
  Doubt(result, code,
        code == "starved" ? "the load could not send what was due, so that it measured itself"
        : code == "late"  ? "answers came after their deadline, and do not count"
                          : "there were no answers in the time in which this is judged",
        code == "starved"
            ? "give the load's node more room, or lower the rate"
            : "make the probe's source answer during the fault, or allow it more time");
}

std::optional<Hold> HeldAtLast(const std::vector<TruthPoint>& points, absl::Duration blind_after) {
  std::optional<Hold> stretch;
  for (const TruthPoint& point : points) {
    if (point.truth == Truth::kUnknown) continue;
    if (point.truth == Truth::kFalse) {
      stretch.reset();
    } else if (!stretch.has_value() || point.at - stretch->end > blind_after) {
      stretch = Hold{point.at, point.at};
    } else {
      stretch->end = point.at;
    }
  }
  return stretch;
}

bool StoppedOnItsWay(const Case& run, absl::string_view name) {
  if (!run.stop.has_value()) return false;
  bool any = false;
  for (const FaultCourse& fault : run.steps.faults()) {
    if (fault.planned.name() != name || fault.reached.has_value()) continue;
    // It had its time, and did not get there.
    if (fault.end.has_value() && fault.end->at < run.horizon) return false;
    if (fault.last == v1::FAULT_STATE_REFUSED || fault.last == v1::FAULT_STATE_STUCK) return false;
    any = true;
  }
  return any;
}

bool CutShort(const Case& run, absl::Time deadline, v1::ExpectationResult& result) {
  if (!run.finished.has_value()) {
    Doubt(result, "open", "the run has not finished");
    return true;
  }
  if (run.horizon >= deadline) return false;
  if (run.stop.has_value()) {
    Doubt(result, "cut-short",
          absl::StrCat("the run was stopped ", Short(deadline - run.horizon),
                       " before this was decided"));
  } else {
    Doubt(
        result, "cut-short",
        absl::StrCat("the run ended ", Short(deadline - run.horizon), " before this was decided"));
  }
  return true;
}

const Gap* BlindIn(const Case& run, std::initializer_list<absl::string_view> sources,
                   absl::Time from, absl::Time to) {
  for (const Gap& gap : run.gaps) {
    if (gap.covered || gap.to - gap.from < kShortestGap || gap.from > to || gap.to < from) continue;
    if (gap.away) return &gap;
    for (absl::string_view source : sources) {
      if (absl::StartsWith(gap.source, source)) return &gap;
    }
  }
  return nullptr;
}

const Gap* AwayIn(const Case& run, absl::Time from, absl::Time to) {
  for (const Gap& gap : run.gaps) {
    if (gap.away && gap.from <= to && gap.to >= from) return &gap;
  }
  return nullptr;
}

std::string GapText(const Case& run, const Gap& gap) {
  const std::string who = gap.source == "prometheus" ? "Prometheus" : gap.source;
  return absl::StrCat(gap.away ? "nobody watched" : absl::StrCat(who, " told nothing fresh"),
                      " from ", run.At(gap.from), " to ", run.At(gap.to));
}

const ImpactSeen* MissingImpact(const Case& run, const Since& since) {
  for (const ImpactSeen& impact : run.impacts) {
    if (impact.reached) continue;
    // What hangs on a fault, or comes after the moment from which it should have hurt, rests on the
    // hurt.
    const bool same = impact.anchor.step == since.anchor.step;
    const bool later = impact.since.has_value() && impact.since->at <= since.at.at;
    if (same || later) return &impact;
  }
  return nullptr;
}

}  // namespace firedrill::judging
