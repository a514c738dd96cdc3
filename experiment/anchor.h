// Anchors, from which the times of expectations count: <fault>.start, .reached, .end;
// <remedy>.done.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

enum class AnchorPoint { kStart, kReached, kEnd, kDone };

struct Anchor {
  // The name of a fault step; of a remedy step where the point is kDone.
  std::string step;
  AnchorPoint point = AnchorPoint::kStart;

  bool operator==(const Anchor&) const = default;
};

// InvalidArgument where the text is no anchor. Whether such a step exists is not looked at.
absl::StatusOr<Anchor> ParseAnchor(absl::string_view text);

// "start", "reached", "end", "done".
absl::string_view AnchorPointText(AnchorPoint point);

// "leak.reached".
std::string AnchorText(const Anchor& anchor);

}  // namespace firedrill
