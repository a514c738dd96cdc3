// Faults of the simulation: the real life of a fault, stepped by events instead of a thread, over a
// system that is a few maps. What dies with a process is in one map, what lasts is in the other.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "base/time_proto.h"
#include "injector/fault_life.h"
#include "injector/node_work.h"
#include "injector/running_fault.h"
#include "injector/undo.h"

namespace firedrill {

// The system under test. All of one simulation; single-threaded.
struct SimSystem {
  // "run/fault" → the node whose process holds it.
  std::map<std::string, std::string> held;
  // Lasting settings: resource → value.
  std::map<std::string, std::string> settings;
  // How often each "run/fault" was applied.
  std::map<std::string, int> applies;
  // Called when one is about to be applied. May be empty.
  std::function<void(const std::string& key)> on_apply;
  // Resources that cannot be put back now.
  std::set<std::string> cannot_undo;

  // Everything of this system's faults is gone.
  bool Clean(const std::string& before = "normal") const {
    for (const auto& [resource, value] : settings) {
      if (value != before) return false;
    }
    return held.empty();
  }
  // The kernel closes what a dead process held.
  void ProcessDied(const std::string& node) {
    std::erase_if(held, [&](const auto& entry) { return entry.second == node; });
  }
};

// The settings that undo functions see; set by whoever owns the simulation.
inline SimSystem*& CurrentSimSystem() {
  static SimSystem* system = nullptr;
  return system;
}

// `inline`, so that it is registered once however many files include this one.
inline const UndoRegistration kSimUndo("sim", [](const Undo& undo, std::string* why) {
  SimSystem* const system = CurrentSimSystem();
  if (system == nullptr) {
    *why = "there is no system";
    return UndoResult::kFailed;
  }
  if (system->cannot_undo.count(undo.resource) > 0) {
    *why = absl::StrCat(undo.resource, " cannot be written");
    return UndoResult::kFailed;
  }
  std::string& now = system->settings[undo.resource];
  if (now == undo.before) return UndoResult::kUntouched;
  if (now != undo.after) {
    *why = absl::StrCat(undo.resource, " is ", now, ", set by somebody else");
    return UndoResult::kSuperseded;
  }
  now = undo.before;
  return UndoResult::kRestored;
});

// How the next faults behave; read at each call.
struct SimFaultScript {
  absl::Status validate, prepare, apply, observe, read_back;
  // Observations until the magnitude is reached.
  int observations_until_reached = 0;
  // Makes a lasting change, too: of `setting`, or of "<node>/setting" where that is empty.
  bool lasting = false;
  std::string setting;
  // Has something to say of its last moment.
  bool counts = false;
  // Called in Apply(), after the change.
  std::function<void()> applied;
  // What the look after the undo tells; empty: nothing.
  std::string after;
};

class SimFault final : public Fault, public Prepares, public TellsAfter, public Counts {
 public:
  SimFault(SimSystem& system, const SimFaultScript& script, std::string key, std::string node)
      : system_(system), script_(script), key_(std::move(key)), node_(std::move(node)) {}

  absl::Status Validate(const Node&) const override { return script_.validate; }
  absl::Status Prepare(const Context&, Node&) override { return script_.prepare; }
  absl::Status Apply(const Context&, Node&, Changes& changes) override {
    ++system_.applies[key_];
    if (system_.on_apply) system_.on_apply(key_);
    system_.held[key_] = node_;
    if (script_.lasting) {
      const std::string resource = Setting();
      std::string& setting = system_.settings.emplace(resource, "normal").first->second;
      const std::string broken = Broken();
      const absl::Status made = changes.Make(
          {"sim", resource, setting, broken, absl::StrCat("set ", resource, " normal")}, [&] {
            setting = broken;
            return absl::OkStatus();
          });
      if (!made.ok()) return made;
    }
    if (script_.applied) script_.applied();
    return script_.apply;
  }
  absl::StatusOr<v1::Observation> Observe(const Context&, const Node&) const override {
    if (!script_.observe.ok()) return script_.observe;
    v1::Observation observation;
    observation.set_requested(1);
    observation.set_real(system_.held.count(key_) > 0 ? 1 : 0);
    observation.set_reached(observation.real() == 1 &&
                            observed_++ >= script_.observations_until_reached);
    observation.set_subject(absl::StrCat("sim/", node_));
    return observation;
  }
  std::optional<v1::Observation> After() const override {
    if (script_.after.empty()) return std::nullopt;
    v1::Observation after;
    after.set_detail(script_.after);
    return after;
  }
  absl::StatusOr<v1::Observation> LastCount() const override {
    if (!script_.counts) return absl::UnimplementedError("it counts nothing");
    v1::Observation observation;
    observation.set_real(static_cast<double>(system_.held.count(key_)));
    observation.set_detail("counted");
    return observation;
  }
  void Release() override { system_.held.erase(key_); }
  absl::Status ReadBack(const Context&, const Node&) const override {
    if (!script_.read_back.ok()) return script_.read_back;
    if (system_.held.count(key_) > 0) return absl::UnavailableError("it is still held");
    const auto setting = system_.settings.find(Setting());
    if (script_.lasting && setting != system_.settings.end() && setting->second == Broken()) {
      return absl::UnavailableError(absl::StrCat(setting->first, " is still ", setting->second));
    }
    return absl::OkStatus();
  }

