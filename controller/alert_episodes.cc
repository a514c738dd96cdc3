// Puts the transitions of three sources together. Prometheus comes first, because only it knows
// when an instance began to be pending; then what Alertmanager and the receivers add is matched to
// what it told.
#include "controller/alert_episodes.h"

#include <algorithm>

#include "base/time_proto.h"

namespace firedrill {
namespace {

constexpr char kCanaryLabel[] = "firedrill_canary";

// Alertmanager's startsAt has milliseconds, Prometheus' activeAt nanoseconds.
constexpr absl::Duration kRounding = absl::Milliseconds(2);

struct Building {
  AlertEpisode episode;
  // By the clock of Prometheus.
  std::optional<absl::Time> active_raw;
  std::optional<absl::Time> seen_raw;
  std::optional<absl::Time> ended_raw;
  // The event in which it was first seen firing, for its clock offset.
  const v1::Event* firing_event = nullptr;
  bool open = true;

  absl::Time BeginRaw() const { return active_raw.has_value() ? *active_raw : *episode.firing_raw; }
};

using Labels = google::protobuf::Map<std::string, std::string>;

std::map<std::string, std::string> Copy(const Labels& labels, const std::string& alert) {
  std::map<std::string, std::string> copy(labels.begin(), labels.end());
  copy["alertname"] = alert;
  return copy;
}

bool IsSubset(const std::map<std::string, std::string>& small,
              const std::map<std::string, std::string>& big) {
  return std::all_of(small.begin(), small.end(), [&](const auto& label) {
    auto it = big.find(label.first);
    return it != big.end() && it->second == label.second;
  });
}

void TakeAnnotations(const v1::AlertTransition& alert, AlertEpisode& episode) {
  if (alert.annotations().empty()) return;
  episode.annotations = {alert.annotations().begin(), alert.annotations().end()};
}

const google::protobuf::Timestamp& EvaluationOf(const v1::Event& event) {
  const v1::AlertTransition& alert = event.alert();
  if (alert.has_evaluated_at()) return alert.evaluated_at();
  return event.has_source_time() ? event.source_time() : event.at();
}

class Builder {
 public:
  void TakePrometheus(const v1::Event& event) {
    const v1::AlertTransition& alert = event.alert();
    const auto labels = Copy(alert.labels(), alert.alert());
    switch (alert.state()) {
      case v1::ALERT_STATE_PENDING:
        Open(event, labels);
        return;
      case v1::ALERT_STATE_FIRING: {
        Building& building = Open(event, labels);
        if (building.episode.annotations.empty()) TakeAnnotations(alert, building.episode);
        if (building.episode.seen_firing.has_value()) return;
        building.seen_raw = FromProto(EvaluationOf(event));
        building.episode.firing_raw = building.seen_raw;
        building.episode.seen_firing = Moment(event, EvaluationOf(event));
        building.episode.firing = building.episode.seen_firing;
        building.firing_event = &event;
        return;
      }
      case v1::ALERT_STATE_UNKNOWN:
        if (Building* building = FindOpen(labels); building != nullptr) {
          building->episode.vanished = Moment(event, EvaluationOf(event));
        }
        return;
      case v1::ALERT_STATE_INACTIVE:
      case v1::ALERT_STATE_RESOLVED:
        if (Building* building = FindOpen(labels); building != nullptr) End(event, *building);
        return;
      default:
        return;
    }
  }

  // The controller was away until now, and what is active still is told anew.
  void ForgetPrometheus(const v1::Event& resumed) {
    for (Building& building : buildings_) {
      if (!building.open || building.episode.vanished.has_value()) continue;
      building.episode.vanished = BeginOf(resumed);
      building.episode.unwatched = true;
    }
  }
  void ForgetAlertmanager(const v1::Event& resumed) {
    for (Building& building : buildings_) {
      AlertEpisode& episode = building.episode;
      if (!episode.reached_alertmanager.has_value() || episode.left_alertmanager.has_value()) {
        continue;
      }
      episode.left_alertmanager = Moment(resumed);
    }
  }

  void TakeAlertmanager(const v1::Event& event) {
    const v1::AlertTransition& alert = event.alert();
    const auto labels = Copy(alert.labels(), alert.alert());
    if (alert.state() == v1::ALERT_STATE_FIRING) {
      Building& building = Match(event, labels);
      AlertEpisode& episode = building.episode;
      episode.suppressed = episode.suppressed || alert.suppressed();
      if (!episode.reached_alertmanager.has_value()) {
        episode.reached_alertmanager = Moment(event);
        LeaveEarlier(building, labels, *episode.reached_alertmanager);
      }
      episode.left_alertmanager.reset();
    } else {
      // Resolved, or gone for reasons unknown: whether its series are there is Prometheus' to say.
      // It is the last one that Alertmanager still has.
      for (auto it = buildings_.rbegin(); it != buildings_.rend(); ++it) {
        AlertEpisode& episode = it->episode;
        if (!episode.reached_alertmanager.has_value() || !Same(*it, labels)) continue;
        if (!episode.left_alertmanager.has_value()) episode.left_alertmanager = Moment(event);
        return;
      }
    }
  }

