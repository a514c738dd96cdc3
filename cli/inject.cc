// `firedrill inject`: one fault on this machine, by the same way in which every run works.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/inject_flags.h"
#include "cli/inject_view.h"
#include "cli/inject_words.h"
#include "cli/leftovers.h"
#include "cli/private_run.h"
#include "cli/rpc/own_run.h"
#include "cli/run_definitions.h"
#include "cli/screen.h"
#include "cli/upstream.h"
#include "experiment/reader.h"
#include "experiment/writer.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

constexpr char kHere[] = "here";
constexpr char kLabel[] = "firedrill-inject";
constexpr char kSiteHere[] = "firedrill.site.yaml";
constexpr char kSiteOfMachine[] = "/etc/firedrill/site.yaml";

void Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill: %s\n", std::string(status.message()).c_str());
}

// The node's own file where there is one: its profiles, and its policy, which holds here too.
absl::StatusOr<v1::Site> FindSite(const InjectOptions& options) {
  std::string file = options.site;
  for (const char* usual : {kSiteHere, kSiteOfMachine}) {
    if (file.empty() && access(usual, F_OK) == 0) file = usual;
  }
  v1::Site site;
  site.set_api_version("firedrill/v1");
  site.set_kind("Site");
  site.mutable_metadata()->set_name("inject");
  site.mutable_spec()->set_environment("local");
  if (file.empty()) {
    if (options.upstream.empty() && !options.subject.has_value()) {
      // Another fault logs in at its server, and only a profile has an account for that.
      const bool takes = IsOnTheWire(options.kind) || options.kind == "holdConnections";
      const bool on_processes = IsOnProcesses(options.kind);
      return absl::InvalidArgumentError(absl::StrCat(
          "no site file names a ", on_processes ? "subject" : "profile", " here: give --site FILE",
          takes ? ", or --upstream HOST:PORT with --protocol" : "",
          on_processes ? ", or say which processes are meant, as with --pidfile FILE" : ""));
    }
    site.mutable_spec()->add_injectors()->set_name("this-machine");
    return site;
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFileText(file));
  SiteFile read = ReadSite(text, file);
  if (!read.ok()) return absl::InvalidArgumentError(read.Report());
  site.mutable_spec()->set_environment(read.site.spec().environment());
  *site.mutable_spec()->mutable_endpoints() = read.site.spec().endpoints();
  std::vector<std::string> names;
  for (const v1::NodeSpec& node : read.site.spec().injectors()) {
    names.push_back(node.name());
    if (!options.node.empty() && node.name() != options.node) continue;
    if (options.node.empty() && read.site.spec().injectors_size() > 1) continue;
    *site.mutable_spec()->add_injectors() = node;
  }
  if (site.spec().injectors_size() == 1) return site;
  return absl::InvalidArgumentError(absl::StrCat(
      options.node.empty() ? "--node is missing" : absl::StrCat("--node ", options.node), ": ",
      file, " has ", names.empty() ? "no nodes" : JoinWords(names)));
}

v1::Experiment MakeExperiment(const InjectOptions& options, const v1::Site& site, bool one_shot) {
  v1::Experiment experiment;
  experiment.set_api_version("firedrill/v1");
  experiment.set_kind("Experiment");
  experiment.mutable_metadata()->set_name("inject");
  v1::ExperimentSpec& spec = *experiment.mutable_spec();
  spec.set_hypothesis("None: one fault, by hand.");
  v1::Target& target = *spec.add_targets();
  target.set_name(kHere);
  target.set_count(1);
  (*target.mutable_selector()->mutable_match_labels())[kLabel] = kHere;
  const std::string& own = site.spec().injectors(0).environment();
  spec.mutable_limits()->add_environments(site.spec().environment());
  if (!own.empty() && own != site.spec().environment()) {
    spec.mutable_limits()->add_environments(own);
  }
  const google::protobuf::Duration duration = ToProto(*ParseDuration(options.duration));
  *spec.mutable_limits()->mutable_max_duration() = duration;
  v1::FaultStep& step = *spec.add_faults();
  step.set_name(KebabOf(options.kind));
  step.set_target(kHere);
  if (!one_shot) *step.mutable_duration() = duration;
  *step.mutable_fault() = options.fault;
  *step.mutable_lease() = ToProto(absl::Seconds(5));
  step.set_on_controller_loss(v1::ON_CONTROLLER_LOSS_REVERT);
  spec.mutable_expect();
  return experiment;
}

