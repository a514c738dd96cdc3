// The real surroundings of runs.
#include "controller/system.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/prometheus.h"
#include "base/status_macros.h"
#include "base/time_proto.h"
#include "controller/alerts/preflight.h"
#include "controller/alerts/watch.h"
#include "controller/alerts/webhook.h"
#include "controller/announcer.h"
#include "probes/runner.h"

namespace firedrill {
namespace {

// Alert states change with evaluations; looking twice a second keeps the error below one of them.
constexpr absl::Duration kLookAtAlertsEvery = absl::Milliseconds(500);
constexpr absl::Duration kFactsWithin = absl::Seconds(5);

// Wall time that does not jump: as the conductor stamps its events.
class AnchoredClock final : public Clock {
 public:
  explicit AnchoredClock(const Clock& clock)
      : clock_(clock), wall_(clock.Now()), boot_(clock.Boot()) {}
  absl::Time Now() const override { return wall_ + (clock_.Boot() - boot_); }
  absl::Duration Boot() const override { return clock_.Boot(); }

 private:
  const Clock& clock_;
  const absl::Time wall_;
  const absl::Duration boot_;
};

std::set<std::string> NamedAlerts(const v1::Expectations& expect) {
  std::set<std::string> names(expect.must_not_fire().begin(), expect.must_not_fire().end());
  names.insert(expect.may_fire().begin(), expect.may_fire().end());
  for (const v1::AlertExpectation& alert : expect.alerts()) {
    names.insert(alert.alert());
    names.insert(alert.before().begin(), alert.before().end());
  }
  return names;
}

}  // namespace

// The webhook server that the runs of this controller share, and who of them wants to hear.
class Deliveries {
 public:
  using Listener = std::function<void(const v1::Event&)>;

  static absl::StatusOr<std::shared_ptr<Deliveries>> Open(const v1::Webhook& webhook, Store& store,
                                                          const Clock& clock) {
    std::shared_ptr<Deliveries> self(new Deliveries(store));
    // The server ends before what its sink uses: it is a member.
    ASSIGN_OR_RETURN(self->server_,
                     WebhookServer::Start(webhook, clock, [raw = self.get()](const auto& delivery) {
                       return raw->Take(delivery);
                     }));
    return self;
  }

  CanaryInbox& canaries() { return canaries_; }

  uint64_t Add(Listener listener) {
    MutexLock lock(mutex_);
    listeners_[++last_] = std::move(listener);
    return last_;
  }
  void Remove(uint64_t id) {
    MutexLock lock(mutex_);
    listeners_.erase(id);
  }

 private:
  explicit Deliveries(Store& store) : store_(store) {}

  bool Take(const WebhookDelivery& delivery) {
    if (IsCanary(delivery)) {
      canaries_.Saw(delivery);
      return true;
    }
    const absl::StatusOr<bool> is_new = store_.Deliver(delivery.receiver, delivery.fingerprint,
                                                       delivery.starts_at, delivery.status);
    if (!is_new.ok()) return false;
    if (!*is_new) return true;
    const v1::Event event = DeliveryEvent(delivery);
    MutexLock lock(mutex_);
    for (const auto& [id, listener] : listeners_) listener(event);
    return true;
  }

  Store& store_;
  CanaryInbox canaries_;
  Mutex mutex_;
  uint64_t last_ FD_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Listener> listeners_ FD_GUARDED_BY(mutex_);
  std::unique_ptr<WebhookServer> server_;
};

namespace {

class SystemSurroundings final : public Surroundings {
 public:
  SystemSurroundings(Executor& executor, const v1::SiteSpec& site,
                     std::shared_ptr<Deliveries> deliveries)
      : executor_(executor),
        site_(site),
        deliveries_(std::move(deliveries)),
        clock_(std::make_shared<AnchoredClock>(executor.clock())) {}
  ~SystemSurroundings() override {
    stop_.request_stop();
    StopProbes();
  }

