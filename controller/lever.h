// The emergency lever: while it is pulled nothing starts. It is a file, so it outlives every
// process.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace firedrill {

class Lever {
 public:
  // `path` is the STOP file; its folder must exist.
  explicit Lever(std::string path) : path_(std::move(path)) {}

  // Who pulled it and why; empty where it is released. A file that cannot be read counts as pulled.
  std::optional<std::string> Pulled() const;
  absl::Status Pull(const std::string& by, const std::string& reason) const;
  absl::Status Release() const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace firedrill
