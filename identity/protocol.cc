// Tells versions of the protocol apart.
#include "identity/protocol.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace firedrill {
namespace {

constexpr char kMark[] = "firedrill-protocol/";

}  // namespace

std::string ProtocolAgent() { return absl::StrCat(kMark, kProtocolMajor, ".", kProtocolMinor); }

absl::Status CheckProtocol(absl::string_view user_agent) {
  for (absl::string_view word : absl::StrSplit(user_agent, ' ')) {
    if (!absl::ConsumePrefix(&word, kMark)) continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(word, '.');
    int major = 0;
    if (absl::SimpleAtoi(parts[0], &major) && major == kProtocolMajor) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "it speaks protocol ", word, ", this controller ", kProtocolMajor, ".", kProtocolMinor,
        ": bring ",
        major > kProtocolMajor ? "the controller up to date first, then those that dial it"
                               : "it up to the controller's release"));
  }
  return absl::OkStatus();
}

}  // namespace firedrill
