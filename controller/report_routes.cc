// What was done to the system, and what its routes were like before, between and afterwards.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/report_facts.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill::reporting {
namespace {

// Steps that are no further apart are one edge: what lies between them is no state of its own.
constexpr absl::Duration kOneEdge = absl::Milliseconds(1500);
// Of the requests that were due, as in controller/truth.cc.
constexpr double kMostUnsent = 0.05;
// Below so many answers a share is an accident.
constexpr uint64_t kFewestAnswers = 10;
// After a restart queues are empty for a moment: what it comes to shows later.
constexpr absl::Duration kShortest = absl::Seconds(4);
// So many standard errors a change must be.
constexpr double kStandardErrors = 2.5;

struct Step {
  absl::Time from;
  absl::Time to;
  std::string what;
  // "in force", "on", "hit", "off"; of a remedy "", and "begun", "over" of one that takes long.
  std::string how;
  bool remedy = false;
};

std::vector<Step> StepsOf(const RunSteps& steps) {
  std::vector<Step> all;
  for (const FaultCourse& fault : steps.faults()) {
    if (!fault.start.has_value()) continue;
    const absl::Time on = fault.reached.value_or(*fault.start).at;
    const bool one_shot = fault.planned.ending() == v1::ENDING_ONE_SHOT;
    all.push_back({fault.start->at, std::max(on, fault.start->at), fault.planned.name(),
                   one_shot                    ? "hit"
                   : fault.reached.has_value() ? "in force"
                                               : "on"});
    if (!one_shot && fault.end.has_value()) {
      // From when its undo was asked for.
      const absl::Time begun = fault.undo_begun.value_or(*fault.end).at;
      all.push_back({std::clamp(begun, on, std::max(on, fault.end->at)), fault.end->at,
                     fault.planned.name(), "off"});
    }
  }
  for (const RemedyCourse& remedy : steps.remedies()) {
    if (!remedy.running.has_value()) continue;
    const absl::Time done = remedy.done.has_value()
                                ? remedy.done->at
                                : remedy.running->at + FromProto(remedy.last.took());
    const absl::Time begun = remedy.running->at;
    const std::string& name = remedy.planned.name();
    if (done - begun <= kSettle) {
      all.push_back({begun, done, name, "", true});
    } else {
      // So long that the system settles meanwhile: what else is done lies within it.
      all.push_back({begun, begun, name, "begun", true});
      all.push_back({done, done, name, "over", true});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Step& a, const Step& b) { return a.from < b.from; });
  return all;
}

// "lost and others in force, feature-on"; within a sentence "lost and others were in force".
std::string LabelOf(const std::vector<Step>& steps, bool sentence = false) {
  std::vector<std::string> parts;
  for (const char* how : {"in force", "on", "hit", "off", "begun", "over", ""}) {
    std::vector<std::string> names;
    for (const Step& step : steps) {
      if (step.how != how) continue;
      // On several nodes it is one step.
      if (std::find(names.begin(), names.end(), step.what) == names.end())
        names.push_back(step.what);
    }
    if (names.empty()) continue;
    const absl::string_view verb = !sentence || absl::string_view(how) == "hit" ? " "
                                   : absl::string_view(how) == "begun"          ? " had "
                                   : names.size() > 1                           ? " were "
                                                                                : " was ";
    parts.push_back(*how == '\0' ? JoinWords(names) : absl::StrCat(JoinWords(names), verb, how));
  }
  std::string label;
  for (const std::string& part : parts) {
    absl::StrAppend(&label, label.empty() ? "" : sentence ? " and " : ", ", part);
  }
  return label;
}

absl::Time EndOf(const v1::LoadWindow& window) {
  const absl::Duration length = FromProto(window.length());
  return FromProto(window.start()) + (length > absl::ZeroDuration() ? length : absl::Seconds(1));
}

bool IsOf(const v1::Event& event, const Route& route) {
  if (!event.has_load() || event.load().load() != route.check.load()) return false;
  return route.check.request().empty() || event.load().request() == route.check.request();
}

struct Second {
  double ok = 0;
  double answers = 0;
};

// The standard error of a share, in points. Answers of one second hang together, as a queue fills
// and empties: what counts is how much the seconds differ, and at least what chance alone would do.
double ErrorOf(const std::map<absl::Time, Second>& seconds) {
  double ok = 0, answers = 0;
  for (const auto& [start, second] : seconds) {
    ok += second.ok;
    answers += second.answers;
  }
  const double share = ok / answers;
  double squares = 0;
  for (const auto& [start, second] : seconds) {
    squares += std::pow(second.ok - share * second.answers, 2);
  }
  const auto count = static_cast<double>(seconds.size());
  const double between = count > 1 ? std::sqrt(squares * count / (count - 1)) / answers : 0;
  return 100 * std::max(between, std::sqrt(share * (1 - share) / answers));
}

Settled SettledLoad(const std::vector<v1::Event>& history, const Route& route,
                    const Stretch& stretch) {
  Settled settled;
  const absl::Time from = std::max(stretch.from, stretch.to - kSettle);
  uint64_t ok = 0, due = 0, sent = 0;
  std::optional<absl::Time> first, last;
  // A window may be told again with what came later.
  std::map<std::pair<absl::Time, std::string>, const v1::LoadWindow*> windows;
  for (const v1::Event& event : history) {
    if (!IsOf(event, route)) continue;
    const v1::LoadWindow& window = event.load();
    if (FromProto(window.start()) < from || EndOf(window) > stretch.to) continue;
    windows[{FromProto(window.start()), window.request()}] = &window;
  }
  std::map<absl::Time, Second> seconds;
  for (const auto& [key, window] : windows) {
    uint64_t answers = window->ok();
    for (const auto& [error, count] : window->errors()) answers += count;
    ok += window->ok();
    settled.answers += answers;
    Second& second = seconds[key.first];
    second.ok += static_cast<double>(window->ok());
    second.answers += static_cast<double>(answers);
    due += window->due();
    sent += window->sent();
    if (!first.has_value()) first = key.first;
    last = EndOf(*window);
  }
  if (!last.has_value() || settled.answers == 0) {
    settled.unknown = "no answers";
    return settled;
  }
  if (static_cast<double>(sent) < (1 - kMostUnsent) * static_cast<double>(due)) {
    settled.unknown = "starved";
    return settled;
  }
  settled.over = *last - *first;
  settled.value = 100.0 * static_cast<double>(ok) / static_cast<double>(settled.answers);
  settled.error = ErrorOf(seconds);
  v1::PlannedCheck latency = route.check;
  latency.set_is("p95 >= 0s");
  *latency.mutable_over() = ToProto(*last - *first);
  for (const TruthPoint& point : TruthOf(latency, history)) {
    const auto p95 = point.values.find("p95");
    if (point.at == *last && p95 != point.values.end()) settled.p95 = p95->second;
  }
  return settled;
}

Settled SettledProbe(const std::vector<v1::Event>& history, const Route& route,
                     const Stretch& stretch) {
  Settled settled;
  const auto condition = ParseCondition(route.check.is());
  if (!condition.ok()) return settled;
  std::string field = condition->comparisons.front().field;
  if (field.empty()) field = kValueField;
  std::vector<double> values;
  for (const TruthPoint& point : TruthOf(route.check, history)) {
    if (point.at < std::max(stretch.from, stretch.to - kSettle) || point.at > stretch.to) continue;
    const auto value = point.values.find(field);
    if (value != point.values.end()) values.push_back(value->second);
  }
  settled.answers = values.size();
  if (values.empty()) {
    settled.unknown = "no answers";
    return settled;
  }
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  settled.value = values[values.size() / 2];
  return settled;
}

// More than two shares of so many answers, that go up and down so much, would differ by chance.
bool Differs(const Settled& before, const Settled& after) {
  const double difference = std::abs(*before.value - *after.value);
  if (difference < kSmallestChange) return false;
  const auto n = static_cast<double>(before.answers), m = static_cast<double>(after.answers);
  const double share = (*before.value * n + *after.value * m) / (n + m) / 100;
  const double chance = 100 * std::sqrt(share * (1 - share) * (1 / n + 1 / m));
  return difference > kStandardErrors * std::max(chance, std::hypot(before.error, after.error));
}

// The last that was known of it at this time.
Truth TruthAt(const Fate& fate, absl::Time at) {
  Truth truth = Truth::kUnknown;
  for (const TruthPoint& point : fate.points) {
    if (point.at > at) break;
    if (point.truth != Truth::kUnknown) truth = point.truth;
  }
  return truth;
}

// The stretch in which it held at this time, also as far as it goes on after it.
struct HeldThen {
  Hold hold;
  // It was seen broken afterwards.
  bool broke = false;
};
std::optional<HeldThen> HeldAt(const Fate& fate, absl::Time at) {
  std::optional<HeldThen> held;
  for (const TruthPoint& point : fate.points) {
    if (point.truth == Truth::kUnknown) continue;
    if (point.truth == Truth::kFalse) {
      if (point.at > at) {
        if (held.has_value()) held->broke = true;
        return held;
      }
      held.reset();
    } else if (held.has_value()) {
      held->hold.end = point.at;
    } else if (point.at > at) {
      return std::nullopt;
    } else {
      held = HeldThen{{point.at, point.at}};
    }
  }
  return held;
}

void FollowChecks(const RunFacts& facts, const Edge& edge, RemedyEffect& effect) {
  for (const Fate& fate : facts.fates) {
    if (TruthAt(fate, edge.from) == Truth::kFalse) {
      effect.broken.push_back(fate.name);
      // As long as the gate asks, or as long as there is.
      const absl::Duration hold = std::min(FromProto(fate.check.for_()), absl::Seconds(3));
      std::vector<TruthPoint> points;
      for (const TruthPoint& point : fate.points) {
        if (point.at <= effect.until) points.push_back(point);
      }
      const auto held = HeldAt(fate, effect.until);
      if (!held.has_value()) continue;
      const absl::Duration lasted = held->hold.end - held->hold.begin;
      // What was done next, or the run's end, came before it had held for so long.
      const bool on = !held->broke || lasted >= hold;
      const auto back = FirstHold(points, edge.to, effect.until - edge.to, hold);
      if (!back.has_value() && !on) continue;
      effect.healed[fate.name] =
          back.has_value() ? back->begin : std::max(held->hold.begin, edge.to);
      if (!held->broke && lasted < FromProto(fate.check.for_())) effect.held[fate.name] = lasted;
    } else {
      const bool broke =
          std::any_of(fate.points.begin(), fate.points.end(), [&](const TruthPoint& point) {
            return point.truth == Truth::kFalse && point.at > edge.from && point.at <= effect.until;
          });
      if (broke) effect.hurt.push_back(fate.name);
    }
  }
}

}  // namespace

