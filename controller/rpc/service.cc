// Both services over gRPC.
#include "controller/rpc/service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/diagnosis.h"
#include "controller/judge.h"
#include "controller/rpc/stream.h"
#include "controller/run_name.h"
#include "experiment/reader.h"
#include "identity/protocol.h"
#include "identity/rpc/gate.h"

namespace firedrill {
namespace {

constexpr absl::Duration kDefaultOwnerLease = absl::Seconds(5);
// Of the lease: within what is promised everything is to be off, not only begun to be.
constexpr absl::Duration kForTheUndo = absl::Milliseconds(100);
constexpr uint32_t kMostRunsListed = 1000;

// A run and the client that owns it: the client's beats keep it going. On the executor.
class Ownership : public std::enable_shared_from_this<Ownership> {
 public:
  // `owner`: proven by a certificate; empty on a Unix socket.
  Ownership(Executor& executor, Runs& runs, std::shared_ptr<Link<v1::OwnRunResponse>> link,
            std::string owner, std::function<void(int)> changed)
      : executor_(executor),
        runs_(runs),
        link_(std::move(link)),
        owner_(std::move(owner)),
        changed_(std::move(changed)) {
    changed_(+1);
  }

  LinkEvents<v1::OwnRunRequest> Events() {
    return {.message = [self = shared_from_this()](
                           const v1::OwnRunRequest& message) { self->OnMessage(message); },
            .closed = [self = shared_from_this()](absl::Status why) { self->OnClosed(why); }};
  }

 private:
  void OnMessage(const v1::OwnRunRequest& message) {
    last_beat_ = executor_.clock().Boot();
    if (message.has_start()) Start(message.start());
    if (message.has_resume()) Resume(message.resume());
    if (message.has_stop()) {
      wanted_stop_ = message.stop();
      if (!owner_.empty()) wanted_stop_->set_by(owner_);
      if (!run_.empty()) (void)runs_.Stop(run_, *wanted_stop_);
    }
    if (message.has_beat()) {
      v1::OwnRunResponse response;
      *response.mutable_beat() = message.beat();
      link_->Send(response);
    }
  }

  void Start(v1::StartRun start) {
    if (!owner_.empty()) start.set_owner(owner_);
    if (std::exchange(started_, true)) {
      return link_->Close(absl::FailedPreconditionError("one stream owns one run"));
    }
    detached_ = start.detach();
    if (start.has_lease()) lease_ = FromProto(start.lease());
    Look();
    runs_.Start(start, NewWatcher(), [self = shared_from_this()](absl::StatusOr<std::string> run) {
      if (!run.ok()) {
        self->over_ = true;
        return self->link_->Close(run.status());
      }
      self->run_ = *run;
      // A stop that came while the plan was made.
      self->executor_.Post([self] {
        if (self->wanted_stop_.has_value()) {
          (void)self->runs_.Stop(self->run_, *self->wanted_stop_);
        }
      });
    });
  }

  void Resume(const v1::ResumeRun& resume) {
    if (std::exchange(started_, true)) {
      return link_->Close(absl::FailedPreconditionError("one stream owns one run"));
    }
    if (resume.has_lease()) lease_ = FromProto(resume.lease());
    const absl::Status reclaimed = runs_.Reclaim(resume, owner_, NewWatcher());
    if (!reclaimed.ok()) {
      over_ = true;
      return link_->Close(reclaimed);
    }
    run_ = resume.run();
    Look();
  }

  Runs::Watcher NewWatcher() {
    Runs::Watcher watcher;
    watcher.event = [link = link_](const v1::Event& event) {
      v1::OwnRunResponse response;
      *response.mutable_event() = event;
      link->Send(response);
    };
    watcher.judged = [self = shared_from_this()](const v1::Judgement& judgement) {
      v1::OwnRunResponse response;
      *response.mutable_judgement() = judgement;
      self->link_->Send(response);
      self->over_ = true;
      self->link_->Close(absl::OkStatus());
    };
    return watcher;
  }

  // Looks for beats until the run is over.
  void Look() {
    if (over_ || closed_) return;
    const absl::Duration silence = executor_.clock().Boot() - last_beat_;
    const absl::Duration patience = lease_ - std::min(kForTheUndo, lease_ / 10);
    if (silence >= patience && !detached_) {
      Lose(absl::StrCat("the client that owns the run was silent for ",
                        firedrill::FormatDuration(silence)));
      return;
    }
    if (detached_) return;
    executor_.After(patience - silence, [self = shared_from_this()] { self->Look(); });
  }

  void Lose(const std::string& why) {
    v1::StopRequested stop;
    stop.set_cause(v1::StopRequested::CAUSE_OWNER_LOST);
    stop.set_by("controller");
    stop.set_reason(why);
    wanted_stop_ = stop;
    if (!run_.empty()) (void)runs_.Stop(run_, stop);
  }

