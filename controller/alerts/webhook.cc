// The HTTP side of our receiver.
#include "controller/alerts/webhook.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/secret.h"
#include "base/status_macros.h"
#include "experiment/address.h"
#include "identity/http_listener.h"

namespace firedrill {
namespace {

struct Route {
  std::string name;
  std::string token;
};

}  // namespace

class WebhookServer::Impl {
 public:
  Impl(const Clock& clock, Sink sink) : clock_(clock), sink_(std::move(sink)) {}

  absl::Status AddReceivers(const v1::Webhook& webhook) {
    for (const v1::WebhookReceiver& receiver : webhook.receivers()) {
      absl::StatusOr<std::string> token = ResolveSecret(receiver.token());
      if (!token.ok()) {
        return Annotate(token.status(), absl::StrCat("webhook receiver ", receiver.name()));
      }
      receivers_[receiver.path()] = {receiver.name(), *std::move(token)};
    }
    return absl::OkStatus();
  }

  absl::Status Listen(const std::string& text) {
    const absl::StatusOr<Address> where = ParseListenAddress(text);
    if (!where.ok()) return Annotate(where.status(), absl::StrCat("webhook.listen: ", text));
    ASSIGN_OR_RETURN(server_,
                     HttpListener::Start(
                         {.key = "webhook.listen",
                          .host = where->host,
                          .port = where->port,
                          .if_taken = "choose another port in the site file and in Alertmanager's "
                                      "webhook_configs"},
                         [this](const HttpCall& call) { return Take(call); }));
    return absl::OkStatus();
  }

  uint16_t port() const { return server_->port(); }

 private:
  HttpReply Take(const HttpCall& call) {
    const auto receiver = receivers_.find(call.path);
    if (receiver == receivers_.end()) return {.status = 404};
    if (call.method != "POST") return {.status = 405, .headers = {{"Allow", "POST"}}};
    const std::string& token = receiver->second.token;
    if (!token.empty() && !SameSecret(absl::StrCat("Bearer ", token), call.authorization)) {
      return {.status = 401, .headers = {{"WWW-Authenticate", "Bearer"}}};
    }
    const absl::StatusOr<std::vector<WebhookDelivery>> deliveries =
        ParseWebhookPayload(call.body, clock_.Now());
    if (!deliveries.ok()) return {.status = 400};
    bool kept = true;
    for (const WebhookDelivery& delivery : *deliveries) kept = sink_(delivery) && kept;
    return {.status = kept ? 200 : 503};
  }

  const Clock& clock_;
  const Sink sink_;
  std::map<std::string, Route> receivers_;
  std::unique_ptr<HttpListener> server_;
};

WebhookServer::WebhookServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

WebhookServer::~WebhookServer() = default;

absl::StatusOr<std::unique_ptr<WebhookServer>> WebhookServer::Start(const v1::Webhook& webhook,
                                                                    const Clock& clock, Sink sink) {
  auto impl = std::make_unique<Impl>(clock, std::move(sink));
  RETURN_IF_ERROR(impl->AddReceivers(webhook));
  RETURN_IF_ERROR(impl->Listen(webhook.listen()));
  return std::unique_ptr<WebhookServer>(new WebhookServer(std::move(impl)));
}

uint16_t WebhookServer::port() const { return impl_->port(); }

}  // namespace firedrill