std::vector<Edge> EdgesOf(const RunSteps& steps) {
  std::vector<Edge> edges;
  std::vector<Step> together;
  const auto close = [&] {
    if (together.empty()) return;
    Edge edge;
    edge.label = LabelOf(together);
    edge.event = LabelOf(together, true);
    edge.from = together.front().from;
    edge.to = together.front().to;
    std::vector<Step> faults;
    std::vector<std::string> acts;
    const auto add = [](std::vector<std::string>& names, const std::string& name) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    for (const Step& step : together) {
      edge.to = std::max(edge.to, step.to);
      if (!step.remedy) {
        faults.push_back(step);
        continue;
      }
      if (step.how != "begun") add(edge.remedies, step.what);
      add(acts, step.how == "over" ? absl::StrCat("the end of ", step.what) : step.what);
    }
    edge.faults = LabelOf(faults);
    edge.acts = JoinWords(acts);
    edges.push_back(std::move(edge));
    together.clear();
  };
  absl::Time until;
  for (const Step& step : StepsOf(steps)) {
    if (!together.empty() && step.from > until + kOneEdge) close();
    until = together.empty() ? step.to : std::max(until, step.to);
    together.push_back(step);
  }
  close();
  return edges;
}

std::vector<Stretch> StretchesOf(const std::vector<Edge>& edges, absl::Time begin, absl::Time end) {
  std::vector<Stretch> stretches;
  Stretch next{"before", begin, end};
  for (const Edge& edge : edges) {
    next.to = std::max(next.from, std::min(edge.from, end));
    stretches.push_back(next);
    next = {edge.label, std::min(edge.to, end), end};
  }
  stretches.push_back(next);
  return stretches;
}

