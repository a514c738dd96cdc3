// Holds a simulated run to its invariants, from outside.
#include "tests/simulation/witness.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "base/time_proto.h"

namespace firedrill::simulation {
namespace {

// What an end may take beyond its bound: latencies, timers of half a second, a look.
constexpr absl::Duration kMargin = absl::Seconds(1);
// The reaper's patience with an injector that has nothing on with a shorter lease.
constexpr absl::Duration kReaperLease = absl::Seconds(5);
// A one-shot fault's time.
constexpr absl::Duration kOneShotTime = absl::Seconds(30);
constexpr size_t kMostFailures = 20;
// An injector hears of its controller at least so often, and a probe is answered within so long.
constexpr absl::Duration kInTouch = absl::Seconds(2);
constexpr absl::Duration kAnswers = absl::Seconds(5);

std::string IdKey(const v1::CommandId& id) {
  return absl::StrCat(id.epoch(), "/", id.run(), "/", id.name(), "/", id.verb(), "/", id.attempt());
}

std::string NodeName(size_t node) { return absl::StrCat("node-", node); }

// What tells one report from another, whatever the controller has added to it.
std::string ReportKey(const v1::Event& event) {
  std::string key = absl::StrCat(event.source_time().seconds(), ".", event.source_time().nanos(),
                                 " ", static_cast<int>(event.body_case()), " ");
  switch (event.body_case()) {
    case v1::Event::kFault:
      absl::StrAppend(&key, event.fault().fault(), "|", event.fault().state(), "|",
                      event.fault().reason(), "|", event.fault().observation().real(), "|",
                      event.fault().observation().reached());
      break;
    case v1::Event::kRemedy:
      absl::StrAppend(&key, event.remedy().remedy(), "|", event.remedy().state());
      break;
    case v1::Event::kLoad:
      absl::StrAppend(&key, event.load().load(), "|", event.load().request(), "|",
                      event.load().ok());
      break;
    case v1::Event::kSample:
      absl::StrAppend(&key, event.sample().probe(), "|", event.sample().unknown());
      break;
    case v1::Event::kLoadReport:
      absl::StrAppend(&key, event.load_report().load(), "|", event.load_report().running(), "|",
                      event.load_report().reason());
      break;
    default:
      break;
  }
  return key;
}

std::optional<uint64_t> EpochOf(const v1::ConnectResponse& message) {
  if (message.has_registered()) return message.registered().epoch();
  if (message.has_ping()) return message.ping().epoch();
  if (message.has_command()) return message.command().id().epoch();
  return std::nullopt;
}

}  // namespace

std::string EffectKey(const std::string& run, const std::string& fault, const std::string& node) {
  return absl::StrCat(run, "/", fault, "@", node);
}

std::string SettingOf(const std::string& fault, const std::string& node) {
  return absl::StrCat("setting/", fault, "@", node);
}

Witness::Witness(const Scenario& scenario, const SimTime& time, SimSystem& system,
                 SimNetwork& network)
    : scenario_(scenario), time_(time), system_(system), nodes_(scenario.nodes()) {
  system.on_apply = [this](const std::string& key) { OnApply(key); };
  network.observer.sent_up = [this](const SimExecutor& injector, const SimExecutor& controller,
                                    const v1::ConnectRequest& message) {
    SentUp(injector, controller, message);
  };
  network.observer.sent_down = [this](const SimExecutor& injector, const SimExecutor& controller,
                                      const v1::ConnectResponse& message) {
    SentDown(injector, controller, message);
  };
  network.observer.arriving_down = [this](const SimExecutor& injector, const SimExecutor&,
                                          const v1::ConnectResponse& message) {
    Arriving(injector, message);
  };
  network.observer.arrived_down = [this](const SimExecutor& injector, const SimExecutor& controller,
                                         const v1::ConnectResponse& message) {
    Arrived(injector, controller, message);
  };
  network.observer.lost = [this](const SimExecutor& injector) {
    Process& process = processes_[&injector];
    if (std::exchange(process.registered, false)) process.lost = time_.boot();
    process.in_touch_since.reset();
  };
}

void Witness::Fail(const char* invariant, const std::string& what) {
  if (failures_.size() >= kMostFailures) return;
  failures_.push_back(absl::StrCat("[", invariant, "] seed ", scenario_.seed, ", at ",
                                   absl::ToDoubleSeconds(time_.boot() - absl::Seconds(1000)),
                                   " s: ", what));
}

// ------------------------------------------------------------------ processes

void Witness::ControllerBorn(const SimExecutor& controller, uint64_t epoch) {
  if (!by_epoch_.empty() && epoch <= by_epoch_.rbegin()->first) {
    Fail(kHistory, absl::StrCat("the epoch ", epoch, " was given out before"));
  }
  controllers_[&controller] = epoch;
  by_epoch_[epoch] = &controller;
}

void Witness::ProcessBorn(const SimExecutor& process, size_t node) {
  NodeFacts& facts = nodes_[node];
  facts.processes.push_back(&process);
  facts.alive = true;
  facts.frozen = false;
  Unattended(node, false);
  Process& born = processes_[&process];
  born.node = node;
  born.epoch = facts.kept_epoch;
}

void Witness::ProcessDied(size_t node) {
  nodes_[node].alive = false;
  if (nodes_[node].frozen) Frozen(node, false);
}

void Witness::Unattended(size_t node, bool is) {
  NodeFacts& facts = nodes_[node];
  if (facts.unattended && !is) facts.attended_since = time_.boot();
  facts.unattended = is;
}

void Witness::Frozen(size_t node, bool is) {
  if (nodes_[node].frozen && !is) nodes_[node].frozen_until = time_.boot();
  nodes_[node].frozen = is;
}

void Witness::DiskFull(size_t node, bool is) { nodes_[node].disk_full = is; }

// ------------------------------------------------------------------ the network

void Witness::OnApply(const std::string& key) {
  const std::pair<absl::string_view, absl::string_view> run_rest =
      absl::StrSplit(key, absl::MaxSplits('/', 1));
  const std::pair<absl::string_view, absl::string_view> fault_node =
      absl::StrSplit(run_rest.second, absl::MaxSplits('@', 1));
  Effect& effect = effects_[key];
  effect.run = std::string(run_rest.first);
  effect.fault = std::string(fault_node.first);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (NodeName(i) == fault_node.second) effect.node = i;
  }
  effect.applied = time_.boot();
  if (system_.applies[key] > 1) Fail(kAppliedTwice, absl::StrCat(key, " was applied again"));
  if (nodes_[effect.node].may_apply.count(key) == 0) {
    Fail(kLowerEpoch, absl::StrCat(key, " was applied, and nobody had told it to who may"));
  }
}

