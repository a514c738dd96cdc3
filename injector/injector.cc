// A whole injector without its process.
#include "injector/injector.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr char kMemoryFile[] = "memory";

// Tells this state folder from one that was made later under the same name: the process that found
// it without a name has given it its own. Empty where the disk cannot keep it.
std::string MemoryOf(Disk& disk, const std::string& instance) {
  const absl::StatusOr<std::string> kept = disk.Read(kMemoryFile);
  if (kept.ok()) return std::string(absl::StripAsciiWhitespace(*kept));
  if (!absl::IsNotFound(kept.status())) return "";
  return disk.Replace(kMemoryFile, instance + "\n").ok() ? instance : "";
}

}  // namespace

Injector::Injector(Parts parts, Options options)
    : parts_(std::move(parts)), options_(std::move(options)), node_(parts_.spec) {}

absl::StatusOr<std::unique_ptr<Injector>> Injector::Open(Parts parts, Options options) {
  std::unique_ptr<Injector> self(new Injector(std::move(parts), std::move(options)));
  Disk& disk = self->parts_.disk;
  Executor& executor = self->parts_.executor;
  const v1::NodeSpec& spec = self->node_.spec();
  ASSIGN_OR_RETURN(self->journal_, Journal::Open(disk, spec.name()));
  self->found_ = ReplayJournal(*self->journal_, spec.name(), /*forget_begun=*/false);
  ASSIGN_OR_RETURN(self->epochs_, Epochs::Open(disk));
  const std::string memory = MemoryOf(disk, self->options_.instance);

  const auto report = [injector = self.get()](v1::Report report) {
    // Before the session is there nothing can be on, so nothing is to be said.
    if (injector->session_ != nullptr) injector->session_->Send(std::move(report));
  };
  self->warden_ = std::make_unique<Warden>(
      executor, spec, disk, *self->epochs_,
      self->parts_.faults(executor, self->node_, *self->journal_), report, self->options_.warden);
  NodeWork::Options work = self->options_.work;
  work.stop_run = [warden = self->warden_.get()](const std::string& run,
                                                 const std::string& reason) {
    warden->StopRun(run, reason);
  };
  work.stopped = [warden = self->warden_.get()] { return warden->Stopped(); };
  self->work_ = std::make_unique<NodeWork>(
      executor, spec, self->parts_.work(self->node_, self->journal_, executor.clock()),
      [warden = self->warden_.get()](const std::string& run) { return warden->MayBegin(run); },
      report, work);

  v1::Registration registration = DescribeNode(spec);
  registration.set_instance(self->options_.instance);
  registration.set_memory(memory);
  registration.set_version(self->options_.version);
  registration.set_pid(self->options_.pid);
  for (const v1::Capability& capability : self->options_.capabilities) {
    *registration.add_capabilities() = capability;
  }
  self->session_ = std::make_unique<Session>(
      Session::Parts{executor, self->parts_.dialler, *self->warden_, *self->work_, *self->epochs_,
                     std::move(registration)},
      self->options_.session, [injector = self.get()](Session::End end) {
        if (injector->ended_) injector->ended_(std::move(end));
      });
  // Last, since it reports: what a predecessor began is looked for before anybody is served.
  self->warden_->AddLeftovers(self->found_.entries);
  for (v1::Leftover& leftover : self->warden_->Adopt(self->journal_->begun())) {
    // Its process is dead and its lasting changes are undone; the record would only stay for ever.
    self->journal_->End(leftover.run(), leftover.fault());
    self->warden_->AddLeftovers({std::move(leftover)});
  }
  return self;
}

void Injector::Start(std::function<void(Session::End)> ended) {
  ended_ = std::move(ended);
  session_->Start();
}

void Injector::LookForStop() {
  warden_->LookForStop();
  work_->LookForStop();
}

void Injector::Close(const std::string& reason, std::function<void(Session::End)> done) {
  session_->Close(reason, std::move(done));
}

}  // namespace firedrill
