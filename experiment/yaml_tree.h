// A YAML text as a small tree in which everything knows its place. Only the plain part of YAML is
// taken: maps with text keys, lists and scalars. Whatever would make a reader wonder what a file
// says (aliases, anchors, merges, tags, duplicate keys, several documents) is a problem.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "experiment/problem.h"

namespace firedrill {

struct YamlEntry;

struct YamlNode {
  // kRefused: something was here that is a problem already (an alias).
  enum class Kind { kNull, kScalar, kList, kMap, kRefused };

  Kind kind = Kind::kNull;
  Place place;
  // Scalars: the text, and whether it was written in quotes or as a block.
  std::string scalar;
  bool quoted = false;
  std::vector<YamlNode> items;
  // In the order of the file; the first of duplicates only. Keys are scalars.
  std::vector<YamlEntry> entries;
};

struct YamlEntry {
  YamlNode key;
  YamlNode value;
};

// Appends what is wrong to `problems`. Nothing where the text is no YAML at all, or past a limit;
// else the root, which may be incomplete where there were problems.
std::optional<YamlNode> ReadYaml(absl::string_view text, std::vector<Problem>* problems);

}  // namespace firedrill
