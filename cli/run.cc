// `firedrill run` and `firedrill plan`.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/leftovers.h"
#include "cli/private_run.h"
#include "cli/rpc/own_run.h"
#include "cli/run_definitions.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/plan.h"
#include "controller/report.h"
#include "controller/sqlite_store.h"
#include "injector/by_hand.h"

namespace firedrill {
namespace {

// After the judgement the processes of a private run have nothing left to do.
constexpr absl::Duration kFinishWithin = absl::Seconds(10);
// After the controller was lost the injectors undo everything, at the latest when a lease is over.
constexpr absl::Duration kUndoWithin = absl::Seconds(30);

void Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
}

// Nothing was begun: interrupted, a definition that the controller refuses, or anything else.
int NotStartedCode(const absl::Status& why) {
  if (absl::IsCancelled(why)) return kInterrupted;
  return absl::IsInvalidArgument(why) ? kUsageError : kNotStarted;
}

// The line under the events: where the run is, and since when. How to stop it is the last to be
// left out.
std::string StatusLine(const std::vector<v1::Event>& history, absl::Time since, size_t width) {
  v1::Phase phase = v1::PHASE_UNSPECIFIED;
  for (auto event = history.rbegin(); event != history.rend(); ++event) {
    if (!event->has_phase()) continue;
    phase = event->phase().phase();
    break;
  }
  struct Doing {
    const char* word;
    const char* meaning;
  };
  const Doing doing =
      phase == v1::PHASE_PREFLIGHT ? Doing{"preflight", ": could this run tell the truth?"}
      : phase == v1::PHASE_GATE
          ? Doing{"gate", ": steady state must hold before anything is broken"}
      : phase == v1::PHASE_INJECT  ? Doing{"injecting", ""}
      : phase == v1::PHASE_REVERT  ? Doing{"undoing", " every fault"}
      : phase == v1::PHASE_RECOVER ? Doing{"recovering", ": steady state must come back, and stay"}
                                   : Doing{"starting", ""};
  const std::string begin =
      absl::StrCat("  ", absl::ToInt64Seconds(absl::Now() - since), "s  ", doing.word);
  for (const char* meaning : {doing.meaning, ""}) {
    const std::string line =
        absl::StrCat(begin, meaning, "   (Ctrl-C stops and undoes every fault)");
    if (line.size() < width) return line;
  }
  return absl::StrCat(begin, "   (Ctrl-C stops it)");
}

// What a remedy changes for good is not undone.
std::string HowToStop(const v1::Plan& plan) {
  std::vector<std::string> lasting;
  for (const v1::PlannedRemedy& remedy : plan.remedies()) {
    if (remedy.leaves() != v1::LEAVES_CHANGED) continue;
    // On several nodes it is one.
    if (!absl::c_linear_search(lasting, remedy.name())) lasting.push_back(remedy.name());
  }
  if (lasting.empty()) return "Ctrl-C stops it and undoes everything";
  return absl::StrCat("Ctrl-C stops it and undoes every fault; what ", JoinWords(lasting),
                      lasting.size() == 1 ? " changes stays" : " change stays");
}

// One run, from its first event to the confirmed end of everything it started.
struct RunEnd {
  int code = kUndoUnconfirmed;
  // Also where that came too late to change the code.
  bool interrupted = false;
  std::vector<v1::Event> history;
  std::optional<v1::Judgement> judgement;
};

absl::StatusOr<std::vector<v1::Event>> ReadRun(const std::string& state_dir,
                                               const std::string& run) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store,
                   SqliteStore::Open(absl::StrCat(state_dir, "/history.db")));
  return store->Read(run, 1);
}

void ShowWhereToLook(const std::vector<std::string>& unsure, const std::string& state_dir) {
  std::fprintf(stderr, "firedrill: UNDO NOT CONFIRMED: a person must look\n");
  for (const std::string& node : unsure) {
    std::fprintf(stderr,
                 "  node %s: its injector did not end by itself; look with: firedrill leftovers\n",
                 node.c_str());
  }
  for (const std::string& line : DescribeLeftovers(state_dir))
    std::fprintf(stderr, "  %s\n", line.c_str());
}

