// Whether each expected alert can fire in time: what the rule and its intervals allow.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/plan_parts.h"
#include "experiment/anchor.h"

namespace firedrill::planning {
namespace {

using Rule = AlertingFacts::Rule;

// A rule is looked at only when its group is evaluated: its `for` ends at the first evaluation
// after it.
absl::Duration RoundUp(absl::Duration hold, absl::Duration evaluation) {
  if (evaluation <= absl::ZeroDuration()) return hold;
  return absl::Ceil(hold, evaluation);
}

// Of several rules of one name, the one that can fire first.
const Rule* FindRule(const AlertingFacts& facts, const std::string& alert) {
  const Rule* best = nullptr;
  for (const Rule& rule : facts.rules) {
    if (rule.alert != alert) continue;
    if (best == nullptr ||
        RoundUp(rule.hold, rule.evaluation) < RoundUp(best->hold, best->evaluation)) {
      best = &rule;
    }
  }
  return best;
}

// How long before the anchor the cause may already have been there: during a ramp an alert may see
// enough of the fault before the fault has reached its full size. Without end where the anchor is
// no fault's start.
absl::Duration CauseBefore(const v1::Plan& plan, const std::string& since) {
  const auto anchor = ParseAnchor(since);
  if (!anchor.ok() || anchor->point == AnchorPoint::kDone) return absl::InfiniteDuration();
  const auto at = NominalAnchor(plan, since);
  const auto start = NominalAnchor(plan, AnchorText({anchor->step, AnchorPoint::kStart}));
  if (!at.has_value() || !start.has_value()) return absl::InfiniteDuration();
  return *at - *start;
}

std::string Explain(const Rule& rule, absl::Duration before, const v1::AlertArithmetic& sum) {
  std::string text =
      rule.scrape.has_value()
          ? absl::StrCat("up to ", firedrill::FormatDuration(*rule.scrape), " until scrape, ")
          : std::string("scrape interval unknown, ");
  absl::StrAppend(&text, "up to ", firedrill::FormatDuration(rule.evaluation),
                  " until evaluation, ", firedrill::FormatDuration(rule.hold), " `for`");
  if (FromProto(sum.hold()) != rule.hold) {
    absl::StrAppend(&text, " (", firedrill::FormatDuration(FromProto(sum.hold())),
                    " in whole evaluations)");
  }
  if (before > absl::ZeroDuration() && before < absl::InfiniteDuration()) {
    absl::StrAppend(&text, "; its cause begins up to ", firedrill::FormatDuration(before),
                    " before the anchor");
  }
  absl::StrAppend(&text, "; limit ", firedrill::FormatDuration(FromProto(sum.limit())));
  return text;
}

void CheckFiring(const v1::AlertArithmetic& sum, const std::string& since, v1::Plan& plan) {
  const absl::Duration earliest = FromProto(sum.earliest_firing());
  const absl::Duration latest = FromProto(sum.latest_firing());
  const absl::Duration limit = FromProto(sum.limit());
  if (earliest > limit) {
    AddFinding(plan, v1::Finding::KIND_DEFECT, "cannot-fire-in-time", sum.expectation(),
               absl::StrCat(sum.alert(), " fires ", firedrill::FormatDuration(earliest), " after ",
                            since, " at the earliest, the limit is ",
                            firedrill::FormatDuration(limit), ": it cannot pass"),
               "shorten the rule's `for` or its group's interval, or raise firingWithin");
  } else if (latest > limit) {
    AddFinding(plan, v1::Finding::KIND_NOTE, "may-fire-late", sum.expectation(),
               absl::StrCat(sum.alert(), " may fire as late as ", firedrill::FormatDuration(latest),
                            " after ", since, ", the limit is ", firedrill::FormatDuration(limit),
                            ": passing is a matter of luck"),
               "raise firingWithin, or shorten the intervals");
  }
}

void CheckNotifying(const v1::AlertExpectation& alert, const v1::AlertArithmetic& sum,
                    v1::Plan& plan) {
  // One that cannot even fire has been named already.
  if (!alert.has_notification() || !sum.possible()) return;
  const absl::Duration earliest = FromProto(sum.earliest_firing()) + FromProto(sum.group_wait());
  const absl::Duration limit = FromProto(alert.notification().within());
  if (earliest <= limit) return;
  AddFinding(plan, v1::Finding::KIND_DEFECT, "cannot-notify-in-time", alert.name(),
             absl::StrCat(alert.alert(), " reaches ", alert.notification().receiver(), " ",
                          firedrill::FormatDuration(earliest), " after ", alert.since(),
                          " at the earliest (group_wait ",
                          firedrill::FormatDuration(FromProto(sum.group_wait())),
                          "), the limit is ", firedrill::FormatDuration(limit), ": it cannot pass"),
             "shorten the route's group_wait or the rule's `for`, or raise notification.within");
}

}  // namespace

void PlanAlerts(const PlanInput& input, v1::Plan& plan) {
  for (const v1::AlertExpectation& alert : input.experiment.spec().expect().alerts()) {
    const Rule* rule = FindRule(input.alerting, alert.alert());
    // That a rule is missing is for preflight to say, which asks Prometheus itself.
    if (rule == nullptr) continue;
    v1::AlertArithmetic& sum = *plan.add_arithmetic();
    const absl::Duration hold = RoundUp(rule->hold, rule->evaluation);
    const absl::Duration scrape = rule->scrape.value_or(absl::ZeroDuration());
    const absl::Duration limit = FromProto(alert.firing_within());
    sum.set_expectation(alert.name());
    sum.set_alert(alert.alert());
    sum.set_group(rule->group);
    *sum.mutable_scrape() = ToProto(scrape);
    *sum.mutable_evaluation() = ToProto(rule->evaluation);
    *sum.mutable_hold() = ToProto(hold);
    auto group_wait = input.alerting.group_wait.find(alert.alert());
    if (group_wait != input.alerting.group_wait.end()) {
      *sum.mutable_group_wait() = ToProto(group_wait->second);
    }
    // At best a scrape and an evaluation follow the cause at once; at worst each has just passed.
    const absl::Duration before = CauseBefore(plan, alert.since());
    const absl::Duration earliest = std::max(absl::ZeroDuration(), hold - before);
    *sum.mutable_earliest_firing() = ToProto(earliest);
    *sum.mutable_latest_firing() = ToProto(scrape + rule->evaluation + hold);
    *sum.mutable_limit() = ToProto(limit);
    sum.set_possible(earliest <= limit);
    sum.set_explanation(Explain(*rule, before, sum));
    CheckFiring(sum, alert.since(), plan);
    CheckNotifying(alert, sum, plan);
  }
}

}  // namespace firedrill::planning
