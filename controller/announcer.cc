// Tells the site's announce URLs what a run does.
#include "controller/announcer.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/http.h"

namespace firedrill {

std::vector<v1::Announced> AnnounceTo(const std::vector<std::string>& urls,
                                      const v1::RunCreated& created, const std::string& what,
                                      const std::string& detail) {
  const nlohmann::json body = {
      {"source", "firedrill"},
      {"what", what},
      {"detail", detail},
      {"run", created.plan().run()},
      {"experiment", created.experiment().metadata().name()},
      {"environment", created.site().spec().environment()},
      {"owner", created.owner()},
  };
  HttpRequest request;
  request.method = "POST";
  request.headers["Content-Type"] = "application/json";
  request.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::vector<v1::Announced> reports;
  for (const std::string& url : urls) {
    request.url = url;
    const absl::StatusOr<HttpResponse> response = Fetch(request);
    v1::Announced& report = reports.emplace_back();
    report.set_url(url);
    report.set_what(what);
    report.set_delivered(response.ok() && response->status / 100 == 2);
    if (!response.ok()) {
      report.set_reason(std::string(response.status().message()));
    } else if (!report.delivered()) {
      report.set_reason(absl::StrCat("it answered with status ", response->status));
    }
  }
  return reports;
}

}  // namespace firedrill