// A private controller was lost, and its injectors have ended: what they left in their journals
// says whether everything is undone. The run is ended in the history, and judged by what is there.
void EndLostRun(const PrivateRun::End& end, bool interrupted, const std::string& state_dir,
                Screen& screen, RunEnd& result) {
  if (end.left) {
    std::fprintf(stderr,
                 "firedrill: you left before everything was undone: the undoing goes on without "
                 "you, and is NOT "
                 "CONFIRMED; to see what is left: firedrill leftovers\n");
    for (const std::string& line : DescribeLeftovers(state_dir))
      std::fprintf(stderr, "  %s\n", line.c_str());
    return;
  }
  const std::string run = result.history.front().run();
  const auto ended = EndLostRuns(state_dir, {end.unsure.begin(), end.unsure.end()});
  if (!ended.ok()) {
    Complain(ended.status());
  } else {
    for (const std::string& line : *ended) screen.Line(line);
  }
  absl::StatusOr<std::vector<v1::Event>> history = ReadRun(state_dir, run);
  if (history.ok() && history->back().has_finished()) {
    result.history = *std::move(history);
    result.judgement = Judge(result.history);
    result.code = result.judgement->exit_code();
    if (result.code == kAborted && interrupted) result.code = kInterrupted;
  } else if (!history.ok()) {
    Complain(history.status());
  }
  if (result.code == kUndoUnconfirmed) ShowWhereToLook(end.unsure, state_dir);
}

RunEnd RunOne(const Definition& definition, const Definitions& all, const RunOptions& options,
              const std::string& state_dir, Screen& screen, const RunWatch& watch) {
  RunEnd result;
  std::optional<PrivateRun> own;
  ControllerAddress at{options.places.controller, options.places.identity};
  if (at.address.empty()) {
    absl::StatusOr<PrivateRun> started =
        PrivateRun::Start({all.site_file, all.site, state_dir, true});
    if (!started.ok()) {
      Complain(started.status());
      result.code = absl::IsCancelled(started.status()) ? kInterrupted : kNotStarted;
      return result;
    }
    own = *std::move(started);
    at.address = own->address();
  }
  v1::StartRun start;
  *start.mutable_experiment() = definition.experiment;
  start.set_file(definition.file);
  for (const auto& [path, position] : definition.positions) {
    (*start.mutable_positions())[path] = position;
  }
  start.set_seed(options.seed);
  start.set_inject_anyway(options.inject_anyway);
  start.set_detach(options.detach);
  start.set_owner(OwnerWords());

  LiveLines lines(screen.style(), screen.terminal());
  const absl::Time since = absl::Now();
  std::vector<v1::Event> phases;
  bool begun = false;
  OwnerDuties duties;
  duties.event = [&](const v1::Event& event) {
    if (watch.event) watch.event(event);
    if (event.has_phase()) phases.push_back(event);
    const std::string line = lines.Line(event);
    if (watch.shows && !watch.shows(event)) return;
    if (!line.empty()) screen.Line(line);
    begun = begun || event.has_created();
    if (event.has_created() && !options.detach) {
      screen.Line(lines.Beneath(HowToStop(event.created().plan())));
    }
  };
  duties.say = [&](const std::string& text) { screen.Line(text); };
  duties.tick = [&] {
    if (watch.tick) {
      watch.tick();
    } else {
      screen.Status(StatusLine(phases, since, screen.style().width));
    }
    if (!own.has_value()) return;
    for (const std::string& line : own->Revive(!phases.empty())) screen.Line(line);
  };
  duties.controller_hangs = [&] {
    if (own.has_value()) own->KillController();
  };
  if (options.detach) duties.leave = [&begun] { return begun; };
  Interrupts interrupts;
  OwnedRun owned = OwnRun(at, start, duties, interrupts);
  screen.Status("");

  std::optional<PrivateRun::End> end;
  if (own.has_value()) {
    const std::string words = owned.history.empty() ? own->LastWords("controller") : "";
    end = own->Finish(owned.judgement.has_value() ? kFinishWithin : kUndoWithin, [&] {
      interrupts.Take(duties.say);
      return interrupts.leave();
    });
    if (!owned.judgement.has_value() && !words.empty()) {
      std::fprintf(stderr, "%s\n", words.c_str());
    }
  }
  result.interrupted = interrupts.any();
  result.history = std::move(owned.history);
  result.judgement = owned.judgement;
  if (owned.judgement.has_value()) {
    result.code = owned.judgement->exit_code();
  } else if (result.history.empty()) {
    Complain(result.interrupted
                 ? absl::CancelledError("interrupted before the run began; nothing was broken")
                 : owned.status);
    result.code = result.interrupted ? kInterrupted : NotStartedCode(owned.status);
  } else if (options.detach && begun && !result.interrupted) {
    screen.Line(absl::StrCat("run ", result.history.front().run(),
                             " goes on without this client; to end it: firedrill stop ",
                             result.history.front().run(), " --reason WHY"));
    result.code = 0;
  } else if (end.has_value()) {
    EndLostRun(*end, result.interrupted, state_dir, screen, result);
  } else {
    Complain(owned.status);
    std::fprintf(
        stderr,
        "firedrill: the controller was lost; run %s goes on, or is undone, without this client\n",
        result.history.front().run().c_str());
  }
  return result;
}

