// Builds synthetic histories.
#include "tests/testing/history_builder.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/time_proto.h"

namespace firedrill {
namespace {

constexpr double kCreatedAt = -15;

constexpr char kShopRun[] = R"pb(
  experiment {
    api_version: "firedrill/v1" kind: "Experiment"
    metadata { name: "unclosed-connections" labels { key: "team" value: "web" } }
    spec {
      hypothesis:
        "When a leaking client fills the shop's database, on-call is paged about the slots "
        "within 15 s, nobody is sent after memory or a DDoS, restarting the shop does not help, "
        "and logins answer again within 15 s of the leak's end."
      steady_state { name: "logins-answer" probe { load: "shoppers" request: "login" }
          is: "ok >= 99%, p95 < 250ms" over { seconds: 2 } for { seconds: 5 } }
      steady_state { name: "slots-free" probe { prometheus { query: "slots" } } is: "< 0.6" for
          { seconds: 5 } }
      faults { name: "leak" target: "db-node" duration { seconds: 40 } fault { hold_connections
          { profile: "leaker" fill_to: 1 } } }
      faults { name: "cut" target: "db-node" at { seconds: 12 } fault { terminate_sessions
          { profile: "dba" user: "shop" } } }
      remedies { name: "restart-shop" target: "app-node" at { seconds: 20 } remedy { run_program
          { program: "restart-shop" } } }
      expect {
        impact { name: "logins-hurt" probe { load: "shoppers" request: "login" } is: "ok < 60%"
            over { seconds: 2 } since: "cut.start" within { seconds: 10 } }
        alerts {
          name: "slots-page" alert: "PostgresConnectionsNearLimit" matchers: "severity=\"page\""
          since: "leak.reached" firing_within { seconds: 10 }
          notification { receiver: "oncall" within { seconds: 15 } }
          resolved { since: "leak.end" within { seconds: 30 } }
          before: "ApiErrorRateHigh"
        }
        may_fire: "ApiErrorRateHigh"
        must_not_fire: "PossibleDDoS"
        must_not_fire: "HostMemoryHigh"
        recovery { name: "back-after-leak" probe { probe: "logins-answer" } since: "leak.end"
            within { seconds: 15 } for { seconds: 10 } }
        recovery { name: "restart-is-no-cure" probe { probe: "logins-answer" }
            since: "restart-shop.done" within { seconds: 10 } expected: false }
        recovery { name: "no-leftovers" probe { sql { from: "db-node" profile: "dba"
            statement: "sessions-of-run" } } is: "== 0" since: "leak.end" within { seconds: 5 } }
      }
    }
  }
  site {
    spec {
      environment: "lab"
      alertmanagers { url: "http://127.0.0.1:9093" }
      webhook { listen: "127.0.0.1:9999" receivers { name: "oncall" path: "/oncall" } }
      pages: "severity=\"page\""
    }
  }
  plan {
    run: "uc-7f3a" seed: 7
    targets { target: "db-node" nodes: "db-1" }
    targets { target: "app-node" nodes: "app-1" }
    targets { target: "load-node" nodes: "load-1" }
    faults { name: "leak" node: "db-1" fault { hold_connections { profile: "leaker" fill_to: 1 } }
        duration { seconds: 40 } lease { seconds: 5 } ending: ENDING_DIES_WITH_PROCESS }
    faults { name: "cut" node: "db-1" fault { terminate_sessions { profile: "dba" user: "shop" } }
        at { seconds: 12 } lease { seconds: 5 } ending: ENDING_ONE_SHOT }
    remedies { name: "restart-shop" node: "app-1" at { seconds: 20 } }
    loads { name: "shoppers" node: "load-1" }
    probes { id: "steadyState/slots-free" every { seconds: 1 } deadline { seconds: 2 } }
    probes { id: "recovery/no-leftovers" every { seconds: 1 } deadline { seconds: 2 } node: "db-1"
        }
    gate { name: "logins-answer" load: "shoppers" request: "login" is: "ok >= 99%, p95 < 250ms"
        over { seconds: 2 } for { seconds: 5 } }
    gate { name: "slots-free" probe: "steadyState/slots-free" is: "< 0.6" for { seconds: 5 } }
    gate_timeout { seconds: 30 }
    arithmetic {
      expectation: "slots-page" alert: "PostgresConnectionsNearLimit" scrape { seconds: 1 }
          evaluation { seconds: 1 } hold { seconds: 2 }
      earliest_firing { seconds: 2 } latest_firing { seconds: 4 } limit { seconds: 10 }
          possible: true
      explanation: "at most 1s until a scrape + 1s until an evaluation + 2s `for`"
    }
    page_matchers: "severity=\"page\""
  }
  file: "experiments/unclosed-connections.yaml"
  positions { key: "steadyState[0]" value { line: 32 column: 7 } }
  positions { key: "steadyState[1]" value { line: 33 column: 7 } }
  positions { key: "faults[0]" value { line: 36 column: 7 } }
  positions { key: "faults[1]" value { line: 37 column: 7 } }
  positions { key: "expect.impact[0]" value { line: 42 column: 9 } }
  positions { key: "expect.alerts[0]" value { line: 44 column: 9 } }
  positions { key: "expect.alerts[0].resolved" value { line: 49 column: 11 } }
  positions { key: "expect.mustNotFire[0]" value { line: 53 column: 20 } }
  positions { key: "expect.mustNotFire[1]" value { line: 53 column: 34 } }
  positions { key: "expect.recovery[0]" value { line: 55 column: 9 } }
  positions { key: "expect.recovery[1]" value { line: 56 column: 9 } }
  positions { key: "expect.recovery[2]" value { line: 57 column: 9 } }
  owner: "anna" version: "0.1.0"
)pb";

}  // namespace

