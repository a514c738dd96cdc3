// hold_connections for any server on TCP: connects, and says nothing.
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "injector/faults/stream_crowd.h"

namespace firedrill {
namespace {

class TcpCrowdServer final : public StreamServer {
 public:
  using StreamServer::StreamServer;
  std::unique_ptr<CrowdMember> Begin(absl::Duration) override {
    return std::make_unique<StreamMember>(address().address, stamp(), "");
  }
};

absl::StatusOr<std::unique_ptr<CrowdServer>> MakeServer(const v1::HoldConnections& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  if (!profile.has_tcp()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "profile ", profile.name(), " is no server of plain TCP; name one that has `tcp`"));
  }
  if (message.state() != v1::SESSION_STATE_IDLE &&
      message.state() != v1::SESSION_STATE_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        "nobody looks into what is said on plain TCP, so a connection can only be idle; say "
        "`state: idle`, or name the protocol");
  }
  RETURN_IF_ERROR(RefuseShares(message, "plain TCP"));
  return std::make_unique<TcpCrowdServer>("tcp", profile.tcp().host(), profile.tcp().port(), stamp);
}

const FaultRegistration kHoldConnections(v1::Fault::kHoldConnections, v1::PROTOCOL_TCP,
                                         [](const v1::Fault& fault) {
                                           return std::make_unique<HeldCrowd>(
                                               fault.hold_connections(), MakeServer);
                                         });

}  // namespace
}  // namespace firedrill
