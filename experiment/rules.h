// Rules that need more than one value: names and what refers to them, the small languages, times
// that must fit into each other. Called after mapping; values that are wrong already are passed
// over.
#pragma once

#include "experiment/reporter.h"
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

// Probes and their `is`.
void CheckProbes(const v1::Experiment& experiment, Reporter* reporter);

// The contract on alerts, impact and recovery.
void CheckExpectations(const v1::Experiment& experiment, Reporter* reporter);

void CheckSiteRules(const v1::Site& site, Reporter* reporter);

// "did you mean 'x'?", else "there are a, b", else "there is none".
std::string NamesAdvice(const std::string& name, const std::vector<std::string>& known);

}  // namespace firedrill
