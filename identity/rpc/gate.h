// Is asked about every call before it reaches a service, whether this certificate may do that.
#pragma once

#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/auth_metadata_processor.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "firedrill/v1/options.pb.h"
#include "identity/certificate.h"
#include "identity/pace.h"
#include "identity/revocations.h"

namespace firedrill {

// Who calls, as TLS has proven it. UNAUTHENTICATED where it has not.
absl::StatusOr<Certificate> CallerOf(const grpc::AuthContext& context);

struct GateLimits {
  // Calls of one name: so many at once, and so many a second. Who stops something has as many
  // again, which nothing else uses up.
  double calls_a_second = 50;
  double calls_at_once = 200;
};

// Every RPC of ours declares its role in its proto; health and reflection take a viewer; one that
// is not declared is refused. Any thread.
class Gate final : public grpc::AuthMetadataProcessor {
 public:
  // What was refused, for the log and the counters. Called on gRPC's threads.
  using Refused = std::function<void(const std::string& method, const absl::Status& why)>;

  Gate(std::string domain, std::shared_ptr<const Revocations> revocations, Refused refused,
       GateLimits limits = {});

  // Waits for nothing.
  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

  // Why a certificate is good no more: revoked, or expired.
  absl::Status StillGood(const Certificate& certificate, absl::Time now) const;
  // RESOURCE_EXHAUSTED for who calls too often. `now`: boot time.
  absl::Status CheckPace(const Peer& caller, absl::string_view method, absl::Duration now);
  // What Process() decides of who calls, without gRPC: OK, or why this caller may not call
  // "/package.Service/Rpc".
  absl::Status Decide(const absl::StatusOr<Certificate>& caller, absl::string_view method,
                      absl::Time now) const;

 private:
  const std::string domain_;
  const std::shared_ptr<const Revocations> revocations_;
  const Refused refused_;
  absl::flat_hash_map<std::string, v1::Role> roles_;
  Pace pace_;
};

}  // namespace firedrill
