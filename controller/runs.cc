// Every run of this controller.
#include "controller/runs.h"

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "base/version.h"
#include "controller/judge.h"
#include "controller/replay.h"
#include "experiment/writer.h"

namespace firedrill {
namespace {

// As long as an owner may be silent, and for dialling.
constexpr absl::Duration kOwnerComesBack = absl::Seconds(10);
constexpr absl::Duration kLookForNodesEvery = absl::Milliseconds(20);

bool HasCircumstance(const v1::Plan& plan) {
  return absl::c_any_of(plan.findings(), [](const v1::Finding& finding) {
    return finding.kind() == v1::Finding::KIND_CIRCUMSTANCE;
  });
}

}  // namespace

std::string NewRunId() {
  constexpr char kLetters[] = "abcdefghjkmnpqrstuvwxyz23456789";
  absl::BitGen random;
  std::string id;
  for (int i = 0; i < 8; ++i)
    id += kLetters[absl::Uniform<size_t>(random, 0, sizeof(kLetters) - 1)];
  return id;
}

Runs::Runs(Executor& executor, Store& store, Fleet& fleet, const Lever& lever, Options options,
           MakeSurroundings make_surroundings, GatherFacts gather_facts)
    : executor_(executor),
      store_(store),
      fleet_(fleet),
      lever_(lever),
      options_(std::move(options)),
      make_surroundings_(std::move(make_surroundings)),
      gather_facts_(std::move(gather_facts)),
      marks_(options_.state_dir),
      aftermath_(executor, store, fleet, subjects_) {}

Runs::~Runs() { *alive_ = false; }

void Runs::AwaitNodes(absl::Duration give_up, std::function<void()> then) {
  std::set<std::string> missing = options_.awaited;
  for (const v1::Registration& node : fleet_.Connected()) missing.erase(node.node());
  if (missing.empty() || executor_.clock().Boot() >= give_up) return then();
  executor_.After(kLookForNodesEvery, [this, alive = alive_, give_up, then = std::move(then)] {
    if (*alive) AwaitNodes(give_up, then);
  });
}

void Runs::Plan(const v1::PlanRunRequest& request,
                std::function<void(absl::StatusOr<v1::Plan>)> done) {
  const absl::StatusOr<v1::Experiment> checked =
      Checked(request.experiment(), request.file(), request.positions());
  if (!checked.ok()) return done(checked.status());
  PlanChecked(*checked, request.seed(),
              [this, alive = alive_, done = std::move(done)](absl::StatusOr<v1::Plan> plan) {
                const absl::Status may = *alive ? MayStart() : absl::OkStatus();
                if (plan.ok() && !may.ok()) {
                  v1::Finding& finding = *plan->add_findings();
                  finding.set_kind(v1::Finding::KIND_CIRCUMSTANCE);
                  finding.set_code(absl::IsResourceExhausted(may) ? "limit"
                                   : lever_.Pulled().has_value()  ? "lever"
                                                                  : "history");
                  finding.set_message(std::string(may.message()));
                }
                done(std::move(plan));
              });
}

void Runs::PlanChecked(const v1::Experiment& experiment, uint64_t seed,
                       std::function<void(absl::StatusOr<v1::Plan>)> done) {
  const absl::Duration give_up = executor_.clock().Boot() + options_.await_nodes;
  AwaitNodes(give_up, [this, experiment, seed, done = std::move(done)] {
    auto facts = std::make_shared<AlertingFacts>();
    executor_.Block([gather = gather_facts_, facts, experiment] { *facts = gather(experiment); },
                    [this, alive = alive_, facts, experiment, seed, done] {
                      if (!*alive) return;
                      PlanInput input;
                      input.experiment = experiment;
                      input.site = options_.site.spec();
                      input.nodes = fleet_.Connected();
                      absl::BitGen random;
                      input.seed = seed != 0 ? seed : absl::Uniform<uint64_t>(random, 1, 1u << 31);
                      input.run = options_.name_run ? options_.name_run() : NewRunId();
                      input.alerting = std::move(*facts);
                      input.now = executor_.clock().Now();
                      input.limits = options_.limits;
                      FindSubjects(MakePlan(input), done);
                    });
  });
}

void Runs::FindSubjects(v1::Plan plan, std::function<void(absl::StatusOr<v1::Plan>)> done) {
  const std::vector<v1::PlannedFault> faults(plan.faults().begin(), plan.faults().end());
  fleet_.AskSubjects(faults, [this, alive = alive_, plan = std::move(plan),
                              done = std::move(done)](std::vector<v1::Subject> subjects) mutable {
    if (!*alive) return;
    for (size_t i = 0; i < subjects.size(); ++i) {
      *plan.mutable_faults(static_cast<int>(i))->mutable_subject() = std::move(subjects[i]);
    }
    subjects_.Check(plan);
    done(std::move(plan));
  });
}

void Runs::Start(const v1::StartRun& start, Watcher watcher,
                 std::function<void(absl::StatusOr<std::string>)> started) {
  if (const absl::Status may = MayStart(); !may.ok()) return started(may);
  absl::StatusOr<v1::Experiment> checked =
      Checked(start.experiment(), start.file(), start.positions());
  if (!checked.ok()) return started(checked.status());
  v1::StartRun read = start;
  *read.mutable_experiment() = *std::move(checked);
  PlanChecked(read.experiment(), read.seed(),
              [this, read, watcher = std::move(watcher),
               started = std::move(started)](absl::StatusOr<v1::Plan> plan) mutable {
                // Others may have begun meanwhile, and the lever may have been pulled.
                const absl::Status may = plan.ok() ? MayStart() : plan.status();
                if (!may.ok()) return started(may);
                Begin(read, *std::move(plan), std::move(watcher), std::move(started));
              });
}

absl::StatusOr<v1::Experiment> Runs::Checked(
    const v1::Experiment& experiment, const std::string& file,
    const google::protobuf::Map<std::string, v1::Position>& positions) const {
  if (!options_.checks_definitions) return experiment;
  return CheckExperiment(experiment, options_.site.spec(), file,
                         {positions.begin(), positions.end()});
}

uint32_t Runs::MostRuns() const {
  return options_.limits.runs() > 0 ? options_.limits.runs() : kMostRuns;
}

absl::Status Runs::MayStart() const {
  if (const std::optional<Pull> pulled = lever_.Pulled()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "starting a run: the emergency lever is pulled (", pulled->Words(),
        "); when nothing may go wrong any more, release it: firedrill unlock, or remove ",
        lever_.path()));
  }
  if (!aftermath_.unwritten().empty()) {
    const auto& [run, unwritten] = *aftermath_.unwritten().begin();
    return absl::FailedPreconditionError(absl::StrCat(
        "starting a run: the end of run ", run,
        " is not in the history yet, and nothing starts before it is: ", unwritten.why.message()));
  }
  if (runs_.size() < MostRuns()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "starting a run: ", runs_.size(), " are going on, and the controller's limits.runs is ",
      MostRuns(), "; wait for one to end, or raise it in the controller's own file"));
}

