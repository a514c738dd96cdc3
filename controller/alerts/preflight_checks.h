// What a look at the alerting means for an experiment. Pure.
#pragma once

#include <string>
#include <vector>

#include "controller/alerts/snapshot.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Servers that did not answer, or are not named in the site file.
void CheckServers(const v1::Experiment& experiment, const v1::SiteSpec& site,
                  const std::vector<AlertingSnapshot>& looks, std::vector<v1::Finding>& findings);
// The rules: there, healthy, able to fire in time, with something to read, and quiet now. `plan`
// has the arithmetic that was possible when it was made; nothing of it is said again.
void CheckRules(const v1::Experiment& experiment, const v1::SiteSpec& site, const v1::Plan& plan,
                const AlertingSnapshot& snapshot, std::vector<v1::Finding>& findings);
// The way from Prometheus to our webhook: silences, routes, receivers, groups that are still alive.
void CheckDelivery(const v1::Experiment& experiment, const v1::SiteSpec& site, const v1::Plan& plan,
                   const AlertingSnapshot& snapshot, std::vector<v1::Finding>& findings);

bool ExpectsNotification(const v1::Experiment& experiment);

v1::Finding MakeFinding(v1::Finding::Kind kind, const std::string& code, const std::string& subject,
                        const std::string& message, const std::string& mend);

}  // namespace firedrill
