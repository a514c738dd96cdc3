// `firedrill inject`: one fault on this machine, by the same way in which every run works.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
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
#include "cli/private_run.h"
#include "cli/rpc/own_run.h"
#include "cli/run_definitions.h"
#include "cli/screen.h"
#include "controller/report_parts.h"
#include "controller/run_steps.h"
#include "controller/words.h"
#include "experiment/reader.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

constexpr char kHere[] = "here";
constexpr char kLabel[] = "firedrill-inject";
constexpr char kSiteHere[] = "firedrill.site.yaml";
constexpr char kSiteOfMachine[] = "/etc/firedrill/site.yaml";
constexpr absl::Duration kLineEvery = absl::Seconds(1);
// As old as figures of a fault that goes on may be.
constexpr absl::Duration kFresh = absl::Seconds(2);

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
      // Another fault logs in at its server, and only a profile has an account for that.
      const bool takes = IsOnTheWire(options.kind) || options.kind == "holdConnections";
      return absl::InvalidArgumentError(
          absl::StrCat("no site file names a profile here: give --site FILE",
                       takes ? ", or --upstream HOST:PORT with --protocol" : ""));
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

// What a person sees of one fault: its own lines and its counters, and nothing of gates,
// expectations and verdicts, which it has not.
class InjectView {
 public:
  InjectView(const InjectOptions& options, Screen& screen) : options_(options), screen_(screen) {}

  void Event(const v1::Event& event) {
    const absl::Time at = FromProto(event.at());
    if (event.has_created()) {
      const v1::Plan& plan = event.created().plan();
      one_shot_ = !plan.faults().empty() && plan.faults(0).ending() == v1::ENDING_ONE_SHOT;
      Say(absl::StrCat(
          "run ", plan.run(), ": ", KebabOf(options_.kind), ", seed ", plan.seed(), "; it ends ",
          one_shot_ ? "by itself" : absl::StrCat("after ", options_.duration), ", or with Ctrl-C"));
    }
    if (event.has_finding() && event.finding().kind() == v1::Finding::KIND_CIRCUMSTANCE) {
      misspelt_ = misspelt_ || IsMisspelt(event.finding().code());
    }
    if (event.has_fault()) Fault(event.fault(), at);
  }

  static bool Shows(const v1::Event& event) {
    if (event.has_created() || event.has_phase() || event.has_finished()) return false;
    if (event.has_preflight_finished()) return false;
    // Why has been said by the fault itself.
    return !event.has_stop() || (event.stop().cause() != v1::StopRequested::CAUSE_FAULT_REFUSED &&
                                 event.stop().cause() != v1::StopRequested::CAUSE_FAULT_STUCK);
  }

  void Tick() {
    const std::string seconds = absl::StrCat(absl::ToInt64Seconds(absl::Now() - since_), "s");
    if (over_) return screen_.Status(absl::StrCat("  ", seconds, "  it is over"));
    if (screen_.terminal()) {
      const std::string head = absl::StrCat("  ", seconds, "  ");
      const std::string words =
          absl::StrCat(counters_.empty() ? "starting" : counters_, " (Ctrl-C ends it)");
      return screen_.Status(absl::StrCat(
          head, reporting::Wrap(words, screen_.style().width - 1, head.size(), head.size())));
    }
    if (counters_ == said_ || absl::Now() - said_at_ < kLineEvery) return;
    screen_.Line(absl::StrCat(seconds, "  ", counters_));
    said_ = counters_;
    said_at_ = absl::Now();
  }

  int Judged(const std::vector<v1::Event>& history, const v1::Judgement& judgement, int code) {
    screen_.Line("");
    code = SayHowItEnded(RunSteps(history).faults(), judgement, code);
    SayWhatWasTouched(ended_at_.value_or(FromProto(history.back().at())));
    return code;
  }

 private:
  void Fault(const v1::FaultReport& report, absl::Time at) {
    on_ = on_ || report.state() == v1::FAULT_STATE_ACTIVE;
    switch (report.state()) {
      case v1::FAULT_STATE_REFUSED:
        refused_ = over_ = true;
        senseless_ = IsSenseless(report.code());
        forbidden_ =
            static_cast<absl::StatusCode>(report.code()) == absl::StatusCode::kPermissionDenied;
        break;
      case v1::FAULT_STATE_REVERTED:
      case v1::FAULT_STATE_SUPERSEDED:
        over_ = true;
        ended_at_ = at;
        break;
      default:
        break;
    }
    if (report.observation().detail().empty()) return;
    const bool on =
        report.state() == v1::FAULT_STATE_ACTIVE || report.state() == v1::FAULT_STATE_REVERTING;
    if (!on && !one_shot_) {
      after_ = report.observation().detail();
      return;
    }
    counters_ = report.observation().detail();
    counted_at_ = at;
    counted_last_ = report.state() != v1::FAULT_STATE_ACTIVE;
  }

  // The words on the command line are wrong, not what they meet.
  static bool IsMisspelt(const std::string& code) {
    return absl::StartsWith(code, "no-") || code == "protocol";
  }
  static bool IsSenseless(int code) {
    const auto canonical = static_cast<absl::StatusCode>(code);
    return canonical == absl::StatusCode::kInvalidArgument ||
           canonical == absl::StatusCode::kNotFound || canonical == absl::StatusCode::kOutOfRange;
  }

