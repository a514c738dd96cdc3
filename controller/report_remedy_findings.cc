// In plain words: which remedy healed, which changed nothing, and which made it worse.
#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report_teller.h"
#include "controller/words.h"

namespace firedrill::reporting {
namespace {

// So many routes are named in one sentence, the others are counted.
constexpr size_t kMostRoutes = 3;

// A system that is not back sooner may still be on its way.
constexpr absl::Duration kLongEnough = absl::Seconds(3);
// What was done no longer before may not have come out yet.
constexpr absl::Duration kComingOut = absl::Seconds(6);

std::string Percent(double share) {
  // 99.6 % is not all.
  if (share > 99 && share < 100) return absl::StrFormat("%.1f%%", std::floor(share * 10) / 10);
  return absl::StrFormat("%.0f%%", share);
}

std::string Changes(std::vector<RouteChange> changes) {
  std::stable_sort(changes.begin(), changes.end(), [](const auto& a, const auto& b) {
    return std::abs(a.after - a.before) > std::abs(b.after - b.before);
  });
  std::vector<std::string> parts;
  for (const RouteChange& change : changes) {
    if (parts.size() == kMostRoutes) break;
    parts.push_back(
        absl::StrCat(change.route, " ", Percent(change.before), " → ", Percent(change.after)));
  }
  const size_t rest = changes.size() - parts.size();
  return absl::StrCat(absl::StrJoin(parts, ", "),
                      rest > 0 ? absl::StrCat(" and ", rest, " more") : "");
}

std::string Healed(const RemedyEffect& effect, absl::Time done) {
  std::vector<std::string> parts;
  for (const auto& [check, when] : effect.healed) {
    const auto held = effect.held.find(check);
    parts.push_back(
        absl::StrCat(check, " held again ", Short(when - done), " after it",
                     held == effect.held.end()
                         ? ""
                         : absl::StrCat(" (for ", Short(held->second), " until the run's end)")));
  }
  return JoinWords(parts);
}

// Else a fault may have gone off at any time, and be what healed.
bool EndsAreKnown(const Teller& tell) {
  const RunSteps steps(tell.history);
  return std::all_of(steps.faults().begin(), steps.faults().end(), [](const FaultCourse& fault) {
    return !fault.start.has_value() || fault.end.has_value();
  });
}

// What was not healed, and until when it was broken. What was done next is named as the end only of
// what came back upon it.
std::string StayedBroken(const Teller& tell, const RemedyEffect& effect) {
  absl::Time next = absl::InfiniteFuture();
  for (const Edge& edge : tell.facts.edges) {
    if (edge.from > effect.until) next = std::min(next, edge.from);
  }
  std::vector<std::string> upon, beyond;
  for (const Fate& fate : tell.facts.fates) {
    const bool broken =
        std::find(effect.broken.begin(), effect.broken.end(), fate.name) != effect.broken.end();
    if (!broken || effect.healed.count(fate.name) > 0) continue;
    const bool back =
        std::any_of(fate.points.begin(), fate.points.end(), [&](const TruthPoint& point) {
          return point.truth == Truth::kTrue && point.at > effect.until && point.at <= next;
        });
    (back ? upon : beyond).push_back(fate.name);
  }
  if (effect.then.empty()) return absl::StrCat(JoinWords(beyond), " stayed broken");
  if (upon.empty()) {
    return absl::StrCat(JoinWords(beyond), " stayed broken, also once ", effect.then);
  }
  return absl::StrCat(
      JoinWords(upon), " stayed broken, until ", effect.then,
      beyond.empty() ? "" : absl::StrCat("; ", JoinWords(beyond), " stayed so also after that"));
}

// For how long the experiment looks before it calls a remedy no cure.
absl::Duration Window(const Teller& tell, const Edge& edge) {
  absl::Duration window = kLongEnough;
  for (const v1::RecoveryExpectation& expected : tell.spec.expect().recovery()) {
    for (const std::string& remedy : edge.remedies) {
      if (expected.since() != absl::StrCat(remedy, ".done")) continue;
      window = std::max(window, FromProto(expected.within()));
    }
  }
  return window;
}

// Since when it has been broken at this time, though it may have held for moments.
absl::Time BrokenSince(const Fate& fate, absl::Time at) {
  const absl::Duration hold = std::min(FromProto(fate.check.for_()), kLongEnough);
  absl::Time since = absl::InfinitePast();
  std::optional<Hold> held;
  for (const TruthPoint& point : fate.points) {
    if (point.at > at) break;
    if (point.truth == Truth::kTrue) {
      held = Hold{held.has_value() ? held->begin : point.at, point.at};
    } else if (point.truth == Truth::kFalse) {
      if (held.has_value() && held->end - held->begin >= hold) since = point.at;
      held.reset();
    }
  }
  return since;
}

// When the last of each fault and remedy was over that is none of `edge`.
std::map<std::string, absl::Time> EndsBefore(const Teller& tell, const Edge& edge) {
  std::map<std::string, absl::Time> ends;
  const RunSteps steps(tell.history);
  const auto add = [&](const std::string& name, absl::Time end) {
    if (end < edge.from) ends[name] = std::max(ends[name], end);
  };
  for (const FaultCourse& fault : steps.faults()) {
    if (fault.planned.ending() == v1::ENDING_ONE_SHOT || !fault.end.has_value()) continue;
    add(fault.planned.name(), fault.end->at);
  }
  for (const RemedyCourse& remedy : steps.remedies()) {
    if (!remedy.running.has_value()) continue;
    add(remedy.planned.name(), remedy.done.has_value()
                                   ? remedy.done->at
                                   : remedy.running->at + FromProto(remedy.last.took()));
  }
  return ends;
}

// For how long the experiment looks for what this end does to this check, at least for `least`;
// nothing where it has seen that it is no cure.
absl::Duration LookedFor(const Teller& tell, const std::string& step, const std::string& check,
                         absl::Duration least) {
  absl::Duration looked = least;
  for (const v1::RecoveryExpectation& asked : tell.spec.expect().recovery()) {
    const bool of_it =
        asked.since() == absl::StrCat(step, ".done") || asked.since() == absl::StrCat(step, ".end");
    if (!of_it || asked.probe().probe() != check) continue;
    looked = std::max(looked, FromProto(asked.within()) + FromProto(asked.for_()));
    for (const v1::ExpectationResult& result : tell.judgement.results()) {
      const bool no_cure = asked.has_expected() && !asked.expected() &&
                           result.kind() == v1::ExpectationResult::KIND_RECOVERY &&
                           result.name() == asked.name() && result.verdict() == v1::VERDICT_PASSED;
      if (no_cure) return absl::ZeroDuration();
    }
  }
  return looked;
}

std::string Ended(const std::string& step, absl::Duration before) {
  return absl::StrCat("the end of ", step, " ", Short(before), " before it");
}

// What ended not too long before: that a route got better after a remedy is an order in time, too.
std::string OtherHelp(const Teller& tell, const Edge& edge) {
  std::vector<std::string> causes;
  for (const auto& [step, end] : EndsBefore(tell, edge)) {
    absl::Duration looked;
    for (const Fate& fate : tell.facts.fates) {
      looked = std::max(looked, LookedFor(tell, step, fate.name, Window(tell, edge)));
    }
    if (edge.from - end <= looked) causes.push_back(Ended(step, edge.from - end));
  }
  return JoinWords(causes);
}

// What was done so shortly before that what it did may not have settled when this was done.
std::string OtherHarm(const Teller& tell, const Edge& edge) {
  std::vector<std::string> causes;
  for (const Edge& other : tell.facts.edges) {
    const absl::Duration before = edge.from - other.to;
    if (other.from >= edge.from || before > kComingOut) continue;
    causes.push_back(
        absl::StrCat("what was done ", Short(before), " before it (", other.label, ")"));
  }
  return JoinWords(causes);
}

// What else ended while it was broken, and not too long before it came back: that it came back
// after a remedy is no more than an order in time.
std::string OtherCauses(const Teller& tell, const RemedyEffect& effect, const Edge& edge) {
  std::vector<std::string> causes;
  for (const auto& ended : EndsBefore(tell, edge)) {
    const std::string& step = ended.first;
    const absl::Time end = ended.second;
    const bool may_be =
        std::any_of(tell.facts.fates.begin(), tell.facts.fates.end(), [&](const Fate& fate) {
          const auto back = effect.healed.find(fate.name);
          return back != effect.healed.end() && end > BrokenSince(fate, edge.from) &&
                 back->second - end <= LookedFor(tell, step, fate.name, Window(tell, edge));
        });
    if (!may_be) continue;
    causes.push_back(Ended(step, edge.from - end));
  }
  return JoinWords(causes);
}

void TellRemedy(const Teller& tell, const RemedyEffect& effect) {
  const Edge* const edge = &tell.facts.edges[effect.edge];
  const std::string& name = effect.remedy;
  if (!effect.failed.empty()) {
    // What was done at once with it cannot be judged apart from it either.
    const std::string what =
        edge->remedies.size() == 1 ? "it did" : absl::StrCat(name, " did together");
    tell.Add("remedy-failed",
             absl::StrCat(JoinWords(effect.failed), "; what ", what, " is not judged."));
    return;
  }
  // What is done at once cannot be told apart.
  const std::string with =
      edge->faults.empty() ? "" : absl::StrCat(" (at once with ", edge->faults, ")");
  // At the begin it is what breaks the system, whatever it is called.
  const bool first = edge == &tell.facts.edges.front();
  const std::string worse = effect.worse.empty() ? "" : Changes(effect.worse);
  const std::string better = effect.better.empty() ? "" : Changes(effect.better);
  if (!effect.broken.empty() && effect.healed.size() == effect.broken.size()) {
    const std::string besides = effect.hurt.empty() ? ""
                                                    : absl::StrCat("; ", JoinWords(effect.hurt),
                                                                   " broke for a while after it");
    const std::string others = OtherCauses(tell, effect, *edge);
    const bool cure = edge->faults.empty() && EndsAreKnown(tell) && others.empty();
    tell.Add(
        cure ? "remedy-cured" : "remedy-followed",
        absl::StrCat(
            name, cure ? " was the cure" : " was followed by recovery", with,
            others.empty() ? "" : absl::StrCat(", though ", others, " may have healed as well"),
            ": ", Healed(effect, edge->to), better.empty() ? "" : "; ", better, besides, "."));
    return;
  }
  if (!effect.worse.empty()) {
    const std::string others = OtherHarm(tell, *edge);
    const std::string what = first            ? " hurt"
                             : others.empty() ? " made it worse"
                                              : " was followed by worse answers";
    tell.Add(others.empty() ? "remedy-made-worse" : "remedy-worse-after",
             absl::StrCat(
                 name, what, with,
                 others.empty() ? "" : absl::StrCat(", though ", others, " may have hurt as well"),
                 ": ", worse, better.empty() ? "" : absl::StrCat(", though ", better),
                 effect.healed.empty() ? "" : absl::StrCat("; ", Healed(effect, edge->to)), "."));
    return;
  }
  if (effect.broken.empty()) {
    if (!effect.hurt.empty()) {
      tell.Add("remedy-hurt",
               absl::StrCat(name, first ? " broke " : " met nothing that was broken, and broke ",
                            JoinWords(effect.hurt), first ? "" : " for a while", with, "."));
    }
    return;
  }
  // What has only begun is not judged for help before it is over.
  if (edge->remedies.empty()) return;
  const absl::Duration seen = effect.until - edge->to;
  const bool cut_short = tell.judgement.outcome() == v1::OUTCOME_ABORTED;
  if (seen < (cut_short ? Window(tell, *edge) : kLongEnough) && effect.better.empty()) {
    tell.Add("remedy-unknown", absl::StrCat("It was seen for ", Short(seen), " only: whether ",
                                            name, " helped is not known", with, "."));
    return;
  }
  const std::string still_broken = StayedBroken(tell, effect);
  if (!effect.better.empty()) {
    const std::string others = OtherHelp(tell, *edge);
    tell.Add(
        others.empty() ? "remedy-partial" : "remedy-better-after",
        absl::StrCat(
            name, others.empty() ? " helped" : " was followed by better answers",
            ", and was no cure", with,
            others.empty() ? "" : absl::StrCat(", though ", others, " may have helped as well"),
            ": ", better, "; ", still_broken,
            effect.healed.empty() ? "" : absl::StrCat("; ", Healed(effect, edge->to)), "."));
    return;
  }
  // What stayed as bad as it was.
  std::vector<RouteChange> bad;
  for (const RouteChange& change : effect.same) {
    if (change.before < 95) bad.push_back(change);
  }
  const bool swings = std::any_of(bad.begin(), bad.end(), [](const RouteChange& change) {
    return std::abs(change.after - change.before) >= kSmallestChange;
  });
  const absl::string_view chance =
      swings ? " (no more than they go up and down by themselves); " : "; ";
  std::string hurt;
  if (!effect.hurt.empty()) {
    hurt = absl::StrCat(", and broke ", JoinWords(effect.hurt), " for a while");
  }
  tell.Add(
      "remedy-no-cure",
      absl::StrCat(name, " was no cure", hurt, with, ": ",
                   bad.empty() ? "" : absl::StrCat(Changes(bad), chance), still_broken,
                   effect.healed.empty() ? "" : absl::StrCat("; ", Healed(effect, edge->to)), "."));
}

// A run that was cut short has changed what it would have changed back.
void TellLeftChanged(const Teller& tell) {
  if (tell.judgement.outcome() != v1::OUTCOME_ABORTED) return;
  std::vector<std::string> changed, never;
  const RunSteps steps(tell.history);
  for (const RemedyCourse& remedy : steps.remedies()) {
    const std::string what = absl::StrCat(remedy.planned.name(), " on ", remedy.planned.node());
    if (remedy.last.state() == v1::REMEDY_STATE_UNSPECIFIED) {
      never.push_back(what);
    } else if (remedy.planned.leaves() == v1::LEAVES_CHANGED) {
      changed.push_back(what);
    }
  }
  if (changed.empty()) return;
  tell.Add("left-changed",
           absl::StrCat("What ", JoinWords(changed), " changed stays so",
                        never.empty() ? "" : absl::StrCat("; not run any more: ", JoinWords(never)),
                        "."));
}

}  // namespace

void TellRemedies(const Teller& tell) {
  for (const RemedyEffect& effect : tell.facts.remedies) TellRemedy(tell, effect);
  TellLeftChanged(tell);
}

}  // namespace firedrill::reporting
