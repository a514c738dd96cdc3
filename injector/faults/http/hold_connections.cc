// hold_connections for HTTP/1.1: connections without a request, or with one whose head does not
// end.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "injector/faults/stream_crowd.h"

namespace firedrill {
namespace {

// Servers give up a client that says nothing for about a minute, some after ten seconds.
constexpr absl::Duration kLineEvery = absl::Seconds(3);

// A client that is very slow: every line of its head is a valid one, and the last never comes.
class SlowRequest final : public StreamMember {
 public:
  SlowRequest(const StreamAddress& server, const std::string& stamp)
      : StreamMember(server.address, stamp,
                     absl::StrCat("GET / HTTP/1.1\r\nHost: ", server.Name(),
                                  "\r\nUser-Agent: ", stamp, "\r\n")),
        next_line_(RealClock().Boot() + kLineEvery) {}

  absl::Status Advance() override {
    const absl::Duration now = RealClock().Boot();
    if (now >= next_line_) {
      Say("X-Firedrill: slow\r\n");
      next_line_ = now + kLineEvery;
    }
    return StreamMember::Advance();
  }
  absl::Duration due() const override { return next_line_; }

 private:
  absl::Status Take(absl::string_view answer) override {
    return absl::UnavailableError(
        absl::StrCat("the server did not wait for the end of the request: ",
                     answer.substr(0, std::min(answer.find('\r'), size_t{60}))));
  }

  absl::Duration next_line_;
};

class HttpCrowdServer final : public StreamServer {
 public:
  HttpCrowdServer(bool active, const v1::HttpServer& server, const std::string& stamp)
      : StreamServer("http", server.host(), server.port() == 0 ? 80 : server.port(), stamp),
        active_(active) {}
  std::unique_ptr<CrowdMember> Begin(absl::Duration) override {
    if (active_) return std::make_unique<SlowRequest>(address(), stamp());
    return std::make_unique<StreamMember>(address().address, stamp(), "");
  }

 private:
  const bool active_;
};

absl::StatusOr<std::unique_ptr<CrowdServer>> MakeServer(const v1::HoldConnections& message,
                                                        const v1::Profile& profile,
                                                        const std::string& stamp) {
  if (!profile.has_http()) {
    return absl::InvalidArgumentError(
        absl::StrCat("profile ", profile.name(), " is no HTTP server; name one that is"));
  }
  if (message.state() == v1::SESSION_STATE_IDLE_IN_TRANSACTION) {
    return absl::InvalidArgumentError(
        "HTTP has no transactions; say `state: idle`, or `active` for requests that do not end");
  }
  RETURN_IF_ERROR(RefuseShares(message, "HTTP"));
  return std::make_unique<HttpCrowdServer>(message.state() == v1::SESSION_STATE_ACTIVE,
                                           profile.http(), stamp);
}

const FaultRegistration kHoldConnections(v1::Fault::kHoldConnections, v1::PROTOCOL_HTTP,
                                         [](const v1::Fault& fault) {
                                           return std::make_unique<HeldCrowd>(
                                               fault.hold_connections(), MakeServer);
                                         });

}  // namespace
}  // namespace firedrill
