// `firedrill judge`, `report` and `runs`: everything that is read from old histories.
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/leftovers.h"
#include "cli/rpc/ask.h"
#include "cli/rpc/history.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/lost_runs.h"
#include "controller/report.h"
#include "controller/run_left.h"
#include "controller/run_name.h"
#include "controller/sqlite_store.h"

namespace firedrill {
namespace {

constexpr uint32_t kMostListed = 50;

int Complain(const Places& places, const absl::Status& status) {
  if (!places.controller.empty()) return ComplainOf(status);
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
  return kUsageError;
}

// The history and the folder in which it is.
struct History {
  std::string folder;
  // Null where there is none yet: who only reads makes no file.
  std::unique_ptr<SqliteStore> store;
};

absl::StatusOr<History> OpenHistory(const Places& places) {
  History history;
  ASSIGN_OR_RETURN(history.folder, StateDirToRead(places));
  const std::string path = absl::StrCat(history.folder, "/history.db");
  if (access(path.c_str(), F_OK) != 0) return history;
  ASSIGN_OR_RETURN(history.store, SqliteStore::Open(path));
  return history;
}

absl::StatusOr<std::vector<v1::Event>> ReadHistory(const Places& places, std::string run) {
  if (!places.controller.empty()) return ReadRemoteHistory(places, run);
  ASSIGN_OR_RETURN(const History history, OpenHistory(places));
  std::vector<v1::RunSummary> newest;
  if (history.store != nullptr) {
    ASSIGN_OR_RETURN(newest, history.store->List(1));
  }
  if (newest.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no run in the history in ", history.folder,
                     " yet; start one with: firedrill run FILE --site SITE"));
  }
  ASSIGN_OR_RETURN(run, FindRun(*history.store, run));
  return history.store->Read(run, 1);
}

// A run without an end: whether somebody still writes it.
bool IsAlive(const Places& places, const std::string& run) {
  // A controller ends the runs that it finds unfinished when it starts.
  if (!places.controller.empty()) return true;
  const absl::StatusOr<History> history = OpenHistory(places);
  if (!history.ok() || history->store == nullptr) return false;
  const auto open = OpenRuns(*history->store, history->folder);
  if (!open.ok()) return false;
  return std::any_of(open->begin(), open->end(),
                     [&run](const OpenRun& each) { return each.run == run && each.alive; });
}

// Beside what is printed of it: what a run without an end is worth.
void SayWhereItStands(const Places& places, const std::vector<v1::Event>& history) {
  if (history.empty() || HasEnded(history)) return;
  const std::string run = history.front().run();
  if (IsAlive(places, run)) {
    std::fprintf(stderr, "firedrill: run %s is still going on; this is how it stands\n",
                 run.c_str());
  } else {
    std::fprintf(stderr,
                 "firedrill: run %s was left unfinished by a controller that has died; `firedrill "
                 "leftovers` looks "
                 "what is left of it, and ends it\n",
                 run.c_str());
  }
}

const char* OutcomeText(const v1::RunSummary& run, const std::vector<OpenRun>& open) {
  for (const OpenRun& each : open) {
    if (each.run == run.run()) return each.alive ? "running" : "unfinished";
  }
  switch (run.outcome()) {
    case v1::OUTCOME_COMPLETED:
      return "completed";
    case v1::OUTCOME_NOT_STARTED:
      return "not started";
    case v1::OUTCOME_ABORTED:
      return "aborted";
    case v1::OUTCOME_MISSED:
      return "missed";
    default:
      return "unfinished";
  }
}

}  // namespace

int JudgeCommand(const Places& places, const std::string& run, bool json) {
  const absl::StatusOr<std::vector<v1::Event>> history = ReadHistory(places, run);
  if (!history.ok()) return Complain(places, history.status());
  if (!HasEnded(*history) && IsAlive(places, history->front().run())) {
    return Complain(places, absl::InvalidArgumentError(absl::StrCat(
                                "run ", history->front().run(),
                                " is still going on, and is judged when it has ended; how it "
                                "stands: firedrill report ",
                                history->front().run())));
  }
  const v1::Judgement judgement = Judge(*history);
  const Screen screen(places.no_color);
  const std::string text =
      json ? ReportJson(*history, judgement) : SummaryText(*history, judgement, screen.style());
  std::fputs(text.c_str(), stdout);
  SayWhereItStands(places, *history);
  return judgement.exit_code();
}

int ReportCommand(const Places& places, const std::string& run, const std::string& format) {
  const absl::StatusOr<std::vector<v1::Event>> history = ReadHistory(places, run);
  if (!history.ok()) return Complain(places, history.status());
  const v1::Judgement judgement = Judge(*history);
  const Screen screen(places.no_color);
  const std::string text = format == "json"       ? ReportJson(*history, judgement)
                           : format == "junit"    ? ReportJUnit(*history, judgement)
                           : format == "markdown" ? ReportMarkdown(*history, judgement)
                                                  : ReportText(*history, judgement, screen.style());
  std::fputs(text.c_str(), stdout);
  SayWhereItStands(places, *history);
  return 0;
}

int RunsCommand(const Places& places) {
  const absl::StatusOr<History> history = OpenHistory(places);
  if (!history.ok()) return Complain(places, history.status());
  std::vector<v1::RunSummary> runs;
  std::vector<OpenRun> open;
  if (history->store != nullptr) {
    absl::StatusOr<std::vector<v1::RunSummary>> listed = history->store->List(kMostListed);
    if (!listed.ok()) return Complain(places, listed.status());
    absl::StatusOr<std::vector<OpenRun>> unfinished = OpenRuns(*history->store, history->folder);
    if (!unfinished.ok()) return Complain(places, unfinished.status());
    runs = *std::move(listed);
    open = *std::move(unfinished);
  }
  if (runs.empty()) {
    std::printf("no runs yet in %s\n", history->folder.c_str());
    return 0;
  }
  std::printf("%-10s %-26s %-12s %s\n", "RUN", "BEGUN", "OUTCOME", "EXPERIMENT");
  for (const v1::RunSummary& run : runs) {
    std::printf("%-10s %-26s %-12s %s\n", run.run().c_str(),
                firedrill::FormatTime(FromProto(run.created())).c_str(), OutcomeText(run, open),
                run.experiment().c_str());
  }
  const auto dead =
      std::count_if(open.begin(), open.end(), [](const OpenRun& each) { return !each.alive; });
  if (dead > 0) {
    std::printf(
        "\nunfinished: the controller has died; `firedrill leftovers` looks what is left, and ends "
        "the run\n");
  }
  return 0;
}

}  // namespace firedrill
