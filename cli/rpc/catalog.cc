// `firedrill get | describe | apply | delete`: what a controller knows, and what it is to know.
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/rpc/ask.h"
#include "cli/rpc/history.h"
#include "cli/screen.h"
#include "controller/judge.h"
#include "controller/report.h"
#include "experiment/reader.h"

namespace firedrill {
namespace {

// Of `describe experiment`.
constexpr uint32_t kSlotsDescribed = 20;

std::string Time(const google::protobuf::Timestamp& time) {
  return firedrill::FormatTime(FromProto(time));
}

// "not started" for OUTCOME_NOT_STARTED.
std::string Words(std::string name, absl::string_view prefix) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", " "}});
}

std::string OutcomeWords(const v1::RunSummary& run) {
  if (run.outcome() == v1::OUTCOME_UNSPECIFIED) {
    return run.phase() == v1::PHASE_UNSPECIFIED ? "starting"
                                                : Words(v1::Phase_Name(run.phase()), "PHASE_");
  }
  return Words(v1::Outcome_Name(run.outcome()), "OUTCOME_") +
         (!run.settled().empty() ? absl::StrCat(", settled by ", run.settled())
          : run.undo_confirmed() ? ""
                                 : ", NOT UNDONE");
}

std::string VerdictWords(const v1::RunSummary& run) {
  return run.verdict() == v1::VERDICT_UNSPECIFIED
             ? "-"
             : Words(v1::Verdict_Name(run.verdict()), "VERDICT_");
}

std::string SlotWords(const v1::ExperimentSummary& experiment) {
  if (experiment.slots().empty()) return "-";
  const v1::Slot& slot = experiment.slots(0);
  return absl::StrCat(Time(slot.due()), " ",
                      !slot.missed().empty() ? absl::StrCat("missed (", slot.missed(), ")")
                      : slot.run().empty()   ? "starting"
                                             : slot.run());
}

std::string StateWord(const v1::InjectorSummary& injector) {
  return !injector.connected()                  ? "away"
         : injector.figures().stopped().empty() ? "connected"
                                                : "stopped";
}

// "lose of 2ke786w2".
std::string LeftWords(const v1::InjectorSummary& node) {
  std::vector<std::string> left;
  for (const v1::ActiveFault& fault : node.unconfirmed())
    left.push_back(absl::StrCat(fault.fault(), " of ", fault.run()));
  return left.empty() ? "-" : absl::StrJoin(left, ", ");
}

std::string LabelWords(const v1::Registration& registration) {
  std::vector<std::string> labels;
  for (const auto& [key, value] : registration.labels())
    labels.push_back(absl::StrCat(key, "=", value));
  std::sort(labels.begin(), labels.end());
  return absl::StrJoin(labels, ",");
}

absl::StatusOr<v1::ListExperimentsResponse> AskExperiments(
    const Places& places, const v1::ListExperimentsRequest& request) {
  v1::ListExperimentsResponse response;
  RETURN_IF_ERROR(Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    return stub.ListExperiments(&context, request, &response);
  }));
  return response;
}

void PrintOne(Form form, const google::protobuf::Message& message, const std::string& name,
              const std::string& table) {
  const std::string text = form == Form::kJson   ? JsonText(message)
                           : form == Form::kYaml ? YamlText(message)
                           : form == Form::kName ? name + "\n"
                                                 : table;
  std::fputs(text.c_str(), stdout);
}

// What it permits, where that is not everything: only the keys that are set.
std::string PolicyWords(const v1::Policy& policy) {
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(policy, &json).ok() || json == "{}") return "";
  return absl::StrCat("\npolicy\n", YamlOfJson(json));
}