void Runs::Begin(const v1::StartRun& start, v1::Plan plan, Watcher watcher,
                 std::function<void(absl::StatusOr<std::string>)> started) {
  const std::string run = plan.run();
  absl::StatusOr<std::unique_ptr<Surroundings>> surroundings = make_surroundings_();
  if (!surroundings.ok()) return started(surroundings.status());
  v1::RunCreated created;
  *created.mutable_experiment() = start.experiment();
  *created.mutable_site() = options_.site;
  // The nodes' own files stay with the nodes.
  created.mutable_site()->mutable_spec()->clear_injectors();
  *created.mutable_plan() = std::move(plan);
  created.set_file(start.file());
  *created.mutable_positions() = start.positions();
  created.set_owner(start.owner());
  created.set_inject_anyway(start.inject_anyway());
  created.set_detached(start.detach());
  created.set_version(kVersion);

  // One that will not start hits nothing.
  if (!HasCircumstance(created.plan())) TakeSubjects(created, executor_.clock().Now());
  Running& running = Add(run, *std::move(surroundings));
  absl::Status begun = Annotate(marks_.Make(run), "starting a run");
  if (begun.ok()) begun = running.conductor->Begin(std::move(created));
  if (!begun.ok()) {
    LetGo(run);
    return started(absl::FailedPreconditionError(begun.message()));
  }
  started(run);
  for (const v1::Event& event : running.history) {
    if (watcher.event) watcher.event(event);
  }
  running.watchers.push_back(std::move(watcher));
}

void Runs::TakeSubjects(const v1::RunCreated& created, absl::Time since) {
  subjects_.Take(created.plan(), {created.plan().run(), created.experiment().metadata().name(),
                                  created.owner(), since});
}

Runs::Running& Runs::Add(const std::string& run, std::unique_ptr<Surroundings> surroundings) {
  Running& running = runs_[run];
  going_ = runs_.size();
  running.conductor = std::make_unique<Conductor>(
      executor_, store_, fleet_, std::move(surroundings),
      Conductor::Watchers{
          .event =
              [this, run](const v1::Event& event) {
                Running& self = runs_[run];
                if (!self.conductor->store_status().ok()) marks_.Remove(run);
                self.history.push_back(event);
                for (const Watcher& each : self.watchers) {
                  if (each.event) each.event(event);
                }
              },
          // The conductor is further up the stack: it is let go in a task of its own.
          .finished =
              [this, run] {
                executor_.Post([this, alive = alive_, run] {
                  if (*alive) Ended(run);
                });
              }});
  return running;
}

