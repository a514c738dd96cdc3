// What makes a fault go off: its time, a lease that nobody renews, a controller that is gone, a
// file that stops the node, a command, the end of the injector.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "injector/warden.h"
#include "injector/warden_parts.h"

namespace firedrill {

// -------------------------------------------------------------------- leases

void Warden::ArmDue(Entry& entry) {
  executor_.Cancel(entry.due_timer);
  const absl::Duration due = std::min(entry.lease_until, entry.ends_at);
  entry.due_timer = executor_.After(due - executor_.clock().Boot(),
                                    [this, alive = alive_, key = entry.key, serial = entry.serial] {
                                      if (*alive) OnDue(key, serial);
                                    });
}

void Warden::OnDue(const Key& key, uint64_t serial) {
  Entry* entry = Find(key, serial);
  if (entry == nullptr) return;
  const bool going = entry->state == v1::FAULT_STATE_UNSPECIFIED ||
                     entry->state == v1::FAULT_STATE_APPLYING ||
                     entry->state == v1::FAULT_STATE_ACTIVE;
  if (!going) return;
  if (executor_.clock().Boot() >= entry->ends_at) {
    return BeginRevert(*entry, "its time is over", /*stop_run=*/false);
  }
  if (LeaseIsOver(*entry)) return ExpireLease(*entry);
  ArmDue(*entry);
}

bool Warden::LeaseIsOver(const Entry& entry) const {
  return executor_.clock().Boot() >= entry.lease_until;
}

void Warden::ExpireLease(Entry& entry) {
  BeginRevert(entry,
              absl::StrCat("nobody renewed its lease of ", firedrill::FormatDuration(entry.lease)),
              /*stop_run=*/true);
}

void Warden::Renew(const std::string& group, uint64_t epoch) {
  if (!epochs_.Admit(group, epoch).ok() && epoch < epochs_.Highest(group)) return;
  const absl::Duration now = executor_.clock().Boot();
  for (auto& [key, entry] : entries_) {
    // Another life of the controller does not conduct the runs of the one before.
    if (entry.group != group || entry.applied_by.epoch() != epoch) continue;
    const bool going = entry.state == v1::FAULT_STATE_UNSPECIFIED ||
                       entry.state == v1::FAULT_STATE_APPLYING ||
                       entry.state == v1::FAULT_STATE_ACTIVE;
    if (!going) continue;
    // After a hang a ping may be read before the timer that is long due: what is over stays over.
    if (LeaseIsOver(entry)) {
      ExpireLease(entry);
    } else {
      entry.lease_until = now + entry.lease - warden::kForTheRevert;
    }
  }
}

void Warden::TakeOver(const std::set<std::string>& runs, const std::string& group, uint64_t epoch) {
  for (auto& [key, entry] : entries_) {
    if (entry.group == group && runs.count(key.first) > 0) entry.applied_by.set_epoch(epoch);
  }
}

void Warden::ControllerLost(const std::set<std::string>& kept) {
  for (auto& [key, entry] : entries_) {
    if (kept.count(key.first) > 0) continue;
    if (entry.touched && entry.planned.on_controller_loss() == v1::ON_CONTROLLER_LOSS_UNTIL_LEASE) {
      continue;
    }
    BeginRevert(entry, "the connection to its controller was lost", /*stop_run=*/true);
  }
}

void Warden::StopRun(const std::string& run, const std::string& reason) {
  if (!stopped_runs_.emplace(run, reason).second) return;
  warden::Bound(stopped_runs_, stopped_order_, run);
}

void Warden::OnWatch() {
  watch_timer_ = executor_.After(warden::kWatchEvery, [this, alive = alive_] {
    if (*alive) OnWatch();
  });
  LookForStop();
}

void Warden::LookForStop() {
  if (entries_.empty()) return;
  const std::string why = Stopped();
  if (why.empty()) return;
  for (auto& [key, entry] : entries_) BeginRevert(entry, why, /*stop_run=*/true);
}

void Warden::Halt(const std::string& group, const std::string& words) {
  halted_ = words;
  for (auto& [key, entry] : entries_) {
    if (entry.group == group) BeginRevert(entry, Stopped(), /*stop_run=*/true);
  }
}

absl::Duration Warden::SmallestLease() const {
  absl::Duration smallest = options_.lease;
  for (const auto& [key, entry] : entries_) {
    smallest = std::min(smallest, entry.lease);
  }
  return smallest;
}

// ------------------------------------------------------------------- reverts

void Warden::BeginRevert(Entry& entry, const std::string& reason, bool stop_run) {
  if (stop_run) StopRun(entry.key.first, reason);
  if (entry.state == v1::FAULT_STATE_REVERTING || entry.state == v1::FAULT_STATE_STUCK) return;
  executor_.Cancel(entry.due_timer);
  entry.state = v1::FAULT_STATE_REVERTING;
  entry.reason = reason;
  entry.reverting_since = executor_.clock().Boot();
  entry.patience_timer = executor_.After(
      options_.give_up_after, [this, alive = alive_, key = entry.key, serial = entry.serial] {
        if (*alive) OnImpatient(key, serial);
      });
  const bool quiet =
      !entry.touched || (warden::IsOneShot(entry.planned) && !entry.reverted_by.has_value());
  if (!quiet) {
    Send(entry.key, ReportOf(entry), entry.reverted_by.has_value() ? &*entry.reverted_by : nullptr);
  }
  entry.running->Revert();
}

void Warden::OnImpatient(const Key& key, uint64_t serial) {
  Entry* entry = Find(key, serial);
  if (entry == nullptr || entry->state != v1::FAULT_STATE_REVERTING) return;
  const std::string why =
      absl::StrCat("the fault ", key.second, " of the run ", key.first, " did not go off within ",
                   firedrill::FormatDuration(options_.give_up_after));
  v1::FaultReport report = ReportOf(*entry);
  report.set_state(v1::FAULT_STATE_STUCK);
  report.set_reason(absl::StrCat(why, "; its injector ends itself, which ends what it holds"));
  Send(key, report, nullptr);
  if (options_.give_up) options_.give_up(why);
}

void Warden::Close(const std::string& reason, std::function<void(bool)> done) {
  closed_ = reason;
  closed_done_ = std::move(done);
  for (auto& [key, entry] : entries_) BeginRevert(entry, reason, /*stop_run=*/true);
  TellClosed();
}

void Warden::TellClosed() {
  if (!closed_done_) return;
  const bool clean = entries_.empty();
  const bool hopeless = std::all_of(entries_.begin(), entries_.end(), [](const auto& item) {
    return item.second.state == v1::FAULT_STATE_STUCK;
  });
  if (!hopeless) return;
  // Moved out first: it may be the end of everything.
  const std::function<void(bool)> done = std::exchange(closed_done_, nullptr);
  done(clean);
}

}  // namespace firedrill