 private:
  std::string Setting() const {
    return script_.setting.empty() ? absl::StrCat(node_, "/setting") : script_.setting;
  }
  std::string Broken() const { return absl::StrCat("broken by ", key_); }

  SimSystem& system_;
  const SimFaultScript& script_;
  const std::string key_;
  const std::string node_;
  mutable int observed_ = 0;
};

// The same steps in the same order as on a thread, each as one piece of blocking work.
class SimRunningFault final : public RunningFault {
 public:
  // `killed`: its process was; nothing is undone when this object goes. May be empty.
  SimRunningFault(Executor& executor, std::unique_ptr<FaultLife> life, FaultNews news,
                  std::shared_ptr<const bool> killed = nullptr)
      : executor_(executor),
        life_(std::move(life)),
        news_(std::move(news)),
        killed_(std::move(killed)) {}
  ~SimRunningFault() override {
    *alive_ = false;
    if (busy_ || (killed_ != nullptr && *killed_)) return;
    life_->End({});
  }

  void Prepare() override { Want(prepare_); }
  void Apply(absl::Duration ends_at) override {
    ends_at_ = ends_at;
    Want(apply_);
  }
  void Adopt() override { life_->Adopt(); }
  void Revert() override { Want(revert_); }

 private:
  void Want(bool& what) {
    what = true;
    Pump();
  }
  // One piece of work at a time, as on the fault's own thread.
  void Do(std::function<void()> work, std::function<void()> done) {
    busy_ = true;
    executor_.Block(
        [alive = alive_, work = std::move(work)] {
          if (*alive) work();
        },
        [this, alive = alive_, done = std::move(done)] {
          if (!*alive) return;
          busy_ = false;
          done();
          if (*alive) Pump();
        });
  }
  void Later(absl::Duration delay) {
    executor_.After(delay, [this, alive = alive_] {
      if (*alive) Pump();
    });
  }
  void Pump() {
    if (busy_) return;
    if (revert_ || over_) {
      // It looks again at its pace, whoever asks meanwhile.
      if (executor_.clock().Boot() < look_due_) return;
      Do([this] { ended_ = life_->End({}); },
         [this] {
           if (!ended_.has_value()) {
             look_due_ = executor_.clock().Boot() + FaultLife::kLookEvery;
             return Later(FaultLife::kLookEvery);
           }
           revert_ = over_ = active_ = false;
           auto told = news_.ended;
           told(*ended_);
         });
    } else if (std::exchange(prepare_, false)) {
      Do([this] { status_ = life_->Prepare({}); },
         [this] {
           auto told = news_.prepared;
           told(status_);
         });
    } else if (std::exchange(apply_, false)) {
      Do([this] { status_ = life_->Apply({}, ends_at_); },
         [this] {
           active_ = status_.ok();
           over_ = !status_.ok();
           due_ = executor_.clock().Boot();
           auto told = news_.applied;
           told(status_, executor_.clock().Now());
         });
    } else if (active_ && executor_.clock().Boot() >= ends_at_) {
      over_ = true;
      Pump();
    } else if (active_ && executor_.clock().Boot() >= due_) {
      Do([this] { turn_ = life_->Sustain({}); },
         [this] {
           due_ = turn_.next;
           Later(std::min(due_, ends_at_) - executor_.clock().Boot());
           if (!turn_.observed.has_value()) return;
           auto told = news_.observed;
           told(*turn_.observed, executor_.clock().Now());
         });
    }
  }