absl::Status Runs::Resume(const std::vector<v1::Event>& history,
                          const std::optional<v1::StopRequested>& stop) {
  const v1::RunCreated& created = history.front().created();
  const std::string run = created.plan().run();
  absl::StatusOr<std::unique_ptr<Surroundings>> surroundings = make_surroundings_();
  if (!surroundings.ok()) return surroundings.status();
  TakeSubjects(created, FromProto(history.front().at()));
  Running& running = Add(run, *std::move(surroundings));
  running.history = history;
  if (stop.has_value()) {
    marks_.Remove(run);
  } else {
    fleet_.GoOnWith(run);
  }
  const absl::Status resumed = running.conductor->Resume(history, stop);
  if (!resumed.ok()) {
    LetGo(run);
    return resumed;
  }
  if (created.detached() || stop.has_value()) return absl::OkStatus();
  running.unowned = true;
  executor_.After(kOwnerComesBack, [this, alive = alive_, run] {
    auto found = *alive ? runs_.find(run) : runs_.end();
    if (found == runs_.end() || !found->second.unowned) return;
    v1::StopRequested gone;
    gone.set_cause(v1::StopRequested::CAUSE_OWNER_LOST);
    gone.set_by("controller");
    gone.set_reason(absl::StrCat("the client that owns the run did not come back within ",
                                 firedrill::FormatDuration(kOwnerComesBack),
                                 " to the controller, which was started again"));
    (void)Stop(run, gone);
  });
  return absl::OkStatus();
}

absl::Status Runs::Reclaim(const v1::ResumeRun& resume, const std::string& owner, Watcher watcher) {
  const std::string& run = resume.run();
  auto found = runs_.find(run);
  std::vector<v1::Event> history;
  if (found == runs_.end()) {
    ASSIGN_OR_RETURN(history, store_.Read(run, 1));
    aftermath_.AddUnwritten(run, history);
  } else {
    history = found->second.history;
  }
  if (history.empty() || !history.front().has_created()) {
    return absl::NotFoundError(absl::StrCat("taking back run ", run,
                                            ": this controller has none of "
                                            "that name; is it the one that began it?"));
  }
  const std::string& its = history.front().created().owner();
  if (its != owner) {
    return absl::PermissionDeniedError(
        absl::StrCat("taking back run ", run, ": it belongs to ", its,
                     "; an operator may end it: firedrill stop ", run));
  }
  if (found != runs_.end()) {
    Running& running = found->second;
    if (!running.unowned && !running.conductor->state().stopping) {
      return absl::UnavailableError(absl::StrCat(
          "taking back run ", run, ": its client before this one has not been missed yet"));
    }
    running.unowned = false;
  } else if (!HasEnded(history)) {
    return absl::NotFoundError(absl::StrCat(
        "taking back run ", run, ": it is not going on here, and has no end; its nodes undo it"));
  }
  for (const v1::Event& event : history) {
    if (event.seq() >= resume.from_seq() && watcher.event) watcher.event(event);
  }
  if (found != runs_.end()) {
    found->second.watchers.push_back(std::move(watcher));
  } else if (watcher.judged) {
    watcher.judged(Judge(history));
  }
  return absl::OkStatus();
}

void Runs::Ended(const std::string& run) {
  auto found = runs_.find(run);
  if (found == runs_.end()) return;
  const v1::Judgement judgement = Judge(found->second.history);
  // For lists: what cannot be written now is noted by the aftermath.
  (void)store_.NoteVerdict(run, judgement.verdict());
  const std::vector<Watcher> watchers = found->second.watchers;
  for (const Watcher& each : watchers) {
    if (each.judged) each.judged(judgement);
  }
  LetGo(run);
}

void Runs::LetGo(const std::string& run) {
  Running& running = runs_.at(run);
  const std::vector<v1::Event> history = std::move(running.history);
  std::vector<v1::Event> unwritten = running.conductor->TakeUnwritten();
  const absl::Status why = running.conductor->store_status();
  marks_.Remove(run);
  runs_.erase(run);
  going_ = runs_.size();
  if (!unwritten.empty()) aftermath_.KeepUnwritten(run, {std::move(unwritten), why});
  aftermath_.Begin(run, history);
  if (ended_) ended_();
}

absl::Status Runs::Stop(const std::string& run, v1::StopRequested stop) {
  auto found = runs_.find(run);
  if (found == runs_.end()) {
    return absl::NotFoundError(
        absl::StrCat("stopping run ", run, ": it is not going on here; `firedrill report ", run,
                     "` says how it ended, `firedrill get runs` which runs go on"));
  }
  found->second.conductor->Stop(std::move(stop));
  return absl::OkStatus();
}

const RunState* Runs::StateOf(const std::string& run) const {
  auto found = runs_.find(run);
  return found == runs_.end() ? nullptr : &found->second.conductor->state();
}

std::vector<v1::Phase> Runs::Phases() const {
  std::vector<v1::Phase> phases;
  for (const auto& [run, running] : runs_) phases.push_back(running.conductor->state().phase);
  return phases;
}

size_t Runs::StopEvery(const v1::StopRequested& stop) {
  std::vector<std::string> names;
  for (const auto& [run, running] : runs_) names.push_back(run);
  for (const std::string& run : names) (void)Stop(run, stop);
  return names.size();
}

bool Runs::Watch(const std::string& run, Watcher watcher) {
  auto found = runs_.find(run);
  if (found == runs_.end()) return false;
  found->second.watchers.push_back(std::move(watcher));
  return true;
}

}  // namespace firedrill
