// firedrill: breaks a system on purpose, and proves that the right alert fires and that the system
// recovers.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/pki.h"
#include "cli/print.h"

namespace {

using firedrill::Places;
using firedrill::RunOptions;

constexpr char kExitCodes[] =
    "Exit codes of run: 0 every expectation held, 1 an expectation failed, 2 usage or definition "
    "error\n"
    "(nothing was touched), 3 not started, 4 aborted and undone, 5 undo NOT confirmed: a person "
    "must look,\n"
    "6 inconclusive, 130 interrupted and undone.\n";

void AddController(CLI::App* command, Places& places) {
  command->add_option(
      "--controller", places.controller,
      "A running controller, host:port or unix:/path (else run and plan start a private one, and "
      "report and judge read this machine's history)");
  command
      ->add_option("--identity", places.identity,
                   "Your certificate, without .crt, for a controller on the network")
      ->envname("FIREDRILL_IDENTITY");
}

void AddPlaces(CLI::App* command, Places& places, bool controller = true) {
  command->add_option(
      "--site", places.site,
      "The site file: where things are (else ./firedrill.site.yaml, /etc/firedrill/site.yaml)");
  command->add_option(
      "--state-dir", places.state_dir,
      "Journals and histories (else /var/lib/firedrill, $XDG_STATE_HOME/firedrill)");
  if (controller) AddController(command, places);
  command->add_flag("--no-color", places.no_color, "Plain text also on a terminal");
}

// 0 means that a seed is to be drawn, so it cannot be one.
std::string IsSeed(const std::string& text) {
  uint64_t seed = 0;
  if (absl::c_all_of(text, absl::ascii_isdigit) && absl::SimpleAtoi(text, &seed) && seed > 0)
    return "";
  return absl::StrCat("a seed is a whole number from 1 to ", UINT64_MAX, ", not ", text);
}

// "did you mean run?", where the word is no command or the flag no flag of the command.
std::string Advice(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  std::string before;
  int at = 1;
  // As deep as the words are commands: `pki issue`.
  for (std::vector<const CLI::App*> below = command->get_subcommands({}); !below.empty(); ++at) {
    const std::string word = at < argc ? argv[at] : "";
    std::vector<std::string> commands;
    const CLI::App* found = nullptr;
    for (const CLI::App* each : below) {
      commands.push_back(each->get_name());
      if (each->get_name() == word) found = each;
    }
    if (word.empty() || word[0] == '-') {
      return absl::StrCat("say what to ", before.empty() ? "do" : before,
                          ", one of: ", absl::StrJoin(commands, ", "));
    }
    absl::StrAppend(&before, before.empty() ? "" : " ", word);
    if (found == nullptr) {
      const std::string near = firedrill::NearestOf(word, commands);
      return absl::StrCat("there is no command ", before,
                          near.empty() ? "." : absl::StrCat("; did you mean ", near, "?"),
                          " There are: ", absl::StrJoin(commands, ", "));
    }
    command = found;
    below = command->get_subcommands({});
  }
  std::vector<std::string> flags;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  for (int i = at; i < argc; ++i) {
    std::string word = argv[i];
    word.resize(std::min(word.size(), word.find('=')));
    if (word.rfind("--", 0) != 0 || absl::c_linear_search(flags, word)) continue;
    const std::string near = firedrill::NearestOf(word, flags);
    return near.empty() ? "" : absl::StrCat(word, ": did you mean ", near, "?");
  }
  return "";
}

// A full disk under standard output is no success. What a run has found stays its exit code.
int Flushed(int code, bool run) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  const int error = errno;
  std::fprintf(stderr, "firedrill: writing to standard output: %s\n", std::strerror(error));
  return code == 0 && !run ? firedrill::kUsageError : code;
}

