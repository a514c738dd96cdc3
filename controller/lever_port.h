// The emergency lever on an address of its own: POST /stop pulls it, GET /stop says whether it is
// pulled. It shares no thread and no queue with anything else.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "controller/lever.h"
#include "firedrill/v1/daemon.pb.h"
#include "identity/http_listener.h"
#include "identity/revocations.h"

namespace firedrill {

class LeverPort {
 public:
  // The body of a POST is the reason, in plain words. Takes a client certificate of the role
  // operator, or the token of `spec` as a bearer; to look, a viewer's will do. `lever` and
  // `revocations` outlive it.
  static absl::StatusOr<std::unique_ptr<LeverPort>> Start(const v1::StopListener& spec,
                                                          const IdentityFiles& identity,
                                                          const std::string& domain,
                                                          const Revocations& revocations,
                                                          Lever& lever);

  uint16_t port() const { return server_->port(); }

 private:
  LeverPort(const v1::StopListener& spec, const std::string& domain, const Revocations& revocations,
            Lever& lever)
      : spec_(spec), domain_(domain), revocations_(revocations), lever_(lever) {}

  HttpReply Take(const HttpCall& call);
  // Who that is, where it may do what takes this role.
  absl::StatusOr<std::string> Admit(const HttpCall& call, v1::Role role);
  absl::Status ReadToken();

  const v1::StopListener spec_;
  const std::string domain_;
  const Revocations& revocations_;
  Lever& lever_;
  // The last that could be read. On the server's thread only.
  std::string token_;
  std::unique_ptr<HttpListener> server_;
};

}  // namespace firedrill
