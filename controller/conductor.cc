// Acts out one run.
#include "controller/conductor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/replay.h"

namespace firedrill {
namespace {

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

constexpr char kSource[] = "controller";
constexpr absl::Duration kWriteAgainAfter = absl::Seconds(1);
// Only what ends the run comes after the first of them.
constexpr size_t kMostUnwritten = 10000;

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
  Listen();
  v1::Event event;
  *event.mutable_created() = std::move(created);
  if (!Record(std::move(event))) {
    fleet_.Unsubscribe(run_);
    return Annotate(store_status_, "starting a run");
  }
  return absl::OkStatus();
}

absl::Status Conductor::Resume(const std::vector<v1::Event>& history,
                               const std::optional<v1::StopRequested>& stop) {
  created_ = history.front().created();
  run_ = created_.plan().run();
  begin_wall_ = FromProto(history.front().at());
  begin_boot_ = FromProto(created_.boot());
  Replayed replayed = Replay(history);
  state_ = std::move(replayed.state);
  next_seq_ = history.back().seq() + 1;
  told_ = std::move(replayed.told);
  for (const v1::Event& event : history) memories_.Take(event);
  Listen();
  const absl::Time now = Now();
  for (const auto& [timer, due] : replayed.timers) {
    Arm(timer, std::max(due - now, absl::ZeroDuration()));
  }
  v1::Event resumed;
  *resumed.mutable_resumed()->mutable_gap() = ToProto(now - FromProto(history.back().at()));
  queue_.push_back(std::move(resumed));
  if (stop.has_value()) {
    *queue_.emplace_back().mutable_stop() = *stop;
    DropBeginnings(replayed.decided);
  }
  for (v1::Event& event : replayed.decided) {
    if (event.has_command()) Address(*event.mutable_command()->mutable_command());
    queue_.push_back(std::move(event));
  }
  if (!RecordQueued()) {
    fleet_.Unsubscribe(run_);
    return Annotate(store_status_, absl::StrCat("going on with run ", run_));
  }
  if (finished()) return absl::OkStatus();
  for (v1::Command& command : replayed.unheard) {
    Address(command);
    fleet_.Send(command);
  }
  if (replayed.asking && !state_.everything_stopped) surroundings_->StartProbes(created_, Sink());
  return absl::OkStatus();
}

void Conductor::Listen() {
  FleetListener listener;
  listener.report = [this](v1::Event event) {
    event.set_run(run_);
    if (!told_.empty() && told_.erase(MarkOf(event)) > 0) return true;
    Doubt(event);
    return Record(std::move(event));
  };
  listener.node = [this](const v1::NodeReport& report) {
    v1::Event event;
    *event.mutable_node() = report;
    Record(std::move(event));
  };
  fleet_.Subscribe(run_, std::move(listener));
}

void Conductor::Address(v1::Command& command) const {
  v1::CommandId& id = *command.mutable_id();
  id.set_group(fleet_.options().group);
  id.set_epoch(fleet_.options().epoch);
  id.set_run(run_);
}

absl::Time Conductor::Now() const { return begin_wall_ + (executor_.clock().Boot() - begin_boot_); }

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
  return RecordQueued();
}

bool Conductor::RecordQueued() {
  if (recording_) return true;  // The loop below is further up the stack.
  recording_ = true;
  while (!queue_.empty() && !finished()) {
    v1::Event next = std::move(queue_.front());
    queue_.pop_front();
    if (next.source().empty()) next.set_source(kSource);
    next.set_run(run_);
    next.set_seq(next_seq_);
    next.set_epoch(fleet_.options().epoch);
    *next.mutable_at() = ToProto(Now());
    const absl::Status written = Write(next);
    if (!written.ok() && store_status_.ok()) {
      store_status_ = written;
      spdlog::error("run {}: {}", run_, written);
      // Nothing was done yet that would have to be undone from here.
      if (next.has_created() || next.has_resumed()) {
        unwritten_.clear();
        recording_ = false;
        return false;
      }
      // What has been done must be undone, written down or not: go on in memory, and stop.
      StopForLostStore();
    }
    ++next_seq_;
    Fold(next);
  }
  recording_ = false;
  return true;
}

absl::Status Conductor::Write(const v1::Event& event) {
  if (!writes_) return store_status_;
  unwritten_.push_back(event);
  const absl::Duration now = executor_.clock().Boot();
  if (now < write_again_) return store_status_;
  const absl::Status appended =
      store_.Append(run_, unwritten_.front().seq(), event.epoch(), unwritten_);
  if (appended.ok()) {
    if (!store_status_.ok()) spdlog::info("run {}: its history is written again", run_);
    unwritten_.clear();
    return appended;
  }
  write_again_ = now + kWriteAgainAfter;
  // Another controller writes this run: nothing is wanted from here any more.
  writes_ = !absl::IsAborted(appended) && unwritten_.size() < kMostUnwritten;
  if (!writes_) unwritten_.clear();
  return appended;
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
  memories_.Take(event);
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

void Conductor::Doubt(v1::Event& event) const {
  if (!event.has_fault()) return;
  v1::FaultReport& report = *event.mutable_fault();
  const std::string key = absl::StrCat(report.fault(), "@", report.node());
  if (report.state() != v1::FAULT_STATE_REVERTED ||
      memories_.Knows(fleet_.MemoryOf(report.node()), key)) {
    return;
  }
  report.set_state(v1::FAULT_STATE_STUCK);
  report.set_reason(
      absl::StrCat(report.node(), " came back with another state folder, and knows nothing of it"));
}

void Conductor::Do(Action action) {
  std::visit(Overloaded{
                 [this](StartPreflight&) { surroundings_->Preflight(created_, Sink()); },
                 [this](StartProbes&) { surroundings_->StartProbes(created_, Sink()); },
                 [this](StopProbes&) { surroundings_->StopProbes(); },
                 [this](SetTimer& timer) { Arm(timer.name, timer.delay); },
                 [this](CancelTimer& timer) {
                   auto found = timers_.find(timer.name);
                   if (found == timers_.end()) return;
                   executor_.Cancel(found->second);
                   timers_.erase(found);
                 },
                 [this](Announce& announce) {
                   surroundings_->Announce(created_, announce.what, announce.detail, Sink());
                 },
                 // What is recorded is done when it is folded.
                 [this, &action](auto&) {
                   std::optional<v1::Event> event = RecordOf(action);
                   if (event->has_command()) {
                     v1::Command& command = *event->mutable_command()->mutable_command();
                     Address(command);
                     const std::string& node = command.id().node();
                     const std::string memory = fleet_.MemoryOf(node);
                     if (command.has_apply() && !memory.empty() && memory != memories_.Of(node)) {
                       *queue_.emplace_back().mutable_node() = Memories::Record(node, memory);
                     }
                   }
                   queue_.push_back(*std::move(event));
                 },
             },
             action);
}

void Conductor::Arm(const std::string& timer, absl::Duration delay) {
  executor_.Cancel(std::exchange(timers_[timer], 0));
  timers_[timer] = executor_.After(delay, [this, alive = alive_, timer] {
    if (!*alive) return;
    timers_.erase(timer);
    v1::Event event;
    event.mutable_timer()->set_name(timer);
    Record(std::move(event));
  });
}

Surroundings::Sink Conductor::Sink() {
  return [this, alive = alive_](v1::Event event) {
    if (*alive) Record(std::move(event));
  };
}

}  // namespace firedrill
