// What running faults tell, and what becomes of them then.
#include "absl/strings/str_cat.h"
#include "injector/warden.h"
#include "injector/warden_parts.h"

namespace firedrill {
namespace {

constexpr absl::Duration kReportEvery = absl::Seconds(1);
// A one-shot fault whose effect does not show is ended all the same.
constexpr absl::Duration kOneShotLooksFor = absl::Seconds(2);

}  // namespace

Warden::Entry* Warden::Find(const Key& key, uint64_t serial) {
  const auto found = entries_.find(key);
  return found == entries_.end() || found->second.serial != serial ? nullptr : &found->second;
}

FaultNews Warden::NewsFor(const Key& key, uint64_t serial) {
  const auto find = [this, alive = alive_, key, serial]() -> Entry* {
    return *alive ? Find(key, serial) : nullptr;
  };
  return {
      .prepared =
          [this, find](const absl::Status& status) {
            if (Entry* entry = find()) OnPrepared(*entry, status);
          },
      .applied =
          [this, find](const absl::Status& status, absl::Time at) {
            if (Entry* entry = find()) OnApplied(*entry, status, at);
          },
      .observed =
          [this, find](const absl::StatusOr<v1::Observation>& seen, absl::Time at) {
            if (Entry* entry = find()) OnObserved(*entry, seen, at);
          },
      .ended =
          [this, find](const FaultEnd& end) {
            if (Entry* entry = find()) OnEnded(*entry, end);
          },
  };
}

void Warden::OnPrepared(Entry& entry, const absl::Status& status) {
  if (status.ok() || entry.state != v1::FAULT_STATE_UNSPECIFIED) return;
  Refuse(entry.applied_by, entry.key, status);
  BeginRevert(entry, "", /*stop_run=*/false);
}

void Warden::OnApplied(Entry& entry, const absl::Status& status, absl::Time at) {
  if (entry.state != v1::FAULT_STATE_APPLYING) return;
  if (!status.ok()) {
    // The report comes when what it did is undone.
    entry.refused = status;
    executor_.Cancel(entry.due_timer);
    entry.state = v1::FAULT_STATE_REVERTING;
    return;
  }
  entry.state = v1::FAULT_STATE_ACTIVE;
  entry.active_since = entry.reported_at = executor_.clock().Boot();
  Send(entry.key, ReportOf(entry), &entry.applied_by, at);
}

void Warden::OnObserved(Entry& entry, const absl::StatusOr<v1::Observation>& seen, absl::Time at) {
  if (entry.state != v1::FAULT_STATE_ACTIVE) return;
  const absl::Duration now = executor_.clock().Boot();
  bool news = now - entry.reported_at >= kReportEvery;
  v1::FaultReport report = ReportOf(entry);
  if (seen.ok()) {
    news = news || !entry.observation.has_value() || entry.observation->real() != seen->real() ||
           entry.observation->reached() != seen->reached();
    entry.observation = *seen;
    report = ReportOf(entry);
  } else if (absl::IsAborted(seen.status())) {
    // It is not in force any more, and is not applied twice.
    return BeginRevert(entry, std::string(seen.status().message()), /*stop_run=*/false);
  } else {
    // An old observation must not look like a new one.
    report.clear_observation();
    report.set_reason(absl::StrCat("it could not be measured: ", seen.status().message()));
  }
  if (news) {
    entry.reported_at = now;
    Send(entry.key, report, nullptr, at);
  }
  if (!warden::IsOneShot(entry.planned)) return;
  if ((seen.ok() && seen->reached()) || now - entry.active_since >= kOneShotLooksFor) {
    BeginRevert(entry, "", /*stop_run=*/false);
  }
}

void Warden::OnEnded(Entry& entry, const FaultEnd& end) {
  executor_.Cancel(entry.due_timer);
  executor_.Cancel(entry.patience_timer);
  const Key key = entry.key;
  const v1::CommandId* answers = entry.reverted_by.has_value()
                                     ? &*entry.reverted_by
                                     : (entry.refused.has_value() ? &entry.applied_by : nullptr);
  v1::FaultReport report = ReportOf(entry);
  report.clear_observation();
  if (end.last.has_value() && entry.touched) {
    // Never as one of an active fault: whatever hangs on that has been decided.
    v1::FaultReport counted = report;
    counted.set_state(v1::FAULT_STATE_REVERTING);
    *counted.mutable_observation() = *end.last;
    Send(key, counted, nullptr);
  }
  if (end.how == FaultEnd::How::kStuck) {
    const bool news = entry.state != v1::FAULT_STATE_STUCK || entry.reverted_by.has_value();
    entry.state = v1::FAULT_STATE_STUCK;
    entry.reason = end.reason;
    report.set_state(entry.state);
    report.set_reason(end.reason);
    report.set_undo_by_hand(end.undo_by_hand);
    if (news) Send(key, report, answers);
    entry.reverted_by.reset();
    executor_.After(options_.retry_stuck, [this, alive = alive_, key, serial = entry.serial] {
      Entry* stuck = *alive ? Find(key, serial) : nullptr;
      if (stuck != nullptr) stuck->running->Revert();
    });
    return TellClosed();
  }
  if (end.how == FaultEnd::How::kSuperseded) {
    report.set_state(v1::FAULT_STATE_SUPERSEDED);
    report.set_reason(end.reason);
  } else if (entry.refused.has_value() && !entry.reverted_by.has_value()) {
    report.set_state(v1::FAULT_STATE_REFUSED);
    report.set_reason(std::string(entry.refused->message()));
    report.set_code(entry.refused->raw_code());
  } else {
    report.set_state(v1::FAULT_STATE_REVERTED);
    report.set_reason(entry.state == v1::FAULT_STATE_STUCK       ? "it went off after all"
                      : entry.state == v1::FAULT_STATE_REVERTING ? entry.reason
                                                                 : "its time is over");
    if (warden::IsOneShot(entry.planned) && entry.observation.has_value()) {
      *report.mutable_observation() = *entry.observation;
    }
    if (end.after.has_value()) *report.mutable_observation() = *end.after;
  }
  // What was only prepared was never on: there is nothing to say, unless somebody asked.
  if (entry.touched || entry.reverted_by.has_value()) Send(key, report, answers);
  Forget(key);
  TellClosed();
}

void Warden::Forget(const Key& key) { entries_.erase(key); }

}  // namespace firedrill
