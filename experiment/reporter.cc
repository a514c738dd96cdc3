// Finds the place of a path and files the problem there.
#include "experiment/reporter.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace firedrill {
namespace {

Place Find(const std::map<std::string, Place>& places, const std::map<std::string, Place>& others,
           std::string path) {
  auto it = places.find(path);
  if (it != places.end()) return it->second;
  while (!path.empty()) {
    path = ParentPath(path);
    auto parent = others.find(path.empty() ? "spec" : path);
    if (parent != others.end()) return parent->second;
  }
  return {1, 1};
}

}  // namespace

void Reporter::AtValue(const std::string& path, std::string message, std::string suggestion) {
  At(Find(locations_.values, locations_.keys, path), path, std::move(message),
     std::move(suggestion));
}

void Reporter::AtKey(const std::string& path, std::string message, std::string suggestion) {
  At(Find(locations_.keys, locations_.keys, path), path, std::move(message), std::move(suggestion));
}

void Reporter::Inside(const std::string& path, absl::string_view scalar, size_t offset,
                      std::string message, std::string suggestion) {
  Place start = Find(locations_.values, locations_.keys, path);
  At(PlaceInside(text_, start, scalar, offset), path, std::move(message), std::move(suggestion));
}

void Reporter::AtSecret(const std::string& path, std::string message, std::string suggestion) {
  AtValue(path, std::move(message), std::move(suggestion));
  problems_.back().secret = true;
}

void Reporter::At(Place place, const std::string& path, std::string message,
                  std::string suggestion) {
  wrong_.insert(path);
  problems_.push_back(
      {place.line, place.column, std::move(message), std::move(suggestion), path, false});
}

int Reporter::LineOf(const std::string& path) const {
  return Find(locations_.keys, locations_.keys, path).line;
}

std::string ParentPath(absl::string_view path) {
  size_t cut = path.find_last_of(".[");
  return cut == absl::string_view::npos ? "" : std::string(path.substr(0, cut));
}

std::string JoinPath(absl::string_view parent, absl::string_view key) {
  if (parent.empty() || parent == "spec") return std::string(key);
  return absl::StrCat(parent, ".", key);
}

std::string ItemPath(absl::string_view list, size_t index) {
  return absl::StrCat(list, "[", index, "]");
}

}  // namespace firedrill