  void TakeWebhook(const v1::Event& event) {
    const v1::AlertTransition& alert = event.alert();
    // When it had been read; on a busy machine it is written down later.
    absl::Time now = FromProto(event.at());
    if (event.has_source_time()) now = std::min(now, FromProto(event.source_time()));
    Building& building = Match(event, Copy(alert.labels(), alert.alert()));
    Delivery& delivery = building.episode.deliveries[alert.receiver()];
    const bool firing = alert.state() == v1::ALERT_STATE_FIRING;
    std::optional<absl::Time>& told = firing ? delivery.firing : delivery.resolved;
    if (told.has_value()) return;
    told = now;
    // The first that was read; a later one has other figures.
    if (firing && building.episode.deliveries.size() == 1) {
      TakeAnnotations(alert, building.episode);
    }
  }

  std::vector<AlertEpisode> Take() {
    std::vector<AlertEpisode> episodes;
    for (Building& building : buildings_) {
      if (building.episode.pending.has_value() || building.episode.firing.has_value()) {
        episodes.push_back(std::move(building.episode));
      }
    }
    std::stable_sort(
        episodes.begin(), episodes.end(),
        [](const AlertEpisode& a, const AlertEpisode& b) { return a.Begin().at < b.Begin().at; });
    return episodes;
  }

 private:
  // Of the time in which nobody watched.
  static Instant BeginOf(const v1::Event& resumed) {
    return {FromProto(resumed.at()) - FromProto(resumed.resumed().gap()), absl::ZeroDuration()};
  }
  static Instant Moment(const v1::Event& event) { return InstantOf(event); }
  static Instant Moment(const v1::Event& event, const google::protobuf::Timestamp& time) {
    return InstantOf(event, time);
  }

  static bool Same(const Building& building, const std::map<std::string, std::string>& labels) {
    if (building.episode.labels.empty()) return building.episode.outer_labels == labels;
    return IsSubset(building.episode.labels, labels);
  }

  Building* FindOpen(const std::map<std::string, std::string>& labels) {
    for (auto it = buildings_.rbegin(); it != buildings_.rend(); ++it) {
      if (it->open && it->episode.labels == labels) return &*it;
    }
    return nullptr;
  }

  // The open episode that began when this transition says; another one where that differs.
  Building& Open(const v1::Event& event, const std::map<std::string, std::string>& labels) {
    const v1::AlertTransition& alert = event.alert();
    const google::protobuf::Timestamp& active =
        alert.has_active_at() ? alert.active_at() : EvaluationOf(event);
    Building* open = FindOpen(labels);
    if (open != nullptr) {
      if (!alert.has_active_at() || open->active_raw == FromProto(active)) {
        open->episode.vanished.reset();
        open->episode.unwatched = false;
        return *open;
      }
      // It ended and began again between two looks.
      open->open = false;
      open->ended_raw = FromProto(active);
      if (!open->episode.vanished.has_value()) open->episode.ended = Moment(event, active);
    }
    Building building;
    building.episode.alert = alert.alert();
    building.episode.labels = labels;
    building.episode.pending = Moment(event, active);
    building.active_raw = FromProto(active);
    buildings_.push_back(std::move(building));
    return buildings_.back();
  }

  void End(const v1::Event& event, Building& building) {
    const Instant when = Moment(event, EvaluationOf(event));
    if (!event.alert().series_present()) {
      // Still open: a later look may find the series again.
      building.episode.vanished = when;
      return;
    }
    building.episode.vanished.reset();
    building.episode.ended = when;
    building.episode.end_seen = true;
    building.ended_raw = FromProto(EvaluationOf(event));
    building.open = false;
  }

  // Alertmanager has one alert of the same labels: what it had before is gone, also where nobody
  // looked in between.
  void LeaveEarlier(const Building& now, const std::map<std::string, std::string>& labels,
                    const Instant& when) {
    for (Building& building : buildings_) {
      AlertEpisode& episode = building.episode;
      if (&building == &now || !Same(building, labels)) continue;
      if (!episode.reached_alertmanager.has_value() || building.BeginRaw() >= now.BeginRaw()) {
        continue;
      }
      if (!episode.left_alertmanager.has_value()) episode.left_alertmanager = when;
    }
  }