  void OnClosed(const absl::Status& why) {
    if (std::exchange(closed_, true)) return;
    if (!over_ && !detached_) {
      Lose(absl::IsUnauthenticated(why) ? std::string(why.message())
                                        : "the client that owns the run is gone");
    }
    changed_(-1);
  }

  Executor& executor_;
  Runs& runs_;
  const std::shared_ptr<Link<v1::OwnRunResponse>> link_;
  const std::string owner_;
  const std::function<void(int)> changed_;
  std::string run_;
  bool started_ = false;
  bool detached_ = false;
  bool over_ = false;
  bool closed_ = false;
  absl::Duration lease_ = kDefaultOwnerLease;
  absl::Duration last_beat_;
  std::optional<v1::StopRequested> wanted_stop_;
};

// Who calls: as the certificate says, else as the caller does, who is the owner of a Unix socket.
std::string NameOf(const grpc::CallbackServerContext& context, const std::string& said) {
  const absl::StatusOr<Certificate> caller = CallerOf(*context.auth_context());
  return caller.ok() ? caller->peer.name : said;
}

// Sends a history that is there already, then what comes, until the run has ended.
class WatchStream final : public grpc::ServerWriteReactor<v1::WatchRunResponse> {
 public:
  // Events that a slow reader may lag behind.
  static constexpr size_t kMostQueued = 100000;

  // Shared with whoever adds events; the reactor deletes itself.
  struct Feed {
    Mutex mutex;
    WatchStream* stream FD_GUARDED_BY(mutex) = nullptr;
    std::deque<v1::WatchRunResponse> queue FD_GUARDED_BY(mutex);
    bool writing FD_GUARDED_BY(mutex) = false;
    bool ended FD_GUARDED_BY(mutex) = false;
    bool finishing FD_GUARDED_BY(mutex) = false;
    absl::Status why FD_GUARDED_BY(mutex);
  };

  WatchStream(OpenCalls* calls, const grpc::ServerContextBase& call)
      : feed_(std::make_shared<Feed>()) {
    if (calls != nullptr) {
      token_ = calls->Add(call, [feed = feed_](const absl::Status& why) { End(*feed, why); });
    }
    MutexLock lock(feed_->mutex);
    feed_->stream = this;
  }
  std::shared_ptr<Feed> feed() const { return feed_; }

  static void Add(Feed& feed, const v1::Event& event) {
    {
      MutexLock lock(feed.mutex);
      if (feed.stream == nullptr || feed.ended) return;
      if (feed.queue.size() >= kMostQueued) {
        feed.ended = true;
        feed.why = absl::ResourceExhaustedError("the watcher does not read");
      } else {
        *feed.queue.emplace_back().mutable_event() = event;
      }
    }
    Pump(feed);
  }
  static void End(Feed& feed, absl::Status why) {
    {
      MutexLock lock(feed.mutex);
      feed.ended = true;
      feed.why = std::move(why);
    }
    Pump(feed);
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(feed_->mutex);
      feed_->writing = false;
      feed_->queue.pop_front();
      if (!ok) {
        feed_->queue.clear();
        feed_->ended = true;
      }
    }
    Pump(*feed_);
  }
  void OnCancel() override { End(*feed_, absl::CancelledError("the watcher has gone")); }
  void OnDone() override {
    {
      MutexLock lock(feed_->mutex);
      feed_->stream = nullptr;
    }
    delete this;
  }

 private:
  static void Pump(Feed& feed) {
    WatchStream* stream = nullptr;
    const v1::WatchRunResponse* next = nullptr;
    absl::Status why;
    {
      MutexLock lock(feed.mutex);
      if (feed.stream == nullptr || feed.writing || feed.finishing) return;
      if (!feed.queue.empty()) {
        feed.writing = true;
        next = &feed.queue.front();
      } else if (feed.ended) {
        feed.finishing = true;
        why = feed.why;
      } else {
        return;
      }
      stream = feed.stream;
    }
    if (next != nullptr) {
      stream->StartWrite(next);
    } else {
      stream->Finish(ToGrpc(why));
    }
  }

  const std::shared_ptr<Feed> feed_;
  OpenCalls::Token token_;
};

}  // namespace

grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* InjectorServiceImpl::Connect(
    grpc::CallbackServerContext* context) {
  return new ServerStream<v1::ConnectRequest, v1::ConnectResponse>(
      executor_, calls_, *context,
      [this, name = NameOf(*context, "")](std::shared_ptr<Link<v1::ConnectResponse>> link) {
        return fleet_.Accept(std::move(link), name);
      });
}