// The words behind `pki`, and what they do.
void AddPki(CLI::App& app, int& code) {
  CLI::App* pki =
      app.add_subcommand("pki", "A private certificate authority: init, issue, revoke, list");
  pki->require_subcommand(1);
  struct Flags {
    std::string folder, domain = "firedrill", lasts, role, name, out = ".", reason;
    std::vector<std::string> hosts;
  };
  const auto flags = std::make_shared<Flags>();
  const auto add = [&](const char* word, const char* what) {
    CLI::App* command = pki->add_subcommand(word, what);
    command->add_option("folder", flags->folder, "The authority's folder")->required();
    return command;
  };
  const auto add_for = [&](CLI::App* command, const char* what) {
    command->add_option("--for", flags->lasts, what);
  };
  CLI::App* init = add("init", "Makes an authority in a new folder");
  init->add_option("--domain", flags->domain, "Whom it is for, like staging.shop.example");
  add_for(init, "How long it is good, like 365d (else ten years)");
  init->callback([&code, flags] {
    code = firedrill::PkiInitCommand(flags->folder, flags->domain, flags->lasts);
  });
  CLI::App* issue = add("issue", "Makes a key and a certificate, which says who somebody is");
  issue
      ->add_option("--role", flags->role,
                   "viewer, author, operator or admin for people; injector; controller")
      ->required();
  issue->add_option("--name", flags->name, "Of a person, a pipeline or, for an injector, its node")
      ->required();
  issue->add_option("--host", flags->hosts,
                    "A name or an address at which a controller is dialled; may be repeated");
  add_for(issue, "How long it is good, at most 90d (else 24h, for daemons 30d)");
  issue->add_option("--out", flags->out, "The folder for the three files (else this one)");
  issue->callback([&code, flags] {
    code = firedrill::PkiIssueCommand(flags->folder, flags->role, flags->name, flags->hosts,
                                      flags->lasts, flags->out);
  });
  CLI::App* revoke = add("revoke", "Takes back all certificates of a name, or one by its serial");
  revoke->add_option("who", flags->name, "The name, or the serial")->required();
  revoke->add_option("--reason", flags->reason, "Why, for the record")->required();
  revoke->callback([&code, flags] {
    code = firedrill::PkiRevokeCommand(flags->folder, flags->name, flags->reason);
  });
  CLI::App* list = add("list", "Lists what has been issued, and what of it is good");
  list->callback([&code, flags] { code = firedrill::PkiListCommand(flags->folder); });
}

// What a controller that serves a team knows, and what it is to know.
void AddCatalog(CLI::App& app, int& code) {
  struct Flags {
    Places places;
    std::string name, form = "table";
    std::vector<std::string> files;
    uint32_t limit = 50;
  };
  const auto flags = std::make_shared<Flags>();
  const auto add = [&](CLI::App* parent, const char* word, const char* what) {
    CLI::App* command = parent->add_subcommand(word, what);
    AddController(command, flags->places);
    return command;
  };
  const auto add_form = [&](CLI::App* command) {
    command->add_option("-o,--output", flags->form, "table, json, yaml or name")
        ->check(CLI::IsMember(firedrill::FormWords()));
  };
  CLI::App* get =
      app.add_subcommand("get", "Lists what a controller knows: injectors, runs, experiments");
  get->require_subcommand(1);
  struct Word {
    const char* word;
    const char* what;
  };
  for (const Word& each :
       {Word{"injectors", "The nodes that have dialled it"}, Word{"runs", "Runs, newest first"},
        Word{"experiments", "Definitions that were applied, and their slots"}}) {
    CLI::App* command = add(get, each.word, each.what);
    add_form(command);
    if (std::string(each.word) == "runs") {
      command->add_option("--limit", flags->limit, "At most so many")->check(CLI::Range(1, 1000));
    }
    command->callback([&code, flags, what = std::string(each.word)] {
      code = firedrill::GetCommand(flags->places, what, flags->form, flags->limit);
    });
  }
  CLI::App* describe =
      app.add_subcommand("describe", "Says all that a controller knows of one thing");
  describe->require_subcommand(1);
  for (const Word& each : {Word{"injector", "A node: what it can do, and what it permits"},
                           Word{"run", "A run: by whom, and what came of it"},
                           Word{"experiment", "A definition, and what came of its slots"}}) {
    CLI::App* command = add(describe, each.word, each.what);
    command->add_option("name", flags->name, "Its name; a run's may be cut short")->required();
    add_form(command);
    command->callback([&code, flags, what = std::string(each.word)] {
      code = firedrill::DescribeCommand(flags->places, what, flags->name, flags->form);
    });
  }
  CLI::App* watch = add(&app, "watch", "Follows a run at a controller; exit code as that of run");
  watch->add_option("run", flags->name, "The run's id, or its beginning; `last` is the newest")
      ->required();
  watch->add_flag("--no-color", flags->places.no_color, "Plain text also on a terminal");
  watch
      ->add_option("-o,--output", flags->form,
                   "table: lines for people; json or yaml: each event, a line or a document; name: "
                   "the run's id, once")
      ->check(CLI::IsMember(firedrill::FormWords()));
  watch->callback(
      [&code, flags] { code = firedrill::WatchCommand(flags->places, flags->name, flags->form); });
  CLI::App* apply =
      add(&app, "apply",
          "Gives definitions to a controller, which starts them by their schedules only");
  apply->add_option("file", flags->files, "Experiment files")->required();
  apply->callback([&code, flags] { code = firedrill::ApplyCommand(flags->places, flags->files); });
  CLI::App* remove = app.add_subcommand("delete", "Takes back what was applied: experiment NAME");
  remove->require_subcommand(1);
  CLI::App* experiment = add(remove, "experiment", "A definition; its runs and slots stay");
  experiment->add_option("name", flags->name, "Its name")->required();
  experiment->callback(
      [&code, flags] { code = firedrill::DeleteExperimentCommand(flags->places, flags->name); });
}

