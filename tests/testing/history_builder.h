// Synthetic histories, for whatever is a pure function of one. Times are seconds after the gate was
// passed; events may be told in any order, and are put in order and numbered by Build().
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

class HistoryBuilder {
 public:
  using Labels = std::map<std::string, std::string>;

  // Created 15 s before the gate is passed.
  explicit HistoryBuilder(v1::RunCreated created);

  // The instant that a number of seconds means.
  static absl::Time Time(double seconds);

  // ---- the run itself
  HistoryBuilder& Phase(double at, v1::Phase phase, const std::string& reason = "");
  HistoryBuilder& Find(double at, v1::Finding::Kind kind, const std::string& code,
                       const std::string& subject, const std::string& message,
                       const std::string& mend = "");
  HistoryBuilder& Stop(double at, v1::StopRequested::Cause cause, const std::string& reason);
  HistoryBuilder& Finish(double at, v1::Outcome outcome = v1::OUTCOME_COMPLETED,
                         bool undo_confirmed = true, const std::string& reason = "");

  // ---- faults and remedies; the node is the planned one.
  HistoryBuilder& Apply(double at, const std::string& fault);
  HistoryBuilder& Fault(double at, const std::string& fault, v1::FaultState state,
                        bool reached = false, const std::string& detail = "", double real = 0);
  HistoryBuilder& Remedy(double at, const std::string& remedy, v1::RemedyState state,
                         int exit_code = 0);

  // ---- what was measured
  HistoryBuilder& Sample(double asked, const std::string& probe, double value,
                         const std::string& field = "value");
  HistoryBuilder& NoSample(double asked, const std::string& probe, const std::string& why);
  HistoryBuilder& LateSample(double asked, const std::string& probe, double value);
  // One second of requests that begins at `start`: 40 due and sent, `ok` percent of them, the rest
  // refused.
  HistoryBuilder& Load(double start, const std::string& load, const std::string& request, double ok,
                       absl::Duration latency = absl::Milliseconds(20), uint64_t sent = 40);

  // ---- alerts. `active_at`: the start of pending (Prometheus) or of firing (the others).
  HistoryBuilder& Pending(double at, const std::string& alert, const Labels& labels,
                          double active_at);
  // Seen firing in the evaluation at `evaluated`.
  HistoryBuilder& Firing(double evaluated, const std::string& alert, const Labels& labels,
                         double active_at);
  HistoryBuilder& Inactive(double evaluated, const std::string& alert, const Labels& labels,
                           double active_at, bool series_present = true);
  HistoryBuilder& AtAlertmanager(double at, const std::string& alert, const Labels& labels,
                                 double starts_at, bool suppressed = false);
  HistoryBuilder& LeftAlertmanager(double at, const std::string& alert, const Labels& labels,
                                   double starts_at);
  HistoryBuilder& Delivered(double at, const std::string& receiver, const std::string& alert,
                            const Labels& labels, double starts_at, bool firing = true);
  HistoryBuilder& Gap(const std::string& source, double from, double to,
                      const std::string& reason = "no answer", bool covered = false);
  // The controller was away: it heard of no alert and asked nothing, and has come back.
  HistoryBuilder& Unwatched(double from, double to);
  // That it has come back, alone.
  HistoryBuilder& Away(double from, double to);

  // The last event that was told: to change what has no word here.
  v1::Event& Last() { return events_.back(); }
  std::vector<v1::Event>& events() { return events_; }
  // Another definition, site or plan for the same events.
  HistoryBuilder& Change(const std::function<void(v1::RunCreated&)>& change);
  // The clock of what is told from now on by Prometheus and Alertmanager: their clock - ours, and
  // its error.
  HistoryBuilder& Clock(absl::Duration offset, absl::Duration error);

  std::vector<v1::Event> Build() const;

 private:
  v1::Event& Add(double at, const std::string& source = "controller");
  v1::AlertTransition& AddAlert(double at, const std::string& source, v1::AlertSource kind,
                                const std::string& alert, const Labels& labels,
                                v1::AlertState state, double active_at);
  std::string NodeOf(const std::string& step) const;

  v1::RunCreated created_;
  std::vector<v1::Event> events_;
  absl::Duration offset_;
  absl::Duration error_;
};

// How the run of ShopRun() goes; left as it is, everything that is expected happens.
struct ShopCourse {
  double leak_reached = 5;
  double leak_ended = 40.1;
  bool leak_in_force = true;
  bool cut_in_force = true;
  // Share of the logins that are answered, by time.
  std::function<double(double)> logins = [](double t) { return t < 13 || t >= 43 ? 100.0 : 20.0; };
  std::optional<double> pending = 5.5;
  std::optional<double> firing = 7.5;
  std::optional<double> delivered = 8;
  std::optional<double> inactive = 44.5;
  // Share of the slots that are taken.
  std::function<double(double)> slots = [](double t) { return t < 3 || t > 41 ? 0.2 : 1.0; };
  std::optional<double> api_errors_firing = 24;
  double leftovers_gone = 40;
  double finished = 75;
};

// The definition, site and plan of the leak of 2025-02-15: faults leak (0 s to 40 s) and cut (at 12
// s), remedy restart-shop (at 20 s), and every kind of expectation.
v1::RunCreated ShopRun();
HistoryBuilder ShopHistory(const ShopCourse& course = {});
// Labels of slots-page's alert, as Prometheus tells them.
HistoryBuilder::Labels SlotsLabels();

}  // namespace firedrill
