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
#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "base/state_dir.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "base/unique_fd.h"
#include "base/version.h"
#include "controller/backup.h"
#include "controller/diagnosis.h"
#include "controller/epoch_lock.h"
#include "controller/figures.h"
#include "controller/fleet.h"
#include "controller/going_marks.h"
#include "controller/lever.h"
#include "controller/lever_port.h"
#include "controller/lost_runs.h"
#include "controller/metrics_port.h"
#include "controller/rpc/health.h"
#include "controller/rpc/service.h"
#include "controller/runs.h"
#include "controller/scheduler.h"
#include "controller/sqlite_store.h"
#include "controller/store_lock.h"
#include "controller/system.h"
#include "experiment/address.h"
#include "experiment/reader.h"
#include "identity/identity.h"
#include "identity/kept_identity.h"
#include "identity/revocations.h"
#include "identity/rpc/acceptor.h"
#include "identity/rpc/credentials.h"
#include "identity/rpc/gate.h"

namespace firedrill {
namespace {

constexpr int kUsageError = 2;
// A private controller that nobody has asked for anything for so long has lost its client. As long
// as an owner may be silent: its client may hang before it owns a run.
constexpr absl::Duration kAwaitOwner = absl::Seconds(5);
// And after an answer that took long at least so long.
constexpr absl::Duration kAwaitAfterAnswer = absl::Milliseconds(2500);
constexpr absl::Duration kFiguresEvery = absl::Seconds(1);
constexpr absl::Duration kLook = absl::Milliseconds(100);
// After a signal: how long undoing may take before the process ends without having seen it.
constexpr absl::Duration kUndoWithin = absl::Seconds(20);
constexpr absl::Duration kForgetEvery = absl::Minutes(10);

struct Flags {
  std::string config, listen, site, state_dir, identity, revoked;
  v1::RunLimits limits;
  v1::Retention retention;
  bool own = false;
  // The process that must be our parent as long as somebody needs us; 0: whoever it is at the
  // start.
  pid_t client = 0;
  // Of a daemon's file.
  v1::ControllerSpec spec;
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
void CloseWhatWasLost(Store& store, const std::string& state_dir,
                      const std::set<std::string>& spared) {
  const absl::StatusOr<std::vector<ClosedRun>> closed = CloseLostRuns(
      store, state_dir, RealClock(), [](const v1::Command&) { return Whereabouts::kUnknown; },
      spared);
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

// A team's controller goes on with the runs of the one before it. Answers with those that it has.
std::set<std::string> ResumeRuns(Store& store, const std::string& state_dir,
                                 const std::optional<std::string>& lever, Runs& runs) {
  std::set<std::string> resumed;
  const absl::StatusOr<std::vector<LeftRun>> left =
      RunsToGoOnWith(store, state_dir, RealClock(), lever);
  if (!left.ok()) spdlog::error("looking for runs to go on with: {}", left.status());
  if (!left.ok()) return resumed;
  for (const LeftRun& each : *left) {
    const std::string& run = each.history.front().run();
    const absl::Status status = runs.Resume(each.history, each.fate.stop);
    if (!status.ok()) {
      spdlog::error("run {} cannot be gone on with, its nodes undo it: {}", run, status);
      continue;
    }
    resumed.insert(run);
    const std::string& experiment = each.history.front().created().experiment().metadata().name();
    if (each.fate.stop.has_value()) {
      spdlog::warn("undoes run {} of {}: {}", run, experiment, each.fate.why);
    } else {
      spdlog::warn("goes on with run {} of {}", run, experiment);
    }
  }
  return resumed;
}

std::optional<v1::Halt> HaltOf(const std::optional<Pull>& pull) {
  if (!pull.has_value()) return std::nullopt;
  v1::Halt halt;
  halt.set_by(pull->by);
  halt.set_reason(pull->reason);
  return halt;
}

v1::StopRequested StopBy(const Pull& pull) {
  v1::StopRequested stop;
  stop.set_cause(v1::StopRequested::CAUSE_LEVER);
  stop.set_by(pull.by);
  stop.set_reason(pull.reason);
  return stop;
}

// The old list stays in force where the new one cannot be read: said once for each reason.
void RefreshRevocations(Revocations& revocations, std::string& told) {
  const absl::Status read = revocations.Refresh();
  const std::string now = read.ok() ? "" : std::string(read.message());
  if (!now.empty() && now != told) spdlog::error("{}; the list read before stays in force", now);
  told = now;
}

absl::StatusOr<v1::ControllerSpec> ReadSpec(const std::string& config) {
  ASSIGN_OR_RETURN(const std::string text, ReadFileText(config));
  const ControllerFile file = ReadController(text, config);
  if (!file.ok()) return absl::InvalidArgumentError("its file has errors:\n" + file.Report());
  return file.controller.spec();
}

// A daemon's own file says all that the flags of a private controller say.
absl::Status ReadConfig(Flags& flags, std::string& domain) {
  ASSIGN_OR_RETURN(const v1::ControllerSpec spec, ReadSpec(flags.config));
  flags.spec = spec;
  flags.listen = spec.listen();
  flags.site = spec.site();
  flags.identity = spec.identity();
  flags.revoked = spec.revoked();
  flags.limits = spec.limits();
  flags.retention = spec.retention();
  if (flags.state_dir.empty()) flags.state_dir = spec.state_dir();
  ASSIGN_OR_RETURN(
      const Certificate certificate,
      CheckIdentity(IdentityOf(flags.identity), {std::string(kControllerRole)}, absl::Now()));
  domain = certificate.peer.domain;
  return absl::OkStatus();
}

// Deletes what the retention lets go, off the executor, and comes back later.
void Forget(EventLoop& loop, Store& store, const v1::Retention& retention) {
  auto forgotten = std::make_shared<absl::StatusOr<uint32_t>>(0u);
  loop.Block(
      [&store, retention, forgotten] {
        *forgotten = store.Forget(retention.runs(), absl::Now() - FromProto(retention.age()));
      },
      [&loop, &store, retention, forgotten] {
        if (!forgotten->ok()) {
          spdlog::error("{}", forgotten->status());
        } else if (**forgotten > 0) {
          spdlog::info("forgot {} old runs, as spec.retention says", **forgotten);
        }
        loop.After(kForgetEvery, [&loop, &store, retention] { Forget(loop, store, retention); });
      });
}

std::string ListensOn(const Flags& flags, const Acceptor* acceptor) {
  return absl::StrCat(flags.listen,
                      acceptor == nullptr ? "" : absl::StrCat(" (port ", acceptor->port(), ")"));
}

int Serve(const Flags& flags, const std::string& domain, const v1::Site& site,
          const std::string& state_dir, int signals) {
  // Outlives whatever shows it.
  std::optional<KeptIdentity> kept;
  if (!flags.config.empty()) {
    absl::StatusOr<KeptIdentity> opened =
        KeptIdentity::Open(IdentityOf(flags.identity), {std::string(kControllerRole)});
    if (!opened.ok()) return Complain(opened.status());
    kept.emplace(*std::move(opened));
  }
  // First: a second controller on this port, or of this store, has to fail before it takes an
  // epoch, and with it every node, from the one that serves. Outlives the server.
  std::unique_ptr<Acceptor> acceptor;
  if (!flags.config.empty()) {
    const absl::StatusOr<Address> at = ParseListenAddress(flags.listen);
    if (!at.ok()) return Complain(at.status());
    absl::StatusOr<std::unique_ptr<Acceptor>> listening = Acceptor::Listen(at->host, at->port);
    if (!listening.ok()) return Complain(listening.status());
    acceptor = *std::move(listening);
  }
  std::optional<StoreLock> sole;
  if (!flags.own) {
    absl::StatusOr<StoreLock> taken = StoreLock::Take(state_dir, ListensOn(flags, acceptor.get()));
    if (!taken.ok()) return Complain(taken.status());
    sole.emplace(*std::move(taken));
  }
  absl::StatusOr<std::unique_ptr<SqliteStore>> store =
      SqliteStore::Open(absl::StrCat(state_dir, "/history.db"));
  if (!store.ok()) return Complain(store.status());
  const absl::StatusOr<uint64_t> epoch = (*store)->TakeEpoch();
  if (!epoch.ok()) return Complain(epoch.status());
  const absl::StatusOr<EpochLock> alive = EpochLock::Take(state_dir, *epoch);
  if (!alive.ok()) return Complain(alive.status());
  // Counts calls until the last server is gone.
  FigureBoard board;
  EventLoop loop;
  Lever lever(absl::StrCat(state_dir, "/STOP"));
  Fleet::Options fleet_options;
  fleet_options.halt = [&lever] { return HaltOf(lever.Pulled()); };
  fleet_options.epoch = *epoch;
  if (flags.own) fleet_options.group = absl::StrCat(kPrivateGroup, getpid());
  if (flags.own) fleet_options.ping_every = absl::Milliseconds(500);
  std::unique_ptr<Fleet> fleet;
  std::unique_ptr<Runs> runs;
  std::unique_ptr<Scheduler> scheduler;
  Runs::Options runs_options;
  runs_options.site = site;
  runs_options.limits = flags.limits;
  runs_options.checks_definitions = !flags.own;
  if (!flags.own) runs_options.state_dir = state_dir;
  if (flags.own) {
    for (const v1::NodeSpec& node : site.spec().injectors())
      runs_options.awaited.insert(node.name());
  }
  int owners = 0, asking = 0;
  bool owned_once = false;
  absl::Time await_owner_until = absl::Now() + kAwaitOwner;
  System real(loop, site, **store);
  loop.Run([&] {
    fleet = std::make_unique<Fleet>(loop, fleet_options);
    runs = std::make_unique<Runs>(
        loop, **store, *fleet, lever, runs_options, [&real] { return real.MakeSurroundings(); },
        [&real](const v1::Experiment& experiment) { return real.Facts(experiment); });
    // Before any injector can dial in.
    std::set<std::string> resumed;
    const std::optional<Pull> pull = lever.Pulled();
    if (!flags.own) {
      resumed =
          ResumeRuns(**store, state_dir,
                     pull.has_value() ? std::make_optional(pull->Words()) : std::nullopt, *runs);
      const absl::Status swept = GoingMarks(state_dir).KeepOnly(resumed);
      if (!swept.ok()) spdlog::error("tidying the marks of runs that have ended: {}", swept);
    }
    CloseWhatWasLost(**store, state_dir, resumed);
    if (flags.own) return;
    const absl::Status recalled = runs->aftermath().Recall();
    if (!recalled.ok()) spdlog::error("looking for what earlier runs have left: {}", recalled);
    scheduler = std::make_unique<Scheduler>(
        loop, **store, *epoch,
        Scheduler::Starting{.start =
                                [&runs](const v1::StartRun& start, auto started, auto ended) {
                                  runs->Start(start, {.event = nullptr, .judged = std::move(ended)},
                                              std::move(started));
                                },
                            .going = [&runs](const std::string& run) { return runs->Going(run); },
                            .watch =
                                [&runs](const std::string& run, auto ended) {
                                  return runs->Watch(
                                      run, {.event = nullptr, .judged = std::move(ended)});
                                }});
    if (const absl::Status begun = scheduler->Begin(); !begun.ok()) spdlog::error("{}", begun);
  });
  lever.Act({.pulled =
                 [&](const Pull& pull) {
                   const Lever::Reached reached{runs->going(), fleet->Halt(*HaltOf(pull))};
                   loop.Post([&runs, pull] { runs->StopEvery(StopBy(pull)); });
                   // Last: whoever reads the log may not be reading.
                   spdlog::warn("the lever is pulled by {}: {} runs, {} injectors", pull.Words(),
                                reached.runs, reached.injectors);
                   return reached;
                 },
             .released =
                 [&fleet] {
                   v1::Halt released;
                   released.set_released(true);
                   fleet->Halt(released);
                 }});
  const auto rest = absl::MakeCleanup([&lever] { lever.Rest(); });
  InjectorServiceImpl injector_service(loop, *fleet);
  ControllerServiceImpl controller_service(
      loop, *runs, *fleet, lever, **store, scheduler.get(),
      [&](int change) {
        owners += change;
        owned_once = true;
      },
      [&](int change) {
        asking += change;
        const absl::Duration wait = change > 0 ? kAwaitOwner : kAwaitAfterAnswer;
        await_owner_until = std::max(await_owner_until, absl::Now() + wait);
      });
  if (!flags.config.empty()) {
    controller_service.AskOfItself(
        [files = IdentityOf(flags.identity), state_dir]() -> std::vector<v1::Diagnosis> {
          constexpr char kReissue[] =
              "firedrill pki issue CA --role controller; it is read anew by itself";
          const absl::StatusOr<Certificate> own =
              CheckIdentity(files, {std::string(kControllerRole)}, absl::Now());
          return {own.ok() ? DiagnoseExpiry("its certificate", own->not_before, own->not_after,
                                            absl::Now(), kReissue)
                           : Failure("its certificate", own.status().message(), kReissue),
                  DiagnoseStateFolder(state_dir)};
        });
  }
  const auto revocations =
      std::make_shared<Revocations>(flags.revoked, IdentityOf(flags.identity).authority);
  const auto gate = std::make_shared<Gate>(
      domain, revocations, [&board](const std::string& method, const absl::Status& why) {
        board.CountRefused(absl::AsciiStrToLower(absl::StatusCodeToString(why.code())));
        spdlog::warn("refused a call of {}: {}", method, why.message());
      });
  OpenCalls calls(gate);
  injector_service.CutBy(&calls);
  controller_service.CutBy(&calls);
  std::unique_ptr<HttpListener> metrics;
  if (flags.spec.has_metrics()) {
    absl::StatusOr<std::unique_ptr<HttpListener>> listening =
        ListenForMetrics(flags.spec.metrics(), kept->files(), domain, *revocations, board);
    if (!listening.ok()) return Complain(listening.status());
    metrics = *std::move(listening);
    spdlog::info("metrics are at {} (port {})", flags.spec.metrics().listen(), metrics->port());
  }
  std::string told;
  if (!flags.config.empty()) {
    if (const absl::Status read = revocations->Refresh(); !read.ok()) return Complain(read);
  }
  std::unique_ptr<LeverPort> lever_port;
  if (flags.spec.has_stop()) {
    absl::StatusOr<std::unique_ptr<LeverPort>> listening =
        LeverPort::Start(flags.spec.stop(), kept->files(), domain, *revocations, lever);
    if (!listening.ok()) return Complain(listening.status());
    lever_port = *std::move(listening);
    spdlog::info("the lever listens on {} (port {})", flags.spec.stop().listen(),
                 lever_port->port());
  }
  if (acceptor != nullptr) OfferHealthAndReflection();
  grpc::ServerBuilder builder;
  // Two controllers on one port would share its connections in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Who watches a run in which nothing happens still asks whether the link is there.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  if (acceptor == nullptr) {
    builder.AddListeningPort(flags.listen, grpc::InsecureServerCredentials());
  } else {
    acceptor->Attach(builder, ServerTls(kept->files(), gate));
  }
  builder.RegisterService(&injector_service);
  builder.RegisterService(&controller_service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return Complain(absl::UnavailableError(
        absl::StrCat("listening on ", flags.listen, ": it is taken, or its folder is not there")));
  }
  if (acceptor != nullptr) acceptor->Start();
  spdlog::info("firedrill-controller {} listens on {}, epoch {}", kVersion,
               ListensOn(flags, acceptor.get()), *epoch);

  if (flags.retention.runs() > 0) Forget(loop, **store, flags.retention);
  const pid_t parent = flags.client != 0 ? flags.client : getppid();
  absl::Time give_up = absl::InfiniteFuture();
  bool ending = false;
  Figures figures{.now = absl::InfinitePast()};
  absl::Time shown;
  SetServing(*server, true);
  while (true) {
    if (acceptor != nullptr) {
      (void)kept->Look();
      RefreshRevocations(*revocations, told);
      calls.CutEnded(absl::Now());
      acceptor->EndThose([&gate](const Certificate& certificate) {
        return !gate->StillGood(certificate, absl::Now()).ok();
      });
    }
    pollfd polled{signals, POLLIN, 0};
    poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(kLook)));
    signalfd_siginfo info{};
    const bool signalled = read(signals, &info, sizeof(info)) == sizeof(info);
    size_t going = 0;
    bool unowned = false;
    loop.Run([&] {
      if (metrics != nullptr && absl::Now() - figures.now >= kFiguresEvery) {
        figures = {.now = absl::Now(),
                   .injectors = runs->aftermath().Complete(fleet->Seen()),
                   .phases = runs->Phases()};
        if (scheduler != nullptr) figures.slots_missed = scheduler->missed();
      }
      going = runs->going();
      unowned = owners == 0 && asking == 0 && (owned_once || absl::Now() > await_owner_until);
    });
    const bool orphan = flags.own && getppid() != parent;
    if (metrics != nullptr && figures.now != shown) {
      shown = figures.now;
      if (const std::optional<Pull> pull = lever.Pulled()) {
        figures.lever_pulled = true;
        figures.lever_since = pull->at;
      }
      figures.certificate_expires = ExpiryOf(kept->files());
      figures.store_failures = (*store)->failed_appends();
      board.Set(figures);
    }
    if (!ending && (signalled || orphan)) {
      ending = true;
      SetServing(*server, false);
      give_up = absl::Now() + kUndoWithin;
      loop.Run([&] {
        if (scheduler != nullptr) scheduler->End();
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
  lever_port.reset();
  lever.Rest();
  loop.Run([&] {
    scheduler.reset();
    runs.reset();
    fleet.reset();
  });
  loop.Stop();
  if (flags.own) RemoveSocketFolder(flags.listen);
  return 0;
}

int BackUpTo(const std::string& state_dir, const std::string& file) {
  const absl::Status status = BackUp(state_dir, file);
  if (!status.ok()) return Complain(status);
  std::printf(
      "%s holds the history of %s; put it back with:\n  firedrill-controller restore %s "
      "--state-dir %s\n",
      file.c_str(), state_dir.c_str(), file.c_str(), state_dir.c_str());
  return 0;
}

int RestoreFrom(const std::string& state_dir, const std::string& file) {
  const absl::StatusOr<Restored> restored = Restore(state_dir, file, RealClock());
  if (!restored.ok()) return Complain(restored.status());
  std::printf("restored %llu %s and %llu %s into %s; the next controller has an epoch above %llu\n",
              static_cast<unsigned long long>(restored->runs), restored->runs == 1 ? "run" : "runs",
              static_cast<unsigned long long>(restored->experiments),
              restored->experiments == 1 ? "experiment" : "experiments", state_dir.c_str(),
              static_cast<unsigned long long>(restored->epoch));
  return 0;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Plans, conducts and judges Firedrill's runs."};
  app.name("firedrill-controller");
  app.set_version_flag("--version", std::string("firedrill-controller ") + kVersion);
  CLI::Option* config = app.add_option("--config", flags.config,
                                       "The file of a controller that serves a team, over TLS");
  app.add_option("--listen", flags.listen, "unix:/path of the socket to listen on")
      ->excludes(config);
  app.add_option("--site", flags.site, "The site file: where things are")->excludes(config);
  app.add_option("--state-dir", flags.state_dir, "Where histories are kept");
  app.add_flag("--private", flags.own, "Lives for one client, its parent, and ends with it");
  app.add_option("--client", flags.client,
                 "The process of that client: it may die before this one looks");
  std::string copy;
  CLI::App* backup =
      app.add_subcommand("backup", "Copies the history to a file, also while it is written");
  CLI::App* restore = app.add_subcommand("restore", "Puts such a copy in the place of the history");
  for (CLI::App* command : {backup, restore}) {
    command->fallthrough();
    command->add_option("file", copy, "The copy")->required();
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  if (backup->parsed() || restore->parsed()) {
    if (!flags.config.empty()) {
      const absl::StatusOr<v1::ControllerSpec> spec = ReadSpec(flags.config);
      if (!spec.ok()) return Complain(spec.status());
      if (flags.state_dir.empty()) flags.state_dir = spec->state_dir();
    }
    const absl::StatusOr<std::string> state_dir = StateDir(flags.state_dir);
    if (!state_dir.ok()) return Complain(state_dir.status());
    return backup->parsed() ? BackUpTo(*state_dir, copy) : RestoreFrom(*state_dir, copy);
  }
  std::string domain;
  if (!flags.config.empty()) {
    const absl::Status read = ReadConfig(flags, domain);
    if (!read.ok()) return Complain(read);
  } else if (flags.listen.rfind("unix:", 0) != 0 || flags.site.empty()) {
    return Complain(absl::InvalidArgumentError(
        "name --config FILE, or --site and --listen unix:/path: without TLS only a Unix socket is "
        "listened on, whose folder is its authority"));
  }
  PrepareTls();
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
  return Serve(flags, domain, site.site, *state_dir, signals.get());
}

}  // namespace
}  // namespace firedrill

int main(int argc, char** argv) { return firedrill::Main(argc, argv); }
