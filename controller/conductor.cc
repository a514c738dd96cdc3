// Acts out one run.
#include "controller/conductor.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill {
namespace {

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

constexpr char kSource[] = "controller";

}  // namespace

Conductor::Conductor(Executor& executor, Store& store, Fleet& fleet,
                     std::unique_ptr<Surroundings> surroundings, Watchers watchers)
    : executor_(executor),
      store_(store),
      fleet_(fleet),
      surroundings_(std::move(surroundings)),
      watchers_(std::move(watchers)) {}

Conductor::~Conductor() {
  *alive_ = false;
  for (const auto& [name, timer] : timers_) executor_.Cancel(timer);
  fleet_.Unsubscribe(run_);
}

absl::Status Conductor::Begin(v1::RunCreated created) {
  run_ = created.plan().run();
  created_ = created;
  begin_wall_ = executor_.clock().Now();
  begin_boot_ = executor_.clock().Boot();
  created.set_boot_id(BootId());
  *created.mutable_boot() = ToProto(begin_boot_);
  FleetListener listener;
  listener.report = [this](v1::Event event) { return Record(std::move(event)); };
  listener.node = [this](const v1::NodeReport& report) {
    v1::Event event;
    *event.mutable_node() = report;
    Record(std::move(event));
  };
  fleet_.Subscribe(run_, std::move(listener));
  v1::Event event;
  *event.mutable_created() = std::move(created);
  if (!Record(std::move(event))) {
    fleet_.Unsubscribe(run_);
    return Annotate(store_status_, "starting a run");
  }
  return absl::OkStatus();
}

void Conductor::Stop(v1::StopRequested stop) {
  if (finished()) return;
  // Who asks again for the same reason changes nothing.
  if (state_.stop.has_value() && state_.stop->cause() == stop.cause()) return;
  v1::Event event;
  *event.mutable_stop() = std::move(stop);
  Record(std::move(event));
}

bool Conductor::Record(v1::Event event) {
  if (finished()) return true;
  queue_.push_back(std::move(event));
  if (recording_) return true;  // The loop below is further up the stack.
  recording_ = true;
  while (!queue_.empty() && !finished()) {
    v1::Event next = std::move(queue_.front());
    queue_.pop_front();
    if (next.source().empty()) next.set_source(kSource);
    next.set_run(run_);
    next.set_seq(next_seq_);
    next.set_epoch(fleet_.options().epoch);
    *next.mutable_at() = ToProto(begin_wall_ + (executor_.clock().Boot() - begin_boot_));
    if (store_status_.ok()) {
      const absl::Status appended = store_.Append(run_, next_seq_, fleet_.options().epoch, {next});
      if (!appended.ok()) {
        store_status_ = appended;
        spdlog::error("run {}: {}", run_, appended);
        if (next.has_created()) {
          recording_ = false;
          return false;
        }
        // What has been done must be undone, written down or not: go on in memory, and stop.
        StopForLostStore();
      }
    }
    ++next_seq_;
    Fold(next);
  }
  recording_ = false;
  return true;
}

void Conductor::StopForLostStore() {
  v1::Event event;
  event.mutable_stop()->set_cause(v1::StopRequested::CAUSE_SHUTDOWN);
  event.mutable_stop()->set_by("controller");
  event.mutable_stop()->set_reason(
      absl::StrCat("the history cannot be written: ", store_status_.message()));
  queue_.push_front(std::move(event));
}

void Conductor::Fold(const v1::Event& event) {
  Step step = Advance(created_.plan(), std::move(state_), event);
  state_ = std::move(step.state);
  if (watchers_.event) watchers_.event(event);
  if (event.has_command()) fleet_.Send(event.command().command());
  for (Action& action : step.actions) Do(std::move(action));
  if (finished()) {
    for (const auto& [name, timer] : timers_) executor_.Cancel(timer);
    timers_.clear();
    surroundings_->StopProbes();
    fleet_.Unsubscribe(run_);
    if (watchers_.finished) watchers_.finished();
  }
}

void Conductor::Do(Action action) {
  std::visit(Overloaded{
                 [this](StartPreflight&) { surroundings_->Preflight(created_, Sink()); },
                 [this](StartProbes&) { surroundings_->StartProbes(created_, Sink()); },
                 [this](StopProbes&) { surroundings_->StopProbes(); },
                 [this](SetTimer& timer) {
                   executor_.Cancel(std::exchange(timers_[timer.name], 0));
                   timers_[timer.name] =
                       executor_.After(timer.delay, [this, alive = alive_, name = timer.name] {
                         if (!*alive) return;
                         timers_.erase(name);
                         v1::Event event;
                         event.mutable_timer()->set_name(name);
                         Record(std::move(event));
                       });
                 },
                 [this](CancelTimer& timer) {
                   auto found = timers_.find(timer.name);
                   if (found == timers_.end()) return;
                   executor_.Cancel(found->second);
                   timers_.erase(found);
                 },
                 [this](Issue& issue) {
                   v1::CommandId& id = *issue.command.mutable_id();
                   id.set_group(fleet_.options().group);
                   id.set_epoch(fleet_.options().epoch);
                   id.set_run(run_);
                   v1::Event event;
                   *event.mutable_command()->mutable_command() = std::move(issue.command);
                   queue_.push_back(std::move(event));
                 },
                 [this](EnterPhase& phase) {
                   v1::Event event;
                   event.mutable_phase()->set_phase(phase.phase);
                   event.mutable_phase()->set_reason(phase.reason);
                   queue_.push_back(std::move(event));
                 },
                 [this](Announce& announce) {
                   surroundings_->Announce(created_, announce.what, announce.detail, Sink());
                 },
                 [this](firedrill::Stop& stop) {
                   v1::Event event;
                   *event.mutable_stop() = std::move(stop.stop);
                   queue_.push_back(std::move(event));
                 },
                 [this](Finish& finish) {
                   v1::Event event;
                   *event.mutable_finished() = std::move(finish.finished);
                   queue_.push_back(std::move(event));
                 },
             },
             action);
}

Surroundings::Sink Conductor::Sink() {
  return [this, alive = alive_](v1::Event event) {
    if (*alive) Record(std::move(event));
  };
}

}  // namespace firedrill
