// Our own receiver: a second webhook_config inside each receiver of Alertmanager that is to be
// proven.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// One alert of one payload.
struct WebhookDelivery {
  // Alertmanager's receiver that sent it, as the payload says.
  std::string receiver;
  // "firing" or "resolved": of this alert, not of its group.
  std::string status;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  std::string fingerprint;
  // The start of firing, by Prometheus' clock.
  absl::Time starts_at;
  // Only for resolved ones.
  std::optional<absl::Time> ends_at;
  // By our clock, when the request had been read.
  absl::Time received_at;
};

// A payload of version 4. Pure.
absl::StatusOr<std::vector<WebhookDelivery>> ParseWebhookPayload(absl::string_view json,
                                                                 absl::Time received_at);

// Source "webhook/<receiver>", body `alert` (firing or resolved); the rest of the event is the
// caller's.
v1::Event DeliveryEvent(const WebhookDelivery& delivery);

// What the alert says, cut to what a report can show.
void SetAnnotations(const std::map<std::string, std::string>& annotations,
                    v1::AlertTransition& transition);

// The label that canary alerts carry, with the run as its value.
inline constexpr char kCanaryLabel[] = "firedrill_canary";
bool IsCanary(const WebhookDelivery& delivery);

// Listens on `webhook.listen`, which must be on loopback, with one thread of its own. Answers 200
// to a POST of a payload on a receiver's path with its bearer token; 401, 404, 405, 413 (over 1
// MiB), 400 otherwise; at most 64 connections, each at most 10 s for a request.
class WebhookServer {
 public:
  // Called on the server's thread, once for each alert of a payload, repetitions included: the same
  // alert comes again whenever its group changes, so drop what (receiver, fingerprint, starts_at,
  // status) names already. The answer is sent afterwards; false answers 503, and Alertmanager sends
  // the payload again.
  using Sink = std::function<bool(const WebhookDelivery&)>;

  // INVALID_ARGUMENT for an address that is not on loopback, ALREADY_EXISTS where someone listens
  // there; the message names the address and says what to do. Port 0 takes a free one.
  static absl::StatusOr<std::unique_ptr<WebhookServer>> Start(const v1::Webhook& webhook,
                                                              const Clock& clock, Sink sink);
  // Closes all connections and waits for the thread: the sink is not called afterwards.
  ~WebhookServer();

  uint16_t port() const;

 private:
  class Impl;
  explicit WebhookServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Where the sink puts canaries and preflight waits for them. Any thread.
class CanaryInbox {
 public:
  void Saw(const WebhookDelivery& delivery) FD_EXCLUDES(mutex_);
  // When the canary of `run` was received; nothing when it did not come within `at_most`.
  std::optional<absl::Time> Wait(const std::string& run, absl::Duration at_most,
                                 std::stop_token stop = {}) FD_EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, absl::Time> seen_ FD_GUARDED_BY(mutex_);
};

}  // namespace firedrill
