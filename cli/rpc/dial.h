// The way from a command to a controller.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/controller.grpc.pb.h"

namespace firedrill {

// Where a controller is, and as whom it is dialled.
struct ControllerAddress {
  // "unix:/path", or "host:port".
  std::string address;
  // Path of the caller's certificate without its ending; for a Unix socket none.
  std::string identity;
};

// Looks at address and identity before anything is sent: FAILED_PRECONDITION or INVALID_ARGUMENT
// with what to do. Does not wait for the controller.
absl::StatusOr<std::unique_ptr<v1::ControllerService::Stub>> Dial(const ControllerAddress& at);

// Who calls, where no certificate says so: "user@host".
std::string OwnerWords();

absl::Status FromGrpc(const grpc::Status& status);

}  // namespace firedrill
