// firedrill-controller: plans, conducts, judges and keeps runs. One process for a team, or a
// private one that lives for one run.
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/event_loop.h"
#include "base/state_dir.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "base/version.h"
#include "controller/epoch_lock.h"
#include "controller/fleet.h"
#include "controller/lever.h"
#include "controller/lost_runs.h"
#include "controller/rpc/service.h"
#include "controller/runs.h"
#include "controller/sqlite_store.h"
#include "controller/system.h"
#include "experiment/reader.h"

namespace firedrill {
namespace {

constexpr int kUsageError = 2;
// A private controller that nobody has asked for anything for so long has lost its client. As long
// as an owner may be silent: its client may hang before it owns a run.
constexpr absl::Duration kAwaitOwner = absl::Seconds(5);
constexpr absl::Duration kLook = absl::Milliseconds(100);
// After a signal: how long undoing may take before the process ends without having seen it.
constexpr absl::Duration kUndoWithin = absl::Seconds(20);

struct Flags {
  std::string listen, site, state_dir;
  bool own = false;
  // The process that must be our parent as long as somebody needs us; 0: whoever it is at the
  // start.
  pid_t client = 0;
};

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "firedrill-controller: %s\n", std::string(status.message()).c_str());
  return kUsageError;
}

// The folder of a private controller's socket is removed with it, also when its client was killed.
void RemoveSocketFolder(const std::string& listen) {
  const std::filesystem::path folder =
      std::filesystem::path(std::string(absl::StripPrefix(listen, "unix:"))).parent_path();
  if (folder.filename().string().rfind("firedrill-", 0) != 0) return;
  std::error_code error;
  std::filesystem::remove_all(folder, error);
}

// What a predecessor left unfinished. Whether its faults are off is not to be seen from here: the
// commands of `firedrill`, which can look at this machine's journals, have done this before where
// they could.
void CloseWhatWasLost(Store& store, const std::string& state_dir) {
  const absl::StatusOr<std::vector<ClosedRun>> closed = CloseLostRuns(
      store, state_dir, RealClock(), [](const v1::Command&) { return Whereabouts::kUnknown; });
  if (!closed.ok())
    spdlog::error("closing the runs of controllers that have died: {}", closed.status());
  if (!closed.ok()) return;
  for (const ClosedRun& run : *closed) {
    spdlog::warn(
        "run {} of {} was left unfinished by a controller that has died: it is aborted, undo {}",
        run.run, run.experiment,
        run.undo_confirmed ? "confirmed" : "NOT confirmed: look with firedrill leftovers");
  }
}