std::vector<Route> RoutesOf(const std::vector<v1::Event>& history) {
  std::vector<Route> routes;
  const v1::Plan& plan = history.front().created().plan();
  const auto add = [&](const std::string& load, const std::string& request) {
    // A load on several nodes is planned once for each.
    const bool known = std::any_of(routes.begin(), routes.end(), [&](const Route& other) {
      return other.check.load() == load && other.check.request() == request;
    });
    if (known) return;
    Route route;
    route.is_load = true;
    route.check.set_load(load);
    route.check.set_request(request);
    route.name = request.empty() ? load : request;
    const bool taken = std::any_of(routes.begin(), routes.end(),
                                   [&](const Route& other) { return other.name == route.name; });
    if (taken) route.name = absl::StrCat(load, "/", request);
    routes.push_back(std::move(route));
  };
  for (const v1::PlannedLoad& load : plan.loads()) {
    for (const v1::RequestShape& shape : load.load().send_requests().requests()) {
      add(load.name(), shape.name());
    }
  }
  for (const v1::PlannedCheck& check : plan.gate()) {
    if (!check.load().empty()) add(check.load(), check.request());
  }
  for (const v1::PlannedCheck& check : plan.gate()) {
    if (!check.probe().empty()) routes.push_back({check.name(), check, false});
  }
  return routes;
}

