// Decides from the certificate and the RPC's declared role.
#include "identity/rpc/gate.h"

#include <google/protobuf/descriptor.h>
#include <grpc/grpc_security_constants.h>

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "firedrill/v1/controller.pb.h"
#include "firedrill/v1/injector.pb.h"
#include "identity/caller.h"
#include "identity/protocol.h"

namespace firedrill {
namespace {

// Not ours, so nothing in their protos says who may call them: whoever may look.
constexpr const char* kOfGrpc[] = {
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};

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

Gate::Gate(std::string domain, std::shared_ptr<const Revocations> revocations, Refused refused,
           GateLimits limits)
    : domain_(std::move(domain)),
      revocations_(std::move(revocations)),
      refused_(std::move(refused)),
      pace_(limits.calls_a_second, limits.calls_at_once) {
  for (const char* method : kOfGrpc) roles_[method] = v1::ROLE_VIEWER;
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

absl::Status Gate::CheckPace(const Peer& caller, absl::string_view method, absl::Duration now) {
  const bool stops = absl::StartsWith(method.substr(method.rfind('/') + 1), "Stop");
  if (pace_.Take(absl::StrCat(caller.Uri(), stops ? " stops" : ""), now)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(caller.Uri(), " makes more than ", pace_.a_second(),
                   " calls a second: ask less often, or watch, which tells by itself"));
}

grpc::Status Gate::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                           OutputMetadata*, OutputMetadata*) {
  const auto path = metadata.find(":path");
  const absl::string_view method =
      path == metadata.end() ? absl::string_view()
                             : absl::string_view(path->second.data(), path->second.size());
  const auto agent = metadata.find("user-agent");
  const absl::StatusOr<Certificate> caller = CallerOf(*context);
  absl::Status decided = Decide(caller, method, absl::Now());
  if (decided.ok() && agent != metadata.end()) {
    decided = CheckProtocol(absl::string_view(agent->second.data(), agent->second.size()));
  }
  if (decided.ok()) decided = CheckPace(caller->peer, method, RealClock().Boot());
  if (decided.ok()) return grpc::Status::OK;
  if (refused_) refused_(std::string(method), decided);
  return grpc::Status(static_cast<grpc::StatusCode>(decided.code()),
                      std::string(decided.message()));
}

}  // namespace firedrill