  void Preflight(const v1::RunCreated& created, Sink sink) override {
    if (Found(created.plan(), v1::Finding::KIND_CIRCUMSTANCE)) {
      // It cannot start: nothing that could be asked would change that, and nobody's pager is tried
      // for it.
      return executor_.Post([plan = created.plan(), sink = std::move(sink)] {
        PreflightResult result;
        AddPlanFindings(plan, result);
        TellPreflight(result, sink);
      });
    }
    PreflightInput input;
    input.experiment = created.experiment();
    input.site = site_;
    input.plan = created.plan();
    // With a defect nothing will be injected: all defects are worth having at once, but not the
    // canary's wait.
    const bool forbidden =
        Found(created.plan(), v1::Finding::KIND_DEFECT) && !created.inject_anyway();
    if (deliveries_ != nullptr && !forbidden) {
      input.wait_for_canary = [deliveries = deliveries_, run = created.plan().run(),
                               stop = stop_.get_token()](absl::Duration at_most) {
        return deliveries->canaries().Wait(run, at_most, stop);
      };
    }
    auto result = std::make_shared<PreflightResult>();
    executor_.Block([input = std::move(input), result, clock = clock_,
                     stop = stop_.get_token()] { *result = RunPreflight(input, *clock, stop); },
                    [result, plan = created.plan(), sink = std::move(sink)] {
                      AddPlanFindings(plan, *result);
                      TellPreflight(*result, sink);
                    });
  }

  void StartProbes(const v1::RunCreated& created, Sink sink) override {
    // Everything below speaks on threads of its own.
    const Sink post = [&executor = executor_, sink = std::move(sink)](v1::Event event) {
      executor.Post([sink, event = std::move(event)] { sink(event); });
    };
    StartRunners(created, post);
    if (deliveries_ != nullptr) {
      listener_ =
          deliveries_->Add([post, &raw = executor_.clock(), clock = clock_](v1::Event event) {
            // By the clock of this run, which does not jump.
            const absl::Duration ago = raw.Now() - FromProto(event.source_time());
            *event.mutable_source_time() = ToProto(clock->Now() - ago);
            post(std::move(event));
          });
    }
    if (!site_.has_prometheus() && site_.alertmanagers().empty()) return;
    AlertWatchOptions options;
    options.site = site_;
    options.interval = kLookAtAlertsEvery;
    options.names = NamedAlerts(created.experiment().spec().expect());
    absl::StatusOr<std::unique_ptr<AlertWatch>> watch = AlertWatch::Start(options, *clock_, post);
    if (watch.ok()) {
      held_->watch = *std::move(watch);
    } else {
      post(Unusable("alerts", watch.status()));
    }
  }

  void StopProbes() override {
    if (listener_ != 0) deliveries_->Remove(std::exchange(listener_, 0));
    // Their ends wait for threads that may be in the middle of a question.
    auto held = std::exchange(held_, std::make_shared<Held>());
    executor_.Block([held, clock = clock_]() mutable { held.reset(); }, nullptr);
  }

  void Announce(const v1::RunCreated& created, const std::string& what, const std::string& detail,
                Sink sink) override {
    const std::vector<std::string> urls(site_.announce().begin(), site_.announce().end());
    if (urls.empty()) return;
    auto reports = std::make_shared<std::vector<v1::Announced>>();
    executor_.Block([urls, created, what, detail,
                     reports] { *reports = AnnounceTo(urls, created, what, detail); },
                    [reports, sink = std::move(sink)] {
                      for (v1::Announced& report : *reports) {
                        v1::Event event;
                        *event.mutable_announced() = std::move(report);
                        sink(std::move(event));
                      }
                    });
  }

 private:
  // What has threads.
  struct Held {
    std::vector<std::unique_ptr<ProbeRunner>> runners;
    std::unique_ptr<AlertWatch> watch;
  };

