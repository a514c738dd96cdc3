// A Prometheus or an Alertmanager behind whatever guards it: TLS, logins, tenants.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/http.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

// Copies are cheap; any thread.
class MonitoringServer {
 public:
  // Reads the secrets. `kind` is what messages call it: "Prometheus".
  static absl::StatusOr<MonitoringServer> Make(absl::string_view kind,
                                               const v1::MonitoringServer& server);

  // Any status code is an answer, but for a redirect (FAILED_PRECONDITION) and for a refusal of
  // whoever asks (PERMISSION_DENIED). UNAUTHENTICATED where a certificate is not trusted. These say
  // which keys of the site file to look at. A body is sent as JSON.
  absl::StatusOr<HttpResponse> Ask(const std::string& method, absl::string_view path,
                                   const std::string& body, absl::Duration deadline,
                                   std::stop_token stop = {}) const;
  const std::string& url() const { return url_; }

 private:
  absl::Status Explain(const absl::Status& status) const;
  absl::Status Refused(int status) const;

  std::string kind_;
  std::string url_;
  std::string ca_file_;
  std::string identity_;
  std::map<std::string, std::string> headers_;
  // The keys of the site file by which it says who asks, for messages; never what they hold.
  std::string login_;
};

// It answers, or could, but not to us as the site file says it: nothing that starting it would
// mend.
bool IsRefusal(const absl::Status& status);

}  // namespace firedrill