void Witness::SentUp(const SimExecutor& injector, const SimExecutor& controller,
                     const v1::ConnectRequest& message) {
  Process& process = processes_[&injector];
  if (message.has_registration()) return;
  const uint64_t epoch = controllers_[&controller];
  if (epoch < process.epoch) {
    Fail(kLowerEpoch,
         absl::StrCat(NodeName(process.node), " has heard of the epoch ", process.epoch,
                      ", and answers to a controller of the epoch ", epoch));
  }
  if (!message.has_report()) return;
  const v1::Report& report = message.report();
  if (report.has_answers() && process.stale.count(IdKey(report.answers())) > 0) {
    Fail(kLowerEpoch,
         absl::StrCat(NodeName(process.node), " has obeyed ", IdKey(report.answers())));
  }
  const auto [sent, first] = process.reports.try_emplace(report.number());
  const std::string key = ReportKey(report.event());
  if (first) {
    sent->second.run = report.event().run();
    sent->second.key = key;
  } else if (sent->second.key != key) {
    Fail(kReports, absl::StrCat(NodeName(process.node), " uses the report number ", report.number(),
                                " twice: ", sent->second.key, " and ", key));
  }
}

void Witness::SentDown(const SimExecutor& injector, const SimExecutor& controller,
                       const v1::ConnectResponse& message) {
  // A registration is answered with an acknowledgement, too.
  const uint64_t upto = message.has_registered() ? message.registered().acknowledged()
                                                 : message.report_ack().number();
  Process& process = processes_[&injector];
  for (; process.acknowledged < upto; ++process.acknowledged) {
    const auto sent = process.reports.find(process.acknowledged + 1);
    if (sent == process.reports.end()) continue;
    const auto run = runs_.find(sent->second.run);
    // What is of no run that goes on here has nowhere to go.
    if (run == runs_.end() || run->second.finished || run->second.store_lost ||
        run->second.epoch != controllers_[&controller] || sent->second.recorded) {
      continue;
    }
    Fail(kReports, absl::StrCat("report ", sent->first, " of ", NodeName(process.node),
                                " of the run ", sent->second.run,
                                " was acknowledged and is not in the history: ", sent->second.key));
  }
}

