// `firedrill stop | unlock | get`: what is asked of a controller that others use, too.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/rpc/dial.h"

namespace firedrill {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
  return kNotStarted;
}

// One question to the controller of `places`: asks with `call`, which gets stub and context.
template <typename Call>
absl::Status Ask(const Places& places, Call call) {
  if (places.controller.empty()) {
    return absl::InvalidArgumentError(
        "name the controller with --controller host:port (a private run is stopped by Ctrl-C)");
  }
  const auto stub = Dial({places.controller, places.identity});
  if (!stub.ok()) return stub.status();
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  const absl::Status status = FromGrpc(call(**stub, context));
  if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
  return absl::UnavailableError(
      absl::StrCat("the controller ", places.controller, " does not answer: ", status.message(),
                   "; on a node, SIGTERM to its firedrill-injector ends all its faults"));
}

}  // namespace

int StopCommand(const Places& places, const std::string& run, bool all, const std::string& reason) {
  if (run.empty() != all) {
    std::fprintf(stderr, "firedrill: stop: name one run, or --all\n");
    return kUsageError;
  }
  uint32_t stopped = 0, told = 0;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    if (!all) {
      v1::StopRunRequest request;
      request.set_run(run);
      request.set_reason(reason);
      v1::StopRunResponse response;
      return stub.StopRun(&context, request, &response);
    }
    v1::StopAllRequest request;
    request.set_reason(reason);
    v1::StopAllResponse response;
    const grpc::Status answered = stub.StopAll(&context, request, &response);
    stopped = response.runs_stopped();
    told = response.injectors_told();
    return answered;
  });
  if (!status.ok()) return Complain(status);
  if (all) {
    std::printf(
        "%u %s stopped, %u %s told at once, every fault is being undone; nothing starts until\n"
        "  firedrill unlock --reason ... --controller %s\n",
        stopped, stopped == 1 ? "run" : "runs", told, told == 1 ? "injector" : "injectors",
        places.controller.c_str());
  } else {
    std::printf("run %s is being stopped and undone; its report says when that is done\n",
                run.c_str());
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
  if (!status.ok()) return Complain(status);
  std::printf("the emergency lever is released: runs may start again\n");
  return 0;
}

int GetInjectorsCommand(const Places& places) {
  v1::ListInjectorsResponse response;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    return stub.ListInjectors(&context, v1::ListInjectorsRequest(), &response);
  });
  if (!status.ok()) return Complain(status);
  if (response.injectors().empty()) {
    std::printf("no injector has dialled this controller yet\n");
    return 0;
  }
  std::printf("%-20s %-11s %-26s %-10s %s\n", "NODE", "STATE", "LAST SEEN", "VERSION", "LABELS");
  for (const v1::InjectorSummary& each : response.injectors()) {
    std::vector<std::string> labels;
    for (const auto& [key, value] : each.registration().labels()) {
      labels.push_back(absl::StrCat(key, "=", value));
    }
    std::sort(labels.begin(), labels.end());
    std::printf("%-20s %-11s %-26s %-10s %s\n", each.registration().node().c_str(),
                !each.connected()                  ? "away"
                : each.figures().stopped().empty() ? "connected"
                                                   : "stopped",
                firedrill::FormatTime(FromProto(each.last_seen())).c_str(),
                each.registration().version().c_str(), absl::StrJoin(labels, ",").c_str());
  }
  return 0;
}

}  // namespace firedrill
