// One thread a server: each looks, compares, and tells. A server that hangs delays no other. Those
// that say the same are a crew, which speaks with one voice.
#include "controller/alerts/watch.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_proto.h"
#include "controller/alerts/alertmanager.h"
#include "controller/alerts/fold.h"
#include "controller/alerts/prometheus.h"
#include "controller/alerts/replicas.h"
#include "controller/alerts/series.h"
#include "experiment/promql.h"

namespace firedrill {
namespace {

// Evaluations that may be missed before a rule counts as not evaluated.
constexpr int kMissedEvaluations = 3;
constexpr absl::Duration kSlack = absl::Seconds(1);
// One of a crew that has not answered for so long has no say, as long as another one answers.
constexpr absl::Duration kSilentFor = absl::Seconds(5);
// Changes that are told after one look, besides those of alerts of interest.
constexpr size_t kMostStrangers = 500;

class Watch final : public AlertWatch {
 public:
  Watch(AlertWatchOptions options, const Clock& clock, Sink sink)
      : options_(std::move(options)), clock_(clock), sink_(std::move(sink)) {}

  ~Watch() override {
    stop_.request_stop();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::Status Begin() {
    const std::stop_token stop = stop_.get_token();
    for (const v1::MonitoringServer& server : PrometheusReplicas(options_.site)) {
      ASSIGN_OR_RETURN(PrometheusClient client,
                       PrometheusClient::Make(server, options_.deadline, stop));
      prometheus_.push_back(std::move(client));
    }
    std::vector<AlertmanagerClient> alertmanagers;
    for (const v1::MonitoringServer& server : options_.site.alertmanagers()) {
      ASSIGN_OR_RETURN(AlertmanagerClient client,
                       AlertmanagerClient::Make(server, options_.deadline, stop));
      alertmanagers.push_back(std::move(client));
    }
    {
      const MutexLock lock(mutex_);
      shared_.resize(prometheus_.size());
    }
    const bool alone = prometheus_.size() == 1;
    prometheus_crew_.emplace("prometheus", Names("prometheus", prometheus_.size(), alone),
                             clock_.Now());
    alertmanager_crew_.emplace("alertmanager", Names("alertmanager", alertmanagers.size(), false),
                               clock_.Now());
    for (size_t i = 0; i < prometheus_.size(); ++i) {
      threads_.emplace_back([this, i] { WatchPrometheus(i); });
    }
    for (size_t i = 0; i < alertmanagers.size(); ++i) {
      threads_.emplace_back(
          [this, i, client = std::move(alertmanagers[i])] { WatchAlertmanager(i, client); });
    }
    return absl::OkStatus();
  }

 private:
  // An alert that ended while its series were absent: looked at again until they are back.
  struct Vanished {
    EndedAlert ended;
    // The rule's evaluation when its series were first seen again.
    std::optional<absl::Time> back_since;
  };

  // Servers of which each one says what all say. Empty where the site names none.
  struct Crew {
    Crew(const std::string& all, const std::vector<std::string>& members, absl::Time now)
        : names(members),
          folds(members.size()),
          replicas(members.size()),
          gaps(all, members.empty() ? std::vector<std::string>{all} : members),
          last_good(members.size(), now),
          lapsed(members.size(), false) {}

    const std::vector<std::string> names;
    Mutex mutex;
    std::vector<AlertFold> folds FD_GUARDED_BY(mutex);
    Replicas replicas FD_GUARDED_BY(mutex);
    GapBook gaps FD_GUARDED_BY(mutex);
    std::vector<Vanished> vanished FD_GUARDED_BY(mutex);
    std::vector<absl::Time> last_good FD_GUARDED_BY(mutex);
    std::vector<bool> lapsed FD_GUARDED_BY(mutex);
  };

  static std::vector<std::string> Names(const std::string& all, size_t count, bool alone) {
    std::vector<std::string> names;
    for (size_t i = 0; i < count; ++i) names.push_back(alone ? all : absl::StrCat(all, "/", i));
    return names;
  }

  // What the threads tell each other, of one Prometheus.
  struct Shared {
    std::vector<AlertingRule> rules;
    std::set<std::string> target_labels;
    ClockOffset offset;
    bool measured = false;
  };

  // By the clock of the Prometheus that speaks; Alertmanagers have that of the first one known.
  void Tell(const std::string& source, v1::Event event) FD_EXCLUDES(mutex_, sink_mutex_) {
    event.set_source(source);
    if (const std::optional<ClockOffset> offset = OffsetOf(source); offset.has_value()) {
      *event.mutable_clock_offset() = ToProto(offset->offset);
      *event.mutable_clock_error() = ToProto(offset->error);
    }
    const MutexLock lock(sink_mutex_);
    if (!stop_.stop_requested()) sink_(std::move(event));
  }

  std::optional<ClockOffset> OffsetOf(const std::string& source) FD_EXCLUDES(mutex_) {
    const std::vector<std::string>& names = prometheus_crew_->names;
    const bool one_of_them = std::find(names.begin(), names.end(), source) != names.end();
    const MutexLock lock(mutex_);
    for (size_t i = 0; i < shared_.size(); ++i) {
      if (one_of_them && names[i] != source) continue;
      if (shared_[i].measured) return shared_[i].offset;
    }
    return std::nullopt;
  }

  void TellAlert(const std::string& source, v1::AlertTransition transition) {
    v1::Event event;
    if (transition.source() == v1::ALERT_SOURCE_PROMETHEUS) {
      *event.mutable_source_time() = transition.evaluated_at();
    }
    *event.mutable_alert() = std::move(transition);
    Tell(source, std::move(event));
  }

  void TellGaps(std::vector<v1::MonitorGap> gaps) {
    for (v1::MonitorGap& gap : gaps) {
      const std::string source = gap.source();
      v1::Event event;
      *event.mutable_gap() = std::move(gap);
      Tell(source, std::move(event));
    }
  }

  // Waits until the next look is due; false when the watch ends.
  bool Pause(absl::Duration& due) {
    due = std::max(due + options_.interval, clock_.Boot());
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    const std::stop_token stop = stop_.get_token();
    wake.wait_for(lock, stop, absl::ToChronoNanoseconds(due - clock_.Boot()), [] { return false; });
    return !stop.stop_requested();
  }

  void WatchPrometheus(size_t member) {
    Crew& crew = *prometheus_crew_;
    std::set<std::string> seen_rules;
    absl::Duration due = clock_.Boot();
    std::optional<absl::Duration> next_measure;
    do {
      if (!next_measure.has_value() || clock_.Boot() >= *next_measure) {
        if (Measure(member)) next_measure = clock_.Boot() + options_.clock_interval;
      }
      const absl::StatusOr<std::vector<AlertingRule>> rules = prometheus_[member].Rules();
      if (stop_.stop_requested()) return;
      const MutexLock lock(crew.mutex);
      if (!Answered(crew, member, rules.status())) continue;
      absl::Duration offset;
      {
        const MutexLock shared(mutex_);
        shared_[member].rules = *rules;
        offset = shared_[member].offset.offset;
      }
      CheckRules(crew, member, *rules, offset, seen_rules);
      TellChanges(crew, member,
                  crew.replicas.Feed(member, crew.folds[member].FeedPrometheus(*rules)));
      LapseSilent(crew, member, clock_.Now() + offset);
    } while (Pause(due));
  }

  void WatchAlertmanager(size_t member, const AlertmanagerClient& client) {
    Crew& crew = *alertmanager_crew_;
    absl::Duration due = clock_.Boot();
    do {
      const absl::StatusOr<std::vector<AlertmanagerAlert>> alerts = client.Alerts();
      if (stop_.stop_requested()) return;
      const MutexLock lock(crew.mutex);
      if (!Answered(crew, member, alerts.status())) continue;
      const absl::Time now = crew.last_good[member];
      TellChanges(crew, member,
                  crew.replicas.Feed(member, crew.folds[member].FeedAlertmanager(*alerts, now)));
      LapseSilent(crew, member, now);
    } while (Pause(due));
  }

  bool Answered(Crew& crew, size_t member, const absl::Status& status) FD_REQUIRES(crew.mutex) {
    const absl::Time now = clock_.Now();
    if (!status.ok()) {
      TellGaps(
          crew.gaps.Open(member, "", crew.last_good[member], std::string(status.message()), now));
      return false;
    }
    crew.last_good[member] = now;
    crew.lapsed[member] = false;
    TellGaps(crew.gaps.Close(member, "", now));
    return true;
  }

  // `member` has just answered: what those said last who do not answer any more is old.
  void LapseSilent(Crew& crew, size_t member, absl::Time now) FD_REQUIRES(crew.mutex) {
    for (size_t other = 0; other < crew.names.size(); ++other) {
      if (crew.lapsed[other] || crew.last_good[member] - crew.last_good[other] < kSilentFor) {
        continue;
      }
      crew.lapsed[other] = true;
      crew.folds[other] = AlertFold();  // It says all anew when it is back.
      TellChanges(crew, member, crew.replicas.Lapse(other, now));
    }
  }

  // The clock, and which labels scrape targets have. False where it is to be tried again.
  bool Measure(size_t member) {
    const std::string& source = prometheus_crew_->names[member];
    const absl::StatusOr<ClockOffset> offset = prometheus_[member].MeasureClock(clock_);
    const absl::StatusOr<std::vector<ScrapeTarget>> targets = prometheus_[member].Targets();
    {
      const MutexLock lock(mutex_);
      Shared& shared = shared_[member];
      if (targets.ok()) shared.target_labels = LabelNames(*targets);
      if (offset.ok()) {
        shared.offset = *offset;
        shared.measured = true;
      }
    }
    if (!offset.ok()) return false;
    v1::Event event;
    event.mutable_clock()->set_source(source);
    *event.mutable_clock()->mutable_offset() = ToProto(offset->offset);
    *event.mutable_clock()->mutable_error() = ToProto(offset->error);
    Tell(source, std::move(event));
    return targets.ok();
  }

  // Rules of interest must stay, and be evaluated.
  void CheckRules(Crew& crew, size_t member, const std::vector<AlertingRule>& rules,
                  absl::Duration offset, std::set<std::string>& seen) FD_REQUIRES(crew.mutex) {
    const absl::Time now = clock_.Now();
    std::set<std::string> present;
    for (const AlertingRule& rule : rules) {
      if (options_.names.count(rule.name) == 0) continue;
      present.insert(rule.name);
      seen.insert(rule.name);
      TellGaps(crew.gaps.Close(member, absl::StrCat("gone ", rule.name), now));
      const std::string about = absl::StrCat("stale ", rule.group, " ", rule.name);
      const absl::Duration age = now + offset - rule.last_evaluation;
      if (age <= kMissedEvaluations * rule.interval + kSlack) {
        TellGaps(crew.gaps.Close(member, about, now));
      } else if (rule.last_evaluation == absl::InfinitePast()) {
        TellGaps(crew.gaps.Open(member, about, now,
                                absl::StrCat("rule ", rule.name, " has never been evaluated"),
                                now));
      } else {
        TellGaps(crew.gaps.Open(member, about, rule.last_evaluation - offset,
                                absl::StrCat("rule ", rule.name, " has not been evaluated for ",
                                             firedrill::FormatDuration(age), ", at an interval of ",
                                             firedrill::FormatDuration(rule.interval)),
                                now));
      }
    }
    for (const std::string& name : seen) {
      if (present.count(name) > 0) continue;
      TellGaps(crew.gaps.Open(member, absl::StrCat("gone ", name), now,
                              absl::StrCat("rule ", name, " is not loaded any more"), now));
    }
  }

  void TellChanges(Crew& crew, size_t member, AlertChanges changes) FD_REQUIRES(crew.mutex) {
    const std::string& source = crew.names[member];
    std::vector<Vanished>& vanished = crew.vanished;
    // Alertmanagers' numbers are their own.
    const size_t asked = &crew == &*prometheus_crew_ ? member : 0;
    std::stable_sort(changes.begun.begin(), changes.begun.end(),
                     [](const v1::AlertTransition& a, const v1::AlertTransition& b) {
                       return FromProto(a.evaluated_at()) < FromProto(b.evaluated_at());
                     });
    size_t strangers = 0;
    for (v1::AlertTransition& transition : changes.begun) {
      Forget(transition, vanished);
      if (options_.names.count(transition.alert()) == 0 && ++strangers > kMostStrangers) continue;
      TellAlert(source, std::move(transition));
    }
    for (Vanished& old : vanished) Again(source, asked, old);
    vanished.erase(
        std::remove_if(vanished.begin(), vanished.end(),
                       [](const Vanished& old) { return old.ended.transition.alert().empty(); }),
        vanished.end());
    for (EndedAlert& ended : changes.ended) {
      if (options_.names.count(ended.transition.alert()) == 0 && ++strangers > kMostStrangers) {
        continue;
      }
      const bool present = SeriesPresent(asked, ended);
      TellAlert(source, Settle(ended, present));
      if (!present || ended.rule_gone) vanished.push_back({std::move(ended), std::nullopt});
    }
    if (strangers > kMostStrangers) {
      v1::Event event;
      event.mutable_gap()->set_source(source);
      event.mutable_gap()->set_reason(absl::StrCat(
          strangers - kMostStrangers, " changes of other alerts at once are not told"));
      *event.mutable_gap()->mutable_from() = ToProto(clock_.Now());
      *event.mutable_gap()->mutable_to() = event.gap().from();
      Tell(source, std::move(event));
    }
  }

  // An instance that is active again has not vanished.
  static void Forget(const v1::AlertTransition& active, std::vector<Vanished>& vanished) {
    for (Vanished& old : vanished) {
      const auto& labels = old.ended.transition.labels();
      const bool same = labels.size() == active.labels().size() &&
                        std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
                          const auto found = active.labels().find(label.first);
                          return found != active.labels().end() && found->second == label.second;
                        });
      if (same) old.ended.transition.clear_alert();
    }
  }

