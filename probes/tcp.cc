// Probe tcp: opens a connection to an endpoint and closes it again.
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/resolve.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "probes/address.h"
#include "probes/probe.h"

namespace firedrill {
namespace {

// How soon a stop is noticed.
constexpr absl::Duration kLook = absl::Milliseconds(20);

struct AddrinfoDelete {
  void operator()(addrinfo* info) const { freeaddrinfo(info); }
};

// Whether the connection was made; false: it was refused.
absl::StatusOr<bool> Connect(const std::string& address, uint16_t port, absl::Duration end,
                             const ProbeContext& context) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* raw = nullptr;
  const int error = getaddrinfo(address.c_str(), absl::StrCat(port).c_str(), &hints, &raw);
  if (error != 0) return absl::UnavailableError(gai_strerror(error));
  const std::unique_ptr<addrinfo, AddrinfoDelete> info(raw);
  const UniqueFd fd(socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return absl::UnavailableError(std::strerror(errno));
  int result = connect(fd.get(), info->ai_addr, info->ai_addrlen) == 0 ? 0 : errno;
  while (result == EINPROGRESS || result == EINTR) {
    const absl::Duration left = end - context.clock.Boot();
    if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("no answer in time");
    if (context.stop.stop_requested()) return absl::CancelledError("stopped");
    pollfd wait{fd.get(), POLLOUT, 0};
    const auto millis = absl::ToInt64Milliseconds(std::min(left, kLook)) + 1;
    if (poll(&wait, 1, static_cast<int>(millis)) <= 0) continue;
    socklen_t size = sizeof result;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &result, &size) != 0) result = errno;
  }
  if (result == 0) return true;
  if (result == ECONNREFUSED) return false;
  return absl::UnavailableError(std::strerror(result));
}

class TcpProbe final : public Probe {
 public:
  explicit TcpProbe(v1::Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

  absl::Status Validate() const override { return HostPortOf(endpoint_).status(); }

  // Refused is an answer: nobody listens. Silence is none.
  absl::StatusOr<ProbeValues> Read(const ProbeContext& context) override {
    const absl::Duration begin = context.clock.Boot();
    const absl::Duration end = begin + context.deadline;
    ASSIGN_OR_RETURN(const HostPort where, HostPortOf(endpoint_));
    ASSIGN_OR_RETURN(const std::vector<std::string> addresses,
                     ResolveHost(where.host, context.deadline, context.stop));
    absl::Status last = absl::NotFoundError("the name has no address");
    bool refused = false;
    for (const std::string& address : addresses) {
      RETURN_IF_ERROR(CheckAddress(address));
      const absl::Duration called = context.clock.Boot();
      const absl::StatusOr<bool> connected = Connect(address, where.port, end, context);
      if (connected.ok() && *connected) {
        return ProbeValues{{"connected", 1},
                           {"latency", absl::ToDoubleSeconds(context.clock.Boot() - called)}};
      }
      if (connected.ok()) {
        refused = true;
      } else {
        last = connected.status();
      }
    }
    if (refused) {
      return ProbeValues{{"connected", 0},
                         {"latency", absl::ToDoubleSeconds(context.clock.Boot() - begin)}};
    }
    return Annotate(last, absl::StrCat("connecting to ", where.host, ":", where.port));
  }

 private:
  absl::Status CheckAddress(const std::string& host) const {
    if (!IsLinkLocalAddress(host)) return absl::OkStatus();
    return absl::PermissionDeniedError(absl::StrCat("endpoint '", endpoint_.name(), "' is at ",
                                                    host, ": link-local addresses are refused"));
  }
  const v1::Endpoint endpoint_;
};

const ProbeRegistration kTcp(v1::Probe::kTcp,
                             [](const v1::Probe& probe,
                                const ProbeSite& site) -> absl::StatusOr<std::unique_ptr<Probe>> {
                               ASSIGN_OR_RETURN(v1::Endpoint endpoint,
                                                FindEndpoint(site, probe.tcp().endpoint()));
                               return std::make_unique<TcpProbe>(std::move(endpoint));
                             });

}  // namespace
}  // namespace firedrill
