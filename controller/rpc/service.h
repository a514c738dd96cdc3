// Both services over gRPC: every call is handed to the executor, and answered from there;
// but the lever waits for nobody.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/executor.h"
#include "controller/fleet.h"
#include "controller/lever.h"
#include "controller/runs.h"
#include "controller/scheduler.h"
#include "controller/store.h"
#include "firedrill/v1/controller.grpc.pb.h"
#include "firedrill/v1/injector.grpc.pb.h"
#include "identity/rpc/open_calls.h"

namespace firedrill {

class InjectorServiceImpl final : public v1::InjectorService::CallbackService {
 public:
  InjectorServiceImpl(Executor& executor, Fleet& fleet) : executor_(executor), fleet_(fleet) {}
  // Before it serves: streams are cut when their caller's certificate ends. Outlives it.
  void CutBy(OpenCalls* calls) { calls_ = calls; }
  grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* Connect(
      grpc::CallbackServerContext* context) override;

 private:
  Executor& executor_;
  Fleet& fleet_;
  OpenCalls* calls_ = nullptr;
};

class ControllerServiceImpl final : public v1::ControllerService::CallbackService {
 public:
  // Called on the executor: `owner_changed` whenever an owner's stream has begun (+1) or ended
  // (-1), `asking_changed` whenever the making of a plan has. `scheduler`: null where there are no
  // schedules.
  ControllerServiceImpl(
      Executor& executor, Runs& runs, Fleet& fleet, Lever& lever, const Store& store,
      Scheduler* scheduler, std::function<void(int)> owner_changed,
      std::function<void(int)> asking_changed = [](int) {})
      : executor_(executor),
        runs_(runs),
        fleet_(fleet),
        lever_(lever),
        store_(store),
        scheduler_(scheduler),
        owner_changed_(std::move(owner_changed)),
        asking_changed_(std::move(asking_changed)) {}
  // Before it serves: streams are cut when their caller's certificate ends. Outlives it.
  void CutBy(OpenCalls* calls) { calls_ = calls; }

  grpc::ServerBidiReactor<v1::OwnRunRequest, v1::OwnRunResponse>* OwnRun(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* PlanRun(grpc::CallbackServerContext* context,
                                    const v1::PlanRunRequest* request,
                                    v1::PlanRunResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchRunResponse>* WatchRun(
      grpc::CallbackServerContext* context, const v1::WatchRunRequest* request) override;
  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context,
                                     const v1::ListRunsRequest* request,
                                     v1::ListRunsResponse* response) override;
  grpc::ServerUnaryReactor* JudgeRun(grpc::CallbackServerContext* context,
                                     const v1::JudgeRunRequest* request,
                                     v1::JudgeRunResponse* response) override;
  grpc::ServerUnaryReactor* StopRun(grpc::CallbackServerContext* context,
                                    const v1::StopRunRequest* request,
                                    v1::StopRunResponse* response) override;
  grpc::ServerUnaryReactor* StopAll(grpc::CallbackServerContext* context,
                                    const v1::StopAllRequest* request,
                                    v1::StopAllResponse* response) override;
  grpc::ServerUnaryReactor* Unlock(grpc::CallbackServerContext* context,
                                   const v1::UnlockRequest* request,
                                   v1::UnlockResponse* response) override;
  grpc::ServerUnaryReactor* SettleRun(grpc::CallbackServerContext* context,
                                      const v1::SettleRunRequest* request,
                                      v1::SettleRunResponse* response) override;
  grpc::ServerUnaryReactor* ListInjectors(grpc::CallbackServerContext* context,
                                          const v1::ListInjectorsRequest* request,
                                          v1::ListInjectorsResponse* response) override;
  grpc::ServerUnaryReactor* ApplyExperiment(grpc::CallbackServerContext* context,
                                            const v1::ApplyExperimentRequest* request,
                                            v1::ApplyExperimentResponse* response) override;
  grpc::ServerUnaryReactor* DeleteExperiment(grpc::CallbackServerContext* context,
                                             const v1::DeleteExperimentRequest* request,
                                             v1::DeleteExperimentResponse* response) override;
  grpc::ServerUnaryReactor* ListExperiments(grpc::CallbackServerContext* context,
                                            const v1::ListExperimentsRequest* request,
                                            v1::ListExperimentsResponse* response) override;
  grpc::ServerUnaryReactor* Diagnose(grpc::CallbackServerContext* context,
                                     const v1::DiagnoseRequest* request,
                                     v1::DiagnoseResponse* response) override;
  // What only the process knows of itself; asked where blocking is allowed.
  void AskOfItself(std::function<std::vector<v1::Diagnosis>()> ask) { of_itself_ = std::move(ask); }

 private:
  // Answers from the executor with what `answer` returns.
  grpc::ServerUnaryReactor* OnExecutor(grpc::CallbackServerContext* context,
                                       std::function<absl::Status()> answer);
  absl::Status HasSchedules() const;
  // The same from a thread of its own: it waits for the disk, and not for the executor.
  grpc::ServerUnaryReactor* OnThread(grpc::CallbackServerContext* context,
                                     std::function<absl::Status()> answer);

  Executor& executor_;
  Runs& runs_;
  Fleet& fleet_;
  Lever& lever_;
  const Store& store_;
  Scheduler* const scheduler_;
  std::function<std::vector<v1::Diagnosis>()> of_itself_;
  const std::function<void(int)> owner_changed_;
  const std::function<void(int)> asking_changed_;
  OpenCalls* calls_ = nullptr;
};

}  // namespace firedrill