// Commands to a controller that serves a team.
void AddRemote(CLI::App& app, int& code) {
  struct Flags {
    Places places;
    std::string run, node, reason;
    bool all = false;
  };
  const auto flags = std::make_shared<Flags>();
  const auto add = [&](CLI::App* parent, const char* word, const char* what) {
    CLI::App* command = parent->add_subcommand(word, what);
    AddController(command, flags->places);
    return command;
  };
  CLI::App* stop = add(&app, "stop", "Stops a run and undoes it; --all: the emergency lever");
  stop->add_option("run", flags->run, "The run's id");
  stop->add_flag("--all", flags->all, "Every fault off, and nothing new starts until unlock");
  stop->add_option("--reason", flags->reason, "Why, for the record")->required();
  stop->callback([&code, flags] {
    code = firedrill::StopCommand(flags->places, flags->run, flags->all, flags->reason);
  });
  CLI::App* unlock = add(&app, "unlock", "Releases the emergency lever");
  unlock->add_option("--reason", flags->reason, "Why, for the record")->required();
  unlock->callback(
      [&code, flags] { code = firedrill::UnlockCommand(flags->places, flags->reason); });
  CLI::App* settle =
      add(&app, "settle",
          "Says that somebody has looked: what an ended run has left is gone, or its node is");
  settle->add_option("run", flags->run, "The run's id, or its beginning")->required();
  settle->add_option("--node", flags->node, "Only what it has left on this node");
  settle->add_option("--reason", flags->reason, "What was seen, for the record")->required();
  settle->callback([&code, flags] {
    code = firedrill::SettleCommand(flags->places, flags->run, flags->node, flags->reason);
  });
  AddCatalog(app, code);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Breaks a system on purpose, and proves that the right alert fires and that it recovers."};
  app.name("firedrill");
  app.set_version_flag("--version", std::string("firedrill ") + firedrill::kVersion);
  app.require_subcommand(1);
  app.footer(kExitCodes);
  int code = 0;

  RunOptions run;
  CLI::App* run_command =
      app.add_subcommand("run", "Runs experiments, one after the other, and judges them");
  run_command->add_option("file", run.files, "Experiment files")->required();
  AddPlaces(run_command, run.places);
  run_command->add_option("--junit", run.junit, "Writes JUnit XML to this file");
  run_command->add_option("--json", run.json, "Writes the judgement as JSON to this file");
  run_command->add_option(
      "--report", run.report,
      "Writes the whole report to this file: Markdown where its name ends in .md, else text");
  run_command
      ->add_option("--seed", run.seed,
                   "Every choice by chance is drawn from it (else a new one, printed)")
      ->check(IsSeed);
  run_command->add_flag("--detach", run.detach,
                        "Leaves the run to the controller as soon as it has begun: it goes on "
                        "without this client (with --controller)");
  run_command->add_flag("--inject-anyway", run.inject_anyway,
                        "Goes on although the alerting under test is seen to be broken");
  run_command
      ->add_option("--allow", run.allow,
                   "not-started: exit 0 where circumstances kept a run from starting")
      ->check(CLI::IsMember({"not-started"}));
  run_command->footer(kExitCodes);
  run_command->callback([&] { code = firedrill::RunCommand(run); });

  RunOptions plan;
  CLI::App* plan_command = app.add_subcommand(
      "plan", "Says who would be hit, with what and when, and why not the others; touches nothing");
  plan_command->add_option("file", plan.files, "Experiment files")->required();
  AddPlaces(plan_command, plan.places);
  plan_command->add_option("--seed", plan.seed, "As in run")->check(IsSeed);
  plan_command->callback([&] { code = firedrill::PlanCommand(plan); });

  // Its flags are those of the fault, so it reads them itself.
  CLI::App* inject = app.add_subcommand(
      "inject", "Runs one fault on this machine until Ctrl-C: firedrill inject KIND --help");
  inject->set_help_flag();
  inject->prefix_command();
  inject->callback([&] { code = firedrill::InjectCommand(inject->remaining()); });

  std::vector<std::string> lint_files;
  std::string lint_site, lint_format = "text";
  CLI::App* lint = app.add_subcommand(
      "lint", "Checks experiment and site files, and those of daemons, offline; exit 0 or 2");
  lint->add_option("file", lint_files, "Experiment, site, controller or injector files")
      ->required();
  lint->add_option("--site", lint_site, "Also check the names that refer to this site file");
  lint->add_option("--format", lint_format, "text or github")
      ->check(CLI::IsMember({"text", "github"}));
  lint->callback([&] { code = firedrill::LintCommand(lint_files, lint_site, lint_format); });

  std::string schema_kind = "Experiment";
  CLI::App* schema = app.add_subcommand("schema", "Prints a JSON Schema for editors");
  schema->add_option("kind", schema_kind, "Experiment, Site, Controller or Injector")
      ->check(CLI::IsMember({"Experiment", "Site", "Controller", "Injector"}));
  schema->callback([&] { code = firedrill::SchemaCommand(schema_kind); });

  std::string explain_path = "experiment";
  CLI::App* explain =
      app.add_subcommand("explain", "Explains a key: experiment.spec.faults.holdConnections");
  explain->add_option("path", explain_path,
                      "The key's path, from experiment, site, controller or injector");
  explain->callback([&] { code = firedrill::ExplainCommand(explain_path); });

  CLI::App* faults =
      app.add_subcommand("faults", "Lists what can be broken, with an example, and how each ends");
  faults->callback([&] { code = firedrill::FaultsCommand(); });

  std::optional<std::string> statement;
  CLI::App* fingerprint = app.add_subcommand(
      "fingerprint",
      "Prints the fingerprint of a PostgreSQL statement, for match.fingerprint; exit 0 or 2");
  fingerprint->add_option("statement", statement,
                          "The statement, as in 'SELECT 1' (else standard input)");
  fingerprint->callback([&] { code = firedrill::FingerprintCommand(statement); });

  Places judge_places;
  std::string judge_run;
  bool judge_json = false;
  CLI::App* judge = app.add_subcommand("judge", "Judges an old run again, from its history");
  judge->add_option("run", judge_run, "The run's id, or its beginning; `last` is the newest")
      ->required();
  judge->add_flag("--json", judge_json, "As JSON");
  AddPlaces(judge, judge_places);
  judge->callback([&] { code = firedrill::JudgeCommand(judge_places, judge_run, judge_json); });

  Places report_places;
  std::string report_run, report_format = "text";
  CLI::App* report = app.add_subcommand("report", "Prints the report of a run");
  report->add_option("run", report_run, "The run's id, or its beginning; `last` is the newest")
      ->required();
  report->add_option("--format", report_format, "text, markdown, json or junit")
      ->check(CLI::IsMember({"text", "markdown", "json", "junit"}));
  AddPlaces(report, report_places);
  report->callback(
      [&] { code = firedrill::ReportCommand(report_places, report_run, report_format); });

  Places runs_places;
  CLI::App* runs =
      app.add_subcommand("runs", "Lists the runs of this machine's history, newest first");
  AddPlaces(runs, runs_places, false);
  runs->callback([&] { code = firedrill::RunsCommand(runs_places); });

  Places leftovers_places;
  CLI::App* leftovers = app.add_subcommand("leftovers",
                                           "Says what this machine's nodes still carry, undoes "
                                           "what nobody owns, and how to undo the rest");
  AddPlaces(leftovers, leftovers_places, false);
  leftovers->callback([&] { code = firedrill::LeftoversCommand(leftovers_places); });

  Places doctor_places;
  CLI::App* doctor = app.add_subcommand(
      "doctor",
      "Says whether this machine, or a controller, could do its work, and what to do; exit 0 or 1");
  AddPlaces(doctor, doctor_places);
  doctor->callback([&] { code = firedrill::DoctorCommand(doctor_places); });

  AddRemote(app, code);
  AddPki(app, code);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // The library's own codes are above 100; help and version are no errors.
    if (app.exit(error) == 0) return Flushed(0, false);
    const std::string advice = Advice(app, argc, argv);
    if (!advice.empty()) std::fprintf(stderr, "firedrill: %s\n", advice.c_str());
    return firedrill::kUsageError;
  }
  return Flushed(code, run_command->parsed());
}