std::string InjectorTable(const v1::InjectorSummary& injector) {
  const v1::Registration& node = injector.registration();
  std::vector<std::string> can, profiles, programs;
  std::vector<std::vector<std::string>> cannot, faults, left;
  for (const v1::Capability& each : node.capabilities()) {
    if (each.available()) can.push_back(each.kind());
    if (!each.available()) cannot.push_back({each.kind(), each.reason()});
  }
  for (const v1::ProfileSummary& each : node.profiles()) {
    profiles.push_back(absl::StrCat(each.name(), " (",
                                    Words(v1::Protocol_Name(each.protocol()), "PROTOCOL_"), ")"));
  }
  for (const v1::Program& each : node.programs()) programs.push_back(each.name());
  for (const v1::ActiveFault& each : injector.figures().faults()) {
    faults.push_back(
        {each.fault(), each.run(), Words(v1::FaultState_Name(each.state()), "FAULT_STATE_")});
  }
  for (const v1::Leftover& each : node.leftovers())
    left.push_back({each.fault(), each.run(), each.reason(), each.undo_by_hand()});
  std::string text = absl::StrCat(
      "injector    ", node.node(), ", ", StateWord(injector), ", version ", node.version(),
      "\nlast seen   ", Time(injector.last_seen()), "\nenvironment ", node.environment(), "\n");
  const auto add = [&text](const char* key, const std::string& words) {
    if (!words.empty()) absl::StrAppend(&text, key, words, "\n");
  };
  add("labels      ", LabelWords(node));
  add("stopped     ", injector.figures().stopped());
  add("profiles    ", absl::StrJoin(profiles, ", "));
  add("programs    ", absl::StrJoin(programs, ", "));
  add("can         ", absl::StrJoin(can, ", "));
  const auto add_table = [&text](const std::vector<std::string>& head,
                                 const std::vector<std::vector<std::string>>& rows) {
    if (!rows.empty()) absl::StrAppend(&text, "\n", TableText(head, rows));
  };
  add_table({"FAULT ON IT", "RUN", "STATE"}, faults);
  add_table({"LEFT BEHIND", "RUN", "WHY", "UNDO BY HAND"}, left);
  add_table({"CANNOT", "WHY NOT"}, cannot);
  return text + PolicyWords(node.policy());
}

int DescribeInjector(const Places& places, const std::string& name, Form form) {
  v1::ListInjectorsResponse response;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    return stub.ListInjectors(&context, v1::ListInjectorsRequest(), &response);
  });
  if (!status.ok()) return ComplainOf(status);
  for (const v1::InjectorSummary& each : response.injectors()) {
    if (each.registration().node() != name) continue;
    PrintOne(form, each, name, InjectorTable(each));
    return 0;
  }
  return ComplainOf(absl::NotFoundError(
      absl::StrCat("injector ", name, ": none of this name has dialled ", places.controller,
                   "; `firedrill get injectors` lists those that have")));
}

int DescribeExperiment(const Places& places, const std::string& name, Form form) {
  v1::ListExperimentsRequest request;
  request.set_name(name);
  request.set_slots(kSlotsDescribed);
  request.set_texts(true);
  absl::StatusOr<v1::ListExperimentsResponse> response = AskExperiments(places, request);
  if (!response.ok()) return ComplainOf(response.status());
  v1::ExperimentSummary& found = *response->mutable_experiments(0);
  std::string table = absl::StrCat(
      "experiment  ", found.name(), ", version ", found.version(), "\napplied     ",
      Time(found.applied()), " by ", found.applied_by(), " from ", found.file(), "\nschedule    ",
      found.cron().empty() ? "none: it is started by people" : found.cron(), " ", found.time_zone(),
      "\n");
  if (found.has_next_slot()) absl::StrAppend(&table, "next slot   ", Time(found.next_slot()), "\n");
  if (!found.problem().empty()) absl::StrAppend(&table, "problem     ", found.problem(), "\n");
  std::vector<std::vector<std::string>> rows;
  for (const v1::Slot& slot : found.slots())
    rows.push_back({Time(slot.due()), slot.run().empty() ? "-" : slot.run(),
                    slot.missed().empty()
                        ? "fired"
                        : absl::StrCat("missed: ", slot.missed(), ": ", slot.reason())});
  if (!rows.empty())
    absl::StrAppend(&table, "\n", TableText({"SLOT", "RUN", "WHAT CAME OF IT"}, rows));
  absl::StrAppend(&table, "\n", found.text());
  PrintOne(form, found, name, table);
  return 0;
}