int Serve(const Flags& flags, const v1::Site& site, const std::string& state_dir, int signals) {
  absl::StatusOr<std::unique_ptr<SqliteStore>> store =
      SqliteStore::Open(absl::StrCat(state_dir, "/history.db"));
  if (!store.ok()) return Complain(store.status());
  const absl::StatusOr<uint64_t> epoch = (*store)->TakeEpoch();
  if (!epoch.ok()) return Complain(epoch.status());
  const absl::StatusOr<EpochLock> alive = EpochLock::Take(state_dir, *epoch);
  if (!alive.ok()) return Complain(alive.status());
  CloseWhatWasLost(**store, state_dir);

  EventLoop loop;
  Fleet::Options fleet_options;
  fleet_options.epoch = *epoch;
  if (flags.own) fleet_options.group = absl::StrCat("private-", getpid());
  if (flags.own) fleet_options.ping_every = absl::Milliseconds(500);
  std::unique_ptr<Fleet> fleet;
  std::unique_ptr<Runs> runs;
  Runs::Options runs_options;
  runs_options.site = site;
  if (flags.own) {
    for (const v1::NodeSpec& node : site.spec().injectors())
      runs_options.awaited.insert(node.name());
  }
  int owners = 0, asking = 0;
  bool owned_once = false;
  absl::Time asked = absl::Now();
  System real(loop, site, **store);
  loop.Run([&] {
    fleet = std::make_unique<Fleet>(loop, fleet_options);
    runs = std::make_unique<Runs>(
        loop, **store, *fleet, Lever(absl::StrCat(state_dir, "/STOP")), runs_options,
        [&real] { return real.MakeSurroundings(); },
        [&real](const v1::Experiment& experiment) { return real.Facts(experiment); });
  });
  InjectorServiceImpl injector_service(loop, *fleet);
  ControllerServiceImpl controller_service(
      loop, *runs, *fleet, **store,
      [&](int change) {
        owners += change;
        owned_once = true;
      },
      [&](int change) {
        asking += change;
        asked = absl::Now();
      });
  grpc::ServerBuilder builder;
  // Two controllers on one port would share its connections in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(64 << 20);
  builder.AddListeningPort(flags.listen, grpc::InsecureServerCredentials());
  builder.RegisterService(&injector_service);
  builder.RegisterService(&controller_service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return Complain(absl::UnavailableError(
        absl::StrCat("listening on ", flags.listen, ": it is taken, or its folder is not there")));
  }
  spdlog::info("firedrill-controller {} listens on {}, epoch {}", kVersion, flags.listen, *epoch);

  const pid_t parent = flags.client != 0 ? flags.client : getppid();
  absl::Time give_up = absl::InfiniteFuture();
  bool ending = false;
  while (true) {
    pollfd polled{signals, POLLIN, 0};
    poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(kLook)));
    signalfd_siginfo info{};
    const bool signalled = read(signals, &info, sizeof(info)) == sizeof(info);
    size_t going = 0;
    bool unowned = false;
    loop.Run([&] {
      going = runs->going();
      if (asking > 0) asked = absl::Now();
      unowned = owners == 0 && (owned_once || absl::Now() - asked > kAwaitOwner);
    });
    const bool orphan = flags.own && getppid() != parent;
    if (!ending && (signalled || orphan)) {
      ending = true;
      give_up = absl::Now() + kUndoWithin;
      loop.Run([&] {
        v1::StopRequested stop;
        stop.set_cause(orphan ? v1::StopRequested::CAUSE_OWNER_LOST
                              : v1::StopRequested::CAUSE_SHUTDOWN);
        stop.set_by("controller");
        stop.set_reason(orphan ? "the client that owns the run is gone"
                               : "the controller was asked to end");
        runs->StopEvery(stop);
      });
    }
    if (going == 0 && (ending || (flags.own && unowned))) break;
    if (absl::Now() > give_up) break;
  }
  // Streams end first: what they post is dropped with the loop.
  server->Shutdown(absl::ToChronoTime(absl::Now() + absl::Milliseconds(200)));
  server->Wait();
  loop.Run([&] {
    runs.reset();
    fleet.reset();
  });
  loop.Stop();
  if (flags.own) RemoveSocketFolder(flags.listen);
  return 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Plans, conducts and judges Firedrill's runs."};
  app.name("firedrill-controller");
  app.set_version_flag("--version", std::string("firedrill-controller ") + kVersion);
  app.add_option("--listen", flags.listen, "unix:/path of the socket to listen on")->required();
  app.add_option("--site", flags.site, "The site file: where things are")->required();
  app.add_option("--state-dir", flags.state_dir, "Where histories are kept");
  app.add_flag("--private", flags.own, "Lives for one client, its parent, and ends with it");
  app.add_option("--client", flags.client,
                 "The process of that client: it may die before this one looks");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  if (flags.listen.rfind("unix:", 0) != 0) {
    return Complain(absl::InvalidArgumentError(
        "--listen: only unix:/path for now: a Unix socket's folder is its authority"));
  }
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  const UniqueFd signals(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  spdlog::set_default_logger(spdlog::stderr_logger_mt("controller"));

  const absl::StatusOr<std::string> text = ReadFileText(flags.site);
  if (!text.ok()) return Complain(text.status());
  const SiteFile site = ReadSite(*text, flags.site);
  if (!site.ok()) {
    std::fputs(site.Report().c_str(), stderr);
    return kUsageError;
  }
  const absl::StatusOr<std::string> state_dir = StateDir(flags.state_dir);
  if (!state_dir.ok()) return Complain(state_dir.status());
  return Serve(flags, site.site, *state_dir, signals.get());
}

}  // namespace
}  // namespace firedrill

int main(int argc, char** argv) { return firedrill::Main(argc, argv); }