  // Tells the end of a vanished alert once its series are back and have been evaluated since.
  void Again(const std::string& source, size_t asked, Vanished& old) {
    v1::AlertTransition& transition = old.ended.transition;
    if (transition.alert().empty()) return;
    std::optional<absl::Time> evaluated;
    for (const AlertingRule& rule : RulesOf(asked, transition.alert())) {
      evaluated = std::max(evaluated.value_or(absl::InfinitePast()), rule.last_evaluation);
    }
    if (!evaluated.has_value()) return;
    old.ended.rule_gone = false;
    *transition.mutable_evaluated_at() =
        ToProto(transition.source() == v1::ALERT_SOURCE_PROMETHEUS ? *evaluated : clock_.Now());
    *transition.mutable_ends_at() = transition.evaluated_at();
    if (!SeriesPresent(asked, old.ended)) {
      old.back_since.reset();
    } else if (!old.back_since.has_value()) {
      old.back_since = *evaluated;
    } else if (*evaluated > *old.back_since) {
      TellAlert(source, Settle(old.ended, true));
      transition.clear_alert();
    }
  }

  // As the Prometheus of that number has them; empty where it has not answered yet.
  std::vector<AlertingRule> RulesOf(size_t prometheus, const std::string& alert)
      FD_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    std::vector<AlertingRule> found;
    if (prometheus >= shared_.size()) return found;
    for (const AlertingRule& rule : shared_[prometheus].rules) {
      if (rule.name == alert) found.push_back(rule);
    }
    return found;
  }

