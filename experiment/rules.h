// Rules that need more than one value: names and what refers to them, the small languages, times
// that must fit into each other. Called after mapping; values that are wrong already are passed
// over.
#pragma once

#include "absl/time/time.h"
#include "experiment/reporter.h"
#include "firedrill/v1/daemon.pb.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Of any definition: unique names within a list, matchers, dates, zones, schedules, URLs,
// regular expressions.
void CheckTexts(const google::protobuf::Message& definition, Reporter* reporter);

// Names of an experiment: what refers to targets, loads, requests, checks and anchors.
void CheckReferences(const v1::Experiment& experiment, Reporter* reporter);

// Faults, remedies and loads: durations, blast radius, templates.
void CheckSteps(const v1::Experiment& experiment, Reporter* reporter);

// One fault by itself, whatever step or command line it stands in. `path`: of what it stands in.
void CheckFault(const v1::Fault& fault, const std::string& path, Reporter* reporter);
// Of its kind; null where none is set.
const google::protobuf::FieldDescriptor* KindOfFault(const v1::Fault& fault);

// Probes and their `is`.
void CheckProbes(const v1::Experiment& experiment, Reporter* reporter);

// The contract on alerts, impact and recovery.
void CheckExpectations(const v1::Experiment& experiment, Reporter* reporter);

void CheckSiteRules(const v1::Site& site, Reporter* reporter);
// The same of the node of an injector's own file, which knows no endpoints: its site is elsewhere.
void CheckInjectorRules(const v1::Injector& injector, Reporter* reporter);

// The profile of its kind; empty where it has none.
std::string ProfileOf(const v1::Fault& fault);
// It logs in at its server, and does so at this time of the experiment or later.
bool NeedsSessionAfter(const v1::FaultStep& fault, absl::Duration at);
// Why `refuseSessions` does not go with such a fault.
std::string FencedFault(const std::string& fault);
inline constexpr char kFencedFaultHelp[] =
    "use a fenceProgram, such as pg_ctl stop, or let the fault end before";

// "did you mean 'x'?", else "there are a, b", else "there is none".
std::string NamesAdvice(const std::string& name, const std::vector<std::string>& known);

}  // namespace firedrill