  bool HasListen() const {
    const auto* arm = options_.fault.GetReflection()->GetOneofFieldDescriptor(
        options_.fault, options_.fault.GetDescriptor()->FindOneofByName("kind"));
    const auto& kind = options_.fault.GetReflection()->GetMessage(options_.fault, arm);
    const auto* listen = arm->message_type()->FindFieldByName("listen");
    return listen != nullptr && !kind.GetReflection()->GetString(kind, listen).empty();
  }

  // It was seen in force, and went off before its time though nobody had stopped it.
  static const v1::ExpectationResult* EndedEarly(const v1::Judgement& judgement) {
    for (const v1::ExpectationResult& result : judgement.results()) {
      if (result.code() == "ended-early") return &result;
    }
    return nullptr;
  }

  std::string Ended(const v1::Judgement& judgement, int code) const {
    const bool sure = code != kUndoUnconfirmed;
    if (sure && refused_ && !on_) return "refused; nothing of it stays";
    if (sure && judgement.outcome() == v1::OUTCOME_NOT_STARTED) {
      return "not started; nothing was touched";
    }
    const char* undone = !sure       ? "; UNDO NOT CONFIRMED: a person must look"
                         : one_shot_ ? "; nothing to undo"
                                     : "; undone, and read back";
    if (EndedEarly(judgement) != nullptr) return absl::StrCat("it ended early", undone);
    if (judgement.outcome() == v1::OUTCOME_COMPLETED) {
      return absl::StrCat(one_shot_ ? "it has acted" : "its time is over", undone);
    }
    return absl::StrCat("ended by ",
                        judgement.cause() == v1::StopRequested::CAUSE_UNSPECIFIED
                            ? judgement.reason()
                            : StopWords(judgement.cause(), judgement.reason()),
                        undone);
  }

  int SayHowItEnded(const std::vector<FaultCourse>& faults, const v1::Judgement& judgement,
                    int code) {
    const bool sure = code != kUndoUnconfirmed;
    const bool never = refused_ && !on_ && sure;
    if (sure && (misspelt_ || (never && senseless_))) code = kUsageError;
    if (never && forbidden_ && IsOnTheWire(options_.kind) && !HasListen() && geteuid() != 0) {
      Say("add --listen 127.0.0.1:6432 (any free port) and have the clients come to that address: "
          "only root may redirect those that know nothing");
      code = kUsageError;
    }
    Say(absl::StrCat(Ended(judgement, code), " (exit ", code, ")"));
    for (const FaultCourse& fault : faults) {
      if (!sure && fault.apply_issued && !fault.end.has_value()) SayWhatToUndo(fault);
    }
    for (const v1::ExpectationResult& result : judgement.results()) {
      if (judgement.outcome() != v1::OUTCOME_COMPLETED) break;
      if (result.verdict() == v1::VERDICT_PASSED) continue;
      const std::string mend = result.mend().empty() ? "" : absl::StrCat("; ", result.mend());
      if (&result == EndedEarly(judgement)) {
        SayWhyEarly(faults, mend);
      } else {
        Say(absl::StrCat("it was not seen in force: ", result.reason(), mend));
      }
    }
    return code;
  }

  void SayWhatToUndo(const FaultCourse& fault) {
    Say(absl::StrCat(fault.planned.name(), " is ", FaultStateWord(fault.last),
                     fault.reason.empty() ? "" : ": ", fault.reason));
    // In one line, to be pasted.
    screen_.Line(fault.undo_by_hand.empty() ? "look with: firedrill leftovers"
                                            : absl::StrCat("undo it with: ", fault.undo_by_hand));
  }

  void SayWhyEarly(const std::vector<FaultCourse>& faults, const std::string& mend) {
    for (const FaultCourse& fault : faults) {
      if (!fault.reached.has_value() || !fault.end.has_value()) continue;
      const absl::Duration held = fault.end->at - fault.reached->at;
      Say(absl::StrCat("it was in force for ", Short(std::max(held, absl::ZeroDuration())), " of ",
                       options_.duration, fault.reason.empty() ? "" : ": ", fault.reason, mend));
    }
  }

  void SayWhatWasTouched(absl::Time end) {
    if (!after_.empty()) Say(absl::StrCat("after: ", after_));
    if (counters_.empty()) return;
    const absl::Duration age = end - counted_at_;
    const bool old = !counted_last_ && age >= kFresh;
    Say(absl::StrCat("touched",
                     old ? absl::StrCat(", as last seen ", Short(age), " before the end") : "",
                     ": ", counters_));
  }

  void Say(const std::string& line) {
    screen_.Line(screen_.terminal() ? reporting::Wrap(line, screen_.style().width, 2, 0) : line);
  }

  const InjectOptions& options_;
  Screen& screen_;
  const absl::Time since_ = absl::Now();
  bool one_shot_ = false;
  bool on_ = false;
  bool over_ = false;
  bool refused_ = false;
  bool senseless_ = false;
  bool forbidden_ = false;
  bool misspelt_ = false;
  std::string counters_;
  // What the look after its end saw, where it tells.
  std::string after_;
  absl::Time counted_at_;
  // Taken when the fault was let go: nothing is missing.
  bool counted_last_ = false;
  std::optional<absl::Time> ended_at_;
  std::string said_;
  absl::Time said_at_ = absl::InfinitePast();
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
