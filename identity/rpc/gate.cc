// Decides from the certificate and the RPC's declared role.
#include "identity/rpc/gate.h"

#include <google/protobuf/descriptor.h>
#include <grpc/grpc_security_constants.h>

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/injector.pb.h"
#include "identity/protocol.h"

namespace firedrill {
namespace {

std::string RoleWord(v1::Role role) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::Role_Name(role), "ROLE_"));
}

}  // namespace

absl::StatusOr<Certificate> CallerOf(const grpc::AuthContext& context) {
  const std::vector<grpc::string_ref> pem =
      context.FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (!context.IsPeerAuthenticated() || pem.size() != 1) {
    return absl::UnauthenticatedError("the caller has shown no certificate");
  }
  absl::StatusOr<Certificate> read =
      ReadCertificate(absl::string_view(pem[0].data(), pem[0].size()));
  if (!read.ok()) return absl::UnauthenticatedError(read.status().message());
  return read;
}

Gate::Gate(std::string domain, std::shared_ptr<const Revocations> revocations, Refused refused)
    : domain_(std::move(domain)),
      revocations_(std::move(revocations)),
      refused_(std::move(refused)) {
  for (const google::protobuf::FileDescriptor* file :
       {v1::StartRun::descriptor()->file(), v1::ConnectRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      const google::protobuf::ServiceDescriptor* service = file->service(s);
      for (int m = 0; m < service->method_count(); ++m) {
        const google::protobuf::MethodDescriptor* method = service->method(m);
        roles_[absl::StrCat("/", service->full_name(), "/", method->name())] =
            method->options().GetExtension(v1::role);
      }
    }
  }
}

absl::Status Gate::StillGood(const Certificate& certificate, absl::Time now) const {
  const Peer& peer = certificate.peer;
  if (revocations_->Has(peer.serial)) {
    return absl::UnauthenticatedError(absl::StrCat("the certificate of ", peer.Uri(), ", serial ",
                                                   peer.serial,
                                                   ", was revoked: ask for a new one"));
  }
  if (certificate.not_after <= now) {
    return absl::UnauthenticatedError(
        absl::StrCat("the certificate of ", peer.Uri(), " expired on ",
                     firedrill::FormatTime(certificate.not_after), ": issue a new one"));
  }
  return absl::OkStatus();
}

absl::Status Gate::Decide(const absl::StatusOr<Certificate>& caller, absl::string_view method,
                          absl::Time now) const {
  RETURN_IF_ERROR(caller.status());
  const Peer& peer = caller->peer;
  if (peer.domain != domain_) {
    return absl::UnauthenticatedError(absl::StrCat(
        peer.Uri(), " is of another domain than this controller, which is of ", domain_));
  }
  RETURN_IF_ERROR(StillGood(*caller, now));
  const auto role = roles_.find(method);
  if (role == roles_.end() || role->second == v1::ROLE_UNSPECIFIED) {
    return absl::PermissionDeniedError(absl::StrCat(method, " is nothing that anybody may call"));
  }
  if (!May(RoleOf(peer), role->second)) {
    return absl::PermissionDeniedError(absl::StrCat(
        peer.Uri(), " may not call ", method, ", which takes the role ", RoleWord(role->second),
        ": ask whoever may, or for a certificate of that role"));
  }
  return absl::OkStatus();
}

grpc::Status Gate::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                           OutputMetadata*, OutputMetadata*) {
  const auto path = metadata.find(":path");
  const absl::string_view method =
      path == metadata.end() ? absl::string_view()
                             : absl::string_view(path->second.data(), path->second.size());
  const auto agent = metadata.find("user-agent");
  absl::Status decided = Decide(CallerOf(*context), method, absl::Now());
  if (decided.ok() && agent != metadata.end()) {
    decided = CheckProtocol(absl::string_view(agent->second.data(), agent->second.size()));
  }
  if (decided.ok()) return grpc::Status::OK;
  if (refused_) refused_(std::string(method), decided);
  return grpc::Status(static_cast<grpc::StatusCode>(decided.code()),
                      std::string(decided.message()));
}

}  // namespace firedrill
