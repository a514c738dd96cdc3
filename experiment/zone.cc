// Loads time zones.
#include "experiment/zone.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace firedrill {

absl::StatusOr<absl::TimeZone> LoadZone(const std::string& name) {
  // abseil would also take "localtime" and paths, which mean something else on each machine.
  const bool plain = !name.empty() &&
                     name.find_first_not_of(
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                         "0123456789_+-/") == std::string::npos &&
                     name[0] != '/' && name != "localtime" && !absl::StartsWith(name, "Fixed/");
  absl::TimeZone zone;
  if (plain && absl::LoadTimeZone(name, &zone)) return zone;
  return absl::InvalidArgumentError(absl::StrCat("the time zone '", name, "' does not load"));
}

}  // namespace firedrill
