// One simulated run from its first event to the last.
#include "tests/simulation/world.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/judge.h"
#include "controller/lost_runs.h"
#include "controller/run_left.h"
#include "tests/simulation/state_text.h"

namespace firedrill::simulation {
namespace {

using absl::Milliseconds;
using absl::Seconds;

// How often everything that is on is looked at.
constexpr absl::Duration kLookEvery = absl::Milliseconds(200);
// From the begin of a run until its nodes are awaited, and preflight has told what it found.
constexpr absl::Duration kBeforeGate = absl::Seconds(12);
// From a run's longest time to its end: reverts that are tried again (5 times 10 s), the leases,
// the last words.
constexpr absl::Duration kTeardown = absl::Seconds(75);
// After everything has healed: the longest lease, and what is stuck is tried again.
constexpr absl::Duration kSettleWithin = absl::Seconds(23);

std::string Deterministic(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

void Mix(const std::string& bytes, uint64_t& digest) {
  for (const char c : bytes) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
}

}  // namespace

World::World(uint64_t seed)
    : scenario_(DrawScenario(seed)),
      dice_(seed ^ 0x5bd1e995),
      network_(time_, seed),
      witness_(scenario_, time_, system_, network_),
      store_(std::make_unique<WatchedStore>(witness_)),
      outside_(std::make_unique<SimExecutor>(time_)),
      node_parts_{scenario_,
                  time_,
                  network_,
                  system_,
                  witness_,
                  scripts_,
                  work_,
                  dice_,
                  [this](size_t node) -> std::pair<SimExecutor*, Fleet*> {
                    if (time_.boot() < unreachable_[node]) return {nullptr, nullptr};
                    Controller& controller = controllers_[address_];
                    if (!controller.alive()) return {nullptr, nullptr};
                    return {controller.executor.get(), controller.fleet.get()};
                  }} {
  network_.controllers_see_epochs = scenario_.controllers_see_epochs;
  CurrentSimSystem() = &system_;
  // No reference into it may move.
  controllers_.reserve(64);
  work_.window = [this](v1::LoadWindow& window) {
    if (time_.boot() < weather_.broken) window.set_ok(0);
  };
  for (size_t i = 0; i < scenario_.nodes(); ++i) {
    nodes_.push_back(std::make_unique<SimNode>(node_parts_, i));
    unreachable_.push_back(absl::ZeroDuration());
  }
}

World::~World() {
  outside_.reset();
  nodes_.clear();
  for (Controller& controller : controllers_) {
    controller.runs.reset();
    controller.fleet.reset();
  }
  CurrentSimSystem() = nullptr;
}

// ------------------------------------------------------------------ controllers

World::Controller* World::Current() {
  Controller& current = controllers_[address_];
  return current.alive() ? &current : nullptr;
}

void World::StartController(bool resume) {
  const absl::StatusOr<uint64_t> epoch = store_->TakeEpoch();
  if (!epoch.ok()) {
    // Its service manager tries again.
    At(Milliseconds(500), [this, resume] { StartController(resume); });
    return;
  }
  const size_t number = controllers_.size();
  Controller& controller = controllers_.emplace_back();
  controller.epoch = *epoch;
  controller.executor = std::make_unique<SimExecutor>(time_);
  witness_.ControllerBorn(*controller.executor, *epoch);
  absl::StatusOr<EpochLock> lock = EpochLock::Take(state_dir_.path(), *epoch);
  if (!lock.ok()) {
    witness_.Fail(kHistory, absl::StrCat("the epoch ", *epoch,
                                         " cannot be locked: ", lock.status().message()));
    return;
  }
  controller.lock = std::make_unique<EpochLock>(*std::move(lock));
  Fleet::Options fleet;
  fleet.group = "simulated";
  fleet.epoch = *epoch;
  fleet.ping_every = scenario_.ping_every;
  controller.fleet = std::make_unique<Fleet>(*controller.executor, fleet);
  Runs::Options runs;
  runs.site = scenario_.site;
  runs.state_dir = state_dir_.path();
  for (const v1::NodeSpec& node : scenario_.site.spec().injectors())
    runs.awaited.insert(node.name());
  runs.name_run = [this] { return absl::StrCat("run-", ++runs_named_); };
  SimExecutor& executor = *controller.executor;
  controller.runs = std::make_unique<Runs>(
      executor, *store_, *controller.fleet, lever_, runs,
      [this, &executor]() -> absl::StatusOr<std::unique_ptr<Surroundings>> {
        return std::make_unique<SimSurroundings>(executor, scenario_, system_, weather_, dice_);
      },
      [](const v1::Experiment&) { return AlertingFacts(); });
  address_ = number;
  ++outcome_.controllers;
  std::set<std::string> resumed;
  // A team's controller does, a private one does not.
  if (resume && scenario_.seed % 4 != 0) resumed = ResumeRuns(number);
  // As the real one does, which cannot look at its nodes yet.
  const absl::StatusOr<std::vector<ClosedRun>> closed = CloseLostRuns(
      *store_, state_dir_.path(), controller.executor->clock(),
      [](const v1::Command&) { return Whereabouts::kUnknown; }, resumed);
  if (closed.ok()) outcome_.closed += static_cast<int>(closed->size());
  for (auto& [run, told] : told_) {
    if (!controllers_[told.controller].alive()) told.over = true;
  }
}

std::set<std::string> World::ResumeRuns(size_t number) {
  Controller& controller = controllers_[number];
  std::set<std::string> resumed;
  const auto left = RunsToGoOnWith(*store_, state_dir_.path(), controller.executor->clock(),
                                   /*lever=*/std::nullopt);
  if (!left.ok()) return resumed;
  for (const LeftRun& each : *left) {
    const std::vector<v1::Event>& history = each.history;
    const std::string run = history.front().run();
    Told& told = told_[run];
    // A controller that still lives and only hangs is not dead: its lock says so.
    told.events = history;
    told.controller = number;
    told.over = false;
    told.limit += time_.boot() - told.begun + kTeardown;
    if (!controller.runs->Resume(history, each.fate.stop).ok()) {
      told.over = true;
      continue;
    }
    resumed.insert(run);
    ++outcome_.resumed;
    Runs::Watcher watcher;
    watcher.event = [this, run](const v1::Event& event) { OnEvent(run, event); };
    watcher.judged = [this, run](const v1::Judgement& judged) {
      told_[run].judged = judged;
      told_[run].over = true;
    };
    v1::ResumeRun back;
    back.set_run(run);
    back.set_from_seq(history.size() + 1);
    // Whoever owns it comes back, or not.
    if (dice_.Chance(0.8)) {
      (void)controller.runs->Reclaim(back, "", watcher);
    } else {
      const auto since = store_->Read(run, back.from_seq());
      for (const v1::Event& event : *since) OnEvent(run, event);
      controller.runs->Watch(run, watcher);
    }
  }
  return resumed;
}

void World::KillController(size_t number) {
  Controller& controller = controllers_[number];
  if (!controller.alive()) return;
  for (auto& [run, told] : told_) {
    if (told.controller != number || told.over) continue;
    const RunState* const state = controller.runs->StateOf(run);
    if (state != nullptr && StateText(*state) != StateText(Fold(told.events))) {
      witness_.Fail(kHistory, absl::StrCat(run, ": its history does not give its state"));
    }
    // The next one may go on with it.
    told.over = number != address_;
  }
  controller.executor->Kill();
  network_.Died(*controller.executor);
  controller.runs.reset();
  controller.fleet.reset();
  controller.lock.reset();
}

void World::EndController(size_t number) {
  Controller& controller = controllers_[number];
  if (!controller.alive()) return;
  controller.executor->Post([this, number] {
    v1::StopRequested stop;
    stop.set_cause(v1::StopRequested::CAUSE_SHUTDOWN);
    stop.set_by("controller");
    stop.set_reason("the controller was asked to end");
    controllers_[number].runs->StopEvery(stop);
  });
  At(Milliseconds(50), [this, number] { AwaitEnd(number, 0); });
}

// As the real one: it ends when nothing goes on any more, or when its patience is over.
void World::AwaitEnd(size_t number, int tries) {
  if (!controllers_[number].alive()) return;
  if (controllers_[number].runs->going() > 0 && tries < 200) {
    return At(Milliseconds(100), [this, number, tries] { AwaitEnd(number, tries + 1); });
  }
  KillController(number);
  if (address_ == number) At(Milliseconds(500), [this] { StartController(); });
}

void World::StartRun() {
  Controller* const controller = Current();
  if (controller == nullptr) return;
  const size_t number = address_;
  v1::StartRun start;
  *start.mutable_experiment() = scenario_.experiment;
  start.set_seed(scenario_.seed + 1);
  auto name = std::make_shared<std::string>();
  const size_t asked = starting_.size();
  starting_.push_back(number);
  Runs::Watcher watcher;
  watcher.event = [this, name](const v1::Event& event) { OnEvent(*name, event); };
  watcher.judged = [this, name](const v1::Judgement& judged) {
    told_[*name].judged = judged;
    told_[*name].over = true;
  };
  controller->executor->Post([this, number, start, watcher, name, asked] {
    controllers_[number].runs->Start(start, watcher,
                                     [this, number, name, asked](absl::StatusOr<std::string> run) {
                                       starting_[asked].reset();
                                       if (!run.ok()) return;
                                       *name = *run;
                                       Told& told = told_[*run];
                                       told.controller = number;
                                       told.begun = time_.boot();
                                       told.limit = kBeforeGate + kTeardown;
                                     });
  });
}

void World::OnEvent(const std::string& run, const v1::Event& event) {
  Told& told = told_[run];
  told.events.push_back(event);
  if (event.has_created()) {
    told.limit += FromProto(event.created().plan().gate_timeout()) +
                  FromProto(event.created().plan().longest());
  }
  if (!event.has_finished()) return;
  const RunState* const state = controllers_[told.controller].runs->StateOf(run);
  if (state == nullptr || StateText(*state) != StateText(Fold(told.events))) {
    witness_.Fail(kHistory, absl::StrCat(run, ": its history does not give its state"));
  }
  told.over = true;
}

bool World::RunsAreOver() const {
  // One that waits for its nodes is not begun yet.
  const bool starting =
      std::any_of(starting_.begin(), starting_.end(), [this](const std::optional<size_t>& by) {
        return by.has_value() && controllers_[*by].alive();
      });
  return !told_.empty() && !starting &&
         std::all_of(told_.begin(), told_.end(),
                     [](const auto& entry) { return entry.second.over; });
}

// ------------------------------------------------------------------------ time

void World::Pass(absl::Duration length) {
  const absl::Duration end = time_.boot() + length;
  while (time_.boot() < end) {
    try {
      time_.RunFor(end - time_.boot());
    } catch (const Killed& killed) {
      for (const auto& node : nodes_) {
        if (!node->Owns(killed)) continue;
        ++node->killed_in_write;
        node->Kill();
        if (!healed_)
          At(dice_.Between(Milliseconds(50), Seconds(3)), [&node = *node] { node.Start(); });
      }
    }
  }
}

Outcome World::Run(bool keep_histories) {
  SetScripts();
  StartController();
  for (const auto& node : nodes_) node->Start();
  Pass(Milliseconds(100));
  begun_ = time_.boot();
  StartRun();
  Schedule();
  RunToTheEnd();
  Heal();
  Settle();
  LookAtTheEnd();
  CloseRuns();

  outcome_.steps = time_.steps();
  outcome_.length = time_.boot() - Seconds(1000);
  outcome_.digest = 0xcbf29ce484222325;
  for (const std::string& run : witness_.runs()) {
    const std::vector<v1::Event> history = *store_->Read(run, 1);
    for (const v1::Event& event : history) Mix(Deterministic(event), outcome_.digest);
    CheckHistory(run, history);
    if (keep_histories) outcome_.histories[run] = history;
  }
  Mix(absl::StrCat(outcome_.steps), outcome_.digest);
  for (const auto& [key, applies] : system_.applies) outcome_.applies += applies;
  outcome_.effects = static_cast<int>(witness_.effects());
  for (const auto& node : nodes_) {
    outcome_.reaped += node->reaped;
    outcome_.killed_by_reaper += node->killed_by_reaper;
    outcome_.killed_in_write += node->killed_in_write;
  }
  outcome_.weather = weather_;
  outcome_.failures = witness_.failures();
  return outcome_;
}

void World::RunToTheEnd() {
  // A run that does not end by itself is held to its bound below; this one is for the simulation
  // itself.
  const absl::Duration last = time_.boot() + absl::Minutes(10);
  while (time_.boot() < last) {
    Pass(kLookEvery);
    witness_.Look();
    if (RunsAreOver() || (told_.empty() && time_.boot() > begun_ + Seconds(40))) return;
    for (auto& [run, told] : told_) {
      const Controller& controller = controllers_[told.controller];
      if (told.over || !controller.alive() || controller.executor->frozen()) continue;
      if (time_.boot() <= told.begun + told.limit) continue;
      witness_.Fail(kEnds,
                    absl::StrCat(run, " goes on after ", firedrill::FormatDuration(told.limit)));
      told.over = true;
    }
  }
}

bool World::Quiet() {
  for (const Controller& controller : controllers_) {
    if (controller.alive() && controller.runs->going() > 0) return false;
  }
  for (const auto& node : nodes_) {
    if (!node->running() || !node->injector().warden().idle()) return false;
  }
  return work_.running == 0;
}

void World::Settle() {
  const absl::Duration last = time_.boot() + kSettleWithin;
  while (time_.boot() < last) {
    // One that was told to end has only ended now.
    for (const auto& node : nodes_) node->Start();
    Pass(kLookEvery);
    witness_.Look();
    if (Quiet()) break;
  }
  // A run whose controller is there may take its whole teardown.
  const absl::Duration end = time_.boot() + kTeardown;
  while (time_.boot() < end && !Quiet()) {
    const bool going =
        std::any_of(controllers_.begin(), controllers_.end(), [](const Controller& controller) {
          return controller.alive() && controller.runs->going() > 0;
        });
    if (!going) break;
    Pass(kLookEvery);
    witness_.Look();
  }
}

void World::LookAtTheEnd() {
  // Reports that wait for an acknowledgement are sent again every two seconds.
  Pass(Seconds(3));
  witness_.Look();
  witness_.LookAtReports();
  for (const auto& [key, node] : system_.held) {
    witness_.Fail(kLeftBehind, absl::StrCat(key, " is still held by ", node));
  }
  for (const auto& [resource, value] : system_.settings) {
    if (absl::StartsWith(value, "broken by ")) {
      witness_.Fail(kLeftBehind, absl::StrCat(resource, " is still ", value));
    }
  }
  for (const auto& node : nodes_) {
    if (!node->running()) {
      witness_.Fail(kLeftBehind, absl::StrCat(node->name(), " cannot be started any more"));
    } else if (!node->injector().warden().idle()) {
      witness_.Fail(kLeftBehind,
                    absl::StrCat(node->name(), " still carries ",
                                 node->injector().warden().active().size(), " faults"));
    } else if (!node->injector().journal().empty()) {
      witness_.Fail(kLeftBehind, absl::StrCat("the journal of ", node->name(), " is not empty"));
    }
  }
  if (work_.running > 0) {
    witness_.Fail(kLeftBehind, absl::StrCat(work_.running, " loads and probes still run"));
  }
  for (const Controller& controller : controllers_) {
    if (controller.alive() && controller.runs->going() > 0) {
      witness_.Fail(
          kEnds, absl::StrCat("a controller of the epoch ", controller.epoch, " still has a run"));
    }
  }
}

void World::CloseRuns() {
  for (size_t i = 0; i < controllers_.size(); ++i) KillController(i);
  StartController(/*resume=*/false);
  for (const std::string& run : witness_.runs()) {
    if (!witness_.finished(run))
      witness_.Fail(kEnds, absl::StrCat(run, " has no end in the history"));
  }
}

void World::CheckHistory(const std::string& run, const std::vector<v1::Event>& history) {
  ++outcome_.runs;
  outcome_.events += static_cast<int>(history.size());
  const v1::Judgement judged = Judge(history);
  const std::string bytes = Deterministic(judged);
  Mix(bytes, outcome_.digest);
  if (bytes != Deterministic(Judge(history))) {
    witness_.Fail(kHistory, absl::StrCat(run, ": judged twice, and not the same"));
  }
  if (judged.verdict() == v1::VERDICT_UNSPECIFIED) {
    witness_.Fail(kHistory, absl::StrCat(run, " has no verdict"));
  }
  outcome_.passed += judged.verdict() == v1::VERDICT_PASSED ? 1 : 0;
  if (LeftBy(history).empty() && HasEnded(history) && !judged.undo_confirmed()) {
    witness_.Fail(kHistory, absl::StrCat(run, " has left nothing, and is not undone"));
  }
  for (const v1::Event& event : history) {
    if (event.fault().state() == v1::FAULT_STATE_STUCK) ++outcome_.stuck;
  }
  if (!HasEnded(history)) return;
  // News of its faults may follow.
  const v1::Event& last = history[LengthToEnd(history) - 1];
  const v1::Outcome outcome = last.finished().outcome();
  outcome_.completed += outcome == v1::OUTCOME_COMPLETED ? 1 : 0;
  outcome_.aborted += outcome == v1::OUTCOME_ABORTED ? 1 : 0;
  outcome_.not_started += outcome == v1::OUTCOME_NOT_STARTED ? 1 : 0;
  outcome_.unconfirmed += last.finished().undo_confirmed() ? 0 : 1;
  const Told& told = told_[run];
  if (told.judged.has_value() && told.events.size() == history.size() &&
      Deterministic(*told.judged) != bytes) {
    witness_.Fail(kHistory, absl::StrCat(run, " was judged otherwise when it ended"));
  }
}

}  // namespace firedrill::simulation
