// The contract on impact and alerts: names that contradict each other, windows that cannot be met.
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "experiment/anchor.h"
#include "experiment/rules.h"

namespace firedrill {
namespace {

class ExpectationRules {
 public:
  ExpectationRules(const v1::ExperimentSpec& spec, Reporter* reporter)
      : expect_(spec.expect()), spec_(spec), reporter_(*reporter) {}

  // Impact is looked for while its fault is on.
  void CheckImpact() {
    for (int i = 0; i < expect_.impact_size(); ++i) {
      const v1::ImpactExpectation& impact = expect_.impact(i);
      const std::string path = ItemPath("expect.impact", i);
      absl::StatusOr<Anchor> anchor = ParseAnchor(impact.since());
      const int index = anchor.ok() ? FindFault(anchor->step) : -1;
      if (index < 0 || reporter_.HasProblem(ItemPath("faults", index) + ".duration")) continue;
      const v1::FaultStep* fault = &spec_.faults(index);
      if (!fault->has_duration()) continue;
      const absl::Duration duration = FromProto(fault->duration());
      if (anchor->point == AnchorPoint::kEnd) {
        reporter_.AtValue(
            path + ".since",
            absl::StrCat("'", fault->name(),
                         "' is over at its .end: impact is "
                         "looked for while a fault is on"),
            absl::StrCat("write ", fault->name(), ".start or ", fault->name(), ".reached"));
      } else if (impact.has_within() && FromProto(impact.within()) > duration) {
        reporter_.AtValue(
            path + ".within",
            absl::StrCat("'", fault->name(), "' lasts ", firedrill::FormatDuration(duration),
                         " only: an impact after ",
                         firedrill::FormatDuration(FromProto(impact.within())),
                         " would not be its own"));
      }
    }
  }

  void CheckAlerts() {
    std::map<std::string, std::set<std::string>> before;
    for (int i = 0; i < expect_.alerts_size(); ++i) {
      const v1::AlertExpectation& alert = expect_.alerts(i);
      const std::string path = ItemPath("expect.alerts", i);
      CheckNotification(alert, path);
      std::set<std::string> seen;
      for (int j = 0; j < alert.before_size(); ++j) {
        const std::string& later = alert.before(j);
        const std::string item = ItemPath(path + ".before", j);
        if (later.empty()) continue;
        if (!seen.insert(later).second) {
          reporter_.AtValue(item, absl::StrCat("the alert '", later, "' stands here twice"));
        } else if (later == alert.alert()) {
          reporter_.AtValue(item, absl::StrCat("'", later, "' cannot fire before itself"));
        } else if (before[later].count(alert.alert()) > 0) {
          reporter_.AtValue(item, absl::StrCat("'", alert.alert(), "' and '", later,
                                               "' cannot each fire before the other"));
        }
        before[alert.alert()].insert(later);
      }
    }
  }

  void CheckForbidden() {
    std::map<std::string, std::string> permitted;
    for (int i = 0; i < expect_.alerts_size(); ++i) {
      const std::string path = ItemPath("expect.alerts", i);
      permitted.emplace(expect_.alerts(i).alert(), path + ".alert");
      for (int j = 0; j < expect_.alerts(i).before_size(); ++j) {
        permitted.emplace(expect_.alerts(i).before(j), ItemPath(path + ".before", j));
      }
    }
    std::set<std::string> may, forbidden;
    for (int i = 0; i < expect_.may_fire_size(); ++i) {
      const std::string path = ItemPath("expect.mayFire", i);
      CheckTwice(expect_.may_fire(i), path, &may);
      permitted.emplace(expect_.may_fire(i), path);
    }
    for (int i = 0; i < expect_.must_not_fire_size(); ++i) {
      const std::string& name = expect_.must_not_fire(i);
      const std::string path = ItemPath("expect.mustNotFire", i);
      CheckTwice(name, path, &forbidden);
      auto it = permitted.find(name);
      if (name.empty() || it == permitted.end()) continue;
      reporter_.AtValue(
          path, absl::StrCat("'", name, "' may fire by '", it->second, "' and must not fire here"),
          absl::StrCat("keep one of them; the other stands in line ",
                       reporter_.LineOf(it->second)));
    }
  }

 private:
  // The index of a fault; -1 where there is none of that name.
  int FindFault(const std::string& name) const {
    for (int i = 0; i < spec_.faults_size(); ++i) {
      if (spec_.faults(i).name() == name) return i;
    }
    return -1;
  }

  // Both times count from the same anchor, and an alert is sent after it fires.
  void CheckNotification(const v1::AlertExpectation& alert, const std::string& path) {
    if (!alert.notification().has_within() || !alert.has_firing_within()) return;
    const absl::Duration sent = FromProto(alert.notification().within());
    const absl::Duration fired = FromProto(alert.firing_within());
    if (sent >= fired) return;
    reporter_.AtValue(path + ".notification.within",
                      absl::StrCat("a notification within ", firedrill::FormatDuration(sent),
                                   " cannot precede the alert, which has ",
                                   firedrill::FormatDuration(fired), " to fire"),
                      "both count from the anchor in 'since'");
  }

  void CheckTwice(const std::string& name, const std::string& path, std::set<std::string>* seen) {
    if (name.empty() || seen->insert(name).second) return;
    reporter_.AtValue(path, absl::StrCat("the alert '", name, "' stands here twice"));
  }

  const v1::Expectations& expect_;
  const v1::ExperimentSpec& spec_;
  Reporter& reporter_;
};

}  // namespace

void CheckExpectations(const v1::Experiment& experiment, Reporter* reporter) {
  ExpectationRules rules(experiment.spec(), reporter);
  rules.CheckImpact();
  rules.CheckAlerts();
  rules.CheckForbidden();
}

}  // namespace firedrill