  // The episode that an alert of Alertmanager is about: `startsAt` lies between its begin and its
  // end.
  Building& Match(const v1::Event& event, const std::map<std::string, std::string>& labels) {
    const v1::AlertTransition& alert = event.alert();
    const absl::Time starts = FromProto(alert.has_active_at() ? alert.active_at() : event.at());
    Building* best = nullptr;
    for (Building& building : buildings_) {
      if (!Same(building, labels)) continue;
      const absl::Time begin = building.BeginRaw();
      if (begin > starts + kRounding) continue;
      if (building.active_raw.has_value()) {
        if (building.ended_raw.has_value() && *building.ended_raw + kRounding < starts) continue;
      } else if (begin != starts) {
        continue;
      }
      if (best == nullptr || begin > best->BeginRaw()) best = &building;
    }
    if (best == nullptr) {
      Building building;
      building.episode.alert = alert.alert();
      building.episode.outer_labels = labels;
      building.episode.firing =
          alert.has_active_at() ? Moment(event, alert.active_at()) : Moment(event);
      building.episode.seen_firing = building.episode.firing;
      building.episode.firing_raw = starts;
      buildings_.push_back(std::move(building));
      return buildings_.back();
    }
    best->episode.outer_labels = labels;
    Refine(*best, event, starts);
    return *best;
  }

  // `startsAt` is the first evaluation in which it fired, by the clock of Prometheus; Prometheus
  // itself only tells the evaluation after which we asked.
  void Refine(Building& building, const v1::Event& event, absl::Time starts) {
    AlertEpisode& episode = building.episode;
    if (!episode.firing.has_value()) {
      // Prometheus was not asked while it fired.
      episode.firing = Moment(event, event.alert().active_at());
      episode.seen_firing = episode.firing;
      episode.firing_raw = starts;
      return;
    }
    if (building.firing_event == nullptr || starts >= *episode.firing_raw) return;
    const absl::Duration earlier = *episode.firing_raw - starts;
    episode.firing_raw = starts;
    episode.firing->at -= earlier;
  }

  std::vector<Building> buildings_;
};

}  // namespace

std::optional<Instant> AlertEpisode::Resolved() const {
  if (vanished.has_value()) return std::nullopt;
  // Where only Alertmanager saw it, its word is all there is, and it does not know about series.
  if (!ended.has_value()) return std::nullopt;
  if (!reached_alertmanager.has_value()) return ended;
  if (!left_alertmanager.has_value()) return std::nullopt;
  return left_alertmanager->at > ended->at ? left_alertmanager : ended;
}

bool AlertEpisode::HasLabels(const std::vector<Matcher>& matchers) const {
  return (!labels.empty() && MatchesAll(matchers, labels)) ||
         (!outer_labels.empty() && MatchesAll(matchers, outer_labels));
}

std::optional<absl::Time> AlertEpisode::FirstTold() const {
  std::optional<absl::Time> first;
  for (const auto& [receiver, delivery] : deliveries) {
    if (!delivery.firing.has_value()) continue;
    first = std::min(first.value_or(*delivery.firing), *delivery.firing);
  }
  return first;
}

bool Called(const v1::Expectations& expect, const std::string& alert, bool told, bool any_told) {
  if (told) return true;
  bool heard = false, of_this = false;
  for (const v1::AlertExpectation& expected : expect.alerts()) {
    if (!expected.has_notification()) continue;
    heard = true;
    of_this = of_this || expected.alert() == alert;
  }
  return !heard || (any_told && !of_this);
}

bool MeansPage(const v1::Site& site, const AlertEpisode& episode) {
  if (site.spec().pages().empty()) return true;
  return std::any_of(site.spec().pages().begin(), site.spec().pages().end(),
                     [&](const std::string& text) {
                       const auto matcher = ParseMatcher(text);
                       return matcher.ok() && episode.HasLabels({*matcher});
                     });
}

std::vector<AlertEpisode> AlertEpisodes(const std::vector<v1::Event>& history) {
  Builder builder;
  using Take = void (Builder::*)(const v1::Event&);
  const auto each = [&](v1::AlertSource source, Take take, Take forget) {
    for (const v1::Event& event : history) {
      if (event.has_resumed() && forget != nullptr) (builder.*forget)(event);
      if (!event.has_alert() || event.alert().source() != source) continue;
      if (event.alert().labels().contains(kCanaryLabel)) continue;
      (builder.*take)(event);
    }
  };
  each(v1::ALERT_SOURCE_PROMETHEUS, &Builder::TakePrometheus, &Builder::ForgetPrometheus);
  each(v1::ALERT_SOURCE_ALERTMANAGER, &Builder::TakeAlertmanager, &Builder::ForgetAlertmanager);
  each(v1::ALERT_SOURCE_WEBHOOK, &Builder::TakeWebhook, nullptr);
  return builder.Take();
}

}  // namespace firedrill
