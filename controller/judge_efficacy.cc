// Judges whether each fault was in force, and for its time.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/time_proto.h"
#include "controller/judge_case.h"
#include "controller/words.h"
#include "experiment/condition.h"

namespace firedrill::judging {
namespace {

using Result = v1::ExpectationResult;

std::string Amount(const v1::Observation& seen) {
  if (!seen.detail().empty()) return seen.detail();
  return absl::StrCat(FormatValue(seen.real(), Unit::kPlain), " of ",
                      FormatValue(seen.requested(), Unit::kPlain), seen.unit().empty() ? "" : " ",
                      seen.unit());
}

// Since when its time runs: the node arms the end when it is told to apply. What applying takes is
// off what is left, and does not make the end an early one.
absl::Time BeganAt(const FaultCourse& fault) {
  if (!fault.start.has_value()) return fault.ordered->at;
  return fault.ordered.has_value() ? std::min(fault.ordered->at, fault.start->at) : fault.start->at;
}

// It was off before its time, though nobody had stopped the run: its injector ended, or the server
// threw it out.
bool EndedEarly(const Case& run, const FaultCourse& fault) {
  // A revert is asked for at the controller, and told by the node.
  constexpr absl::Duration kRoom = absl::Milliseconds(500);
  if (run.stop.has_value() || !fault.end.has_value()) return false;
  if (!fault.start.has_value() && !fault.ordered.has_value()) return false;
  if (FromProto(fault.planned.duration()) <= absl::ZeroDuration()) return false;
  absl::Time due = BeganAt(fault) + FromProto(fault.planned.duration());
  if (run.plan.has_max_duration()) {
    const std::optional<Instant> first = run.steps.FirstStart();
    due = std::min(
        due, (first.has_value() ? first->at : BeganAt(fault)) + FromProto(run.plan.max_duration()));
  }
  return fault.end->at + fault.end->error + kRoom < due;
}

void DoubtEarly(const FaultCourse& fault, Result& result) {
  const absl::Time began = fault.start.has_value() ? fault.start->at : fault.ordered->at;
  const std::string lasted = Short(fault.end->at - began);
  Doubt(
      result, "ended-early",
      absl::StrCat("it was off after ", lasted, " of ", Short(FromProto(fault.planned.duration())),
                   fault.reached.has_value() ? "" : ", before it was seen in force",
                   fault.reason.empty() ? "" : absl::StrCat(": ", fault.reason)),
      absl::StrCat("see what happened on ", fault.planned.node(), ", and run again"));
  result.set_observed(absl::StrCat(result.observed(), "; off after ", lasted));
}

// What to do about a fault that was never in force.
std::string AdviceFor(const FaultCourse* fault) {
  const v1::Observation none;
  const v1::Observation& best = fault == nullptr ? none : fault->best;
  const auto figure = [&best](const char* name) {
    const auto found = best.figures().find(name);
    return found == best.figures().end() ? 0 : found->second;
  };
  // Only faults on live traffic count the connections that they carry.
  if (best.figures().count("connections") > 0) {
    if (figure("connections") + figure("open") == 0) {
      return "no client came through it: have one connect, to `listen` or to the profile's "
             "address; "
             "connections that were open before come with `reconnect: true`";
    }
    if (figure("encrypted") > 0) return "have the clients speak in the clear, or delay bytes";
    const bool asked_nothing = best.figures().count("requests") > 0 && figure("requests") == 0;
    if (figure("refused") > 0 && (asked_nothing || figure("refused") >= figure("connections"))) {
      return "the server itself refused its clients: see that it runs, and listens where the "
             "profile or `upstream` says";
    }
    if (asked_nothing) {
      return "clients came and asked nothing: see that they do, or let the run last longer";
    }
    if (best.figures().count("matched") > 0 && figure("matched") == 0) {
      return "none of the requests that came was meant: see `match`, or let the run last longer";
    }
  }
  if (best.real() > 0) return "ask for less, or see on the node what stood against it";
  return "see on the node what stood against it";
}

}  // namespace

void JudgeEfficacy(Case& run) {
  for (int i = 0; i < run.spec.faults_size(); ++i) {
    const std::string& name = run.spec.faults(i).name();
    Result& result = run.Add(Result::KIND_EFFICACY, name, absl::StrCat("faults[", i, "]"));
    result.set_expected(absl::StrCat("fault ", name, " in force"));
    // Of several nodes the one that never got there, else the last that did.
    const FaultCourse* weakest = nullptr;
    for (const FaultCourse& fault : run.steps.faults()) {
      if (fault.planned.name() != name) continue;
      const bool weaker =
          weakest == nullptr ||
          (weakest->reached.has_value() &&
           (!fault.reached.has_value() || fault.reached->at > weakest->reached->at));
      if (weaker) weakest = &fault;
    }
    if (weakest != nullptr && !weakest->best.unit().empty()) {
      result.set_observed(Amount(weakest->best));
    }
    const std::optional<Instant> reached = run.steps.Find({name, AnchorPoint::kReached});
    const std::optional<Instant> start = run.steps.Find({name, AnchorPoint::kStart});
    if (reached.has_value() && start.has_value()) {
      *result.mutable_measured() = ToProto(reached->at - start->at);
      const auto since_start = [&](const Instant& then) {
        return After(then.at - start->at, absl::StrCat(name, ".start"));
      };
      std::string seen = absl::StrCat(
          weakest->in_force.unit().empty() ? std::string("in force") : Amount(weakest->in_force),
          ", ", since_start(*reached));
      if (weakest->GrewLater()) {
        absl::StrAppend(&seen, "; at most ", Amount(weakest->best), ", ",
                        since_start(*weakest->best_at));
      }
      Pass(result, seen);
      const auto early = std::find_if(
          run.steps.faults().begin(), run.steps.faults().end(), [&](const FaultCourse& fault) {
            return fault.planned.name() == name && EndedEarly(run, fault);
          });
      if (early != run.steps.faults().end()) DoubtEarly(*early, result);
      continue;
    }
    if (result.observed().empty()) result.set_observed("nothing was measured");
    if (!run.finished.has_value()) {
      Doubt(result, "open", "it has not been seen in force yet");
    } else if (run.stop.has_value() && !run.steps.Applied(name)) {
      Doubt(result, "cut-short", "the run was stopped before it began");
    } else if (StoppedOnItsWay(run, name)) {
      Doubt(result, "cut-short", "the run was stopped before it was in force");
    } else if (weakest != nullptr && EndedEarly(run, *weakest)) {
      DoubtEarly(*weakest, result);
    } else {
      // Of a fault that went the ordinary way the reason is that of its end, and explains nothing.
      const bool ended = weakest != nullptr && weakest->last == v1::FAULT_STATE_REVERTED;
      Doubt(result, "not-in-force",
            weakest != nullptr && !ended && !weakest->reason.empty()
                ? weakest->reason
                : std::string("it never measured what was asked of it"),
            AdviceFor(weakest));
    }
  }
}

}  // namespace firedrill::judging