void Witness::Arriving(const SimExecutor& injector, const v1::ConnectResponse& message) {
  const std::optional<uint64_t> epoch = EpochOf(message);
  if (!epoch.has_value()) return;
  Process& process = processes_[&injector];
  if (message.has_command()) {
    const v1::CommandId& id = message.command().id();
    if (*epoch < process.epoch) {
      if (process.obeyed.count(IdKey(id)) == 0) process.stale.insert(IdKey(id));
    } else {
      process.obeyed.insert(IdKey(id));
      if (message.command().has_apply()) {
        nodes_[process.node].may_apply.insert(EffectKey(id.run(), id.name(), id.node()));
      }
    }
  }
  process.epoch = std::max(process.epoch, *epoch);
}

void Witness::Arrived(const SimExecutor& injector, const SimExecutor& controller,
                      const v1::ConnectResponse& message) {
  const std::optional<uint64_t> epoch = EpochOf(message);
  if (!epoch.has_value()) return;
  Process& process = processes_[&injector];
  NodeFacts& node = nodes_[process.node];
  if (*epoch < process.epoch) return;
  if (!node.disk_full) node.kept_epoch = std::max(node.kept_epoch, process.epoch);
  node.contact[&controller] = time_.boot();
  // Once only: what comes later is a session that was interrupted.
  if (message.has_registered() && process.controller == nullptr) {
    process.controller = &controller;
    process.in_touch_since = process.heard = time_.boot();
  }
  if (time_.boot() - process.heard > kInTouch) process.in_touch_since.reset();
  process.heard = time_.boot();
  if (message.has_registered()) {
    process.registered = true;
    process.lost.reset();
  }
}

// ------------------------------------------------------------------- the store

void Witness::Recorded(const std::string& run, uint64_t epoch, const v1::Event& event) {
  const auto [found, first] = runs_.try_emplace(run);
  RunFacts& facts = found->second;
  if (first) {
    run_names_.push_back(run);
    conductors_[run].push_back(by_epoch_[epoch]);
    for (const v1::PlannedFault& planned : event.created().plan().faults()) {
      facts.planned[absl::StrCat(planned.name(), "@", planned.node())] = planned;
    }
    for (const v1::PlannedProbe& planned : event.created().plan().probes()) {
      facts.asked.emplace(planned.node(), planned.id());
    }
    for (const v1::PlannedLoad& planned : event.created().plan().loads()) {
      facts.asked.emplace(planned.node(), planned.name());
    }
  }
  if (event.has_resumed()) conductors_[run].push_back(by_epoch_[epoch]);
  if (event.phase().phase() == v1::PHASE_GATE) facts.gate = time_.boot();
  if (epoch < facts.epoch)
    Fail(kHistory, absl::StrCat(run, ": an event of the epoch ", epoch, " that is over"));
  if (epoch > facts.epoch) facts.store_lost = false;
  facts.epoch = epoch;
  if (event.seq() != ++facts.events) {
    Fail(kHistory, absl::StrCat(run, ": event ", facts.events, " has the number ", event.seq()));
  }
  // But for what becomes of its faults.
  if (facts.finished && !event.has_fault())
    Fail(kHistory, absl::StrCat(run, ": an event after the last: ", event.ShortDebugString()));
  if (event.has_stop() && !facts.stopped.has_value()) facts.stopped = time_.boot();
  if (absl::StartsWith(event.source(), "injector/")) TakeFromInjector(run, event);
  if (event.has_fault() && event.fault().state() == v1::FAULT_STATE_REVERTED) {
    const std::string key = EffectKey(run, event.fault().fault(), event.fault().node());
    const auto setting =
        system_.settings.find(SettingOf(event.fault().fault(), event.fault().node()));
    const bool broken =
        setting != system_.settings.end() && setting->second == absl::StrCat("broken by ", key);
    if (broken || system_.held.count(key) > 0) {
      Fail(kUndoConfirmed, absl::StrCat(key, " is told as reverted, and is on"));
    }
  }
  if (event.has_finished()) {
    facts.finished = true;
    const std::optional<std::string> on = OnOf(run);
    if (event.finished().undo_confirmed() && on.has_value()) {
      Fail(kUndoConfirmed,
           absl::StrCat(run, " has ended with its undo confirmed, and this is on: ", *on));
    }
  }
}