HistoryBuilder::HistoryBuilder(v1::RunCreated created) : created_(std::move(created)) {
  *Add(kCreatedAt).mutable_created() = created_;
}

absl::Time HistoryBuilder::Time(double seconds) {
  return absl::FromUnixSeconds(1'795'000'000) + absl::Milliseconds(std::llround(seconds * 1000));
}

v1::Event& HistoryBuilder::Add(double at, const std::string& source) {
  v1::Event& event = events_.emplace_back();
  event.set_run(created_.plan().run());
  event.set_epoch(1);
  *event.mutable_at() = ToProto(Time(at));
  event.set_source(source);
  return event;
}

std::string HistoryBuilder::NodeOf(const std::string& step) const {
  for (const v1::PlannedFault& fault : created_.plan().faults()) {
    if (fault.name() == step) return fault.node();
  }
  for (const v1::PlannedRemedy& remedy : created_.plan().remedies()) {
    if (remedy.name() == step) return remedy.node();
  }
  throw std::invalid_argument("no such step: " + step);
}

HistoryBuilder& HistoryBuilder::Phase(double at, v1::Phase phase, const std::string& reason) {
  v1::PhaseEntered& entered = *Add(at).mutable_phase();
  entered.set_phase(phase);
  entered.set_reason(reason);
  return *this;
}

HistoryBuilder& HistoryBuilder::Find(double at, v1::Finding::Kind kind, const std::string& code,
                                     const std::string& subject, const std::string& message,
                                     const std::string& mend) {
  v1::Finding& finding = *Add(at).mutable_finding();
  finding.set_kind(kind);
  finding.set_code(code);
  finding.set_subject(subject);
  finding.set_message(message);
  finding.set_mend(mend);
  return *this;
}

HistoryBuilder& HistoryBuilder::Stop(double at, v1::StopRequested::Cause cause,
                                     const std::string& reason) {
  v1::StopRequested& stop = *Add(at).mutable_stop();
  stop.set_cause(cause);
  stop.set_reason(reason);
  return *this;
}

HistoryBuilder& HistoryBuilder::Finish(double at, v1::Outcome outcome, bool undo_confirmed,
                                       const std::string& reason) {
  v1::RunFinished& finished = *Add(at).mutable_finished();
  finished.set_outcome(outcome);
  finished.set_undo_confirmed(undo_confirmed);
  finished.set_reason(reason);
  for (const v1::Event& event : events_) {
    if (event.has_stop()) finished.set_cause(event.stop().cause());
  }
  return *this;
}

HistoryBuilder& HistoryBuilder::Apply(double at, const std::string& fault) {
  v1::Command& command = *Add(at).mutable_command()->mutable_command();
  command.mutable_id()->set_name(fault);
  command.mutable_id()->set_verb("apply");
  for (const v1::PlannedFault& planned : created_.plan().faults()) {
    if (planned.name() == fault) *command.mutable_apply()->mutable_fault() = planned;
  }
  return *this;
}

HistoryBuilder& HistoryBuilder::Fault(double at, const std::string& fault, v1::FaultState state,
                                      bool reached, const std::string& detail, double real) {
  const std::string node = NodeOf(fault);
  v1::FaultReport& report = *Add(at, "injector/" + node).mutable_fault();
  report.set_fault(fault);
  report.set_node(node);
  report.set_state(state);
  if (reached || !detail.empty()) {
    v1::Observation& seen = *report.mutable_observation();
    seen.set_reached(reached);
    seen.set_detail(detail);
    seen.set_real(real);
    seen.set_unit("sessions");
  }
  return *this;
}

HistoryBuilder& HistoryBuilder::Remedy(double at, const std::string& remedy, v1::RemedyState state,
                                       int exit_code) {
  const std::string node = NodeOf(remedy);
  v1::RemedyReport& report = *Add(at, "injector/" + node).mutable_remedy();
  report.set_remedy(remedy);
  report.set_node(node);
  report.set_state(state);
  report.set_exit_code(exit_code);
  for (const v1::Event& event : events_) {
    if (event.has_remedy() && event.remedy().remedy() == remedy &&
        event.remedy().state() == v1::REMEDY_STATE_RUNNING) {
      *report.mutable_took() = ToProto(Time(at) - FromProto(event.at()));
    }
  }
  return *this;
}

HistoryBuilder& HistoryBuilder::Sample(double asked, const std::string& probe, double value,
                                       const std::string& field) {
  v1::Sample& sample = *Add(asked + 0.02).mutable_sample();
  sample.set_probe(probe);
  (*sample.mutable_values())[field] = value;
  *sample.mutable_asked() = ToProto(Time(asked));
  return *this;
}

HistoryBuilder& HistoryBuilder::NoSample(double asked, const std::string& probe,
                                         const std::string& why) {
  v1::Sample& sample = *Add(asked + 0.02).mutable_sample();
  sample.set_probe(probe);
  sample.set_unknown(why);
  *sample.mutable_asked() = ToProto(Time(asked));
  return *this;
}

HistoryBuilder& HistoryBuilder::LateSample(double asked, const std::string& probe, double value) {
  Sample(asked, probe, value);
  v1::Sample& sample = *Last().mutable_sample();
  sample.set_late(true);
  *sample.mutable_took() = ToProto(absl::Seconds(3));
  return *this;
}

HistoryBuilder& HistoryBuilder::Load(double start, const std::string& load,
                                     const std::string& request, double ok, absl::Duration latency,
                                     uint64_t sent) {
  v1::LoadWindow& window = *Add(start + 1.01).mutable_load();
  window.set_load(load);
  window.set_request(request);
  *window.mutable_start() = ToProto(Time(start));
  *window.mutable_length() = ToProto(absl::Seconds(1));
  window.set_due(40);
  window.set_sent(sent);
  const auto answered = static_cast<uint64_t>(std::llround(ok / 100 * static_cast<double>(sent)));
  window.set_ok(answered);
  if (sent > answered) (*window.mutable_errors())["refused"] = sent - answered;
  (*window.mutable_latency())[static_cast<uint64_t>(absl::ToInt64Microseconds(latency))] = answered;
  return *this;
}

v1::AlertTransition& HistoryBuilder::AddAlert(double at, const std::string& source,
                                              v1::AlertSource kind, const std::string& alert,
                                              const Labels& labels, v1::AlertState state,
                                              double active_at) {
  v1::Event& event = Add(at, source);
  *event.mutable_clock_offset() = ToProto(offset_);
  *event.mutable_clock_error() = ToProto(error_);
  v1::AlertTransition& transition = *event.mutable_alert();
  transition.set_source(kind);
  transition.set_alert(alert);
  for (const auto& [name, value] : labels) (*transition.mutable_labels())[name] = value;
  transition.set_state(state);
  // By the clock of Prometheus.
  *transition.mutable_active_at() = ToProto(Time(active_at) + offset_);
  return transition;
}

HistoryBuilder& HistoryBuilder::Pending(double at, const std::string& alert, const Labels& labels,
                                        double active_at) {
  v1::AlertTransition& transition = AddAlert(at + 0.3, "prometheus", v1::ALERT_SOURCE_PROMETHEUS,
                                             alert, labels, v1::ALERT_STATE_PENDING, active_at);
  *transition.mutable_evaluated_at() = ToProto(Time(at) + offset_);
  return *this;
}

HistoryBuilder& HistoryBuilder::Firing(double evaluated, const std::string& alert,
                                       const Labels& labels, double active_at) {
  v1::AlertTransition& transition =
      AddAlert(evaluated + 0.3, "prometheus", v1::ALERT_SOURCE_PROMETHEUS, alert, labels,
               v1::ALERT_STATE_FIRING, active_at);
  *transition.mutable_evaluated_at() = ToProto(Time(evaluated) + offset_);
  return *this;
}

HistoryBuilder& HistoryBuilder::Inactive(double evaluated, const std::string& alert,
                                         const Labels& labels, double active_at,
                                         bool series_present) {
  v1::AlertTransition& transition =
      AddAlert(evaluated + 0.3, "prometheus", v1::ALERT_SOURCE_PROMETHEUS, alert, labels,
               series_present ? v1::ALERT_STATE_INACTIVE : v1::ALERT_STATE_UNKNOWN, active_at);
  *transition.mutable_evaluated_at() = ToProto(Time(evaluated) + offset_);
  transition.set_series_present(series_present);
  return *this;
}

HistoryBuilder& HistoryBuilder::AtAlertmanager(double at, const std::string& alert,
                                               const Labels& labels, double starts_at,
                                               bool suppressed) {
  Labels outer = labels;
  outer["env"] = "lab";
  AddAlert(at, "alertmanager/0", v1::ALERT_SOURCE_ALERTMANAGER, alert, outer,
           v1::ALERT_STATE_FIRING, starts_at)
      .set_suppressed(suppressed);
  return *this;
}

HistoryBuilder& HistoryBuilder::LeftAlertmanager(double at, const std::string& alert,
                                                 const Labels& labels, double starts_at) {
  Labels outer = labels;
  outer["env"] = "lab";
  AddAlert(at, "alertmanager/0", v1::ALERT_SOURCE_ALERTMANAGER, alert, outer,
           v1::ALERT_STATE_RESOLVED, starts_at)
      .set_series_present(true);
  return *this;
}

HistoryBuilder& HistoryBuilder::Delivered(double at, const std::string& receiver,
                                          const std::string& alert, const Labels& labels,
                                          double starts_at, bool firing) {
  Labels outer = labels;
  outer["env"] = "lab";
  AddAlert(at, "webhook/" + receiver, v1::ALERT_SOURCE_WEBHOOK, alert, outer,
           firing ? v1::ALERT_STATE_FIRING : v1::ALERT_STATE_RESOLVED, starts_at)
      .set_receiver(receiver);
  return *this;
}

HistoryBuilder& HistoryBuilder::Gap(const std::string& source, double from, double to,
                                    const std::string& reason, bool covered) {
  for (const bool closed : {false, true}) {
    v1::MonitorGap& gap = *Add(closed ? to : from, source).mutable_gap();
    gap.set_source(source);
    gap.set_reason(reason);
    gap.set_covered(covered);
    *gap.mutable_from() = ToProto(Time(from));
    if (closed) *gap.mutable_to() = ToProto(Time(to));
  }
  return *this;
}

HistoryBuilder& HistoryBuilder::Away(double from, double to) {
  *Add(to, "controller").mutable_resumed()->mutable_gap() = ToProto(absl::Seconds(to - from));
  return *this;
}

HistoryBuilder& HistoryBuilder::Unwatched(double from, double to) {
  std::erase_if(events_, [&](const v1::Event& event) {
    const bool told = event.has_alert() || event.has_sample();
    return told && FromProto(event.at()) >= Time(from) && FromProto(event.at()) < Time(to);
  });
  return Away(from, to);
}

HistoryBuilder& HistoryBuilder::Change(const std::function<void(v1::RunCreated&)>& change) {
  change(created_);
  *events_.front().mutable_created() = created_;
  return *this;
}

HistoryBuilder& HistoryBuilder::Clock(absl::Duration offset, absl::Duration error) {
  offset_ = offset;
  error_ = error;
  return *this;
}

std::vector<v1::Event> HistoryBuilder::Build() const {
  std::vector<v1::Event> history = events_;
  std::stable_sort(history.begin(), history.end(), [](const v1::Event& a, const v1::Event& b) {
    return FromProto(a.at()) < FromProto(b.at());
  });
  // Nothing comes after the end.
  const auto last = std::find_if(history.begin(), history.end(),
                                 [](const v1::Event& event) { return event.has_finished(); });
  if (last != history.end()) history.erase(last + 1, history.end());
  uint64_t seq = 0;
  for (v1::Event& event : history) event.set_seq(++seq);
  return history;
}

HistoryBuilder::Labels SlotsLabels() { return {{"severity", "page"}, {"instance", "db-1:9187"}}; }

v1::RunCreated ShopRun() {
  v1::RunCreated created;
  if (!google::protobuf::TextFormat::ParseFromString(kShopRun, &created)) {
    throw std::logic_error("the run of the shop does not parse");
  }
  return created;
}

HistoryBuilder ShopHistory(const ShopCourse& course) {
  HistoryBuilder history(ShopRun());
  history.Phase(-15, v1::PHASE_PREFLIGHT).Phase(-10, v1::PHASE_GATE);
  history.Phase(0, v1::PHASE_INJECT, "steady state holds");
  const auto full = [&](double t) { return t >= course.leak_reached && course.leak_in_force; };
  history.Apply(0, "leak").Fault(0.2, "leak", v1::FAULT_STATE_ACTIVE, false,
                                 "10 of 57 usable slots taken", 10);
  if (course.leak_in_force) {
    history.Fault(course.leak_reached, "leak", v1::FAULT_STATE_ACTIVE, true,
                  "57 of 57 usable slots taken, 51 by this fault", 57);
  }
  history.Apply(12, "cut");
  history.Fault(12.1, "cut", v1::FAULT_STATE_ACTIVE, course.cut_in_force,
                course.cut_in_force ? "6 sessions of shop ended" : "0 sessions of shop ended",
                course.cut_in_force ? 6 : 0);
  history.Fault(12.2, "cut", v1::FAULT_STATE_REVERTED);
  history.Remedy(20, "restart-shop", v1::REMEDY_STATE_RUNNING);
  history.Remedy(21.5, "restart-shop", v1::REMEDY_STATE_DONE);
  history.Fault(40, "leak", v1::FAULT_STATE_REVERTING);
  history.Fault(course.leak_ended, "leak", v1::FAULT_STATE_REVERTED);
  history.Phase(40, v1::PHASE_REVERT, "the last fault's time is over");
  history.Phase(course.leak_ended, v1::PHASE_RECOVER, "every fault has ended");

  for (double t = -10; t + 1.5 < course.finished; ++t) {
    history.Load(t, "shoppers", "login", course.logins(t));
    history.Sample(t + 0.5, "steadyState/slots-free", course.slots(t + 0.5));
    if (t > 0) {
      history.Sample(t + 0.4, "recovery/no-leftovers",
                     t + 0.4 < course.leftovers_gone && full(t) ? 51 : 0);
    }
  }

  const std::string alert = "PostgresConnectionsNearLimit";
  if (course.pending.has_value())
    history.Pending(*course.pending, alert, SlotsLabels(), *course.pending);
  if (course.firing.has_value()) {
    const double active = course.pending.value_or(*course.firing);
    history.Firing(*course.firing, alert, SlotsLabels(), active);
    history.AtAlertmanager(*course.firing + 0.4, alert, SlotsLabels(), *course.firing);
    if (course.delivered.has_value()) {
      history.Delivered(*course.delivered, "oncall", alert, SlotsLabels(), *course.firing);
    }
    if (course.inactive.has_value()) {
      history.Inactive(*course.inactive, alert, SlotsLabels(), active);
      history.LeftAlertmanager(*course.inactive + 0.5, alert, SlotsLabels(), *course.firing);
      history.Delivered(*course.inactive + 1.5, "oncall", alert, SlotsLabels(), *course.firing,
                        false);
    }
  } else if (course.pending.has_value() && course.inactive.has_value()) {
    history.Inactive(*course.inactive, alert, SlotsLabels(), *course.pending);
  }
  if (course.api_errors_firing.has_value()) {
    const double at = *course.api_errors_firing;
    const HistoryBuilder::Labels labels = {{"severity", "page"}, {"job", "shop"}};
    history.Firing(at, "ApiErrorRateHigh", labels, at - 4);
    history.AtAlertmanager(at + 0.4, "ApiErrorRateHigh", labels, at);
    history.Inactive(55, "ApiErrorRateHigh", labels, at - 4);
    history.LeftAlertmanager(55.5, "ApiErrorRateHigh", labels, at);
  }
  history.Phase(course.finished, v1::PHASE_FINISHED);
  return history.Finish(course.finished);
}

}  // namespace firedrill
