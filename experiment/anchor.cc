// Parses and writes anchors.
#include "experiment/anchor.h"

#include "absl/strings/str_cat.h"

namespace firedrill {

absl::StatusOr<Anchor> ParseAnchor(absl::string_view text) {
  size_t dot = text.rfind('.');
  if (dot == absl::string_view::npos || dot == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is no anchor: write <fault>.start, .reached or .end, or <remedy>.done"));
  }
  absl::string_view point = text.substr(dot + 1);
  for (AnchorPoint candidate :
       {AnchorPoint::kStart, AnchorPoint::kReached, AnchorPoint::kEnd, AnchorPoint::kDone}) {
    if (point == AnchorPointText(candidate)) {
      return Anchor{std::string(text.substr(0, dot)), candidate};
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'.", point,
                   "' is no point of a fault or remedy: faults have .start, .reached "
                   "and .end, remedies have .done"));
}

absl::string_view AnchorPointText(AnchorPoint point) {
  switch (point) {
    case AnchorPoint::kStart:
      return "start";
    case AnchorPoint::kReached:
      return "reached";
    case AnchorPoint::kEnd:
      return "end";
    case AnchorPoint::kDone:
      return "done";
  }
  return "?";
}

std::string AnchorText(const Anchor& anchor) {
  return absl::StrCat(anchor.step, ".", AnchorPointText(anchor.point));
}

}  // namespace firedrill
