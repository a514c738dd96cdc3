// From a definition back to its text: what ReadExperiment() reads gives the same message again. By
// this a definition that did not come as a text is held to every rule that stands for texts.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"
#include "google/protobuf/message.h"

namespace firedrill {

// A text as YAML takes it for one, whatever is in it.
std::string QuotedYaml(absl::string_view text);

// YAML in blocks, keys in the order of the vocabulary; what is not set, or is what holds when it is
// left out, is left out.
std::string WriteYaml(const google::protobuf::Message& definition);

// The experiment with its defaults filled in, where `firedrill lint --site` would find nothing
// wrong with it; else INVALID_ARGUMENT with what that would say. `file` and `positions`: where its
// keys stand, for messages; both may be empty.
absl::StatusOr<v1::Experiment> CheckExperiment(
    const v1::Experiment& experiment, const v1::SiteSpec& site, const std::string& file,
    const std::map<std::string, v1::Position>& positions);

}  // namespace firedrill