  static v1::Event Unusable(const std::string& subject, const absl::Status& why) {
    v1::Event event;
    event.mutable_finding()->set_kind(v1::Finding::KIND_OBSERVATION);
    event.mutable_finding()->set_code("cannot-be-asked");
    event.mutable_finding()->set_subject(subject);
    event.mutable_finding()->set_message(std::string(why.message()));
    return event;
  }

  static bool Found(const v1::Plan& plan, v1::Finding::Kind kind) {
    return std::any_of(plan.findings().begin(), plan.findings().end(),
                       [kind](const v1::Finding& finding) { return finding.kind() == kind; });
  }

  // What planning found counts as well; preflight looks at some of it again, later and closer.
  static void AddPlanFindings(const v1::Plan& plan, PreflightResult& result) {
    for (const v1::Finding& finding : plan.findings()) {
      const bool again = std::any_of(
          result.findings.begin(), result.findings.end(), [&finding](const v1::Finding& other) {
            return other.code() == finding.code() && other.subject() == finding.subject();
          });
      if (!again) result.findings.push_back(finding);
    }
  }

  static void TellPreflight(PreflightResult& result, const Sink& sink) {
    v1::PreflightFinished finished;
    for (v1::Finding& finding : result.findings) {
      if (finding.kind() == v1::Finding::KIND_DEFECT) finished.set_defects(finished.defects() + 1);
      if (finding.kind() == v1::Finding::KIND_CIRCUMSTANCE) {
        finished.set_circumstances(finished.circumstances() + 1);
      }
      v1::Event event;
      *event.mutable_finding() = std::move(finding);
      sink(std::move(event));
    }
    if (result.canary.has_value()) {
      v1::Event event;
      *event.mutable_canary() = *std::move(result.canary);
      sink(std::move(event));
    }
    v1::Event event;
    *event.mutable_preflight_finished() = finished;
    sink(std::move(event));
  }

  void StartRunners(const v1::RunCreated& created, const Sink& post) {
    ProbeSite site;
    site.run = created.plan().run();
    for (const v1::Endpoint& endpoint : site_.endpoints())
      site.endpoints[endpoint.name()] = endpoint;
    site.prometheus = PrometheusReplicas(site_);
    for (const v1::PlannedProbe& planned : created.plan().probes()) {
      if (!planned.node().empty()) continue;
      absl::StatusOr<std::unique_ptr<ProbeRunner>> runner =
          ProbeRunner::Start(planned, site, *clock_, [post](v1::Sample sample) {
            v1::Event event;
            *event.mutable_sample() = std::move(sample);
            post(std::move(event));
          });
      if (runner.ok()) {
        held_->runners.push_back(*std::move(runner));
      } else {
        post(Unusable(planned.id(), runner.status()));
      }
    }
  }

  Executor& executor_;
  const v1::SiteSpec site_;
  const std::shared_ptr<Deliveries> deliveries_;
  const std::shared_ptr<AnchoredClock> clock_;
  std::stop_source stop_;
  std::shared_ptr<Held> held_ = std::make_shared<Held>();
  uint64_t listener_ = 0;
};

}  // namespace

System::System(Executor& executor, v1::Site site, Store& store)
    : executor_(executor), site_(std::move(site)), store_(store) {}

System::~System() = default;

absl::StatusOr<std::unique_ptr<Surroundings>> System::MakeSurroundings() {
  std::shared_ptr<Deliveries> deliveries = deliveries_.lock();
  if (deliveries == nullptr && site_.spec().has_webhook()) {
    absl::StatusOr<std::shared_ptr<Deliveries>> opened =
        Deliveries::Open(site_.spec().webhook(), store_, executor_.clock());
    if (!opened.ok()) return Annotate(opened.status(), "starting the webhook receiver");
    deliveries = *std::move(opened);
    deliveries_ = deliveries;
  }
  return std::make_unique<SystemSurroundings>(executor_, site_.spec(), std::move(deliveries));
}

AlertingFacts System::Facts(const v1::Experiment& experiment) const {
  return GatherFacts(experiment, site_.spec(), kFactsWithin);
}

}  // namespace firedrill
