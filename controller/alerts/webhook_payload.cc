// What Alertmanager posts, and who waits for it.
#include <algorithm>

#include "absl/strings/match.h"
#include "base/time_proto.h"
#include "controller/alerts/json.h"
#include "controller/alerts/webhook.h"
#include "experiment/problem.h"

namespace firedrill {
namespace {

using Json = nlohmann::json;

// A payload has the alerts of one group; more than this is no group that a person made.
constexpr size_t kMostAlerts = 10'000;
// How soon a stop is noticed.
constexpr absl::Duration kLook = absl::Milliseconds(50);
// Canaries of old runs that nobody waited for are forgotten.
constexpr size_t kMostCanaries = 1000;
// A transition stands in the history for ever; an annotation may be a whole page.
constexpr size_t kMostAnnotations = 8;
constexpr size_t kLongestAnnotation = 400;

}  // namespace

void SetAnnotations(const std::map<std::string, std::string>& annotations,
                    v1::AlertTransition& transition) {
  for (const auto& [name, value] : annotations) {
    if (transition.annotations_size() >= static_cast<int>(kMostAnnotations)) return;
    std::string text = value.substr(0, kLongestAnnotation);
    std::replace(text.begin(), text.end(), '\n', ' ');
    (*transition.mutable_annotations())[name] = Printable(text);
  }
}

absl::StatusOr<std::vector<WebhookDelivery>> ParseWebhookPayload(absl::string_view text,
                                                                 absl::Time received_at) {
  return ReadJson(text, "the webhook's payload",
                  [&](const Json& json) -> absl::StatusOr<std::vector<WebhookDelivery>> {
                    const std::string receiver = json.at("receiver").get<std::string>();
                    std::vector<WebhookDelivery> deliveries;
                    for (const Json& element : json.at("alerts")) {
                      if (deliveries.size() >= kMostAlerts) {
                        return absl::ResourceExhaustedError("too many alerts in one payload");
                      }
                      WebhookDelivery delivery;
                      delivery.receiver = receiver;
                      element.at("status").get_to(delivery.status);
                      if (delivery.status != "firing" && delivery.status != "resolved") {
                        return absl::InvalidArgumentError(absl::StrCat(
                            "an alert has the unknown status '", delivery.status, "'"));
                      }
                      element.at("labels").get_to(delivery.labels);
                      if (element.contains("annotations")) {
                        element.at("annotations").get_to(delivery.annotations);
                      }
                      delivery.fingerprint = element.value("fingerprint", "");
                      delivery.starts_at = ReadTime(element, "startsAt");
                      const absl::Time ends_at = ReadTime(element, "endsAt");
                      if (delivery.status == "resolved" && ends_at != absl::InfinitePast()) {
                        delivery.ends_at = ends_at;
                      }
                      delivery.received_at = received_at;
                      deliveries.push_back(std::move(delivery));
                    }
                    return deliveries;
                  });
}

v1::Event DeliveryEvent(const WebhookDelivery& delivery) {
  v1::Event event;
  event.set_source(absl::StrCat("webhook/", delivery.receiver));
  *event.mutable_source_time() = ToProto(delivery.received_at);
  v1::AlertTransition& transition = *event.mutable_alert();
  transition.set_source(v1::ALERT_SOURCE_WEBHOOK);
  const auto name = delivery.labels.find("alertname");
  if (name != delivery.labels.end()) transition.set_alert(name->second);
  for (const auto& [label, value] : delivery.labels) (*transition.mutable_labels())[label] = value;
  transition.set_state(delivery.status == "firing" ? v1::ALERT_STATE_FIRING
                                                   : v1::ALERT_STATE_RESOLVED);
  *transition.mutable_active_at() = ToProto(delivery.starts_at);
  if (delivery.ends_at.has_value()) *transition.mutable_ends_at() = ToProto(*delivery.ends_at);
  *transition.mutable_evaluated_at() = ToProto(delivery.received_at);
  transition.set_fingerprint(delivery.fingerprint);
  SetAnnotations(delivery.annotations, transition);
  transition.set_receiver(delivery.receiver);
  return event;
}

bool IsCanary(const WebhookDelivery& delivery) { return delivery.labels.count(kCanaryLabel) > 0; }

void CanaryInbox::Saw(const WebhookDelivery& delivery) {
  const auto run = delivery.labels.find(kCanaryLabel);
  if (run == delivery.labels.end() || delivery.status != "firing") return;
  const MutexLock lock(mutex_);
  if (seen_.size() >= kMostCanaries) seen_.clear();
  seen_.emplace(run->second, delivery.received_at);
  changed_.NotifyAll();
}

std::optional<absl::Time> CanaryInbox::Wait(const std::string& run, absl::Duration at_most,
                                            std::stop_token stop) {
  const absl::Duration end = RealClock().Boot() + at_most;
  const MutexLock lock(mutex_);
  while (true) {
    const auto seen = seen_.find(run);
    if (seen != seen_.end()) return seen->second;
    const absl::Duration left = end - RealClock().Boot();
    if (left <= absl::ZeroDuration() || stop.stop_requested()) return std::nullopt;
    changed_.WaitFor(mutex_, std::min(left, kLook));
  }
}

}  // namespace firedrill