void Witness::NotRecorded(const std::string& run, uint64_t epoch) {
  const auto found = runs_.find(run);
  if (found != runs_.end() && epoch >= found->second.epoch) found->second.store_lost = true;
}

void Witness::TakeFromInjector(const std::string& run, const v1::Event& event) {
  const std::string node(absl::StripPrefix(event.source(), "injector/"));
  const std::string key = ReportKey(event);
  std::string before;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (NodeName(i) != node) continue;
    for (const SimExecutor* executor : nodes_[i].processes) {
      Process& process = processes_[executor];
      uint64_t& last = process.recorded[run];
      for (auto sent = process.reports.upper_bound(last); sent != process.reports.end(); ++sent) {
        if (sent->second.run != run || sent->second.key != key) continue;
        last = sent->first;
        sent->second.recorded = true;
        for (const std::string& name :
             {event.sample().probe(), event.load().load(), event.load_report().load()}) {
          if (!name.empty()) process.told.insert(absl::StrCat(run, "/", name));
        }
        return;
      }
      for (const auto& [number, sent] : process.reports) {
        if (sent.run != run || sent.key != key) continue;
        before = absl::StrCat(" (report ", number, ", after ", last, ")");
      }
    }
  }
  Fail(kReports, before.empty() ? absl::StrCat(run, ": ", node, " has never sent ", key)
                                : absl::StrCat(run, ": recorded twice, or out of order, of ", node,
                                               before, ": ", key));
}

void Witness::LookAtReports() {
  for (const NodeFacts& node : nodes_) {
    if (!node.alive || node.processes.empty()) continue;
    const Process& process = processes_[node.processes.back()];
    if (process.reports.empty() || process.acknowledged >= process.reports.rbegin()->first)
      continue;
    const auto& [number, next] = *process.reports.upper_bound(process.acknowledged);
    Fail(kReports, absl::StrCat("report ", number, " of ", NodeName(process.node), ", of the run ",
                                next.run, ", was never acknowledged: ", next.key));
  }
}

bool Witness::finished(const std::string& run) const {
  const auto found = runs_.find(run);
  return found != runs_.end() && found->second.finished;
}

// ------------------------------------------------------------------ what is on

std::optional<std::string> Witness::OnOf(const std::string& run) const {
  for (const auto& [key, node] : system_.held) {
    if (absl::StartsWith(key, run + "/")) return absl::StrCat(key, " is held by ", node);
  }
  for (const auto& [resource, value] : system_.settings) {
    if (absl::StartsWith(value, absl::StrCat("broken by ", run, "/")))
      return absl::StrCat(resource, " is ", value);
  }
  return std::nullopt;
}

void Witness::LookAtQuestions(const std::string& run, RunFacts& facts) {
  if (facts.finished || facts.stopped.has_value() || facts.store_lost || !facts.gate.has_value()) {
    return;
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const NodeFacts& node = nodes_[i];
    if (!node.alive || node.frozen || node.processes.size() < 2) continue;
    const Process& process = processes_[node.processes.back()];
    if (!process.in_touch_since.has_value() || process.controller != conductors_[run].back() ||
        time_.boot() - process.heard > kInTouch ||
        time_.boot() - std::max(*process.in_touch_since, *facts.gate) <
            kAnswers + 2 * scenario_.slowness) {
      continue;
    }
    const auto [first, last] = facts.asked.equal_range(NodeName(i));
    for (auto asked = first; asked != last; ++asked) {
      if (process.told.count(absl::StrCat(run, "/", asked->second)) > 0) continue;
      Fail(kUnasked, absl::StrCat(run, " goes on, and nothing is heard of ", asked->second,
                                  " from ", NodeName(i), " since it was started again"));
      facts.asked.erase(asked);
      return;
    }
  }
}

