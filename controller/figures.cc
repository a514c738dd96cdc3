// Numbers for Prometheus.
#include "controller/figures.h"

#include <prometheus/text_serializer.h>

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "base/time_proto.h"
#include "base/version.h"

namespace firedrill {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::map<std::string, std::string>;

class Families {
 public:
  MetricFamily& Begin(const std::string& name, MetricType type, const std::string& help) {
    return families_.emplace_back(MetricFamily{"firedrill_" + name, help, type, {}});
  }
  void Take(MetricFamily family) { families_.push_back(std::move(family)); }
  void Gauge(const std::string& name, const std::string& help, double value) {
    Add(Begin(name, MetricType::Gauge, help), {}, value);
  }
  static void Add(MetricFamily& family, const Labels& labels, double value) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    for (const auto& [key, each] : labels) metric.label.push_back({key, each});
    // Only the one of the family's type is written.
    metric.gauge.value = metric.counter.value = value;
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<MetricFamily> families_;
};

std::string Word(const std::string& name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

std::string PhaseWord(v1::Phase phase) { return Word(v1::Phase_Name(phase), "PHASE_"); }

std::string StateWord(v1::FaultState state) {
  return Word(v1::FaultState_Name(state), "FAULT_STATE_");
}

void AddInjectors(const Figures& figures, Families& families) {
  const std::vector<v1::FaultState> states = {v1::FAULT_STATE_APPLYING, v1::FAULT_STATE_ACTIVE,
                                              v1::FAULT_STATE_REVERTING, v1::FAULT_STATE_UNKNOWN,
                                              v1::FAULT_STATE_STUCK};
  MetricFamily connected{
      "firedrill_injector_connected", "1 while its stream is open.", MetricType::Gauge, {}};
  MetricFamily stopped{
      "firedrill_injector_stopped", "1 while a STOP file stops the node.", MetricType::Gauge, {}};
  MetricFamily faults{"firedrill_faults",
                      "Faults that a node carries, by state; unknown: it is away, and had them, or "
                      "nobody has seen them undone.",
                      MetricType::Gauge,
                      {}};
  MetricFamily leftovers{"firedrill_leftovers",
                         "What a dead injector left on a node and nobody could undo.",
                         MetricType::Gauge,
                         {}};
  MetricFamily dropped{"firedrill_injector_reports_dropped_total",
                       "Reports of a node that were lost because nobody took them.",
                       MetricType::Counter,
                       {}};
  MetricFamily seen{"firedrill_injector_last_seen_timestamp_seconds",
                    "When something was heard of it last.",
                    MetricType::Gauge,
                    {}};
  for (const v1::InjectorSummary& each : figures.injectors) {
    const std::string& node = each.registration().node();
    const Labels of_node = {{"node", node}};
    Families::Add(connected, of_node, each.connected() ? 1 : 0);
    Families::Add(stopped, of_node, each.figures().stopped().empty() ? 0 : 1);
    Families::Add(leftovers, of_node, each.registration().leftovers_size());
    Families::Add(dropped, of_node, static_cast<double>(each.figures().reports_dropped()));
    Families::Add(seen, of_node, absl::ToUnixMillis(FromProto(each.last_seen())) / 1000.0);
    std::map<v1::FaultState, int> count;
    for (const v1::ActiveFault& fault : each.figures().faults()) {
      // What needs a person still does when its node is away.
      const bool stuck = fault.state() == v1::FAULT_STATE_STUCK;
      ++count[each.connected() || stuck ? fault.state() : v1::FAULT_STATE_UNKNOWN];
    }
    for (const v1::ActiveFault& left : each.unconfirmed()) {
      const auto same = [&left](const v1::ActiveFault& fault) {
        return fault.run() == left.run() && fault.fault() == left.fault();
      };
      // What its node told of last is counted; what somebody else has changed was left alone.
      if (absl::c_any_of(each.figures().faults(), same)) continue;
      if (left.state() == v1::FAULT_STATE_SUPERSEDED) continue;
      ++count[left.state() == v1::FAULT_STATE_STUCK ? left.state() : v1::FAULT_STATE_UNKNOWN];
    }
    // All of them, so that a series does not vanish just when it matters.
    for (const v1::FaultState state : states) {
      Families::Add(faults, {{"node", node}, {"state", StateWord(state)}}, count[state]);
    }
  }
  for (MetricFamily* family : {&connected, &stopped, &faults, &leftovers, &dropped, &seen}) {
    families.Take(std::move(*family));
  }
}

}  // namespace

std::string FiguresText(const Figures& figures, const std::map<std::string, uint64_t>& refused) {
  Families families;
  Families::Add(families.Begin("build_info", MetricType::Gauge, "The version that runs."),
                {{"version", kVersion}}, 1);
  MetricFamily& runs =
      families.Begin("runs", MetricType::Gauge, "Runs that are going on, by phase.");
  for (int phase = v1::PHASE_PREFLIGHT; phase < v1::PHASE_FINISHED; ++phase) {
    int count = 0;
    for (const v1::Phase each : figures.phases) count += each == phase ? 1 : 0;
    Families::Add(runs, {{"phase", PhaseWord(static_cast<v1::Phase>(phase))}}, count);
  }
  AddInjectors(figures, families);
  families.Gauge("lever_pulled", "1 while nothing may start.", figures.lever_pulled ? 1 : 0);
  families.Gauge("lever_pulled_timestamp_seconds", "Since when; 0 where it is not pulled.",
                 figures.lever_pulled ? absl::ToUnixMillis(figures.lever_since) / 1000.0 : 0);
  MetricFamily& certificates = families.Begin("certificate_expires_timestamp_seconds",
                                              MetricType::Gauge, "When a certificate ends.");
  if (figures.certificate_expires != absl::InfiniteFuture()) {
    Families::Add(certificates, {{"of", "controller"}, {"node", ""}},
                  absl::ToUnixMillis(figures.certificate_expires) / 1000.0);
  }
  for (const v1::InjectorSummary& each : figures.injectors) {
    if (!each.figures().has_certificate_expires()) continue;
    Families::Add(certificates, {{"of", "injector"}, {"node", each.registration().node()}},
                  absl::ToUnixMillis(FromProto(each.figures().certificate_expires())) / 1000.0);
  }
  Families::Add(families.Begin("store_failures_total", MetricType::Counter,
                               "Events that could not be written to the history."),
                {}, static_cast<double>(figures.store_failures));
  MetricFamily& slots = families.Begin("slots_missed_total", MetricType::Counter,
                                       "Due instants of a schedule at which no run began.");
  for (const auto& [experiment, count] : figures.slots_missed) {
    Families::Add(slots, {{"experiment", experiment}}, static_cast<double>(count));
  }
  MetricFamily& calls = families.Begin("calls_refused_total", MetricType::Counter,
                                       "Calls that were let in nowhere, by reason.");
  for (const char* reason : {"unauthenticated", "permission_denied", "resource_exhausted"}) {
    const auto found = refused.find(reason);
    Families::Add(calls, {{"reason", reason}},
                  found == refused.end() ? 0 : static_cast<double>(found->second));
  }
  return families.Text();
}

void FigureBoard::Set(Figures figures) {
  MutexLock lock(mutex_);
  figures_ = std::move(figures);
}

void FigureBoard::CountRefused(const std::string& code) {
  MutexLock lock(mutex_);
  ++refused_[code];
}

std::string FigureBoard::Text(absl::Time now) const {
  Figures figures;
  std::map<std::string, uint64_t> refused;
  {
    MutexLock lock(mutex_);
    figures = figures_;
    refused = refused_;
  }
  Families age;
  age.Gauge("figures_age_seconds",
            "How old the other figures are: they grow old where the controller hangs.",
            absl::ToDoubleSeconds(now - figures.now));
  return FiguresText(figures, refused) + age.Text();
}

}  // namespace firedrill
