// What to say about a key that is not known where it stands.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"

namespace firedrill {

// A mapping under way, and those around it.
struct Mapping {
  const google::protobuf::Descriptor* type = nullptr;
  std::string path;
  const Mapping* parent = nullptr;
};

struct Advice {
  std::string message;
  std::string suggestion;
  // The key that was meant, where that is a key of the same mapping.
  std::string meant;
  // It is known, but may not stand in this mapping.
  bool misplaced = false;
  // The value may hold a secret.
  bool secret = false;
};

// "faults[0]", "the file", "spec".
std::string MappingWords(const Mapping& mapping);

Advice AdviseOnKey(const std::string& key, const Mapping& mapping);

}  // namespace firedrill