  Executor& executor_;
  const std::unique_ptr<FaultLife> life_;
  const FaultNews news_;
  const std::shared_ptr<const bool> killed_;
  bool prepare_ = false, apply_ = false, revert_ = false;
  bool active_ = false;
  // Has come to its end without being told to.
  bool over_ = false;
  bool busy_ = false;
  absl::Duration ends_at_ = absl::InfiniteDuration(), due_, look_due_;
  absl::Status status_;
  FaultLife::Turn turn_;
  std::optional<FaultEnd> ended_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// For Injector::Parts::faults. System and script outlive what it returns.
inline std::function<RunningFaultFactory(Executor&, Node&, Journal&)> SimFaults(
    SimSystem& system, const SimFaultScript& script) {
  return
      [&system, &script](Executor& executor, Node& node, Journal& journal) -> RunningFaultFactory {
        return [&](const std::string& run, const v1::PlannedFault& planned,
                   FaultNews news) -> absl::StatusOr<std::unique_ptr<RunningFault>> {
          auto fault = std::make_unique<SimFault>(
              system, script, absl::StrCat(run, "/", planned.name()), node.spec().name());
          auto life = std::make_unique<FaultLife>(run, planned, std::move(fault), node, journal,
                                                  executor.clock());
          return std::make_unique<SimRunningFault>(executor, std::move(life), std::move(news));
        };
      };
}

// Loads and probes that answer at their pace, remedies that take no time of themselves. For
// Injector::Parts::work.
struct SimWorkScript {
  // What every second of a load is like, and every answer of a probe. Empty: all is well.
  std::function<void(v1::LoadWindow&)> window;
  std::function<void(v1::Sample&)> sample;
  // Called as the blocking call is; time goes on if it lets it.
  std::function<void(const std::stop_token&, v1::RemedyReport&)> remedy;
  v1::Leaves leaves = v1::LEAVES_NOTHING;
  // What a fault would hit; empty: something of its own.
  std::function<v1::Subject(const v1::PlannedFault&)> subject;
  // How often each remedy ran, by run and name.
  std::map<std::string, int> remedies;
  // Work that runs now.
  int running = 0;
};

// Calls `task` every `every`, until it is destroyed.
class SimTicker {
 public:
  SimTicker(Executor& executor, absl::Duration every, std::function<void()> task, int& running)
      : executor_(executor), every_(every), task_(std::move(task)), running_(running) {
    ++running_;
    Arm();
  }
  ~SimTicker() {
    *alive_ = false;
    --running_;
  }

 private:
  void Arm() {
    executor_.After(every_, [this, alive = alive_] {
      if (!*alive) return;
      task_();
      if (*alive) Arm();
    });
  }
  Executor& executor_;
  const absl::Duration every_;
  const std::function<void()> task_;
  int& running_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// Executor and script outlive what it returns.
inline auto SimWork(Executor& executor, SimWorkScript& script) {
  return [&executor, &script](const Node&, const std::shared_ptr<Journal>&, const Clock&) {
    WorkFactories work;
    work.load =
        [&](const v1::StartLoad& start,
            std::function<void(v1::LoadWindow)> emit) -> absl::StatusOr<WorkFactories::Handle> {
      const v1::PlannedLoad load = start.load();
      return WorkFactories::Handle(std::make_shared<SimTicker>(
          executor, absl::Seconds(1),
          [&executor, &script, load, emit] {
            for (const v1::RequestShape& shape : load.load().send_requests().requests()) {
              v1::LoadWindow window;
              window.set_load(load.name());
              window.set_request(shape.name());
              *window.mutable_start() = ToProto(executor.clock().Now() - absl::Seconds(1));
              window.mutable_length()->set_seconds(1);
              window.set_due(10);
              window.set_sent(10);
              window.set_ok(10);
              (*window.mutable_latency())[10000] = 10;
              if (script.window) script.window(window);
              emit(window);
            }
          },
          script.running));
    };
    work.probe =
        [&](const std::string&, const v1::StartProbe& start,
            std::function<void(v1::Sample)> emit) -> absl::StatusOr<WorkFactories::Handle> {
      const v1::PlannedProbe probe = start.probe();
      const absl::Duration every = probe.has_every() ? FromProto(probe.every()) : absl::Seconds(1);
      return WorkFactories::Handle(std::make_shared<SimTicker>(
          executor, every,
          [&executor, &script, probe, emit] {
            v1::Sample sample;
            sample.set_probe(probe.id());
            (*sample.mutable_values())["value"] = 0;
            *sample.mutable_asked() = ToProto(executor.clock().Now());
            if (script.sample) script.sample(sample);
            emit(sample);
          },
          script.running));
    };
    work.subjects = [&](const v1::SubjectsAsked& asked) {
      std::vector<v1::Subject> subjects;
      for (const v1::PlannedFault& fault : asked.faults()) {
        subjects.push_back(script.subject ? script.subject(fault) : v1::Subject());
      }
      return subjects;
    };
    work.leaves = [&](const v1::PlannedRemedy&) -> absl::StatusOr<v1::Leaves> {
      return script.leaves;
    };
    work.remedy = [&](const std::string&, const v1::RunRemedy& command,
                      const std::stop_token& stop) {
      ++script.remedies[command.remedy().name()];
      v1::RemedyReport report;
      report.set_remedy(command.remedy().name());
      report.set_state(v1::REMEDY_STATE_DONE);
      if (script.remedy) script.remedy(stop, report);
      return report;
    };
    return work;
  };
}

}  // namespace firedrill
