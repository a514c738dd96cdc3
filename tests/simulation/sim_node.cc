// A node of the simulation.
#include "tests/simulation/sim_node.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "injector/leftovers.h"
#include "injector/node_file.h"

namespace firedrill::simulation {
namespace {

// As the real watchdog and the real reaper have them.
constexpr absl::Duration kLongestBeat = absl::Milliseconds(500);
constexpr absl::Duration kForTheKill = absl::Milliseconds(100);
constexpr absl::Duration kShortestPatience = absl::Milliseconds(200);
constexpr absl::Duration kLongestPatience = absl::Seconds(60);
constexpr int kMostTries = 5;
constexpr absl::Duration kTryAgain = absl::Seconds(1);

const std::vector<v1::Capability>& Capabilities() {
  static const auto* const capabilities = new std::vector<v1::Capability>(RegisteredCapabilities());
  return *capabilities;
}

}  // namespace

SimNode::SimNode(NodeParts& parts, size_t number)
    : parts_(parts),
      number_(number),
      spec_(parts.scenario.site.spec().injectors(static_cast<int>(number))) {}

SimNode::~SimNode() {
  if (killed_ != nullptr) *killed_ = true;
}

void SimNode::StartReaper() {
  reaper_ = executors_.emplace_back(std::make_unique<SimExecutor>(parts_.time)).get();
  ArmReaper();
}

void SimNode::Start() {
  if (running()) return;
  executors_.push_back(std::make_unique<SimExecutor>(
      parts_.time, absl::FromUnixSeconds(1'800'000'000) + wall_offset_));
  executor_ = executors_.back().get();
  if (parts_.scenario.slowness > absl::ZeroDuration()) {
    executor_->block_latency = [this] {
      return parts_.dice.Between(absl::ZeroDuration(), parts_.scenario.slowness);
    };
  }
  killed_ = std::make_shared<bool>(false);
  said_goodbye_ = false;
  parts_.witness.ProcessBorn(*executor_, number_);

  Injector::Options options;
  options.version = "simulated";
  options.instance = absl::StrCat(name(), "-", ++starts);
  options.pid = static_cast<uint32_t>(1000 * number_ + starts);
  options.capabilities = Capabilities();
  options.warden.give_up = [this](const std::string&) { throw Killed{&disk}; };
  options.warden.lease_shortened = [this] {
    if (injector_ != nullptr) Beat();
  };
  options.session.grace = parts_.scenario.grace;
  absl::StatusOr<std::unique_ptr<Injector>> opened = absl::UnavailableError("it was not opened");
  try {
    opened = Injector::Open({*executor_, disk, *this, spec_,
                             [this](Executor& executor, Node& node, Journal& journal) {
                               return Faults(executor, node, journal);
                             },
                             SimWork(*executor_, parts_.work)},
                            options);
  } catch (const Killed&) {
    ++killed_in_write;
  }
  if (!opened.ok()) {
    // It ends with a word to its service manager. Nobody has started a reaper for it.
    *killed_ = true;
    executor_->Kill();
    parts_.witness.ProcessDied(number_);
    if (reaper_ == nullptr) parts_.witness.Unattended(number_, true);
    return;
  }
  injector_ = *std::move(opened);
  if (reaper_ != nullptr) reaper_->Kill();
  beat_ = parts_.time.boot();
  patience_ = injector_->warden().SmallestLease();
  StartReaper();
  injector_->Start([](Session::End) {});
  Beat();
}

RunningFaultFactory SimNode::Faults(Executor& executor, Node& node, Journal& journal) {
  return [this, &executor, &node, &journal](
             const std::string& run, const v1::PlannedFault& planned,
             FaultNews news) -> absl::StatusOr<std::unique_ptr<RunningFault>> {
    const SimFaultScript& script = parts_.scripts[absl::StrCat(planned.name(), "@", name())];
    auto fault = std::make_unique<SimFault>(parts_.system, script,
                                            EffectKey(run, planned.name(), name()), name());
    auto life = std::make_unique<FaultLife>(run, planned, std::move(fault), node, journal,
                                            executor.clock());
    return std::make_unique<SimRunningFault>(executor, std::move(life), std::move(news), killed_);
  };
}

std::shared_ptr<Link<v1::ConnectRequest>> SimNode::Dial(LinkEvents<v1::ConnectResponse> events) {
  const auto [controller, fleet] = parts_.address(number_);
  return parts_.network.Dial(*executor_, std::move(events), controller, fleet);
}

// ------------------------------------------------------------------------ ends

void SimNode::Kill(bool reaper_too) {
  if (reaper_too && reaper_ != nullptr) {
    reaper_->Kill();
    reaper_ = nullptr;
  }
  if (!running()) return;
  *killed_ = true;
  Died();
}

void SimNode::End() {
  if (!running() || said_goodbye_) return;
  SimExecutor* const executor = executor_;
  executor->Post([this, executor] {
    injector_->Close("the injector was asked to end", [this, executor](Session::End) {
      executor->Post([this] {
        said_goodbye_ = true;
        disk.kill_in.reset();
        injector_.reset();
        *killed_ = true;
        Died();
      });
    });
  });
}

void SimNode::Died() {
  executor_->Kill();
  parts_.network.Died(*executor_);
  parts_.system.ProcessDied(name());
  injector_.reset();
  parts_.witness.ProcessDied(number_);
  if (reaper_ == nullptr) {
    parts_.witness.Unattended(number_, true);
    return;
  }
  reaper_->Cancel(reaper_timer_);
  reaper_->After(parts_.dice.Between(absl::Milliseconds(1), absl::Milliseconds(20)),
                 [this] { Reap(1); });
}

void SimNode::Freeze() {
  if (!running() || frozen()) return;
  executor_->Freeze();
  parts_.witness.Frozen(number_, true);
}

void SimNode::Thaw() {
  if (!frozen()) return;
  executor_->Thaw();
  parts_.witness.Frozen(number_, false);
}

void SimNode::JumpWall(absl::Duration by) {
  wall_offset_ += by;
  if (running()) executor_->JumpWall(by);
}

// ---------------------------------------------------------------------- reaper

void SimNode::Beat() {
  if (!running() || said_goodbye_) return;
  if (reaper_ == nullptr) StartReaper();
  const absl::Duration lease = injector_->warden().SmallestLease();
  beat_ = parts_.time.boot();
  patience_ = std::clamp(lease - kForTheKill, kShortestPatience, kLongestPatience);
  ArmReaper();
  executor_->Cancel(beat_timer_);
  beat_timer_ = executor_->After(std::min(lease / 5, kLongestBeat), [this] { Beat(); });
}

void SimNode::ArmReaper() {
  reaper_->Cancel(reaper_timer_);
  reaper_timer_ = reaper_->After(beat_ + patience_ - parts_.time.boot(), [this] {
    if (!running()) return;
    ++killed_by_reaper;
    Kill();
  });
}

void SimNode::Reap(int tries) {
  // A new injector has the lock, and has replayed the journal itself.
  if (running()) return;
  bool done = false;
  try {
    const auto journal = Journal::Open(disk, name());
    if (journal.ok()) {
      const NodeLeftovers left = ReplayJournal(**journal, name(), /*forget_begun=*/false);
      ++reaped;
      done = left.entries.empty();
    }
  } catch (const Killed&) {
    ++killed_in_write;
    reaper_->Kill();
    reaper_ = nullptr;
    parts_.witness.Unattended(number_, true);
    return;
  }
  // Between two tries the lock is free.
  if (!done && tries < kMostTries && !said_goodbye_) {
    reaper_->After(kTryAgain, [this, tries] { Reap(tries + 1); });
    return;
  }
  // It ends: whatever is left now waits for the next injector.
  reaper_ = nullptr;
  if (!done) parts_.witness.Unattended(number_, true);
}

}  // namespace firedrill::simulation
