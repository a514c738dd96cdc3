// What a report tells of a run, before it is put into words and pictures. Pure functions of its
// history and judgement. Nobody but report*.cc and their tests includes this.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/alert_episodes.h"
#include "controller/run_steps.h"
#include "controller/truth.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill::reporting {

// ---- what divides a run

// Within this time a system comes to what it stays at.
inline constexpr absl::Duration kSettle = absl::Seconds(8);
// Points of percent that mean something to people.
inline constexpr double kSmallestChange = 5;

// Something was done to the system: a fault went on or off, or a remedy was run. What happens
// within a second and a half is one. A remedy that takes longer than what the system settles in is
// two: it has begun, and it is over.
struct Edge {
  // "lost and others in force", "restart-shop", "lost off", "crowd over".
  std::string label;
  // Within a sentence: "lost was off".
  std::string event;
  // Nothing of it had begun before, all of it was done afterwards.
  absl::Time from;
  absl::Time to;
  // Those that were run to their end here.
  std::vector<std::string> remedies;
  // As the subject of a sentence, also what has only begun: "the end of crowd and restart-shop".
  std::string acts;
  // What of it is no remedy: "lost off".
  std::string faults;
};

// What the system is like between two edges; the first lies before all of them.
struct Stretch {
  std::string label;
  absl::Time from;
  absl::Time to;
};

// ---- what was measured of the system

// A request name of a load, or a steady-state check on a probe.
struct Route {
  std::string name;
  v1::PlannedCheck check;
  bool is_load = false;
};

// What a route had settled to: over the last eight seconds of a stretch at most.
struct Settled {
  // Of a load: the share answered well in percent, and of how many. Of a probe: the median.
  std::optional<double> value;
  uint64_t answers = 0;
  // By how much a share may be off, in points: as much as it went up and down within the stretch.
  double error = 0;
  // For how long it was looked at.
  absl::Duration over;
  // Seconds; loads only.
  std::optional<double> p95;
  // Why there is no value: "starved", "no answers".
  std::string unknown;
};

// What became of one steady-state check after the first edge.
struct Fate {
  enum class Kind { kHeld, kBack, kStillBroken, kUnknown };
  std::string name;
  Kind kind = Kind::kUnknown;
  std::optional<absl::Time> broke;
  // From when on it held to the end.
  std::optional<absl::Time> back;
  // How often it broke.
  int times = 0;
  v1::PlannedCheck check;
  std::vector<TruthPoint> points;
};

// ---- what alerts told

enum class AlertRole { kExpected, kMisleading, kSymptom, kKnown, kUnnamed };

// The first time that an alert of this name fired because of the run, or might have; and all its
// ends.
struct AlertSeen {
  std::string alert;
  AlertRole role = AlertRole::kUnnamed;
  // Which expectation it fulfils.
  std::string expectation;
  // By the site's matchers.
  bool pages = false;
  std::optional<absl::Time> pending;
  std::optional<absl::Time> firing;
  std::optional<absl::Time> delivered;
  std::string receiver;
  std::optional<absl::Time> ended;
  std::optional<absl::Time> end_told;
  // Of every time that it fired, in their order; of one that only was pending, that it was pending.
  std::vector<std::optional<absl::Time>> ends;
  std::vector<std::optional<absl::Time>> ends_told;
  // The rule's summary (or description), and what it advises.
  std::string says;
  std::string runbook;

  // When a person could have known: told, else firing where no receiver of ours stands behind it.
  absl::Time Known() const { return delivered.value_or(*firing); }
};

// One part of an alert's time.
struct AlertPart {
  std::string name;
  std::optional<absl::Duration> took;
  // "measured", "configured", "not measured apart".
  std::string source;
  // Lies within the measured part before it, and is not summed up.
  bool within = false;
  // What `took` does not say: "up to 1s".
  std::string amount;
};

// Where one alert's time went: the parts that are not within others sum up to the last.
struct AlertBreakdown {
  std::string expectation;
  std::string alert;
  std::string since;
  std::vector<AlertPart> parts;
  std::optional<AlertPart> total;
};

// ---- remedies

struct RouteChange {
  std::string route;
  double before = 0;
  double after = 0;
};

struct RemedyEffect {
  // Of which edge, and its acts.
  size_t edge = 0;
  std::string remedy;
  // Steady-state checks that were broken when it began; of them those that came back after it, with
  // when, before anything else was done; and those that it broke.
  std::vector<std::string> broken;
  std::map<std::string, absl::Time> healed;
  // Of those that had not yet held for as long as the gate asks when the run ended: for how long.
  std::map<std::string, absl::Duration> held;
  std::vector<std::string> hurt;
  // Routes whose share changed by more than chance would.
  std::vector<RouteChange> better;
  std::vector<RouteChange> worse;
  // All others that are measured, for what did not change.
  std::vector<RouteChange> same;
  // Those of it that did not succeed, and how: "restart-shop failed: HTTP 501".
  std::vector<std::string> failed;
  // Until when it was looked at, and what came then: "lost was off".
  absl::Time until;
  std::string then;
};

// ---- all of it

struct RunFacts {
  // When the gate was passed; the run's begin where it never was.
  absl::Time zero;
  bool injected = false;
  absl::Time end;
  std::vector<Edge> edges;
  std::vector<Stretch> stretches;
  std::vector<Route> routes;
  // By stretch, then by route.
  std::vector<std::vector<Settled>> settled;
  std::vector<Fate> fates;
  // By the time at which a person could have known, those that never fired last.
  std::vector<AlertSeen> alerts;
  std::vector<AlertBreakdown> breakdowns;
  std::vector<RemedyEffect> remedies;
};

// `history` must not be empty.
RunFacts FactsOf(const std::vector<v1::Event>& history, const v1::Judgement& judgement);

// ", 3.8s after lost was off": of the last edge that was done by then; empty before all of them.
std::string SinceEdge(const RunFacts& facts, absl::Time time);

// The parts, for FactsOf.
std::vector<Edge> EdgesOf(const RunSteps& steps);
std::vector<Stretch> StretchesOf(const std::vector<Edge>& edges, absl::Time begin, absl::Time end);
std::vector<Route> RoutesOf(const std::vector<v1::Event>& history);
Settled SettledOf(const std::vector<v1::Event>& history, const Route& route,
                  const Stretch& stretch);
std::vector<Fate> FatesOf(const std::vector<v1::Event>& history, const std::vector<Edge>& edges);
std::vector<AlertSeen> AlertsOf(const std::vector<v1::Event>& history,
                                const std::optional<Instant>& started);
std::vector<AlertBreakdown> BreakdownsOf(const std::vector<v1::Event>& history,
                                         const v1::Judgement& judgement);
std::vector<RemedyEffect> RemediesOf(const RunFacts& facts, const RunSteps& steps);

// ---- findings: plain sentences, the most important first

struct RunFinding {
  // For machines: "first-page", "misleading-alert", "remedy", "route", "aborted", ...
  std::string code;
  std::string text;
  // What the whole report adds.
  std::string more;
  // Among what closes a run on a terminal.
  bool in_short = true;
};

std::vector<RunFinding> FindingsOf(const RunFacts& facts, const std::vector<v1::Event>& history,
                                   const v1::Judgement& judgement);

}  // namespace firedrill::reporting
