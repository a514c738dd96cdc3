// Probe prometheus: evaluates a query. An answer made of old samples is none: Prometheus goes on
// answering with the last sample for five minutes when it can no longer store new ones.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/prometheus.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "experiment/promql.h"
#include "probes/probe.h"

namespace firedrill {
namespace {

// A sample may be this many scrapes old, and a little.
constexpr int kMissedScrapes = 3;
constexpr absl::Duration kSlack = absl::Seconds(2);

// The age of the oldest of the newest samples of each selector, as one number; empty where there is
// nothing to ask.
std::string AgeQuery(const std::string& query) {
  std::string oldest;
  for (const SeriesSelector& selector : ExtractSelectors(query)) {
    const std::string newest = absl::StrCat("max(timestamp(", selector.Text(), "))");
    oldest =
        oldest.empty() ? newest : absl::StrCat("clamp_max(", oldest, ", scalar(", newest, "))");
  }
  return oldest.empty() ? "" : absl::StrCat("time() - ", oldest);
}

// The longest interval at which any target is scraped.
absl::Duration LongestScrape(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  absl::Duration longest;
  try {
    for (const auto& target : json.at("data").at("activeTargets")) {
      const auto interval = ParseDuration(target.at("scrapeInterval").get<std::string>());
      if (interval.ok()) longest = std::max(longest, *interval);
    }
  } catch (const nlohmann::json::exception&) {
  }
  return longest > absl::ZeroDuration() ? longest : absl::Minutes(1);
}

class PrometheusProbe final : public Probe {
 public:
  PrometheusProbe(v1::PrometheusProbe probe, std::vector<v1::MonitoringServer> servers)
      : probe_(std::move(probe)),
        servers_(std::move(servers)),
        age_query_(AgeQuery(probe_.query())) {}

  absl::Status Validate() const override {
    if (servers_.empty()) {
      return absl::FailedPreconditionError(
          "a prometheus probe needs `prometheus.url` in the site file");
    }
    if (probe_.query().empty()) return absl::InvalidArgumentError("the query is empty");
    for (const v1::MonitoringServer& server : servers_) {
      RETURN_IF_ERROR(PrometheusApi::Make(server).status());
    }
    return absl::OkStatus();
  }

  // Of replicas the one that answered last is asked first; another one only where that one has
  // nothing fresh to say. Two that contradict each other are not compared.
  absl::StatusOr<ProbeValues> Read(const ProbeContext& context) override {
    const absl::Duration end = context.clock.Boot() + context.deadline;
    while (replicas_.size() < servers_.size()) {
      ASSIGN_OR_RETURN(PrometheusApi api, PrometheusApi::Make(servers_[replicas_.size()]));
      replicas_.push_back({std::move(api), std::nullopt});
    }
    absl::Status trouble;
    for (size_t i = 0; i < replicas_.size(); ++i) {
      const size_t turn = (preferred_ + i) % replicas_.size();
      const absl::Duration now = context.clock.Boot();
      const absl::Duration share = (end - now) / static_cast<int64_t>(replicas_.size() - i);
      absl::StatusOr<double> value = ReadFrom(replicas_[turn], now + share, context);
      if (value.ok()) {
        preferred_ = turn;
        return ProbeValues{{"value", *value}};
      }
      if (trouble.ok()) trouble = value.status();
    }
    return trouble;
  }

 private:
  struct Replica {
    PrometheusApi api;
    // The most that its samples' age may be.
    std::optional<absl::Duration> permitted;
  };

  absl::StatusOr<double> ReadFrom(Replica& replica, absl::Duration end,
                                  const ProbeContext& context) {
    ASSIGN_OR_RETURN(const PrometheusAnswer answer,
                     replica.api.Query(probe_.query(), end - context.clock.Boot(), context.stop));
    ASSIGN_OR_RETURN(const double value, OnlyValue(answer));
    RETURN_IF_ERROR(CheckAge(replica, end, context));
    return value;
  }

  absl::Status CheckAge(Replica& replica, absl::Duration end, const ProbeContext& context) {
    if (age_query_.empty()) return absl::OkStatus();
    std::optional<absl::Duration>& permitted = replica.permitted;
    if (!permitted.has_value()) {
      ASSIGN_OR_RETURN(const std::string targets,
                       replica.api.Get("/api/v1/targets?state=active", end - context.clock.Boot(),
                                       context.stop));
      permitted = kMissedScrapes * LongestScrape(targets) + kSlack;
    }
    ASSIGN_OR_RETURN(const PrometheusAnswer answer,
                     replica.api.Query(age_query_, end - context.clock.Boot(), context.stop));
    // A part of the expression without series: the expression itself had a value all the same.
    if (answer.series.size() != 1 || std::isnan(answer.series[0].value)) return absl::OkStatus();
    const absl::Duration age = absl::Seconds(answer.series[0].value);
    if (age <= *permitted) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the samples are stale: ", firedrill::FormatDuration(age), " old, more than ",
                     firedrill::FormatDuration(*permitted)));
  }

  const v1::PrometheusProbe probe_;
  const std::vector<v1::MonitoringServer> servers_;
  const std::string age_query_;
  std::vector<Replica> replicas_;
  size_t preferred_ = 0;
};

const ProbeRegistration kPrometheus(
    v1::Probe::kPrometheus,
    [](const v1::Probe& probe, const ProbeSite& site) -> absl::StatusOr<std::unique_ptr<Probe>> {
      return std::make_unique<PrometheusProbe>(probe.prometheus(), site.prometheus);
    });

}  // namespace
}  // namespace firedrill
