// Collects problems of one definition by the path of the key they are about.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "experiment/problem.h"

namespace firedrill {

// Where the keys and the values of a definition stand. Paths are as people would say them, without
// the leading "spec.": "faults[0].holdConnections.count", "metadata.name", "spec" itself.
struct Locations {
  // Of list entries: where the entry begins.
  std::map<std::string, Place> keys;
  std::map<std::string, Place> values;
};

class Reporter {
 public:
  // `text` must outlive it.
  explicit Reporter(absl::string_view text) : text_(text) {}

  // At the value of `path`; where it has none (it was left out), at the nearest mapping around it.
  void AtValue(const std::string& path, std::string message, std::string suggestion = "");
  // At its key.
  void AtKey(const std::string& path, std::string message, std::string suggestion = "");
  // At a character of its text.
  void Inside(const std::string& path, absl::string_view scalar, size_t offset, std::string message,
              std::string suggestion = "");
  void At(Place place, const std::string& path, std::string message, std::string suggestion = "");
  // As AtValue(), for a value that may hold a secret: the line is not shown beyond its place.
  void AtSecret(const std::string& path, std::string message, std::string suggestion = "");

  // A value that is wrong already is not looked at again.
  bool HasProblem(const std::string& path) const { return wrong_.count(path) > 0; }
  // The key stands in the file, as against a default.
  bool IsGiven(const std::string& path) const { return locations_.keys.count(path) > 0; }
  int LineOf(const std::string& path) const;

  Locations& locations() { return locations_; }
  const Locations& locations() const { return locations_; }
  std::vector<Problem>& problems() { return problems_; }

 private:
  absl::string_view text_;
  Locations locations_;
  std::vector<Problem> problems_;
  std::set<std::string> wrong_;
};

// "a.b[2].c" → "a.b[2]" → "a.b" → "a" → "".
std::string ParentPath(absl::string_view path);

// "a.b" for "a" and "b"; the keys of the root and of `spec` stand alone.
std::string JoinPath(absl::string_view parent, absl::string_view key);
std::string ItemPath(absl::string_view list, size_t index);

}  // namespace firedrill
