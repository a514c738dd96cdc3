// `firedrill inject`: one fault on this machine, by the same way in which every run works.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "cli/commands.h"
#include "cli/definitions.h"
#include "cli/inject_words.h"
#include "cli/leftovers.h"
#include "cli/own_run.h"
#include "cli/run_definitions.h"
#include "cli/screen.h"
#include "experiment/reader.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

constexpr char kHere[] = "here";
constexpr char kLabel[] = "firedrill-inject";
constexpr char kSiteHere[] = "firedrill.site.yaml";
constexpr char kSiteOfMachine[] = "/etc/firedrill/site.yaml";
constexpr absl::Duration kLineEvery = absl::Seconds(1);

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
    if (options.upstream.empty()) {
      return absl::InvalidArgumentError(
          "no site file names a profile here: give --site FILE, or --upstream HOST:PORT with "
          "--protocol");
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
  spec.mutable_limits()->add_environments(site.spec().environment());
  const google::protobuf::Duration duration = ToProto(*ParseDuration(options.duration));
  *spec.mutable_limits()->mutable_max_duration() = duration;
  v1::FaultStep& step = *spec.add_faults();
  step.set_name("inject");
  step.set_target(kHere);
  if (!one_shot) *step.mutable_duration() = duration;
  *step.mutable_fault() = options.fault;
  *step.mutable_lease() = ToProto(absl::Seconds(5));
  step.set_on_controller_loss(v1::ON_CONTROLLER_LOSS_REVERT);
  spec.mutable_expect();
  return experiment;
}

bool IsOneShot(const v1::Fault& fault) {
  const auto* arm = fault.GetReflection()->GetOneofFieldDescriptor(
      fault, fault.GetDescriptor()->FindOneofByName("kind"));
  return arm != nullptr &&
         arm->message_type()->options().GetExtension(v1::kind).ending() == v1::ENDING_ONE_SHOT;
}

// A folder with the site file that the processes read; gone with the run.
class SiteFolder {
 public:
  static absl::StatusOr<SiteFolder> Make(const v1::Site& site) {
    const char* tmp = std::getenv("TMPDIR");
    std::string folder =
        absl::StrCat(tmp != nullptr && tmp[0] == '/' ? tmp : "/tmp", "/firedrill-inject-XXXXXX");
    if (mkdtemp(folder.data()) == nullptr) {
      return absl::UnavailableError(
          absl::StrCat("making the folder ", folder, " for the site of this run"));
    }
    SiteFolder made(folder);
    RETURN_IF_ERROR(WriteText(made.file(), ToYaml(site)));
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
  if (!site.ok()) {
    Complain(site.status());
    return kUsageError;
  }
  (*site->mutable_spec()->mutable_injectors(0)->mutable_labels())[kLabel] = kHere;
  const absl::StatusOr<std::string> state_dir = StateDir(options->state_dir);
  const absl::StatusOr<SiteFolder> folder = SiteFolder::Make(*site);
  for (const absl::Status& status : {state_dir.status(), folder.status()}) {
    if (status.ok()) continue;
    Complain(status);
    return kUsageError;
  }

  Definitions all;
  all.site_file = folder->file();
  all.site = *site;
  all.experiments.push_back({"inject", MakeExperiment(*options, *site, IsOneShot(options->fault))});
  RunOptions run;
  run.places.no_color = options->no_color;
  run.places.state_dir = options->state_dir;
  signal(SIGPIPE, SIG_IGN);
  Screen screen(options->no_color);
  for (const std::string& line : TidyUp(*state_dir)) screen.Line(line);

  const absl::Time since = absl::Now();
  const bool one_shot = IsOneShot(options->fault);
  std::string counters, after, said;
  absl::Time said_at = absl::InfinitePast();
  RunWatch watch;
  watch.event = [&](const v1::Event& event) {
    if (!event.has_fault() || event.fault().observation().detail().empty()) return;
    const bool on = event.fault().state() == v1::FAULT_STATE_ACTIVE;
    (on || one_shot ? counters : after) = event.fault().observation().detail();
  };
  watch.tick = [&] {
    const std::string seconds = absl::StrCat(absl::ToInt64Seconds(absl::Now() - since), "s");
    if (screen.terminal()) {
      std::string line = absl::StrCat("  ", seconds, "  ", counters.empty() ? "starting" : counters,
                                      "   (Ctrl-C ends it)");
      if (line.size() >= screen.style().width && screen.style().width > 4) {
        line.resize(screen.style().width - 1);
      }
      screen.Status(line);
    } else if (counters != said && absl::Now() - said_at >= kLineEvery) {
      screen.Line(absl::StrCat(seconds, "  ", counters));
      said = counters;
      said_at = absl::Now();
    }
  };
  const int code = RunDefinitions(all, run, *state_dir, screen, watch);
  if (!counters.empty()) screen.Line(absl::StrCat("touched: ", counters));
  if (!after.empty()) screen.Line(absl::StrCat("after: ", after));
  return code;
}

}  // namespace firedrill
