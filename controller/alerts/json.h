// Reads JSON answers of monitoring servers without exceptions. Heavy: for .cc files only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace firedrill {

// Runs `read` on the parsed text; DATA_LOSS "<what> is not as expected: ..." where it is no JSON or
// has another shape.
template <typename Read>
auto ReadJson(absl::string_view text, absl::string_view what, Read read)
    -> decltype(read(std::declval<const nlohmann::json&>())) {
  const auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded()) return absl::DataLossError(absl::StrCat(what, " is no JSON"));
  try {
    return read(json);
  } catch (const nlohmann::json::exception& e) {
    return absl::DataLossError(absl::StrCat(what, " is not as expected: ", e.what()));
  }
}

// RFC 3339; InfinitePast for the zero time of Go, and where there is none.
inline absl::Time ReadTime(const nlohmann::json& json, const char* key) {
  absl::Time time;
  const std::string text = json.value(key, "");
  if (text.empty() || text.substr(0, 5) == "0001-" ||
      !absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) {
    return absl::InfinitePast();
  }
  return time;
}

}  // namespace firedrill