grpc::ServerBidiReactor<v1::OwnRunRequest, v1::OwnRunResponse>* ControllerServiceImpl::OwnRun(
    grpc::CallbackServerContext* context) {
  return new ServerStream<v1::OwnRunRequest, v1::OwnRunResponse>(
      executor_, calls_, *context,
      [this, owner = NameOf(*context, "")](std::shared_ptr<Link<v1::OwnRunResponse>> link) {
        return std::make_shared<Ownership>(executor_, runs_, std::move(link), owner, owner_changed_)
            ->Events();
      });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::OnExecutor(grpc::CallbackServerContext* context,
                                                            std::function<absl::Status()> answer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  executor_.Post([reactor, answer = std::move(answer)] { reactor->Finish(ToGrpc(answer())); });
  return reactor;
}

grpc::ServerUnaryReactor* ControllerServiceImpl::OnThread(grpc::CallbackServerContext* context,
                                                          std::function<absl::Status()> answer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  executor_.Block([reactor, answer = std::move(answer)] { reactor->Finish(ToGrpc(answer())); }, {});
  return reactor;
}

grpc::ServerUnaryReactor* ControllerServiceImpl::PlanRun(grpc::CallbackServerContext* context,
                                                         const v1::PlanRunRequest* request,
                                                         v1::PlanRunResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  executor_.Post([this, reactor, request, response] {
    asking_changed_(+1);
    runs_.Plan(*request,
               [reactor, response, changed = asking_changed_](absl::StatusOr<v1::Plan> plan) {
                 changed(-1);
                 if (plan.ok()) *response->mutable_plan() = *std::move(plan);
                 reactor->Finish(ToGrpc(plan.status()));
               });
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchRunResponse>* ControllerServiceImpl::WatchRun(
    grpc::CallbackServerContext* context, const v1::WatchRunRequest* request) {
  auto* stream = new WatchStream(calls_, *context);
  executor_.Post([this, feed = stream->feed(), name = request->run(), from = request->from_seq(),
                  follow = request->follow()] {
    const absl::StatusOr<std::string> found = FindRun(store_, name);
    if (!found.ok()) return WatchStream::End(*feed, found.status());
    const std::string& run = *found;
    absl::StatusOr<std::vector<v1::Event>> events = store_.Read(run, from);
    if (!events.ok()) return WatchStream::End(*feed, events.status());
    runs_.aftermath().AddUnwritten(run, *events);
    for (const v1::Event& event : *events) WatchStream::Add(*feed, event);
    Runs::Watcher watcher;
    watcher.event = [feed](const v1::Event& event) { WatchStream::Add(*feed, event); };
    watcher.judged = [feed](const v1::Judgement&) { WatchStream::End(*feed, absl::OkStatus()); };
    if (!follow || !runs_.Watch(run, std::move(watcher))) WatchStream::End(*feed, absl::OkStatus());
  });
  return stream;
}

grpc::ServerUnaryReactor* ControllerServiceImpl::ListRuns(grpc::CallbackServerContext* context,
                                                          const v1::ListRunsRequest* request,
                                                          v1::ListRunsResponse* response) {
  return OnExecutor(context, [this, request, response]() -> absl::Status {
    const uint32_t asked = request->at_most() == 0 ? kMostRunsListed : request->at_most();
    absl::StatusOr<std::vector<v1::RunSummary>> runs =
        store_.List(std::min(asked, kMostRunsListed));
    if (!runs.ok()) return runs.status();
    for (v1::RunSummary& run : *runs) {
      runs_.aftermath().AddUnwritten(run);
      *response->add_runs() = std::move(run);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::JudgeRun(grpc::CallbackServerContext* context,
                                                          const v1::JudgeRunRequest* request,
                                                          v1::JudgeRunResponse* response) {
  return OnExecutor(context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string run, FindRun(store_, request->run()));
    absl::StatusOr<std::vector<v1::Event>> history = store_.Read(run, 1);
    if (!history.ok()) return history.status();
    runs_.aftermath().AddUnwritten(run, *history);
    *response->mutable_judgement() = Judge(*history);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::StopRun(grpc::CallbackServerContext* context,
                                                         const v1::StopRunRequest* request,
                                                         v1::StopRunResponse* response) {
  return OnExecutor(context, [this, context, request, by = NameOf(*context, request->by())] {
    ASSIGN_OR_RETURN(const std::string run, FindRun(store_, request->run()));
    // Whoever has said `last` is told which one that was.
    context->AddTrailingMetadata(kRunOfAnswer, run);
    v1::StopRequested stop;
    stop.set_cause(v1::StopRequested::CAUSE_OPERATOR);
    stop.set_by(by);
    stop.set_reason(request->reason());
    return runs_.Stop(run, stop);
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::StopAll(grpc::CallbackServerContext* context,
                                                         const v1::StopAllRequest* request,
                                                         v1::StopAllResponse* response) {
  return OnThread(context, [this, request, response, by = NameOf(*context, request->by())] {
    const Lever::Answer answer = lever_.PullIt(by, request->reason());
    response->set_runs_stopped(static_cast<uint32_t>(answer.reached.runs));
    response->set_injectors_told(static_cast<uint32_t>(answer.reached.injectors));
    return answer.kept;
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::Unlock(grpc::CallbackServerContext* context,
                                                        const v1::UnlockRequest* request,
                                                        v1::UnlockResponse* response) {
  return OnThread(context, [this, request, by = NameOf(*context, request->by())] {
    const absl::Status released = lever_.Release();
    if (released.ok()) spdlog::warn("{} has released the lever: {}", by, request->reason());
    return released;
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::SettleRun(grpc::CallbackServerContext* context,
                                                           const v1::SettleRunRequest* request,
                                                           v1::SettleRunResponse* response) {
  return OnExecutor(
      context, [this, request, response, by = NameOf(*context, request->by())]() -> absl::Status {
        ASSIGN_OR_RETURN(const std::string run, FindRun(store_, request->run()));
        ASSIGN_OR_RETURN(const std::vector<std::string> faults,
                         runs_.aftermath().Settle(run, request->node(), by, request->reason()));
        for (const std::string& fault : faults) response->add_faults(fault);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::ListInjectors(
    grpc::CallbackServerContext* context, const v1::ListInjectorsRequest* request,
    v1::ListInjectorsResponse* response) {
  return OnExecutor(context, [this, response] {
    for (v1::InjectorSummary& each : runs_.aftermath().Complete(fleet_.Seen())) {
      *response->add_injectors() = std::move(each);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::ApplyExperiment(
    grpc::CallbackServerContext* context, const v1::ApplyExperimentRequest* request,
    v1::ApplyExperimentResponse* response) {
  return OnExecutor(context, [this, request, response, by = NameOf(*context, request->by())] {
    RETURN_IF_ERROR(HasSchedules());
    // The client's reading of its text is not believed.
    ExperimentFile file = ReadExperiment(request->text(), request->file());
    if (file.ok()) file.problems = CheckAgainstSite(file, runs_.site());
    if (!file.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the controller refuses this experiment:\n",
                       absl::StripTrailingAsciiWhitespace(file.Report())));
    }
    v1::AppliedExperiment applied;
    applied.set_applied_by(by);
    applied.set_file(request->file());
    applied.set_text(request->text());
    *applied.mutable_experiment() = std::move(file.experiment);
    for (auto& [path, position] : file.Positions()) (*applied.mutable_positions())[path] = position;
    ASSIGN_OR_RETURN(*response, scheduler_->Apply(std::move(applied)));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::DeleteExperiment(
    grpc::CallbackServerContext* context, const v1::DeleteExperimentRequest* request,
    v1::DeleteExperimentResponse* response) {
  return OnExecutor(context, [this, request] {
    RETURN_IF_ERROR(HasSchedules());
    return scheduler_->Delete(request->name());
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::ListExperiments(
    grpc::CallbackServerContext* context, const v1::ListExperimentsRequest* request,
    v1::ListExperimentsResponse* response) {
  return OnExecutor(context, [this, request, response] {
    RETURN_IF_ERROR(HasSchedules());
    ASSIGN_OR_RETURN(*response, scheduler_->List(*request));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ControllerServiceImpl::Diagnose(grpc::CallbackServerContext* context,
                                                          const v1::DiagnoseRequest* request,
                                                          v1::DiagnoseResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  executor_.Post([this, reactor, response] {
    const auto add = [response](const std::vector<v1::Diagnosis>& diagnoses) {
      for (const v1::Diagnosis& each : diagnoses) *response->add_diagnoses() = each;
    };
    const std::optional<Pull> pull = lever_.Pulled();
    add({DiagnoseLever(pull.has_value() ? std::make_optional(pull->Words()) : std::nullopt)});
    add(DiagnoseInjectors(runs_.aftermath().Complete(fleet_.Seen())));
    add(DiagnoseLeft(runs_.aftermath().left()));
    add(DiagnoseUnwritten(runs_.aftermath().unwritten()));
    if (scheduler_ != nullptr) {
      if (const auto experiments = scheduler_->List({}); experiments.ok())
        add(DiagnoseSchedules(*experiments));
    }
    executor_.Block(
        [this, add] {
          if (of_itself_) add(of_itself_());
          add(LookAtMonitoring(runs_.site(), executor_.clock()));
        },
        [reactor] { reactor->Finish(grpc::Status::OK); });
  });
  return reactor;
}

absl::Status ControllerServiceImpl::HasSchedules() const {
  if (scheduler_ != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this controller lives for one run only, and keeps no definitions");
}

}  // namespace firedrill
