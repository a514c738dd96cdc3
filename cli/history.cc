// `firedrill judge`, `report` and `runs`: everything that is read from old histories.
#include <cstdio>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "controller/sqlite_store.h"

namespace firedrill {
namespace {

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
  return kUsageError;
}

absl::StatusOr<std::unique_ptr<SqliteStore>> OpenHistory(const Places& places) {
  ASSIGN_OR_RETURN(const std::string folder, StateDir(places.state_dir));
  return SqliteStore::Open(absl::StrCat(folder, "/history.db"));
}

absl::StatusOr<std::vector<v1::Event>> ReadHistory(const Places& places, std::string run) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store, OpenHistory(places));
  if (run == "last") {
    ASSIGN_OR_RETURN(const std::vector<v1::RunSummary> newest, store->List(1));
    if (newest.empty()) {
      return absl::NotFoundError(
          "there is no run in this history yet; start one with: firedrill run FILE --site SITE");
    }
    run = newest.front().run();
  }
  return store->Read(run, 1);
}

const char* OutcomeText(const v1::RunSummary& run) {
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
  if (!history.ok()) return Complain(history.status());
  const v1::Judgement judgement = Judge(*history);
  const Screen screen(places.no_color);
  const std::string text = json ? ReportJson(*history, judgement)
                                : SummaryText(*history, judgement, screen.style());
  std::fputs(text.c_str(), stdout);
  return judgement.exit_code();
}

int ReportCommand(const Places& places, const std::string& run, const std::string& format) {
  const absl::StatusOr<std::vector<v1::Event>> history = ReadHistory(places, run);
  if (!history.ok()) return Complain(history.status());
  const v1::Judgement judgement = Judge(*history);
  const Screen screen(places.no_color);
  const std::string text = format == "json"    ? ReportJson(*history, judgement)
                           : format == "junit" ? ReportJUnit(*history, judgement)
                                               : ReportText(*history, judgement, screen.style());
  std::fputs(text.c_str(), stdout);
  return 0;
}

int RunsCommand(const Places& places) {
  const absl::StatusOr<std::unique_ptr<SqliteStore>> store = OpenHistory(places);
  if (!store.ok()) return Complain(store.status());
  const absl::StatusOr<std::vector<v1::RunSummary>> runs = (*store)->List(50);
  if (!runs.ok()) return Complain(runs.status());
  std::printf("%-10s %-26s %-12s %s\n", "RUN", "BEGUN", "OUTCOME", "EXPERIMENT");
  for (const v1::RunSummary& run : *runs) {
    std::printf("%-10s %-26s %-12s %s\n", run.run().c_str(),
                firedrill::FormatTime(FromProto(run.created())).c_str(), OutcomeText(run),
                run.experiment().c_str());
  }
  return 0;
}

}  // namespace firedrill
