// firedrill-injector: what breaks things on one node, and puts them back. It dials its controller,
// and opens no port.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "base/version.h"
#include "experiment/reader.h"
#include "identity/identity.h"
#include "identity/kept_identity.h"
#include "identity/rpc/credentials.h"
#include "injector/faults/wire/worker_line.h"
#include "injector/injector.h"
#include "injector/rpc/grpc_dialler.h"
#include "injector/state_dir.h"
#include "injector/stop_watch.h"
#include "injector/watchdog.h"

namespace firedrill {
namespace {

constexpr int kUsageError = 2;
constexpr int kNotStarted = 3;
constexpr int kUndoUnconfirmed = 5;
// A dead predecessor's reaper may be undoing what it left.
constexpr absl::Duration kLockWait = absl::Seconds(3);
// A private controller does not come back.
constexpr absl::Duration kPrivateGrace = absl::Milliseconds(300);
// At its certificate.
constexpr int kLookMs = 1000;

struct Flags {
  std::string config, site, node, controller, identity, state_dir, grace, log_level = "info";
  bool is_private = false;
};

int Complain(const absl::Status& status, int code) {
  std::fprintf(stderr, "firedrill-injector: %s\n", std::string(status.message()).c_str());
  return code;
}

absl::StatusOr<v1::NodeSpec> ReadNode(const Flags& flags) {
  RETURN_IF_ERROR(CheckOwnership(flags.site));
  ASSIGN_OR_RETURN(const std::string text, ReadFileText(flags.site));
  const SiteFile file = ReadSite(text, flags.site);
  if (!file.ok()) return absl::InvalidArgumentError("the site file has errors:\n" + file.Report());
  std::vector<std::string> names;
  for (const v1::NodeSpec& node : file.site.spec().injectors()) {
    names.push_back(node.name());
    if (node.name() != flags.node) continue;
    v1::NodeSpec spec = node;
    if (spec.environment().empty()) spec.set_environment(file.site.spec().environment());
    return spec;
  }
  return absl::NotFoundError(absl::StrCat("--node ", flags.node, ": ", flags.site,
                                          " has no such injector; it has ",
                                          names.empty() ? "none" : JoinWords(names)));
}

// A daemon's own file says all that the flags of a private injector say.
absl::StatusOr<v1::NodeSpec> ReadConfig(Flags& flags) {
  RETURN_IF_ERROR(CheckOwnership(flags.config));
  ASSIGN_OR_RETURN(const std::string text, ReadFileText(flags.config));
  const InjectorFile file = ReadInjector(text, flags.config);
  if (!file.ok()) return absl::InvalidArgumentError("its file has errors:\n" + file.Report());
  const v1::InjectorSpec& spec = file.injector.spec();
  flags.controller = spec.controller();
  flags.identity = spec.identity();
  if (flags.state_dir.empty()) flags.state_dir = spec.state_dir();
  if (flags.grace.empty()) flags.grace = firedrill::FormatDuration(FromProto(spec.grace()));
  ASSIGN_OR_RETURN(const Certificate certificate,
                   CheckIdentity(IdentityOf(flags.identity), {"injector"}, absl::Now()));
  if (certificate.peer.name != spec.node().name()) {
    return absl::FailedPreconditionError(
        absl::StrCat(flags.config, ": the node is ", spec.node().name(), ", and ", flags.identity,
                     ".crt is that of ", certificate.peer.Uri(),
                     ": a node serves under its own name; issue a certificate for it"));
  }
  return spec.node();
}

std::string Sibling(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / name).string();
}

std::string DrawInstance() {
  std::random_device random;
  return absl::StrCat(absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
}

// Faults hold as many descriptors as they may.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// We cause load: the loop that watches leases and beats must run all the same, where that is
// permitted. What it starts does not inherit it.
void PreferLoop(EventLoop& loop) {
  loop.Run([] {
    const sched_param priority{.sched_priority = 5};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) != 0) {
      spdlog::debug("the loop runs at ordinary priority");
    }
  });
  if (geteuid() == 0) mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

// Ends the process as nothing else can: what dies with it is gone, and the reaper undoes the rest.
void GiveUp(const std::string& why) {
  spdlog::critical("{}; this process ends itself, and its reaper undoes what is journalled", why);
  spdlog::default_logger()->flush();
  kill(getpid(), SIGKILL);
}

int Serve(const Flags& flags, const v1::NodeSpec& spec, const std::string& state_dir, int signals) {
  absl::StatusOr<NodeLock> lock = NodeLock::Take(state_dir, spec.name(), kLockWait);
  if (!lock.ok()) {
    return Complain(lock.status(),
                    absl::IsFailedPrecondition(lock.status()) ? kExitNodeInUse : kNotStarted);
  }
  FileDisk disk(lock->folder());
  WireWorker::SetOwner(lock->folder());
  const UniqueFd done(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::optional<Session::End> end;
  const auto finish = [&](const Session::End& how) {
    if (!end.has_value()) end = how;
    const uint64_t one = 1;
    if (write(done.get(), &one, sizeof(one)) < 0) spdlog::debug("the end was said before");
  };

  EventLoop loop;
  PreferLoop(loop);
  // Outlives the dialler.
  std::optional<KeptIdentity> kept;
  if (!flags.identity.empty()) {
    absl::StatusOr<KeptIdentity> opened =
        KeptIdentity::Open(IdentityOf(flags.identity), {"injector"});
    if (!opened.ok()) return Complain(opened.status(), kUsageError);
    kept.emplace(*std::move(opened));
  }
  absl::StatusOr<std::unique_ptr<Dialler>> dialler = MakeGrpcDialler(
      loop, flags.controller, kept.has_value() ? std::make_optional(kept->files()) : std::nullopt);
  if (!dialler.ok()) return Complain(dialler.status(), kUsageError);
  Injector::Options options;
  options.version = kVersion;
  options.instance = DrawInstance();
  options.pid = static_cast<uint32_t>(getpid());
  options.capabilities = RegisteredCapabilities();
  options.warden.give_up = GiveUp;
  const std::vector<std::string> stop_files = {absl::StrCat(lock->folder(), "/", Warden::kStopFile),
                                               absl::StrCat(state_dir, "/", Warden::kStopFile)};
  options.warden.stop_file = [&stop_files] { return StopFileIn(stop_files); };
  if (kept.has_value()) {
    options.session.certificate_expires = [files = kept->files()] { return ExpiryOf(files); };
  }
  std::unique_ptr<Watchdog> watchdog;
  options.warden.lease_shortened = [&watchdog] {
    if (watchdog != nullptr) watchdog->BeatNow();
  };
  options.session.is_private = flags.is_private;
  options.session.controller = flags.controller;
  if (flags.is_private) options.session.grace = kPrivateGrace;
  if (!flags.grace.empty()) {
    const absl::StatusOr<absl::Duration> grace = ParseDuration(flags.grace);
    if (!grace.ok()) return Complain(Annotate(grace.status(), "--grace"), kUsageError);
    options.session.grace = *grace;
  }

  std::unique_ptr<Injector> injector;
  std::unique_ptr<StopWatch> stop_watch;
  absl::Status started;
  loop.Run([&] {
    started = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(
          injector,
          Injector::Open({loop, disk, **dialler, spec, ThreadedFaults, ThreadedWork}, options));
      for (const std::string& undone : injector->found().undone) {
        spdlog::warn("a predecessor had left this, and it is undone: {}", undone);
      }
      for (const v1::Leftover& left : injector->found().entries) {
        spdlog::error("a predecessor had left {}, and it is NOT undone: {}; by hand: {}",
                      left.resource(), left.reason(), left.undo_by_hand());
      }
      watchdog = std::make_unique<Watchdog>(
          loop,
          Watchdog::Options{.program = Sibling("firedrill-reaper"),
                            .state_dir = state_dir,
                            .node = spec.name(),
                            .lease = [&injector] { return injector->warden().SmallestLease(); },
                            .lost = [&](const std::string& why) { injector->Close(why, finish); }});
      RETURN_IF_ERROR(watchdog->Start());
      injector->journal().SetGuard([&watchdog](const Undo& undo) -> absl::Status {
        // A remedy that is under way when everything ends may still be here.
        if (!NeedsReadiness(undo)) return absl::OkStatus();
        RETURN_IF_ERROR(MakeReady(undo, {}));
        return watchdog->AskReady(undo);
      });
      stop_watch = std::make_unique<StopWatch>(
          loop, StopWatch::Options{.paths = stop_files,
                                   .stop =
                                       [&injector](const std::string& path) {
                                         spdlog::warn("the file {} is there: everything goes off",
                                                      path);
                                         injector->LookForStop();
                                       },
                                   .give_up = GiveUp});
      injector->Start(finish);
      return absl::OkStatus();
    }();
  });
  if (started.ok()) {
    spdlog::info("firedrill-injector {} of the node {}, process {}, dials {}", kVersion,
                 spec.name(), getpid(), flags.controller);
    while (true) {
      pollfd waits[] = {{signals, POLLIN, 0}, {done.get(), POLLIN, 0}};
      if (poll(waits, 2, kept.has_value() ? kLookMs : -1) < 0 && errno != EINTR) break;
      if (kept.has_value()) (void)kept->Look();
      if (waits[1].revents != 0) break;
      signalfd_siginfo info{};
      if (read(signals, &info, sizeof(info)) != sizeof(info)) continue;
      spdlog::warn("signal {}: everything goes off", info.ssi_signo);
      loop.Run([&] { injector->Close("the injector was asked to end", finish); });
    }
  }
  // Faults and links go before what they use.
  loop.Run([&] {
    stop_watch.reset();
    if (started.ok()) watchdog->Goodbye();
    injector.reset();
    watchdog.reset();
  });
  dialler->reset();
  loop.Stop();
  if (!started.ok()) return Complain(started, kNotStarted);
  spdlog::info("ended: {}{}", end->reason,
               end->clean ? "; nothing is left" : "; something is STUCK");
  if (!end->clean) return kUndoUnconfirmed;
  return end->refused ? kNotStarted : 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Breaks things on one node when its controller says so, and puts them back."};
  app.name("firedrill-injector");
  app.set_version_flag("--version", std::string("firedrill-injector ") + kVersion);
  CLI::Option* config =
      app.add_option("--config", flags.config, "The file of an injector that serves a controller");
  app.add_option("--site", flags.site, "The site file that describes this node (private runs)")
      ->excludes(config);
  app.add_option("--node", flags.node, "Which of its injectors this is")->excludes(config);
  app.add_option("--controller", flags.controller, "unix:/path of the controller's socket")
      ->excludes(config);
  app.add_option(
      "--state-dir", flags.state_dir,
      "Where journal and lock are kept (/var/lib/firedrill, or ~/.local/state/firedrill)");
  app.add_option("--grace", flags.grace,
                 "How long a lost connection may take to come back, like 500ms");
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_flag("--private", flags.is_private, "Belongs to one controller, and ends with it");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  if (flags.config.empty() &&
      (flags.site.empty() || flags.node.empty() || flags.controller.empty())) {
    return Complain(absl::InvalidArgumentError(
                        "name --config FILE, or --site, --node and --controller together"),
                    kUsageError);
  }
  PrepareTls();
  // Before there is any thread: all of them are to leave these to us.
  sigset_t set;
  sigemptyset(&set);
  for (const int ending : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, ending);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  for (const int ignored : {SIGPIPE, SIGXFSZ}) signal(ignored, SIG_IGN);
  const UniqueFd signals(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  spdlog::set_default_logger(spdlog::stderr_logger_mt("injector"));
  spdlog::set_level(spdlog::level::from_str(flags.log_level));
  spdlog::flush_on(spdlog::level::info);
  RaiseFileLimit();

  const absl::StatusOr<v1::NodeSpec> spec =
      flags.config.empty() ? ReadNode(flags) : ReadConfig(flags);
  if (!spec.ok()) return Complain(spec.status(), kUsageError);
  const absl::StatusOr<std::string> state_dir = StateDir(flags.state_dir);
  if (!state_dir.ok()) return Complain(state_dir.status(), kUsageError);
  return Serve(flags, *spec, *state_dir, signals.get());
}

}  // namespace
}  // namespace firedrill

int main(int argc, char** argv) { return firedrill::Main(argc, argv); }
