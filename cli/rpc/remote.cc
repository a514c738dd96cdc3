// `firedrill stop | unlock | settle`: what ends things at a controller that others use, too.
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/commands.h"
#include "cli/rpc/ask.h"
#include "identity/protocol.h"

namespace firedrill {
namespace {

// Whoever wants something to end has another way.
absl::Status WithTheWayOnANode(const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return status;
  return absl::UnavailableError(absl::StrCat(
      status.message(), "; on a node, SIGTERM to its firedrill-injector ends all its faults"));
}

}  // namespace

absl::Status NamesController(const Places& places) {
  if (!places.controller.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "name the controller with --controller host:port (a private run is stopped by Ctrl-C; "
      "what this machine has run is listed by: firedrill runs)");
}

// In the words of gRPC 1.51: of a link that ended while it was being made, and not of one that
// nobody has taken ("Connection refused").
bool WasTurnedAway(const grpc::Status& status) {
  const std::string why = status.error_message();
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         absl::StrContains(why, "failed to connect") &&
         (absl::StrContains(why, "Socket closed") || absl::StrContains(why, "Broken pipe") ||
          absl::StrContains(why, "Connection reset by peer"));
}

absl::Status Answered(const Places& places, const grpc::Status& answered) {
  const absl::Status status = FromGrpc(answered);
  if (absl::IsUnimplemented(status)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the controller ", places.controller,
                     " is older than this firedrill, and does not know what it is asked for: bring "
                     "it up to date"));
  }
  if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
  return absl::UnavailableError(
      absl::StrCat("the controller ", places.controller, " does not answer: ", status.message(),
                   "; is that its address, and does it run there? `systemctl status "
                   "firedrill-controller` says so on its machine"));
}

int StopCommand(const Places& places, const std::string& run, bool all, const std::string& reason) {
  if (run.empty() != all) {
    std::fprintf(stderr, "firedrill: stop: name one run, or --all\n");
    return kUsageError;
  }
  uint32_t stopped = 0, told = 0;
  std::string id = run;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    if (!all) {
      v1::StopRunRequest request;
      request.set_run(run);
      request.set_reason(reason);
      v1::StopRunResponse response;
      const grpc::Status answered = stub.StopRun(&context, request, &response);
      // A controller of the release before does not say it.
      const auto said = context.GetServerTrailingMetadata().find(kRunOfAnswer);
      if (said != context.GetServerTrailingMetadata().end())
        id.assign(said->second.data(), said->second.size());
      return answered;
    }
    v1::StopAllRequest request;
    request.set_reason(reason);
    v1::StopAllResponse response;
    const grpc::Status answered = stub.StopAll(&context, request, &response);
    stopped = response.runs_stopped();
    told = response.injectors_told();
    return answered;
  });
  if (!status.ok()) return ComplainOf(WithTheWayOnANode(status));
  if (all) {
    std::printf(
        "%u %s stopped, %u %s told at once, every fault is being undone; nothing starts until\n"
        "  firedrill unlock --reason ... --controller %s\n",
        stopped, stopped == 1 ? "run" : "runs", told, told == 1 ? "injector" : "injectors",
        places.controller.c_str());
  } else {
    std::printf("run %s is being stopped and undone; its report says when that is done\n",
                id.c_str());
  }
  return 0;
}

int UnlockCommand(const Places& places, const std::string& reason) {
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    v1::UnlockRequest request;
    request.set_reason(reason);
    v1::UnlockResponse response;
    return stub.Unlock(&context, request, &response);
  });
  if (!status.ok()) return ComplainOf(status);
  std::printf("the emergency lever is released: runs may start again\n");
  return 0;
}

int SettleCommand(const Places& places, const std::string& run, const std::string& node,
                  const std::string& reason) {
  v1::SettleRunResponse response;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    v1::SettleRunRequest request;
    request.set_run(run);
    request.set_node(node);
    request.set_by(OwnerWords());
    request.set_reason(reason);
    return stub.SettleRun(&context, request, &response);
  });
  if (!status.ok()) return ComplainOf(status);
  std::printf("settled, and in the history of run %s: %s; what it had taken is free\n", run.c_str(),
              absl::StrJoin(response.faults(), ", ").c_str());
  return 0;
}

}  // namespace firedrill
