// `firedrill run` and `firedrill plan`.
#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/leftovers.h"
#include "cli/own_run.h"
#include "cli/private_run.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/plan.h"
#include "controller/report.h"

namespace firedrill {
namespace {

// After the judgement the processes of a private run have nothing left to do.
constexpr absl::Duration kFinishWithin = absl::Seconds(10);
// After the controller was lost the injectors undo everything, at the latest when a lease is over.
constexpr absl::Duration kUndoWithin = absl::Seconds(30);

std::string Owner() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const passwd* user = getpwuid(geteuid());
  return absl::StrCat(user != nullptr ? user->pw_name : absl::StrCat(geteuid()), "@", host);
}

void Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
}

// The line under the events: where the run is, and since when.
std::string StatusLine(const std::vector<v1::Event>& history, absl::Time since) {
  v1::Phase phase = v1::PHASE_UNSPECIFIED;
  for (auto event = history.rbegin(); event != history.rend(); ++event) {
    if (!event->has_phase()) continue;
    phase = event->phase().phase();
    break;
  }
  const char* doing = phase == v1::PHASE_PREFLIGHT ? "preflight: could this run tell the truth?"
                      : phase == v1::PHASE_GATE    ? "gate: steady state must hold before anything is broken"
                      : phase == v1::PHASE_INJECT  ? "injecting"
                      : phase == v1::PHASE_REVERT  ? "undoing every fault"
                      : phase == v1::PHASE_RECOVER ? "recovering: steady state must come back, and stay"
                                                   : "starting";
  const int64_t seconds = absl::ToInt64Seconds(absl::Now() - since);
  return absl::StrCat("  ", seconds, "s  ", doing, "   (Ctrl-C stops and undoes everything)");
}

// One run, from its first event to the confirmed end of everything it started.
struct RunEnd {
  int code = kUndoUnconfirmed;
  std::vector<v1::Event> history;
  std::optional<v1::Judgement> judgement;
};

// The controller was lost, or left behind: what is known comes from the injectors themselves.
int CodeWithoutJudgement(const OwnedRun& owned, const PrivateRun::End& end,
                         const std::string& state_dir, Screen& screen) {
  const bool begun = !owned.history.empty();
  if (!begun) {
    std::fprintf(stderr, "firedrill: %s\n", std::string(owned.status.message()).c_str());
    return kNotStarted;
  }
  const std::vector<std::string> left = DescribeLeftovers(state_dir);
  if (end.unsure.empty() && left.empty()) {
    screen.Line("the run was lost, every injector has undone its faults and says so");
    return owned.interrupted ? kInterrupted : kAborted;
  }
  std::fprintf(stderr, "firedrill: UNDO NOT CONFIRMED: a person must look\n");
  for (const std::string& node : end.unsure) {
    std::fprintf(stderr, "  node %s: its injector did not end by itself; look with: firedrill leftovers\n",
                 node.c_str());
  }
  for (const std::string& line : left) std::fprintf(stderr, "  %s\n", line.c_str());
  return kUndoUnconfirmed;
}

