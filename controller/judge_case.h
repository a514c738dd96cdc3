// What every part of the judgement looks at, gathered once, and the words they share. Nobody but
// judge*.cc includes this.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/alert_episodes.h"
#include "controller/run_steps.h"
#include "controller/truth.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill::judging {

// A stretch in which a source gave nothing fresh.
struct Gap {
  std::string source;
  absl::Time from;
  absl::Time to;
  std::string reason;
  // Another one that says the same went on.
  bool covered = false;
  // The controller itself was away: no source was heard, however many there are.
  bool away = false;
};

// An impact, as far as other expectations depend on it.
struct ImpactSeen {
  std::string name;
  Anchor anchor;
  std::optional<Instant> since;
  bool reached = false;
};

struct Case {
  explicit Case(const std::vector<v1::Event>& history);

  const std::vector<v1::Event>& history;
  const v1::RunCreated& created;
  const v1::ExperimentSpec& spec;
  const v1::Plan& plan;
  RunSteps steps;
  std::vector<AlertEpisode> episodes;
  std::vector<Gap> gaps;
  std::optional<absl::Time> gate_passed;
  std::optional<v1::RunFinished> finished;
  std::optional<v1::StopRequested> stop;
  // What happened later is nobody's contract: the stop of an aborted run, else its last event.
  absl::Time horizon;
  absl::Time end;
  std::vector<ImpactSeen> impacts;
  v1::Judgement* out = nullptr;

  // Of the gate's end, as reports show times: "+12.3s".
  std::string At(absl::Time time) const;
  // `part`: the key beneath `path` that is judged, where it has a position of its own.
  v1::ExpectationResult& Add(v1::ExpectationResult::Kind kind, const std::string& name,
                             const std::string& path, absl::string_view part = "");
  void Note(absl::string_view code, absl::string_view subject, const std::string& message,
            const std::string& mend = "");
};

void Pass(v1::ExpectationResult& result, const std::string& observed);
// Also for what is only not known yet.
void Doubt(v1::ExpectationResult& result, absl::string_view code, const std::string& reason,
           const std::string& mend = "");
void Fail(v1::ExpectationResult& result, absl::string_view code, const std::string& reason,
          const std::string& mend = "");

// Of a run in which nothing was injected.
void DoubtNotRun(const Case& run, v1::ExpectationResult& result);

// A measured time against a budget, both of which have errors.
enum class Fit { kWithin, kBeyond, kTooCloseToCall };
Fit Compare(absl::Duration measured, absl::Duration budget, absl::Duration error);

// The anchor's time; or, where it has none or its fault was not in force, nothing, and the result
// is in doubt. `started` is when the fault began: what was there before it does not count.
struct Since {
  Anchor anchor;
  Instant at;
  Instant started;
};
std::optional<Since> Anchored(const Case& run, const std::string& since,
                              v1::ExpectationResult& result);

// "ok 43%, p95 1.2s at +41.0s".
std::string Seen(const Case& run, const TruthPoint& point);
// Puts in doubt what nobody saw in [from, to], with the most frequent reason for that.
void DoubtBlind(const Case& run, const std::vector<TruthPoint>& points, absl::Time from,
                absl::Time to, v1::ExpectationResult& result);

// The stretch in which it held when the last was known of it; empty where that was false.
std::optional<Hold> HeldAtLast(const std::vector<TruthPoint>& points, absl::Duration blind_after);

// The run was stopped while the fault was on its way to being in force; it was not refused.
bool StoppedOnItsWay(const Case& run, absl::string_view fault);
// Puts the result in doubt, and says true, where the run ended or stopped before `deadline`.
bool CutShort(const Case& run, absl::Time deadline, v1::ExpectationResult& result);
// The first gap of at least three seconds of one of the sources that touches [from, to].
const Gap* BlindIn(const Case& run, std::initializer_list<absl::string_view> sources,
                   absl::Time from, absl::Time to);
// The time in which the controller was away, where that touches [from, to], however short: it
// remembers nothing of what was before, so that ends and deliveries may be older than they look.
const Gap* AwayIn(const Case& run, absl::Time from, absl::Time to);
// "prometheus told nothing fresh from +3.1s to +8.1s", "nobody watched ...".
std::string GapText(const Case& run, const Gap& gap);
// The impact that was not reached and on which what is anchored there depends.
const ImpactSeen* MissingImpact(const Case& run, const Since& since);

// When all of steady state was back, for as long as the gate asks, from `from` on; nothing where it
// never was, or was not lost since `start`.
std::optional<absl::Time> SteadyAgain(const Case& run, absl::Time from, absl::Time start);

// ---- the parts; each adds its results in the order of the file.
void JudgeEfficacy(Case& run);
void JudgeImpacts(Case& run);
void JudgeAlerts(Case& run);
void JudgeForbidden(Case& run);
void JudgeRecovery(Case& run);
// Every check of steady state that no recovery asks for at the end.
void JudgeSteadyState(Case& run);
// The times that sum a run up, and what a reader must know besides.
void MeasureTimes(Case& run);
void FindObservations(Case& run);
// Findings of preflight that are defects of the alerting under test.
void ApplyDefects(Case& run);

}  // namespace firedrill::judging