Settled SettledOf(const std::vector<v1::Event>& history, const Route& route,
                  const Stretch& stretch) {
  return route.is_load ? SettledLoad(history, route, stretch)
                       : SettledProbe(history, route, stretch);
}

std::vector<Fate> FatesOf(const std::vector<v1::Event>& history, const std::vector<Edge>& edges) {
  std::vector<Fate> fates;
  if (edges.empty()) return fates;
  for (const v1::PlannedCheck& check : history.front().created().plan().gate()) {
    Fate fate;
    fate.name = check.name();
    fate.check = check;
    fate.points = TruthOf(check, history);
    Truth last = Truth::kUnknown;
    for (const TruthPoint& point : fate.points) {
      if (point.at < edges.front().from || point.truth == Truth::kUnknown) continue;
      if (point.truth == Truth::kFalse) {
        if (last != Truth::kFalse) ++fate.times;
        if (!fate.broke.has_value()) fate.broke = point.at;
        fate.back.reset();
      } else if (last == Truth::kFalse) {
        fate.back = point.at;
      }
      last = point.truth;
    }
    fate.kind = last == Truth::kUnknown   ? Fate::Kind::kUnknown
                : !fate.broke.has_value() ? Fate::Kind::kHeld
                : fate.back.has_value()   ? Fate::Kind::kBack
                                          : Fate::Kind::kStillBroken;
    fates.push_back(std::move(fate));
  }
  return fates;
}

std::vector<RemedyEffect> RemediesOf(const RunFacts& facts, const RunSteps& steps) {
  std::vector<RemedyEffect> effects;
  for (size_t i = 0; i < facts.edges.size(); ++i) {
    const Edge& edge = facts.edges[i];
    if (edge.acts.empty()) continue;
    RemedyEffect effect;
    effect.edge = i;
    effect.remedy = edge.acts;
    for (const RemedyCourse& remedy : steps.remedies()) {
      const auto is = std::find(edge.remedies.begin(), edge.remedies.end(), remedy.planned.name());
      if (is == edge.remedies.end() || remedy.done.has_value()) continue;
      // ": HTTP 501" or " with exit code 3": as it stands behind "failed".
      const std::string how = remedy.last.state() == v1::REMEDY_STATE_FAILED
                                  ? absl::StrCat(" failed", FailedWords(remedy.last))
                                  : " did not succeed";
      const auto same = [&](const RemedyCourse& other) {
        return other.planned.name() == remedy.planned.name();
      };
      const bool one = std::count_if(steps.remedies().begin(), steps.remedies().end(), same) == 1;
      effect.failed.push_back(
          absl::StrCat(*is, one ? "" : absl::StrCat(" on ", remedy.planned.node()), how));
    }
    const Stretch& after = facts.stretches[i + 1];
    effect.until = after.to;
    effect.then = i + 1 < facts.edges.size() ? facts.edges[i + 1].event : "";
    FollowChecks(facts, edge, effect);
    for (size_t j = 0; j < facts.routes.size(); ++j) {
      const Settled& was = facts.settled[i][j];
      const Settled& is = facts.settled[i + 1][j];
      if (!facts.routes[j].is_load || !was.value.has_value() || !is.value.has_value()) continue;
      if (was.answers < kFewestAnswers || is.answers < kFewestAnswers) continue;
      if (std::min(was.over, is.over) < kShortest) continue;
      const RouteChange change{facts.routes[j].name, *was.value, *is.value};
      auto& kind = !Differs(was, is)              ? effect.same
                   : change.after > change.before ? effect.better
                                                  : effect.worse;
      kind.push_back(change);
    }
    effects.push_back(std::move(effect));
  }
  return effects;
}

}  // namespace firedrill::reporting
