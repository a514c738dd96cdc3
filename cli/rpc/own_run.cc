// Starts one run at a controller, owns it, shows it.
#include "cli/rpc/own_run.h"

#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace firedrill {
namespace {

constexpr absl::Duration kBeatEvery = absl::Seconds(1);
constexpr absl::Duration kTick = absl::Milliseconds(200);
// No answer to a beat for so long: the controller hangs.
constexpr absl::Duration kControllerSilence = absl::Seconds(6);
constexpr absl::Duration kPlanWithin = absl::Seconds(60);
// A controller that goes on with a run waits as long for its client.
constexpr absl::Duration kComesBackWithin = absl::Seconds(10);

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// What interrupted the run, behind "stopped by".
const char* SignalWords(int signal) {
  return signal == SIGINT   ? "Ctrl-C"
         : signal == SIGHUP ? "the loss of its terminal"
                            : "a request to end (SIGTERM)";
}

// What the reading thread has received, and a descriptor that says so.
class Inbox {
 public:
  Inbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  void Add(v1::OwnRunResponse response) {
    MutexLock lock(mutex_);
    received_.push_back(std::move(response));
    Wake();
  }
  void End() {
    MutexLock lock(mutex_);
    ended_ = true;
    Wake();
  }
  // Everything received so far; `ended` once nothing more will come.
  std::deque<v1::OwnRunResponse> Take(bool* ended) {
    uint64_t count = 0;
    (void)!read(wake_.get(), &count, sizeof(count));
    MutexLock lock(mutex_);
    *ended = ended_;
    return std::exchange(received_, {});
  }
  int fd() const { return wake_.get(); }

 private:
  void Wake() {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));
  }
  UniqueFd wake_;
  Mutex mutex_;
  std::deque<v1::OwnRunResponse> received_ FD_GUARDED_BY(mutex_);
  bool ended_ FD_GUARDED_BY(mutex_) = false;
};

// What is to be sent. Sending blocks as long as the controller hangs, so it has a thread of its
// own.
class Outbox {
 public:
  void Add(v1::OwnRunRequest request) {
    MutexLock lock(mutex_);
    waiting_.push_back(std::move(request));
    changed_.NotifyAll();
  }
  void End() {
    MutexLock lock(mutex_);
    ended_ = true;
    changed_.NotifyAll();
  }
  // Blocks until there is one, or until End().
  std::optional<v1::OwnRunRequest> Take() {
    MutexLock lock(mutex_);
    while (waiting_.empty() && !ended_) changed_.Wait(mutex_);
    if (ended_) return std::nullopt;
    v1::OwnRunRequest request = std::move(waiting_.front());
    waiting_.pop_front();
    return request;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<v1::OwnRunRequest> waiting_ FD_GUARDED_BY(mutex_);
  bool ended_ FD_GUARDED_BY(mutex_) = false;
};

}  // namespace

