// From a YAML tree to a proto message, by reflection, with the rules that stand beside each field.
#pragma once

#include "experiment/reporter.h"
#include "experiment/yaml_tree.h"
#include "google/protobuf/message.h"

namespace firedrill {

// Fills `message` with what could be read and with the defaults of keys that were left out; reports
// the rest: unknown and missing keys, wrong types, bounds, patterns, sizes, keys that exclude each
// other. Rules that need more than one key of a mapping's own are in rules.h.
void MapYaml(const YamlNode& root, google::protobuf::Message* message, Reporter* reporter);

}  // namespace firedrill
