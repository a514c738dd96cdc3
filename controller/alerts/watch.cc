// One thread a source: each looks, compares, and tells. A source that hangs delays no other.
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
#include "controller/alerts/series.h"

namespace firedrill {
namespace {

// Evaluations that may be missed before a rule counts as not evaluated.
constexpr int kMissedEvaluations = 3;
constexpr absl::Duration kSlack = absl::Seconds(1);
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
    if (options_.site.has_prometheus()) {
      ASSIGN_OR_RETURN(PrometheusClient client,
                       PrometheusClient::Make(options_.site.prometheus(), options_.deadline, stop));
      prometheus_ = std::move(client);
    }
    std::vector<AlertmanagerClient> alertmanagers;
    for (const v1::AlertmanagerServer& server : options_.site.alertmanagers()) {
      ASSIGN_OR_RETURN(AlertmanagerClient client,
                       AlertmanagerClient::Make(server, options_.deadline, stop));
      alertmanagers.push_back(std::move(client));
    }
    if (prometheus_.has_value()) threads_.emplace_back([this] { WatchPrometheus(); });
    for (size_t i = 0; i < alertmanagers.size(); ++i) {
      threads_.emplace_back([this, i, client = std::move(alertmanagers[i])] {
        WatchAlertmanager(absl::StrCat("alertmanager/", i), client);
      });
    }
    return absl::OkStatus();
  }

 private:
  // Gaps of one source that are open, by what they are about.
  class Gaps {
   public:
    Gaps(Watch& watch, std::string source) : watch_(watch), source_(std::move(source)) {}
    void Open(const std::string& about, absl::Time from, const std::string& reason) {
      if (!open_.emplace(about, from).second) return;
      watch_.Tell(source_, Gap(from, reason));
    }
    void Close(const std::string& about) {
      const auto found = open_.find(about);
      if (found == open_.end()) return;
      v1::Event event = Gap(found->second, "");
      *event.mutable_gap()->mutable_to() = ToProto(watch_.clock_.Now());
      open_.erase(found);
      watch_.Tell(source_, std::move(event));
    }

   private:
    v1::Event Gap(absl::Time from, const std::string& reason) const {
      v1::Event event;
      event.mutable_gap()->set_source(source_);
      event.mutable_gap()->set_reason(reason);
      *event.mutable_gap()->mutable_from() = ToProto(from);
      return event;
    }
    Watch& watch_;
    const std::string source_;
    std::map<std::string, absl::Time> open_;
  };

  // An alert that ended while its series were absent: looked at again until they are back.
  struct Vanished {
    EndedAlert ended;
    // The rule's evaluation when its series were first seen again.
    std::optional<absl::Time> back_since;
  };

  // What the threads tell each other.
  struct Shared {
    std::vector<AlertingRule> rules;
    std::set<std::string> target_labels;
    ClockOffset offset;
    bool measured = false;
  };

  void Tell(const std::string& source, v1::Event event) FD_EXCLUDES(mutex_, sink_mutex_) {
    event.set_source(source);
    {
      const MutexLock lock(mutex_);
      if (shared_.measured) {
        *event.mutable_clock_offset() = ToProto(shared_.offset.offset);
        *event.mutable_clock_error() = ToProto(shared_.offset.error);
      }
    }
    const MutexLock lock(sink_mutex_);
    if (!stop_.stop_requested()) sink_(std::move(event));
  }