  // Whether some rule of this name found its series in the evaluation in which the alert ended, as
  // the Prometheus of that number says, else another one. False where nobody can say.
  bool SeriesPresent(size_t asked, const EndedAlert& ended) {
    for (size_t i = 0; i < prometheus_.size(); ++i) {
      const absl::StatusOr<bool> present = SeriesPresentAt((asked + i) % prometheus_.size(), ended);
      if (present.ok()) return *present;
    }
    return false;
  }

  absl::StatusOr<bool> SeriesPresentAt(size_t prometheus, const EndedAlert& ended) {
    std::set<std::string> target_labels;
    {
      const MutexLock lock(mutex_);
      target_labels = shared_[prometheus].target_labels;
    }
    // Alertmanager's end is by our clock, and comes after Prometheus': asked as of now.
    std::optional<absl::Time> at;
    if (ended.transition.source() == v1::ALERT_SOURCE_PROMETHEUS) {
      at = FromProto(ended.transition.evaluated_at());
    }
    absl::StatusOr<bool> present = absl::NotFoundError("no rule of this name");
    for (const AlertingRule& rule : RulesOf(prometheus, ended.transition.alert())) {
      if (AsksForAbsence(rule.query)) return true;
      const absl::StatusOr<SeriesPresence> presence =
          LookForSeries(prometheus_[prometheus], rule.query, target_labels, at);
      if (presence.ok() && presence->present()) return true;
      if (presence.ok()) present = false;
    }
    return present;
  }

  const AlertWatchOptions options_;
  const Clock& clock_;
  const Sink sink_;
  std::stop_source stop_;
  std::vector<PrometheusClient> prometheus_;
  // Made before the threads.
  std::optional<Crew> prometheus_crew_;
  std::optional<Crew> alertmanager_crew_;
  Mutex sink_mutex_;
  Mutex mutex_;
  // One for each Prometheus.
  std::vector<Shared> shared_ FD_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AlertWatch>> AlertWatch::Start(const AlertWatchOptions& options,
                                                              const Clock& clock, Sink sink) {
  auto watch = std::make_unique<Watch>(options, clock, std::move(sink));
  RETURN_IF_ERROR(watch->Begin());
  return watch;
}

}  // namespace firedrill
