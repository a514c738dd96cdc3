// Loads, remedies and probes that run on this node.
#include "injector/node_work.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "injector/policy.h"

namespace firedrill {
namespace {

// Loads, probes and remedies of one node at once.
constexpr size_t kMostJobs = 256;
constexpr size_t kMostRemembered = 4096;
constexpr absl::Duration kWatchEvery = absl::Milliseconds(500);

std::string IdKey(const v1::CommandId& id) {
  return absl::StrCat(id.group(), "\n", id.epoch(), "\n", id.run(), "\n", id.name(), "\n",
                      id.verb(), "\n", id.attempt());
}

}  // namespace

NodeWork::NodeWork(Executor& executor, const v1::NodeSpec& node, WorkFactories factories,
                   MayBegin may_begin, Sink report, Options options)
    : executor_(executor),
      node_(node),
      factories_(std::move(factories)),
      may_begin_(std::move(may_begin)),
      report_(std::move(report)),
      options_(std::move(options)),
      renewed_(executor.clock().Boot()) {
  watch_timer_ = executor_.After(kWatchEvery, [this, alive = alive_] {
    if (*alive) OnWatch();
  });
}

NodeWork::~NodeWork() {
  *alive_ = false;
  executor_.Cancel(watch_timer_);
  for (auto& [key, job] : jobs_) {
    job.stop.request_stop();
    executor_.Cancel(job.end_timer);
  }
}

void NodeWork::Handle(const v1::Command& command) {
  const v1::CommandId& id = command.id();
  const std::string id_key = IdKey(id);
  const auto known = answered_.find(id_key);
  if (known != answered_.end()) {
    // Commands that have no answer of their own are remembered all the same.
    if (known->second.has_event()) report_(known->second);
    return;
  }
  answered_[id_key] = v1::Report();
  answered_order_.push_back(id_key);
  if (answered_order_.size() > kMostRemembered) {
    answered_.erase(answered_order_.front());
    answered_order_.pop_front();
  }
  switch (command.action_case()) {
    case v1::Command::kStartLoad:
      return StartLoad(id, command.start_load());
    case v1::Command::kStartProbe:
      return StartProbe(id, command.start_probe());
    case v1::Command::kRunRemedy:
      return RunRemedy(id, command.run_remedy());
    case v1::Command::kStopLoad:
      return Stop({id.run(), Kind::kLoad, command.stop_load().load()}, "");
    case v1::Command::kStopProbe:
      return Stop({id.run(), Kind::kProbe, command.stop_probe().probe()}, "");
    case v1::Command::kStopRemedy:
      return Stop({id.run(), Kind::kRemedy, command.stop_remedy().remedy()}, "");
    default:
      return;
  }
}

// ------------------------------------------------------------------ starting

NodeWork::Job& NodeWork::Add(const Key& key, const v1::CommandId& id, absl::Duration remaining) {
  Job& job = jobs_[key];
  job.serial = next_serial_++;
  job.id = id;
  if (std::get<1>(key) != Kind::kRemedy) {
    job.end_timer = executor_.After(remaining, [this, alive = alive_, key, serial = job.serial] {
      if (*alive && Find(key, serial) != nullptr) Stop(key, "its time is over");
    });
  }
  // A command comes from a controller that is there: what it starts gets a whole lease.
  renewed_ = executor_.clock().Boot();
  return job;
}

NodeWork::Job* NodeWork::Find(const Key& key, uint64_t serial) {
  const auto found = jobs_.find(key);
  return found == jobs_.end() || found->second.serial != serial ? nullptr : &found->second;
}

template <typename What>
std::function<void(What)> NodeWork::SinkFor(const Key& key, uint64_t serial,
                                            void (*put)(v1::Event&, What)) {
  return [this, alive = alive_, executor = &executor_, key, serial, put](What what) {
    executor->Post([this, alive, key, serial, put, what = std::move(what)]() mutable {
      if (!*alive || Find(key, serial) == nullptr) return;
      v1::Event event;
      put(event, std::move(what));
      Send(std::get<0>(key), std::move(event), nullptr);
    });
  };
}

void NodeWork::StartLoad(const v1::CommandId& id, const v1::StartLoad& start) {
  const std::string& name = start.load().name();
  const Key key(id.run(), Kind::kLoad, name);
  if (jobs_.count(key) > 0) return SendLoad(id, name, true, "");
  absl::Status may = may_begin_(id.run());
  if (may.ok()) may = PermitsLoad(node_, start.load());
  if (may.ok() && jobs_.size() >= kMostJobs)
    may = absl::ResourceExhaustedError("too much runs here already");
  if (may.ok() && FromProto(start.remaining()) <= absl::ZeroDuration()) {
    may = absl::DeadlineExceededError("its time was over before the command came");
  }
  if (!may.ok()) return SendLoad(id, name, false, std::string(may.message()));
  Job& job = Add(key, id, FromProto(start.remaining()));
  const auto started = std::make_shared<absl::StatusOr<WorkFactories::Handle>>(
      absl::UnavailableError("it was not started"));
  auto sink = SinkFor<v1::LoadWindow>(key, job.serial, [](v1::Event& event, v1::LoadWindow window) {
    *event.mutable_load() = std::move(window);
  });
  executor_.Block([make = factories_.load, start, sink, started] { *started = make(start, sink); },
                  [this, alive = alive_, key, serial = job.serial, started] {
                    if (*alive) OnStarted(key, serial, started);
                  });
}

void NodeWork::StartProbe(const v1::CommandId& id, const v1::StartProbe& start) {
  const std::string& name = start.probe().id();
  const Key key(id.run(), Kind::kProbe, name);
  if (jobs_.count(key) > 0) return;
  absl::Status may = may_begin_(id.run());
  if (may.ok()) may = PermitsProbe(node_, start.probe());
  if (may.ok() && jobs_.size() >= kMostJobs)
    may = absl::ResourceExhaustedError("too much runs here already");
  if (may.ok() && FromProto(start.remaining()) <= absl::ZeroDuration()) {
    may = absl::DeadlineExceededError("its time was over before the command came");
  }
  if (!may.ok()) return SendUnknown(id, name, std::string(may.message()));
  Job& job = Add(key, id, FromProto(start.remaining()));
  const auto started = std::make_shared<absl::StatusOr<WorkFactories::Handle>>(
      absl::UnavailableError("it was not started"));
  auto sink = SinkFor<v1::Sample>(key, job.serial, [](v1::Event& event, v1::Sample sample) {
    *event.mutable_sample() = std::move(sample);
  });
  executor_.Block([make = factories_.probe, run = id.run(), start, sink,
                   started] { *started = make(run, start, sink); },
                  [this, alive = alive_, key, serial = job.serial, started] {
                    if (*alive) OnStarted(key, serial, started);
                  });
}

void NodeWork::OnStarted(const Key& key, uint64_t serial, const Started& started) {
  Job* job = Find(key, serial);
  if (job == nullptr) {
    // It was stopped while it started.
    if (started->ok()) LetGo(std::move(**started));
    return;
  }
  const bool load = std::get<1>(key) == Kind::kLoad;
  const v1::CommandId id = job->id;
  if (started->ok()) {
    job->handle = std::move(**started);
    if (load) SendLoad(id, std::get<2>(key), true, "");
    return;
  }
  executor_.Cancel(job->end_timer);
  jobs_.erase(key);
  const std::string why(started->status().message());
  if (load) {
    SendLoad(id, std::get<2>(key), false, why);
  } else {
    SendUnknown(id, std::get<2>(key), why);
  }
}

void NodeWork::RunRemedy(const v1::CommandId& id, const v1::RunRemedy& run) {
  const v1::PlannedRemedy& remedy = run.remedy();
  const Key key(id.run(), Kind::kRemedy, remedy.name());
  v1::RemedyReport report;
  report.set_remedy(remedy.name());
  absl::Status may = may_begin_(id.run());
  if (may.ok() && jobs_.count(key) > 0) may = absl::AlreadyExistsError("it is running already");
  if (may.ok() && jobs_.size() >= kMostJobs)
    may = absl::ResourceExhaustedError("too much runs here already");
  const absl::StatusOr<v1::Leaves> leaves =
      may.ok() ? factories_.leaves(remedy) : absl::StatusOr<v1::Leaves>(may);
  may = leaves.ok() ? PermitsRemedy(node_, remedy, *leaves) : leaves.status();
  if (!may.ok()) {
    report.set_state(v1::REMEDY_STATE_FAILED);
    report.set_output(std::string(may.message()));
    return SendRemedy(id, std::move(report));
  }
  Job& job = Add(key, id, absl::InfiniteDuration());
  report.set_state(v1::REMEDY_STATE_RUNNING);
  report.set_leaves(*leaves);
  SendRemedy(id, report);
  const auto result = std::make_shared<v1::RemedyReport>(report);
  executor_.Block([make = factories_.remedy, id, run, result,
                   token = job.stop.get_token()] { *result = make(id.run(), run, token); },
                  [this, alive = alive_, key, serial = job.serial, id, result] {
                    if (!*alive) return;
                    // Also when nobody waits for it any more: that it ended is worth knowing.
                    if (Find(key, serial) != nullptr) jobs_.erase(key);
                    SendRemedy(id, std::move(*result));
                  });
}

// ------------------------------------------------------------------- ending

void NodeWork::LetGo(WorkFactories::Handle handle) {
  if (handle == nullptr) return;
  auto last = std::make_shared<WorkFactories::Handle>(std::move(handle));
  executor_.Block([last = std::move(last)] { last->reset(); }, {});
}

void NodeWork::Stop(const Key& key, const std::string& reason) {
  const auto found = jobs_.find(key);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  job.stop.request_stop();
  // A remedy says itself when and how it ended.
  if (std::get<1>(key) == Kind::kRemedy) return;
  executor_.Cancel(job.end_timer);
  const v1::CommandId id = job.id;
  LetGo(std::move(job.handle));
  jobs_.erase(found);
  if (std::get<1>(key) == Kind::kLoad) return SendLoad(id, std::get<2>(key), false, reason);
  // Whoever waits for answers is told why there are none.
  if (!reason.empty()) SendUnknown(id, std::get<2>(key), reason);
}

void NodeWork::End(const std::string& reason, const std::set<std::string>& kept) {
  std::vector<Key> keys;
  for (const auto& [key, job] : jobs_) {
    if (kept.count(std::get<0>(key)) == 0) keys.push_back(key);
  }
  for (const Key& key : keys) Stop(key, reason);
}

void NodeWork::FindSubjects(const v1::SubjectsAsked& asked,
                            std::function<void(v1::SubjectsTold)> told) {
  const auto answer = std::make_shared<v1::SubjectsTold>();
  answer->set_number(asked.number());
  executor_.Block(
      [find = factories_.subjects, asked, answer] {
        if (!find) return;
        for (v1::Subject& subject : find(asked)) *answer->add_subjects() = std::move(subject);
      },
      [alive = alive_, answer, told = std::move(told)] {
        if (*alive) told(std::move(*answer));
      });
}

void NodeWork::Renew() { renewed_ = executor_.clock().Boot(); }

void NodeWork::OnWatch() {
  watch_timer_ = executor_.After(kWatchEvery, [this, alive = alive_] {
    if (*alive) OnWatch();
  });
  LookForStop();
  if (jobs_.empty() || executor_.clock().Boot() - renewed_ < options_.lease) return;
  EndAndStopRuns(absl::StrCat("nothing was heard of the controller for ",
                              firedrill::FormatDuration(options_.lease)));
}

void NodeWork::LookForStop() {
  if (jobs_.empty() || !options_.stopped) return;
  if (const std::string why = options_.stopped(); !why.empty()) EndAndStopRuns(why);
}

void NodeWork::EndAndStopRuns(const std::string& reason) {
  if (options_.stop_run) {
    for (const std::string& run : runs()) options_.stop_run(run, reason);
  }
  End(reason);
}

bool NodeWork::remedies() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& job) { return std::get<1>(job.first) == Kind::kRemedy; });
}

