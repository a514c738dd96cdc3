// The life of each alert instance as Prometheus, Alertmanager and our receiver saw it, put
// together. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "controller/run_steps.h"
#include "experiment/matcher.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// What one receiver was told of an instance, by our own clock.
struct Delivery {
  std::optional<absl::Time> firing;
  std::optional<absl::Time> resolved;
};

// One instance of an alert, from pending to its end. The same labels may have several, one after
// the other.
struct AlertEpisode {
  std::string alert;
  // Prometheus' labels; Alertmanager's are these and the external ones. Either may be empty.
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> outer_labels;

  // The start of pending; where only Alertmanager saw it, empty.
  std::optional<Instant> pending;
  // The first evaluation in which it fired, as precisely as any source tells.
  std::optional<Instant> firing;
  // The evaluation in which it was first *seen* firing: not before `firing`, and never revised.
  std::optional<Instant> seen_firing;
  // The same two by Prometheus' own clock: to compare evaluations with each other.
  std::optional<absl::Time> firing_raw;

  // No longer active in Prometheus, with its series present.
  std::optional<Instant> ended;
  // It was looked at while it was not active; else it only began another time between two looks.
  bool end_seen = false;
  // Gone from Prometheus while its series were absent: nobody knows whether it ended.
  std::optional<Instant> vanished;
  // That was while the controller was away, and it was not seen again since.
  bool unwatched = false;
  std::optional<Instant> reached_alertmanager;
  std::optional<Instant> left_alertmanager;
  bool suppressed = false;
  std::map<std::string, Delivery> deliveries;
  // What it told whom it paged; of the webhook, else of Prometheus.
  std::map<std::string, std::string> annotations;

  // When it began to be active in any way.
  Instant Begin() const { return pending.has_value() ? *pending : *firing; }
  // When a receiver of ours was first told that it fires.
  std::optional<absl::Time> FirstTold() const;
  // No longer active anywhere, with the series present.
  std::optional<Instant> Resolved() const;
  bool HasLabels(const std::vector<Matcher>& matchers) const;
};

// Whether a person is paged by it, by the site's matchers; without any, every alert counts as one
// that a person sees.
bool MeansPage(const v1::Site& site, const AlertEpisode& episode);

// Whether a page that fired called somebody, as far as we hear of it. Our receiver stands behind
// those that the experiment wants told, perhaps not behind others: of these, silence means
// something only where nothing was delivered at all.
bool Called(const v1::Expectations& expect, const std::string& alert, bool told, bool any_told);

// By time of their begin. Canaries are left out.
std::vector<AlertEpisode> AlertEpisodes(const std::vector<v1::Event>& history);

}  // namespace firedrill