void BlockSignals() {
  const sigset_t set = Signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

Interrupts::Interrupts() {
  const sigset_t set = Signals();
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

void Interrupts::Take(const std::function<void(const std::string&)>& say,
                      const std::function<void(int signal)>& first) {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    ++count_;
    if (count_ == 1) {
      say("interrupted: every fault is being undone; wait for the end");
      if (first) first(static_cast<int>(info.ssi_signo));
    } else if (count_ == 2) {
      say("still undoing; once more to leave without waiting (the undoing goes on without you)");
    }
  }
}

namespace {

// One stream, from its first message to its end.
void Talk(const ControllerAddress& at, const v1::OwnRunRequest& first, const std::string& owner,
          const OwnerDuties& duties, Interrupts& interrupts, OwnedRun& owned) {
  const auto dialled = Dial(at);
  if (!dialled.ok()) {
    owned.status = dialled.status();
    return;
  }
  const auto& stub = *dialled;
  grpc::ClientContext context;
  Outbox outbox;
  v1::OwnRunRequest request;
  outbox.Add(first);
  if (first.has_resume() && interrupts.any()) {
    request.mutable_stop()->set_cause(v1::StopRequested::CAUSE_INTERRUPT);
    request.mutable_stop()->set_by(owner);
    request.mutable_stop()->set_reason("an interruption while the controller was away");
    outbox.Add(request);
  }

  Inbox inbox;
  // Whatever may block on a controller that hangs is done there; TryCancel() ends it.
  std::thread talking([&] {
    const auto stream = stub->OwnRun(&context);
    std::thread writing([&] {
      while (const std::optional<v1::OwnRunRequest> next = outbox.Take()) {
        if (!stream->Write(*next)) return;
      }
    });
    while (true) {
      v1::OwnRunResponse response;
      if (!stream->Read(&response)) break;
      inbox.Add(std::move(response));
    }
    outbox.End();
    writing.join();
    owned.status = FromGrpc(stream->Finish());
    inbox.End();
  });

  absl::Time heard = absl::Now(), beat = absl::Now(), tick = absl::Now();
  uint64_t beats = 0;
  bool ended = false, hung = false;
  while (!ended) {
    pollfd polled[] = {{interrupts.fd(), POLLIN, 0}, {inbox.fd(), POLLIN, 0}};
    poll(polled, 2, static_cast<int>(absl::ToInt64Milliseconds(kTick)));
    for (v1::OwnRunResponse& response : inbox.Take(&ended)) {
      heard = absl::Now();
      if (response.has_event()) {
        if (duties.event) duties.event(response.event());
        owned.history.push_back(std::move(*response.mutable_event()));
      } else if (response.has_judgement()) {
        owned.judgement = std::move(*response.mutable_judgement());
      }
    }
    interrupts.Take(duties.say, [&](int signal) {
      request.Clear();
      request.mutable_stop()->set_cause(v1::StopRequested::CAUSE_INTERRUPT);
      request.mutable_stop()->set_by(owner);
      request.mutable_stop()->set_reason(SignalWords(signal));
      outbox.Add(request);
    });
    if (interrupts.leave() || (duties.leave && duties.leave())) context.TryCancel();
    if (absl::Now() - beat >= kBeatEvery) {
      beat = absl::Now();
      request.Clear();
      request.mutable_beat()->set_number(++beats);
      outbox.Add(request);
    }
    if (absl::Now() - tick >= kTick) {
      tick = absl::Now();
      if (duties.tick) duties.tick();
    }
    if (!hung && absl::Now() - heard > kControllerSilence) {
      hung = true;
      duties.say(absl::StrCat("the controller has not answered for ",
                              firedrill::FormatDuration(kControllerSilence),
                              "; its injectors undo everything by themselves"));
      if (duties.controller_hangs) duties.controller_hangs();
      context.TryCancel();
    }
  }
  talking.join();
  if (hung) owned.status = absl::UnavailableError("the controller did not answer");
}

}  // namespace

OwnedRun OwnRun(const ControllerAddress& at, const v1::StartRun& start, const OwnerDuties& duties,
                Interrupts& interrupts) {
  OwnedRun owned;
  v1::OwnRunRequest request;
  *request.mutable_start() = start;
  Talk(at, request, start.owner(), duties, interrupts, owned);
  const bool comes_back = !absl::StartsWith(at.address, "unix:");
  absl::Time until = absl::Now() + kComesBackWithin;
  bool said = false;
  while (comes_back && !owned.judgement.has_value() && !owned.history.empty() &&
         absl::IsUnavailable(owned.status) && !interrupts.leave() && absl::Now() < until) {
    const uint64_t next = owned.history.back().seq() + 1;
    const std::string run = owned.history.front().run();
    if (!std::exchange(said, true)) {
      duties.say(absl::StrCat("the connection to the controller was lost; looking for ",
                              firedrill::FormatDuration(kComesBackWithin),
                              " whether it comes back and goes on with run ", run));
    }
    absl::SleepFor(kTick);
    request.Clear();
    request.mutable_resume()->set_run(run);
    request.mutable_resume()->set_from_seq(next);
    Talk(at, request, start.owner(), duties, interrupts, owned);
    if (owned.history.back().seq() < next) continue;
    until = absl::Now() + kComesBackWithin;
    said = false;
  }
  if (owned.judgement.has_value()) owned.status = absl::OkStatus();
  return owned;
}

absl::StatusOr<v1::Plan> AskPlan(const ControllerAddress& at, const v1::PlanRunRequest& request) {
  const auto dialled = Dial(at);
  if (!dialled.ok()) return dialled.status();
  const auto& stub = *dialled;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPlanWithin));
  v1::PlanRunResponse response;
  grpc::Status status;
  const UniqueFd answered(eventfd(0, EFD_CLOEXEC));
  std::thread asking([&] {
    status = stub->PlanRun(&context, request, &response);
    const uint64_t one = 1;
    (void)!write(answered.get(), &one, sizeof(one));
  });
  const Interrupts interrupts;
  pollfd polled[] = {{interrupts.fd(), POLLIN, 0}, {answered.get(), POLLIN, 0}};
  while (poll(polled, 2, -1) < 0 && errno == EINTR) {
  }
  const bool interrupted = polled[1].revents == 0;
  if (interrupted) context.TryCancel();
  asking.join();
  if (interrupted) return absl::CancelledError("interrupted; nothing was touched");
  if (!status.ok()) return FromGrpc(status);
  return std::move(*response.mutable_plan());
}

}  // namespace firedrill