std::vector<std::string> NodeWork::runs() const {
  std::set<std::string> runs;
  for (const auto& [key, job] : jobs_) runs.insert(std::get<0>(key));
  return {runs.begin(), runs.end()};
}

// ------------------------------------------------------------------ reports

void NodeWork::SendLoad(const v1::CommandId& id, const std::string& load, bool running,
                        const std::string& reason) {
  v1::Event event;
  event.mutable_load_report()->set_load(load);
  event.mutable_load_report()->set_node(node_.name());
  event.mutable_load_report()->set_running(running);
  event.mutable_load_report()->set_reason(reason);
  Send(id.run(), std::move(event), &id);
}

void NodeWork::SendUnknown(const v1::CommandId& id, const std::string& probe,
                           const std::string& why) {
  v1::Event event;
  event.mutable_sample()->set_probe(probe);
  event.mutable_sample()->set_unknown(why);
  *event.mutable_sample()->mutable_asked() = ToProto(executor_.clock().Now());
  Send(id.run(), std::move(event), &id);
}

void NodeWork::SendRemedy(const v1::CommandId& id, v1::RemedyReport report) {
  report.set_node(node_.name());
  v1::Event event;
  *event.mutable_remedy() = std::move(report);
  Send(id.run(), std::move(event), &id);
}

void NodeWork::Send(const std::string& run, v1::Event event, const v1::CommandId* answers) {
  v1::Report report;
  *report.mutable_event() = std::move(event);
  report.mutable_event()->set_run(run);
  *report.mutable_event()->mutable_source_time() = ToProto(executor_.clock().Now());
  if (answers != nullptr) {
    *report.mutable_answers() = *answers;
    const auto known = answered_.find(IdKey(*answers));
    if (known != answered_.end()) known->second = report;
  }
  report_(std::move(report));
}

}  // namespace firedrill
