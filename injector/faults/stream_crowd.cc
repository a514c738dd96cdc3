// Connections that only the kernel counts.
#include "injector/faults/stream_crowd.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace firedrill {

absl::Status StreamServer::Open(const v1::Profile& profile, const std::string&,
                                const Patience& patience) {
  // The kernel can be asked without the server.
  if (address_.port != 0) return absl::OkStatus();
  auto found = FindStream(host_, port_, patience);
  if (!found.ok()) {
    return Annotate(found.status(),
                    absl::StrCat("reaching the server of profile ", profile.name()));
  }
  address_ = *std::move(found);
  return absl::OkStatus();
}

absl::StatusOr<CrowdCounts> StreamServer::Count(const Patience& patience) {
  RETURN_IF_ERROR(patience.Check());
  ASSIGN_OR_RETURN(const int held, CountStamped(stamp_));
  return CrowdCounts{.taken = held, .ours_as_asked = held, .ours = held};
}

std::string StreamServer::identity() const { return absl::StrCat(family_, "/", host_, "/", port_); }

bool StreamServer::Down(const absl::Status& status) const {
  if (status.ok()) return false;
  const auto held = CountStamped(stamp_);
  return held.ok() && *held == 0;
}

std::string StreamServer::ByHand() const {
  return absl::StrCat("they end with this process; to see them: ss -tnp dst ", host_, ":", port_);
}

absl::Status RefuseShares(const v1::HoldConnections& message, absl::string_view protocol) {
  if (message.size_case() != v1::HoldConnections::kFillTo &&
      message.size_case() != v1::HoldConnections::kLeaveFree) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "a server of ", protocol,
      " tells nobody how many connections it permits: say `count` instead of ",
      message.size_case() == v1::HoldConnections::kFillTo ? "`fillTo`" : "`leaveFree`"));
}

}  // namespace firedrill
