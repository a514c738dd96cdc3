// Counts tries, and remembers what was said.
#include "injector/unreached.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr absl::Duration kAgain = absl::Minutes(1);
constexpr size_t kMostReasons = 8;

}  // namespace

std::optional<std::string> Unreached::Failed(const std::string& why, absl::Duration now) {
  if (tries_++ == 0) since_ = now;
  const bool known = said_.count(why) > 0 || said_.size() < kMostReasons;
  const auto [said, first] = said_.try_emplace(known ? why : "", now);
  if (!first && now - said->second < kAgain) return std::nullopt;
  said->second = now;
  if (tries_ == 1) return why;
  return absl::StrCat(why, " (", tries_, " tries in ",
                      firedrill::FormatDuration(absl::Floor(now - since_, absl::Seconds(1))), ")");
}

std::optional<std::string> Unreached::Reached(absl::Duration now) {
  said_.clear();
  const uint64_t tries = std::exchange(tries_, 0);
  if (tries == 0) return std::nullopt;
  return absl::StrCat(tries, tries == 1 ? " try" : " tries", " had failed, the first ",
                      firedrill::FormatDuration(absl::Floor(now - since_, absl::Milliseconds(100))),
                      " ago");
}

}  // namespace firedrill
