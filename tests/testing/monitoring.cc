// Starts and stops Prometheus and Alertmanager.
#include "tests/testing/monitoring.h"

#include <signal.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/http.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

constexpr char kPrometheus[] = "/usr/bin/prometheus";
constexpr char kAlertmanager[] = "/usr/bin/prometheus-alertmanager";

bool Answers(const std::string& url, const std::string& text = "") {
  const auto response = Fetch({.url = url, .deadline = absl::Milliseconds(500)});
  return response.ok() && response->status == 200 && absl::StrContains(response->body, text);
}

}  // namespace

Monitoring::Monitoring()
    : dir_("firedrill-monitoring"), app_([this](const ServerRequest&) {
        const std::lock_guard lock(mutex_);
        ServerAnswer answer;
        for (const auto& [series, value] : series_) {
          absl::StrAppend(&answer.body, series, " ", value, "\n");
        }
        return answer;
      }) {}

Monitoring::~Monitoring() {
  for (const auto& child : {prometheus_.get(), alertmanager_.get()}) {
    if (child == nullptr) continue;
    child->Signal(SIGCONT);
    child->Stop(SIGKILL);
  }
}

void Monitoring::Set(const std::string& series, double value) {
  const std::lock_guard lock(mutex_);
  series_[series] = value;
}

void Monitoring::Remove(const std::string& series) {
  const std::lock_guard lock(mutex_);
  series_.erase(series);
}

std::string Monitoring::prometheus_url() const {
  return absl::StrCat("http://127.0.0.1:", prometheus_port_);
}
std::string Monitoring::alertmanager_url() const {
  return absl::StrCat("http://127.0.0.1:", alertmanager_port_);
}

v1::SiteSpec Monitoring::Site() const {
  v1::SiteSpec site;
  site.mutable_prometheus()->set_url(prometheus_url());
  site.add_alertmanagers()->set_url(alertmanager_url());
  return site;
}

absl::StatusOr<std::unique_ptr<Monitoring>> Monitoring::Start(const MonitoringOptions& options) {
  std::unique_ptr<Monitoring> self(new Monitoring());
  self->Set("app_up", 1);
  const std::string& dir = self->dir_.path();
  self->prometheus_port_ = FreePort();
  self->alertmanager_port_ = FreePort();
  WriteFile(dir + "/rules.yml", options.rules);
  WriteFile(dir + "/alertmanager.yml", options.alertmanager);
  WriteFile(dir + "/prometheus.yml",
            absl::StrCat(
                "global:\n  scrape_interval: ", options.interval, "\n  scrape_timeout: ",
                options.interval, "\n  evaluation_interval: ", options.interval,
                "\n  external_labels: {env: test}\nrule_files: [rules.yml]\n"
                "scrape_configs:\n  - job_name: app\n    static_configs: [{targets: ['127.0.0.1:",
                self->app_.port(), "']}]\n",
                options.wired ? absl::StrCat("alerting:\n  alertmanagers:\n    - static_configs: "
                                             "[{targets: ['127.0.0.1:",
                                             self->alertmanager_port_, "']}]\n")
                              : ""));
  ASSIGN_OR_RETURN(
      self->alertmanager_,
      Child::Start(
          {.arguments = {kAlertmanager, "--config.file", dir + "/alertmanager.yml",
                         "--storage.path", dir + "/am", "--cluster.listen-address=",
                         absl::StrCat("--web.listen-address=127.0.0.1:", self->alertmanager_port_)},
           .log = dir + "/am.log"}));
  ASSIGN_OR_RETURN(
      self->prometheus_,
      Child::Start(
          {.arguments = {kPrometheus, "--config.file", dir + "/prometheus.yml",
                         "--storage.tsdb.path", dir + "/tsdb",
                         absl::StrCat("--web.listen-address=127.0.0.1:", self->prometheus_port_)},
           .log = dir + "/prometheus.log"}));
  const bool ready = Eventually([&] {
    if (!self->prometheus_->Running() || !self->alertmanager_->Running()) return true;
    return Answers(self->alertmanager_url() + "/-/ready") &&
           Answers(self->prometheus_url() + "/api/v1/query?query=app_up", "\"app_up\"");
  });
  if (ready && self->prometheus_->Running() && self->alertmanager_->Running()) return self;
  return absl::UnavailableError(
      absl::StrCat("the monitoring did not start: ", ReadFile(dir + "/prometheus.log"),
                   ReadFile(dir + "/am.log")));
}

}  // namespace firedrill
