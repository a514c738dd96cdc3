// What `firedrill doctor` hears of a controller: how it and what it depends on are, each with what
// to do. Judging is pure, but for DiagnoseStateFolder(); only LookAtMonitoring() asks anybody.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "controller/aftermath.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

v1::Diagnosis Fine(absl::string_view subject, absl::string_view found);
v1::Diagnosis Warning(absl::string_view subject, absl::string_view found, absl::string_view next);
v1::Diagnosis Failure(absl::string_view subject, absl::string_view found, absl::string_view next);

// Of a certificate that must be good for some time to come: `reissue` says how to get a new one.
v1::Diagnosis DiagnoseExpiry(absl::string_view subject, absl::Time not_before, absl::Time not_after,
                             absl::Time now, absl::string_view reissue);
// Whether it can be written, and has space. Looks at the disk.
v1::Diagnosis DiagnoseStateFolder(const std::string& folder);
// `pulled`: who pulled the lever and why.
v1::Diagnosis DiagnoseLever(const std::optional<std::string>& pulled);
std::vector<v1::Diagnosis> DiagnoseInjectors(const std::vector<v1::InjectorSummary>& injectors);
// Of what ended runs have left, by run.
std::vector<v1::Diagnosis> DiagnoseLeft(const std::map<std::string, LeftRunFaults>& left);
// Of what the history has not taken, by run.
std::vector<v1::Diagnosis> DiagnoseUnwritten(
    const std::map<std::string, UnwrittenEvents>& unwritten);
std::vector<v1::Diagnosis> DiagnoseSchedules(const v1::ListExperimentsResponse& experiments);
// Blocks on the answers of the site's Prometheus and Alertmanagers. Any thread.
std::vector<v1::Diagnosis> LookAtMonitoring(const v1::SiteSpec& site, const Clock& clock);

}  // namespace firedrill
