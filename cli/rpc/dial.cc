// Dials a controller: a Unix socket as it is, anything else over TLS.
#include "cli/rpc/dial.h"

#include <pwd.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "experiment/address.h"
#include "identity/protocol.h"
#include "identity/rpc/credentials.h"

namespace firedrill {

absl::StatusOr<std::unique_ptr<v1::ControllerService::Stub>> Dial(const ControllerAddress& at) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetUserAgentPrefix(ProtocolAgent());
  // Whoever only listens would not notice a link that is cut.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  // Who dials again means it, and does not wait for what the last one has found.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (absl::StartsWith(at.address, "unix:")) {
    // A Unix socket's 0700 folder is its authority.
    return v1::ControllerService::NewStub(
        grpc::CreateCustomChannel(at.address, grpc::InsecureChannelCredentials(), arguments));
  }
  const absl::StatusOr<Address> where = ParseListenAddress(at.address);
  if (!where.ok() || where->host.empty() || where->port == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--controller ", at.address, ": ",
        where.ok() ? "host or port is missing" : where.status().message(),
        "; write it as host:port, the port being that of `listen` in the controller's file"));
  }
  if (at.identity.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--controller ", at.address, ": it must know who calls: name your certificate ",
        "with --identity PATH (without .crt), or in $FIREDRILL_IDENTITY; ",
        "firedrill pki issue makes one"));
  }
  const IdentityFiles files = IdentityOf(at.identity);
  RETURN_IF_ERROR(
      CheckIdentity(files, {"viewer", "author", "operator", "admin"}, absl::Now()).status());
  PrepareTls();
  return v1::ControllerService::NewStub(
      grpc::CreateCustomChannel(at.address, ChannelTls(files), arguments));
}

std::string OwnerWords() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const passwd* user = getpwuid(geteuid());
  return absl::StrCat(user != nullptr ? user->pw_name : absl::StrCat(geteuid()), "@", host);
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace firedrill
