// Decides from the certificate and the RPC's declared role.
#include "identity/rpc/gate.h"

#include <google/protobuf/descriptor.h>
#include <grpc/grpc_security_constants.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/injector.pb.h"
#include "identity/caller.h"
#include "identity/protocol.h"

namespace firedrill {

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
  return CheckStillGood(certificate, *revocations_, now);
}

absl::Status Gate::Decide(const absl::StatusOr<Certificate>& caller, absl::string_view method,
                          absl::Time now) const {
  RETURN_IF_ERROR(caller.status());
  const auto role = roles_.find(method);
  return CheckCaller(*caller, domain_, *revocations_, method,
                     role == roles_.end() ? v1::ROLE_UNSPECIFIED : role->second, now);
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