void Witness::Look() {
  for (auto& [run, facts] : runs_) LookAtQuestions(run, facts);
  for (const auto& [key, node] : system_.held) LookAt(key, /*only_setting=*/false);
  for (const auto& [resource, value] : system_.settings) {
    absl::string_view key = value;
    if (!absl::ConsumePrefix(&key, "broken by ")) continue;
    if (system_.cannot_undo.count(resource) > 0 || system_.held.count(std::string(key)) > 0)
      continue;
    LookAt(std::string(key), /*only_setting=*/true);
  }
}

void Witness::LookAt(const std::string& key, bool only_setting) {
  const auto found = effects_.find(key);
  if (found == effects_.end() || found->second.complained) return;
  Effect& effect = found->second;
  const NodeFacts& node = nodes_[effect.node];
  const auto run = runs_.find(effect.run);
  if (run == runs_.end())
    return Fail(kHistory, absl::StrCat(key, " is on, and its run is in no history"));
  const v1::PlannedFault& planned =
      run->second.planned[absl::StrCat(effect.fault, "@", NodeName(effect.node))];
  // Nobody is there: by design it waits for the next injector, or for a person's command.
  if (only_setting && node.unattended) return;
  // A hang is ended by the reaper's patience, which begins with the hang.
  const absl::Duration lease = FromProto(planned.lease());
  const auto over = [&](absl::Duration base, absl::Duration length) {
    base = std::max(base, effect.applied);
    // The setting can be put back again only since somebody is there, or since it can be written.
    if (only_setting) base = std::max({base, node.attended_since, cannot_undo_until_});
    absl::Duration allowed = length + kMargin + 2 * scenario_.slowness;
    // What is stuck is tried again every five seconds.
    if (only_setting && cannot_undo_until_ > absl::ZeroDuration()) allowed += absl::Seconds(6);
    if (node.frozen || node.frozen_until >= base) allowed += std::max(lease, kReaperLease);
    return time_.boot() > base + allowed;
  };
  const auto complain = [&](const char* invariant, const std::string& what) {
    effect.complained = true;
    Fail(invariant, absl::StrCat(key, only_setting ? " (its setting)" : "", " is on ", what));
  };
  const absl::Duration time =
      planned.ending() == v1::ENDING_ONE_SHOT ? kOneShotTime : FromProto(planned.duration());
  if (over(effect.applied, time)) {
    return complain(kOutlivesTime,
                    absl::StrCat("after its time of ", firedrill::FormatDuration(time)));
  }
  absl::Duration heard = effect.applied;
  for (const SimExecutor* controller : conductors_[effect.run]) {
    const auto contact = node.contact.find(controller);
    if (contact != node.contact.end()) heard = std::max(heard, contact->second);
  }
  if (over(heard, lease)) {
    return complain(kOutlivesLease,
                    absl::StrCat("though its controller was last heard ",
                                 firedrill::FormatDuration(time_.boot() - heard),
                                 " ago; its lease is ", firedrill::FormatDuration(lease)));
  }
  if (run->second.stopped.has_value() && over(*run->second.stopped, lease)) {
    return complain(
        kOutlivesStop,
        absl::StrCat("though its run was stopped ",
                     firedrill::FormatDuration(time_.boot() - *run->second.stopped), " ago"));
  }
  if (node.processes.empty() || !node.alive) return;
  const Process& process = processes_[node.processes.back()];
  if (process.lost.has_value() && !node.frozen &&
      planned.on_controller_loss() != v1::ON_CONTROLLER_LOSS_UNTIL_LEASE &&
      over(*process.lost, scenario_.grace)) {
    return complain(kOutlivesLease,
                    absl::StrCat("though its node knows for ",
                                 firedrill::FormatDuration(time_.boot() - *process.lost),
                                 " that its controller is gone"));
  }
}

}  // namespace firedrill::simulation