// Files that a pipeline reads. A run that cannot be reported has still happened, but it proves
// nothing to those who read only these. False where one is missing.
bool WriteReports(const RunEnd& end, const RunOptions& options) {
  if (!end.judgement.has_value()) return true;
  bool all = true;
  const auto write = [&all](const std::string& file, const std::string& text) {
    const absl::Status written = WriteText(file, text);
    if (written.ok()) return;
    Complain(written);
    all = false;
  };
  if (!options.junit.empty()) write(options.junit, ReportJUnit(end.history, *end.judgement));
  if (!options.json.empty()) write(options.json, ReportJson(end.history, *end.judgement));
  if (!options.report.empty()) {
    const bool markdown = absl::EndsWith(options.report, ".md");
    write(options.report, markdown ? ReportMarkdown(end.history, *end.judgement)
                                   : ReportText(end.history, *end.judgement, ReportStyle{}));
  }
  return all;
}

// One file a run: with several runs their names are told apart by the experiment's.
RunOptions ForOne(RunOptions options, const std::string& name, bool several) {
  if (!several) return options;
  for (std::string* file : {&options.junit, &options.json, &options.report}) {
    if (file->empty()) continue;
    const size_t dot = file->rfind('.');
    const size_t slash = file->rfind('/');
    const bool has_ending = dot != std::string::npos && (slash == std::string::npos || dot > slash);
    file->insert(has_ending ? dot : file->size(), absl::StrCat("-", name));
  }
  return options;
}

// What could not be reported is not broken.
bool ClearReports(const Definitions& all, const RunOptions& options) {
  for (const Definition& definition : all.experiments) {
    const RunOptions one =
        ForOne(options, definition.experiment.metadata().name(), all.experiments.size() > 1);
    for (const std::string& file : {one.junit, one.json, one.report}) {
      const absl::Status clear = file.empty() ? absl::OkStatus() : ClearForWriting(file);
      if (clear.ok()) continue;
      Complain(absl::UnavailableError(
          absl::StrCat(clear.message(), "; nothing was started, nothing was touched")));
      return false;
    }
  }
  return true;
}

}  // namespace

int RunDefinitions(const Definitions& all, const RunOptions& options, const std::string& state_dir,
                   Screen& screen, const RunWatch& watch) {
  std::vector<int> codes;
  for (const Definition& definition : all.experiments) {
    RunEnd end = RunOne(definition, all, options, state_dir, screen, watch);
    if (end.judgement.has_value() && watch.judged) {
      end.code = watch.judged(end.history, *end.judgement, end.code);
    } else if (end.judgement.has_value()) {
      screen.Line("");
      screen.Line(SummaryText(end.history, *end.judgement, screen.style()));
    }
    const bool reported = WriteReports(
        end, ForOne(options, definition.experiment.metadata().name(), all.experiments.size() > 1));
    const bool allowed = end.code == kNotStarted && options.allow == "not-started";
    const int code = allowed ? 0 : end.code;
    codes.push_back(code == 0 && !reported ? kInconclusive : code);
    // A person who interrupts one run does not want the next.
    if (end.code == kInterrupted || end.code == kUndoUnconfirmed) break;
    if (end.interrupted && codes.size() < all.experiments.size()) {
      codes.push_back(kInterrupted);
      break;
    }
  }
  return WorstExitCode(codes);
}

