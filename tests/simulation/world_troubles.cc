// What goes wrong in a simulated run, and how it heals.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/simulation/world.h"

namespace firedrill::simulation {
namespace {

using absl::Milliseconds;
using absl::Seconds;

}  // namespace

void World::SetScripts() {
  for (const auto& [fault, temper] : scenario_.tempers) {
    for (const auto& node : nodes_) {
      const std::string key = absl::StrCat(fault, "@", node->name());
      SimFaultScript& script = scripts_[key];
      script.observations_until_reached = temper.observations_until_reached;
      script.lasting = temper.lasting;
      script.setting = SettingOf(fault, node->name());
      if (temper.fails_to_prepare) script.prepare = absl::UnavailableError("no connection");
      if (temper.fails_to_apply) script.apply = absl::UnavailableError("no space for it");
    }
  }
}

void World::Schedule() {
  for (const Disturbance& disturbance : scenario_.disturbances) {
    At(disturbance.at, [this, &disturbance] { Do(disturbance); });
  }
  for (const auto& [fault, temper] : scenario_.tempers) {
    for (const auto& node : nodes_) {
      SimFaultScript& script = scripts_[absl::StrCat(fault, "@", node->name())];
      if (temper.unseen_until > absl::ZeroDuration()) {
        At(temper.unseen_from,
           [&script] { script.observe = absl::UnavailableError("it cannot be seen"); });
        At(temper.unseen_until, [&script] { script.observe = absl::OkStatus(); });
      }
      if (temper.stuck_until == absl::ZeroDuration()) continue;
      const std::string setting = script.setting;
      At(temper.stuck_from, [this, &script, setting, in_undo = temper.stuck_in_undo] {
        if (in_undo) {
          system_.cannot_undo.insert(setting);
        } else {
          script.read_back = absl::UnavailableError("something of it is still there");
        }
      });
      At(temper.stuck_until, [this, &script, setting] {
        script.read_back = absl::OkStatus();
        if (system_.cannot_undo.erase(setting) > 0) witness_.CanUndo();
      });
    }
  }
  // A second run on the same nodes, while the first goes on or after it.
  if (dice_.Chance(0.15)) At(dice_.Between(Seconds(3), Seconds(14)), [this] { StartRun(); });
}

void World::Do(const Disturbance& disturbance) {
  SimNode& node = *nodes_[disturbance.node];
  const absl::Duration now = time_.boot();
  const size_t number = disturbance.node;
  const auto restart = [&] {
    At(disturbance.length / 2 + Milliseconds(50), [&node] { node.Start(); });
  };
  bool happened = true;
  switch (disturbance.what) {
    case Trouble::kCutLink:
      happened = node.running();
      if (happened) network_.CutAll(node.executor());
      break;
    case Trouble::kUnreachable:
      unreachable_[number] = std::max(unreachable_[number], now + disturbance.length);
      if (node.running()) network_.CutAll(node.executor());
      break;
    case Trouble::kStallLink:
      happened = node.running();
      if (happened) network_.Stall(node.executor(), disturbance.length);
      break;
    case Trouble::kKillInjector:
    case Trouble::kKillBoth:
      happened = node.running();
      node.Kill(disturbance.what == Trouble::kKillBoth);
      restart();
      break;
    case Trouble::kKillInWrite:
      happened = node.running();
      node.disk.kill_in = static_cast<int>(disturbance.amount * 4);
      node.disk.torn_share = 1 - disturbance.amount;
      break;
    case Trouble::kEndInjector:
      happened = node.running();
      node.End();
      At(Seconds(1) + disturbance.length, [&node] { node.Start(); });
      break;
    case Trouble::kFreezeInjector:
      happened = node.running();
      node.Freeze();
      At(disturbance.length, [&node] {
        node.Thaw();
        node.Start();
      });
      break;
    case Trouble::kDiskFull:
      node.disk.space = static_cast<size_t>(disturbance.amount * 300);
      witness_.DiskFull(number, true);
      At(disturbance.length, [this, &node, number] {
        node.disk.space.reset();
        witness_.DiskFull(number, false);
      });
      break;
    case Trouble::kJumpNodeClock:
      node.JumpWall(Seconds(7200) * (disturbance.amount - 0.5));
      break;
    case Trouble::kStopFile:
      node.disk.files["STOP"] = "";
      At(disturbance.length, [&node] { node.disk.files.erase("STOP"); });
      break;
    case Trouble::kSomebodyElse:
      happened = false;
      for (auto& [resource, value] : system_.settings) {
        if (happened || !absl::StartsWith(value, "broken by ")) continue;
        value = "set by a person";
        happened = true;
      }
      break;
    case Trouble::kBreakSystem:
      weather_.broken = now + disturbance.length;
      break;
    case Trouble::kSamplesLate:
      weather_.late = now + disturbance.length;
      break;
    case Trouble::kSamplesUnknown:
      weather_.unknown = now + disturbance.length;
      break;
    case Trouble::kSamplesMissing:
      weather_.missing = now + disturbance.length * 2;
      break;
    default:
      DoToController(disturbance);
      return;
  }
  if (happened) ++outcome_.troubles[static_cast<size_t>(disturbance.what)];
}

void World::DoToController(const Disturbance& disturbance) {
  Controller* const current = Current();
  if (current == nullptr) return;
  const size_t number = address_;
  SimExecutor& executor = *current->executor;
  ++outcome_.troubles[static_cast<size_t>(disturbance.what)];
  switch (disturbance.what) {
    case Trouble::kJumpClock:
      executor.JumpWall(Seconds(7200) * (disturbance.amount - 0.5));
      break;
    case Trouble::kKillController:
      KillController(number);
      At(disturbance.length * disturbance.amount, [this] { StartController(); });
      break;
    case Trouble::kFreezeController:
      executor.Freeze();
      At(disturbance.length, [&executor] { executor.Thaw(); });
      break;
    case Trouble::kTakeOver: {
      // Whoever watches it takes it for dead. It hangs, or goes on behind a broken network; either
      // way it has its address back for a while, by a switch that comes late.
      if (disturbance.amount < 0.5) executor.Freeze();
      if (disturbance.amount > 0.25) {
        for (const auto& node : nodes_) {
          if (node->running()) network_.CutAll(node->executor());
        }
      }
      StartController();
      At(disturbance.length, [this, number, &executor] {
        executor.Thaw();
        if (!controllers_[number].alive()) return;
        const size_t newer = address_;
        address_ = number;
        for (const auto& node : nodes_) {
          if (node->running()) network_.CutAll(node->executor());
        }
        At(Seconds(2), [this, newer, number] {
          if (address_ == number) address_ = newer;
        });
      });
      break;
    }
    case Trouble::kStoreFails:
      store_->FailWrites(absl::UnavailableError("the disk of the history is full"));
      if (disturbance.amount < 0.8) {
        At(disturbance.length, [this] { store_->FailWrites(absl::OkStatus()); });
      }
      break;
    case Trouble::kOperatorStop:
      executor.Post([this, number] {
        v1::StopRequested stop;
        stop.set_cause(v1::StopRequested::CAUSE_OPERATOR);
        stop.set_by("someone");
        stop.set_reason("enough seen");
        controllers_[number].runs->StopEvery(stop);
      });
      break;
    default:
      EndController(number);
      break;
  }
}

void World::Heal() {
  healed_ = true;
  outside_ = std::make_unique<SimExecutor>(time_);
  store_->FailWrites(absl::OkStatus());
  weather_.broken = weather_.late = weather_.unknown = weather_.missing = absl::ZeroDuration();
  for (auto& [key, script] : scripts_) {
    script.observe = script.read_back = absl::OkStatus();
  }
  system_.cannot_undo.clear();
  witness_.CanUndo();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    SimNode& node = *nodes_[i];
    unreachable_[i] = absl::ZeroDuration();
    if (node.running()) network_.EndStall(node.executor());
    node.disk.space.reset();
    node.disk.kill_in.reset();
    node.disk.files.erase("STOP");
    witness_.DiskFull(i, false);
    node.Thaw();
    node.Start();
  }
  for (Controller& controller : controllers_) {
    if (controller.alive()) controller.executor->Thaw();
  }
  address_ = controllers_.size() - 1;
  if (!controllers_.back().alive()) StartController();
}

}  // namespace firedrill::simulation