int DescribeRun(const Places& places, const std::string& name, Form form) {
  const absl::StatusOr<std::vector<v1::Event>> history = ReadRemoteHistory(places, name);
  if (!history.ok()) return ComplainOf(history.status());
  const v1::Judgement judgement = Judge(*history);
  const v1::RunCreated& created = history->front().created();
  const std::string& run = history->front().run();
  const Screen screen(places.no_color);
  const std::string json = ReportJson(*history, judgement);
  const std::string text =
      form == Form::kJson   ? json
      : form == Form::kYaml ? YamlOfJson(json)
      : form == Form::kName
          ? run + "\n"
          : absl::StrCat("run         ", run, " of ", created.experiment().metadata().name(),
                         "\nbegun       ", Time(history->front().at()), " by ", created.owner(),
                         created.detached() ? ", detached" : "", "\n\n",
                         SummaryText(*history, judgement, screen.style()));
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace

int GetCommand(const Places& places, const std::string& what, const std::string& form_word,
               uint32_t limit) {
  const Form form = FormOf(form_word);
  std::vector<std::vector<std::string>> rows;
  if (what == "injectors") {
    v1::ListInjectorsResponse response;
    const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
      return stub.ListInjectors(&context, v1::ListInjectorsRequest(), &response);
    });
    if (!status.ok()) return ComplainOf(status);
    for (const v1::InjectorSummary& each : response.injectors())
      rows.push_back({each.registration().node(), StateWord(each), Time(each.last_seen()),
                      each.registration().version(), LabelWords(each.registration()),
                      LeftWords(each)});
    PrintList(form, response, {"NODE", "STATE", "LAST SEEN", "VERSION", "LABELS", "NOT UNDONE"},
              rows, "no injector has dialled this controller yet");
    return 0;
  }
  if (what == "runs") {
    v1::ListRunsRequest request;
    request.set_at_most(limit);
    v1::ListRunsResponse response;
    const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
      return stub.ListRuns(&context, request, &response);
    });
    if (!status.ok()) return ComplainOf(status);
    for (const v1::RunSummary& run : response.runs())
      rows.push_back(
          {run.run(), Time(run.created()), OutcomeWords(run), VerdictWords(run), run.experiment()});
    PrintList(
        form, response, {"RUN", "BEGUN", "OUTCOME", "VERDICT", "EXPERIMENT"}, rows,
        absl::StrCat("no runs yet at ", places.controller,
                     "; start one with: firedrill run FILE --controller ", places.controller));
    return 0;
  }
  const absl::StatusOr<v1::ListExperimentsResponse> response = AskExperiments(places, {});
  if (!response.ok()) return ComplainOf(response.status());
  for (const v1::ExperimentSummary& each : response->experiments())
    rows.push_back({each.name(), absl::StrCat(each.version()),
                    each.has_next_slot()     ? Time(each.next_slot())
                    : each.problem().empty() ? "-"
                                             : "PROBLEM",
                    SlotWords(each),
                    each.cron().empty() ? "-" : absl::StrCat(each.cron(), " ", each.time_zone()),
                    each.applied_by()});
  PrintList(
      form, *response, {"NAME", "VERSION", "NEXT SLOT", "LAST SLOT", "SCHEDULE", "APPLIED BY"},
      rows,
      absl::StrCat("no experiment was applied to ", places.controller,
                   " yet; do it with: firedrill apply FILE --controller ", places.controller));
  return 0;
}

int DescribeCommand(const Places& places, const std::string& what, const std::string& name,
                    const std::string& form_word) {
  const Form form = FormOf(form_word);
  return what == "injector"     ? DescribeInjector(places, name, form)
         : what == "experiment" ? DescribeExperiment(places, name, form)
                                : DescribeRun(places, name, form);
}

int ApplyCommand(const Places& places, const std::vector<std::string>& files) {
  std::vector<v1::ApplyExperimentRequest> requests;
  bool good = true;
  // All files first, as everywhere: with an error in one of them nothing is applied.
  for (const std::string& file : files) {
    const absl::StatusOr<std::string> text = ReadFileText(file);
    if (!text.ok()) {
      (void)ComplainOf(text.status());
      good = false;
      continue;
    }
    const ExperimentFile read = ReadExperiment(*text, file);
    if (!read.ok()) std::fputs(read.Report().c_str(), stderr);
    good = good && read.ok();
    v1::ApplyExperimentRequest& request = requests.emplace_back();
    request.set_file(file);
    request.set_text(*text);
    request.set_by(OwnerWords());
  }
  if (!good) {
    std::fprintf(stderr, "firedrill: nothing was applied\n");
    return kUsageError;
  }
  int code = 0;
  for (const v1::ApplyExperimentRequest& request : requests) {
    v1::ApplyExperimentResponse response;
    const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
      return stub.ApplyExperiment(&context, request, &response);
    });
    if (!status.ok()) {
      code = std::max(code, ComplainOf(status));
      continue;
    }
    const std::string& change = v1::ApplyExperimentResponse::Change_Name(response.change());
    std::printf(
        "experiment %s %s (version %llu), %s\n", response.name().c_str(),
        Words(change, "CHANGE_").c_str(), static_cast<unsigned long long>(response.version()),
        response.has_next_slot() ? absl::StrCat("next slot ", Time(response.next_slot())).c_str()
                                 : "no schedule: it is started by people");
    for (const std::string& line : response.differences()) std::printf("  %s\n", line.c_str());
  }
  return code;
}

int DeleteExperimentCommand(const Places& places, const std::string& name) {
  v1::DeleteExperimentRequest request;
  request.set_name(name);
  v1::DeleteExperimentResponse response;
  const absl::Status status = Ask(places, [&](auto& stub, grpc::ClientContext& context) {
    return stub.DeleteExperiment(&context, request, &response);
  });
  if (!status.ok()) return ComplainOf(status);
  std::printf(
      "experiment %s is deleted: its schedule starts it no more; what it has started goes on\n",
      name.c_str());
  return 0;
}

}  // namespace firedrill