int RunCommand(const RunOptions& options) {
  BlockSignals();
  if (options.detach && options.places.controller.empty()) {
    Complain(absl::InvalidArgumentError(
        "--detach: a private controller ends with its client; name a team's with --controller"));
    return kUsageError;
  }
  const std::optional<Definitions> all = ReadDefinitions(options.files, options.places);
  if (!all.has_value()) return kUsageError;
  const absl::StatusOr<std::string> state_dir = StateDir(options.places.state_dir);
  if (!state_dir.ok()) {
    Complain(state_dir.status());
    return kUsageError;
  }
  if (!ClearReports(*all, options)) return kUsageError;
  // Whoever reads along may leave; the run, and its reports, go on.
  signal(SIGPIPE, SIG_IGN);
  Screen screen(options.places.no_color);
  for (const std::string& line : TidyUp(*state_dir)) screen.Line(line);

  return RunDefinitions(*all, options, *state_dir, screen);
}

namespace {

// What `run` would have to be given for the same plan, to be pasted into a shell.
std::string ArgumentsOfRun(const Places& places, const std::string& file) {
  const auto word = [](const std::string& text) {
    const bool plain = !text.empty() && absl::c_all_of(text, [](unsigned char letter) {
      return absl::ascii_isalnum(letter) || absl::StrContains("_./:@%+,=-", letter);
    });
    return plain ? text : ShellQuoted(text);
  };
  std::string arguments = word(file);
  for (const auto& [option, value] : {std::pair("--site", &places.site),
                                      {"--state-dir", &places.state_dir},
                                      {"--controller", &places.controller},
                                      {"--identity", &places.identity}}) {
    if (!value->empty()) absl::StrAppend(&arguments, " ", option, " ", word(*value));
  }
  return arguments;
}

}  // namespace

int PlanCommand(const RunOptions& options) {
  BlockSignals();
  const std::optional<Definitions> all = ReadDefinitions(options.files, options.places);
  if (!all.has_value()) return kUsageError;
  const absl::StatusOr<std::string> state_dir = StateDir(options.places.state_dir);
  if (!state_dir.ok()) {
    Complain(state_dir.status());
    return kUsageError;
  }
  // Not among what the plan says.
  for (const std::string& line : TidyUp(*state_dir)) std::fprintf(stderr, "%s\n", line.c_str());
  std::optional<PrivateRun> own;
  ControllerAddress at{options.places.controller, options.places.identity};
  if (at.address.empty()) {
    absl::StatusOr<PrivateRun> started =
        PrivateRun::Start({all->site_file, all->site, *state_dir, true});
    if (!started.ok()) {
      Complain(started.status());
      return absl::IsCancelled(started.status()) ? kInterrupted : kNotStarted;
    }
    own = *std::move(started);
    at.address = own->address();
  }
  int code = 0;
  for (const Definition& definition : all->experiments) {
    v1::PlanRunRequest request;
    *request.mutable_experiment() = definition.experiment;
    request.set_file(definition.file);
    request.mutable_positions()->insert(definition.positions.begin(), definition.positions.end());
    request.set_seed(options.seed);
    const absl::StatusOr<v1::Plan> plan = AskPlan(at, request);
    if (!plan.ok()) {
      Complain(plan.status());
      code = NotStartedCode(plan.status());
      break;
    }
    const std::string arguments = ArgumentsOfRun(options.places, definition.file);
    std::fputs(PlanText(definition.experiment, *plan, arguments).c_str(), stdout);
    for (const v1::Finding& finding : plan->findings()) {
      if (finding.kind() == v1::Finding::KIND_CIRCUMSTANCE) code = kNotStarted;
      if (finding.kind() == v1::Finding::KIND_DEFECT && code == 0) code = 1;
    }
  }
  if (own.has_value()) {
    // Interrupted: it may be asking a monitor that does not answer. Nothing is on.
    if (code == kInterrupted) {
      own->KillController();
    } else {
      own->EndController();
    }
    own->Finish(kFinishWithin);
  }
  return code;
}

}  // namespace firedrill
