// A real Prometheus, a real Alertmanager and something to scrape, for tests: quick, private, gone
// at the end.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "firedrill/v1/site.pb.h"
#include "tests/testing/child.h"
#include "tests/testing/http_server.h"

namespace firedrill {

struct MonitoringOptions {
  // A whole rule file, and a whole alertmanager.yml.
  std::string rules;
  std::string alertmanager;
  std::string interval = "250ms";
  // Whether Prometheus knows the Alertmanager.
  bool wired = true;
};

// Scrapes and evaluates every `interval`; external label env="test". The job is "app".
class Monitoring {
 public:
  // Blocks until both answer and the first scrape is done.
  static absl::StatusOr<std::unique_ptr<Monitoring>> Start(const MonitoringOptions& options);
  ~Monitoring();

  // What the scraped application exports: series → value, as `requests_total{code="200"}`.
  void Set(const std::string& series, double value);
  void Remove(const std::string& series);

  std::string prometheus_url() const;
  std::string alertmanager_url() const;
  // A site with both; no webhook.
  v1::SiteSpec Site() const;
  Child& prometheus() { return *prometheus_; }
  Child& alertmanager() { return *alertmanager_; }
  std::string folder() const { return dir_.path(); }

 private:
  Monitoring();
  TempDir dir_;
  std::mutex mutex_;
  std::map<std::string, double> series_;
  HttpServer app_;
  int prometheus_port_ = 0;
  int alertmanager_port_ = 0;
  std::unique_ptr<Child> prometheus_;
  std::unique_ptr<Child> alertmanager_;
};

// Polls until `condition` is true; false when it was not within `patience`.
template <typename Condition>
bool Eventually(Condition condition, absl::Duration patience = absl::Seconds(20)) {
  const absl::Time end = absl::Now() + patience;
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

}  // namespace firedrill