// What no node could do is told as lint tells it, only that there is no file with lines to show.
bool FitsSite(const v1::Experiment& experiment, const v1::SiteSpec& site) {
  ExperimentFile file;
  file.experiment = experiment;
  const std::vector<Problem> problems = CheckAgainstSite(file, site);
  for (const Problem& problem : problems) {
    Complain(absl::InvalidArgumentError(
        absl::StrCat(problem.message, problem.suggestion.empty() ? "" : "; ", problem.suggestion)));
  }
  if (problems.empty()) return true;
  std::fprintf(stderr, "firedrill: nothing was started, nothing was touched\n");
  return false;
}

bool IsOneShot(const v1::Fault& fault) {
  const auto* arm = fault.GetReflection()->GetOneofFieldDescriptor(
      fault, fault.GetDescriptor()->FindOneofByName("kind"));
  return arm != nullptr &&
         arm->message_type()->options().GetExtension(v1::kind).ending() == v1::ENDING_ONE_SHOT;
}

// A folder with the site file that the processes read; gone with the run, or with the next command
// where this process is killed.
class SiteFolder {
 public:
  static absl::StatusOr<SiteFolder> Make(const v1::Site& site, const std::string& state_dir) {
    ASSIGN_OR_RETURN(const std::string folder, MakeRunFolder());
    SiteFolder made(folder);
    RETURN_IF_ERROR(WriteText(absl::StrCat(folder, "/", kStateDirFile), state_dir + "\n"));
    RETURN_IF_ERROR(WriteText(made.file(), WriteYaml(site)));
    return made;
  }
  SiteFolder(SiteFolder&& other) noexcept : folder_(std::exchange(other.folder_, "")) {}
  ~SiteFolder() {
    std::error_code error;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, error);
  }
  std::string file() const { return folder_ + "/site.yaml"; }

 private:
  explicit SiteFolder(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace

int InjectCommand(const std::vector<std::string>& words) {
  const absl::StatusOr<InjectOptions> options = ParseInject(words);
  if (!options.ok()) {
    Complain(options.status());
    return kUsageError;
  }
  if (options->help) {
    std::fputs(InjectHelp(options->kind).c_str(), stdout);
    return 0;
  }
  BlockSignals();
  absl::StatusOr<v1::Site> site = FindSite(*options);
  if (site.ok() && !options->upstream.empty()) {
    const auto profile = AdHocProfile(options->upstream, options->protocol);
    if (profile.ok()) *site->mutable_spec()->mutable_injectors(0)->add_profiles() = *profile;
    if (!profile.ok()) site = profile.status();
  }
  if (site.ok() && options->subject.has_value()) {
    *site->mutable_spec()->mutable_injectors(0)->add_subjects() = *options->subject;
  }
  if (!site.ok()) {
    Complain(site.status());
    return kUsageError;
  }
  (*site->mutable_spec()->mutable_injectors(0)->mutable_labels())[kLabel] = kHere;
  const v1::Experiment experiment = MakeExperiment(*options, *site, IsOneShot(options->fault));
  if (!FitsSite(experiment, site->spec())) return kUsageError;
  const absl::StatusOr<std::string> state_dir = StateDir(options->state_dir);
  if (!state_dir.ok()) {
    Complain(state_dir.status());
    return kUsageError;
  }
  signal(SIGPIPE, SIG_IGN);
  Screen screen(options->no_color);
  for (const std::string& line : TidyUp(*state_dir)) screen.Line(line);
  const absl::StatusOr<SiteFolder> folder = SiteFolder::Make(*site, *state_dir);
  if (!folder.ok()) {
    Complain(folder.status());
    return kUsageError;
  }

  Definitions all;
  all.site_file = folder->file();
  all.site = *site;
  all.experiments.push_back({"inject", experiment});
  RunOptions run;
  run.places.no_color = options->no_color;
  run.places.state_dir = options->state_dir;
  run.seed = options->seed;
  InjectView view(*options, screen);
  RunWatch watch;
  watch.event = [&](const v1::Event& event) { view.Event(event); };
  watch.shows = InjectView::Shows;
  watch.tick = [&] { view.Tick(); };
  watch.judged = [&](const auto& history, const auto& judgement, int code) {
    return view.Judged(history, judgement, code);
  };
  return RunDefinitions(all, run, *state_dir, screen, watch);
}

}  // namespace firedrill