RunEnd RunOne(const Definition& definition, const Definitions& all, const RunOptions& options,
              const std::string& state_dir, Screen& screen) {
  RunEnd result;
  std::optional<PrivateRun> own;
  std::string address = options.places.controller;
  if (address.empty()) {
    absl::StatusOr<PrivateRun> started =
        PrivateRun::Start({all.site_file, all.site, state_dir, true});
    if (!started.ok()) {
      Complain(started.status());
      result.code = kNotStarted;
      return result;
    }
    own = *std::move(started);
    address = own->address();
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
  start.set_owner(Owner());

  LiveLines lines(screen.style());
  const absl::Time since = absl::Now();
  std::vector<v1::Event> phases;
  OwnerDuties duties;
  duties.event = [&](const v1::Event& event) {
    if (event.has_created()) {
      screen.Line(absl::StrCat("run ", event.run(), " of ", definition.experiment.metadata().name(),
                               ", seed ", event.created().plan().seed(),
                               "; to stop it and undo everything: Ctrl-C"));
    }
    if (event.has_phase()) phases.push_back(event);
    const std::string line = lines.Line(event);
    if (!line.empty()) screen.Line(line);
  };
  duties.say = [&](const std::string& text) { screen.Line(text); };
  duties.tick = [&] {
    screen.Status(StatusLine(phases, since));
    if (!own.has_value()) return;
    for (const std::string& node : own->Revive()) {
      screen.Line(absl::StrCat("the injector of ", node,
                               " ended by itself and was started again, to look what is left"));
    }
  };
  duties.controller_hangs = [&] {
    if (own.has_value()) own->KillController();
  };
  OwnedRun owned = OwnRun(address, start, duties);
  screen.Status("");

  PrivateRun::End end;
  if (own.has_value()) {
    const std::string words = owned.history.empty() ? own->LastWords("controller") : "";
    end = own->Finish(owned.judgement.has_value() ? kFinishWithin : kUndoWithin);
    if (!owned.judgement.has_value() && !words.empty()) {
      std::fprintf(stderr, "%s\n", words.c_str());
    }
  }
  result.history = std::move(owned.history);
  result.judgement = owned.judgement;
  if (owned.judgement.has_value()) {
    result.code = owned.judgement->exit_code();
  } else {
    owned.history = result.history;
    result.code = CodeWithoutJudgement(owned, end, state_dir, screen);
  }
  return result;
}

// Files that a pipeline reads; a run that cannot be reported has still happened.
void WriteReports(const RunEnd& end, const RunOptions& options) {
  if (!end.judgement.has_value()) return;
  const auto write = [](const std::string& file, const std::string& text) {
    if (file.empty()) return;
    const absl::Status written = WriteText(file, text);
    if (!written.ok()) Complain(written);
  };
  if (!options.junit.empty()) write(options.junit, ReportJUnit(end.history, *end.judgement));
  if (!options.json.empty()) write(options.json, ReportJson(end.history, *end.judgement));
  if (!options.report.empty()) {
    write(options.report, ReportText(end.history, *end.judgement, ReportStyle{}));
  }
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

}  // namespace

int RunCommand(const RunOptions& options) {
  BlockSignals();
  const std::optional<Definitions> all = ReadDefinitions(options.files, options.places.site);
  if (!all.has_value()) return kUsageError;
  const absl::StatusOr<std::string> state_dir = StateDir(options.places.state_dir);
  if (!state_dir.ok()) {
    Complain(state_dir.status());
    return kUsageError;
  }
  Screen screen(options.places.no_color);
  RemoveStaleFolders();
  // What an earlier run left and nobody owns comes first.
  for (const std::string& line : UndoLeftovers(*state_dir)) screen.Line(line);

  std::vector<int> codes;
  for (const Definition& definition : all->experiments) {
    const RunEnd end = RunOne(definition, *all, options, *state_dir, screen);
    if (end.judgement.has_value()) {
      screen.Line("");
      screen.Line(SummaryText(end.history, *end.judgement, screen.style()));
    }
    WriteReports(end, ForOne(options, definition.experiment.metadata().name(),
                             all->experiments.size() > 1));
    const bool allowed = end.code == kNotStarted && options.allow == "not-started";
    codes.push_back(allowed ? 0 : end.code);
    // A person who interrupts one run does not want the next.
    if (end.code == kInterrupted || end.code == kUndoUnconfirmed) break;
  }
  return WorstExitCode(codes);
}

int PlanCommand(const RunOptions& options) {
  BlockSignals();
  const std::optional<Definitions> all = ReadDefinitions(options.files, options.places.site);
  if (!all.has_value()) return kUsageError;
  const absl::StatusOr<std::string> state_dir = StateDir(options.places.state_dir);
  if (!state_dir.ok()) {
    Complain(state_dir.status());
    return kUsageError;
  }
  std::optional<PrivateRun> own;
  std::string address = options.places.controller;
  if (address.empty()) {
    absl::StatusOr<PrivateRun> started =
        PrivateRun::Start({all->site_file, all->site, *state_dir, true});
    if (!started.ok()) {
      Complain(started.status());
      return kNotStarted;
    }
    own = *std::move(started);
    address = own->address();
  }
  int code = 0;
  for (const Definition& definition : all->experiments) {
    const absl::StatusOr<v1::Plan> plan =
        AskPlan(address, definition.experiment, definition.file, options.seed);
    if (!plan.ok()) {
      Complain(plan.status());
      code = kNotStarted;
      break;
    }
    std::fputs(PlanText(definition.experiment, *plan).c_str(), stdout);
    for (const v1::Finding& finding : plan->findings()) {
      if (finding.kind() == v1::Finding::KIND_CIRCUMSTANCE) code = kNotStarted;
      if (finding.kind() == v1::Finding::KIND_DEFECT && code == 0) code = 1;
    }
  }
  if (own.has_value()) {
    own->EndController();
    own->Finish(kFinishWithin);
  }
  return code;
}

}  // namespace firedrill
