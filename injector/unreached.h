// What is said of a controller that cannot be reached, so that a log is neither silent nor full.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace firedrill {

class Unreached {
 public:
  // A try has failed at `now`. The words, where there is something to say: each reason at once, and
  // again after a minute with how many tries there were.
  std::optional<std::string> Failed(const std::string& why, absl::Duration now);
  // It got through: how long that took, where a try had failed before.
  std::optional<std::string> Reached(absl::Duration now);

 private:
  // When each reason was said last; of reasons beyond a few no more is known than that they are
  // others.
  std::map<std::string, absl::Duration> said_;
  absl::Duration since_;
  uint64_t tries_ = 0;
};

}  // namespace firedrill