  void TellAlert(const std::string& source, v1::AlertTransition transition) {
    v1::Event event;
    if (transition.source() == v1::ALERT_SOURCE_PROMETHEUS) {
      *event.mutable_source_time() = transition.evaluated_at();
    }
    *event.mutable_alert() = std::move(transition);
    Tell(source, std::move(event));
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

  void WatchPrometheus() {
    AlertFold fold;
    Gaps gaps(*this, "prometheus");
    std::vector<Vanished> vanished;
    std::set<std::string> seen_rules;
    absl::Time last_good = clock_.Now();
    absl::Duration due = clock_.Boot();
    std::optional<absl::Duration> next_measure;
    do {
      if (!next_measure.has_value() || clock_.Boot() >= *next_measure) {
        if (Measure()) next_measure = clock_.Boot() + options_.clock_interval;
      }
      const absl::StatusOr<std::vector<AlertingRule>> rules = prometheus_->Rules();
      if (stop_.stop_requested()) return;
      if (!rules.ok()) {
        gaps.Open("", last_good, std::string(rules.status().message()));
        continue;
      }
      last_good = clock_.Now();
      {
        const MutexLock lock(mutex_);
        shared_.rules = *rules;
      }
      gaps.Close("");
      CheckRules(*rules, seen_rules, gaps);
      TellChanges("prometheus", fold.FeedPrometheus(*rules), vanished);
    } while (Pause(due));
  }

  void WatchAlertmanager(const std::string& source, const AlertmanagerClient& client) {
    AlertFold fold;
    Gaps gaps(*this, source);
    std::vector<Vanished> vanished;
    absl::Time last_good = clock_.Now();
    absl::Duration due = clock_.Boot();
    do {
      const absl::StatusOr<std::vector<AlertmanagerAlert>> alerts = client.Alerts();
      if (stop_.stop_requested()) return;
      if (!alerts.ok()) {
        gaps.Open("", last_good, std::string(alerts.status().message()));
        continue;
      }
      last_good = clock_.Now();
      gaps.Close("");
      TellChanges(source, fold.FeedAlertmanager(*alerts, last_good), vanished);
    } while (Pause(due));
  }

  // The clock, and which labels scrape targets have. False where it is to be tried again.
  bool Measure() {
    const absl::StatusOr<ClockOffset> offset = prometheus_->MeasureClock(clock_);
    const absl::StatusOr<std::vector<ScrapeTarget>> targets = prometheus_->Targets();
    {
      const MutexLock lock(mutex_);
      if (targets.ok()) shared_.target_labels = LabelNames(*targets);
      if (offset.ok()) {
        shared_.offset = *offset;
        shared_.measured = true;
      }
    }
    if (!offset.ok()) return false;
    v1::Event event;
    event.mutable_clock()->set_source("prometheus");
    *event.mutable_clock()->mutable_offset() = ToProto(offset->offset);
    *event.mutable_clock()->mutable_error() = ToProto(offset->error);
    Tell("prometheus", std::move(event));
    return targets.ok();
  }

  // Rules of interest must stay, and be evaluated.
  void CheckRules(const std::vector<AlertingRule>& rules, std::set<std::string>& seen, Gaps& gaps) {
    absl::Duration offset;
    {
      const MutexLock lock(mutex_);
      offset = shared_.offset.offset;
    }
    const absl::Time now = clock_.Now();
    std::set<std::string> present;
    for (const AlertingRule& rule : rules) {
      if (options_.names.count(rule.name) == 0) continue;
      present.insert(rule.name);
      seen.insert(rule.name);
      gaps.Close(absl::StrCat("gone ", rule.name));
      const std::string about = absl::StrCat("stale ", rule.group, " ", rule.name);
      const absl::Duration age = now + offset - rule.last_evaluation;
      if (age <= kMissedEvaluations * rule.interval + kSlack) {
        gaps.Close(about);
      } else if (rule.last_evaluation == absl::InfinitePast()) {
        gaps.Open(about, now, absl::StrCat("rule ", rule.name, " has never been evaluated"));
      } else {
        gaps.Open(about, rule.last_evaluation - offset,
                  absl::StrCat("rule ", rule.name, " has not been evaluated for ",
                               firedrill::FormatDuration(age), ", at an interval of ",
                               firedrill::FormatDuration(rule.interval)));
      }
    }
    for (const std::string& name : seen) {
      if (present.count(name) > 0) continue;
      gaps.Open(absl::StrCat("gone ", name), now,
                absl::StrCat("rule ", name, " is not loaded any more"));
    }
  }

  void TellChanges(const std::string& source, AlertChanges changes,
                   std::vector<Vanished>& vanished) {
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
    for (Vanished& old : vanished) Again(source, old);
    vanished.erase(
        std::remove_if(vanished.begin(), vanished.end(),
                       [](const Vanished& old) { return old.ended.transition.alert().empty(); }),
        vanished.end());
    for (EndedAlert& ended : changes.ended) {
      if (options_.names.count(ended.transition.alert()) == 0 && ++strangers > kMostStrangers) {
        continue;
      }
      const bool present = SeriesPresent(ended);
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
  void Again(const std::string& source, Vanished& old) {
    v1::AlertTransition& transition = old.ended.transition;
    if (transition.alert().empty()) return;
    std::optional<absl::Time> evaluated;
    for (const AlertingRule& rule : RulesOf(transition.alert())) {
      evaluated = std::max(evaluated.value_or(absl::InfinitePast()), rule.last_evaluation);
    }
    if (!evaluated.has_value()) return;
    old.ended.rule_gone = false;
    *transition.mutable_evaluated_at() =
        ToProto(transition.source() == v1::ALERT_SOURCE_PROMETHEUS ? *evaluated : clock_.Now());
    *transition.mutable_ends_at() = transition.evaluated_at();
    if (!SeriesPresent(old.ended)) {
      old.back_since.reset();
    } else if (!old.back_since.has_value()) {
      old.back_since = *evaluated;
    } else if (*evaluated > *old.back_since) {
      TellAlert(source, Settle(old.ended, true));
      transition.clear_alert();
    }
  }

  std::vector<AlertingRule> RulesOf(const std::string& alert) FD_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    std::vector<AlertingRule> found;
    for (const AlertingRule& rule : shared_.rules) {
      if (rule.name == alert) found.push_back(rule);
    }
    return found;
  }

  // Whether some rule of this name found its series in the evaluation in which the alert ended.
  // False where nobody can say.
  bool SeriesPresent(const EndedAlert& ended) {
    if (!prometheus_.has_value()) return false;
    std::set<std::string> target_labels;
    {
      const MutexLock lock(mutex_);
      target_labels = shared_.target_labels;
    }
    // Alertmanager's end is by our clock, and comes after Prometheus': asked as of now.
    std::optional<absl::Time> at;
    if (ended.transition.source() == v1::ALERT_SOURCE_PROMETHEUS) {
      at = FromProto(ended.transition.evaluated_at());
    }
    for (const AlertingRule& rule : RulesOf(ended.transition.alert())) {
      const absl::StatusOr<SeriesPresence> presence =
          LookForSeries(*prometheus_, rule.query, target_labels, at);
      if (presence.ok() && presence->present()) return true;
    }
    return false;
  }

  const AlertWatchOptions options_;
  const Clock& clock_;
  const Sink sink_;
  std::stop_source stop_;
  std::optional<PrometheusClient> prometheus_;
  Mutex sink_mutex_;
  Mutex mutex_;
  Shared shared_ FD_GUARDED_BY(mutex_);
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
