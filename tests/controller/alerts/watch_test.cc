// The watch against a real Prometheus and a real Alertmanager.
#include "controller/alerts/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <mutex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/time_proto.h"
#include "controller/alerts/webhook.h"
#include "tests/testing/monitoring.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr char kRules[] = R"(
groups:
  - name: app
    rules:
      - {alert: TooMany, expr: 'load_sessions > 10', for: 500ms, labels: {severity: page}}
      - {alert: Twin, expr: 'load_sessions > 10', for: 500ms}
      - {alert: Blind, expr: 'absent(never_told) and on () (load_sessions > 10)', for: 500ms}
)";

// What was told, from all threads.
class Told {
 public:
  void operator()(const v1::Event& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  std::vector<v1::Event> all() {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  // The first one like this; nothing where there is none yet.
  std::optional<v1::Event> Alert(const std::string& source, v1::AlertState state,
                                 const std::string& alert = "TooMany") {
    for (const v1::Event& event : all()) {
      if (event.has_alert() && event.source() == source && event.alert().alert() == alert &&
          event.alert().state() == state) {
        return event;
      }
    }
    return std::nullopt;
  }
  bool Saw(const std::string& source, v1::AlertState state, const std::string& alert = "TooMany") {
    return Eventually([&] { return Alert(source, state, alert).has_value(); });
  }
  std::string Text() {
    std::string text;
    for (const v1::Event& event : all()) absl::StrAppend(&text, event.ShortDebugString(), "\n");
    return text;
  }

 private:
  std::mutex mutex_;
  std::vector<v1::Event> events_;
};

class AlertWatchTest : public ::testing::Test {
 protected:
  void Start() {
    v1::Webhook webhook;
    webhook.set_listen("127.0.0.1:0");
    webhook.add_receivers()->set_name("oncall");
    webhook.mutable_receivers(0)->set_path("/oncall");
    auto server =
        WebhookServer::Start(webhook, RealClock(), [this](const WebhookDelivery& delivery) {
          told_(DeliveryEvent(delivery));
          return true;
        });
    ASSERT_TRUE(server.ok()) << server.status();
    webhook_ = *std::move(server);
    auto monitoring = Monitoring::Start(
        {.rules = kRules,
         .alertmanager = absl::StrCat(
             "route: {receiver: oncall, group_by: ['...'], group_wait: 0s, group_interval: 500ms}\n"
             "receivers:\n  - name: oncall\n    webhook_configs: [{url: 'http://127.0.0.1:",
             webhook_->port(), "/oncall'}]\n")});
    ASSERT_TRUE(monitoring.ok()) << monitoring.status();
    monitoring_ = *std::move(monitoring);
    monitoring_->Set("load_sessions", 1);
    AlertWatchOptions options;
    options.site = monitoring_->Site();
    options.interval = absl::Milliseconds(100);
    options.deadline = absl::Milliseconds(400);
    options.clock_interval = absl::Seconds(1);
    options.names = {"TooMany"};
    auto watch = AlertWatch::Start(options, RealClock(), [this](v1::Event event) { told_(event); });
    ASSERT_TRUE(watch.ok()) << watch.status();
    watch_ = *std::move(watch);
  }

  Told told_;
  std::unique_ptr<WebhookServer> webhook_;
  std::unique_ptr<Monitoring> monitoring_;
  std::unique_ptr<AlertWatch> watch_;
};

TEST_F(AlertWatchTest, TellsTheWholeLifeOfAnAlertFromEverySource) {
  ASSERT_NO_FATAL_FAILURE(Start());
  monitoring_->Set("load_sessions", 20);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_FIRING)) << told_.Text();
  ASSERT_TRUE(told_.Saw("alertmanager/0", v1::ALERT_STATE_FIRING)) << told_.Text();
  ASSERT_TRUE(told_.Saw("webhook/oncall", v1::ALERT_STATE_FIRING)) << told_.Text();
  monitoring_->Set("load_sessions", 2);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_INACTIVE)) << told_.Text();
  ASSERT_TRUE(told_.Saw("alertmanager/0", v1::ALERT_STATE_RESOLVED)) << told_.Text();
  ASSERT_TRUE(told_.Saw("webhook/oncall", v1::ALERT_STATE_RESOLVED)) << told_.Text();

  const auto pending = told_.Alert("prometheus", v1::ALERT_STATE_PENDING)->alert();
  const auto firing = told_.Alert("prometheus", v1::ALERT_STATE_FIRING)->alert();
  const auto held = told_.Alert("alertmanager/0", v1::ALERT_STATE_FIRING)->alert();
  EXPECT_EQ(FromProto(pending.active_at()), FromProto(firing.active_at()));
  // The evaluation of the firing is the one that Alertmanager calls startsAt, to the millisecond.
  EXPECT_EQ(FromProto(firing.evaluated_at()) - FromProto(firing.active_at()),
            absl::Milliseconds(500));
  EXPECT_LT(absl::AbsDuration(FromProto(firing.evaluated_at()) - FromProto(held.active_at())),
            absl::Milliseconds(2));
  EXPECT_EQ(held.labels().at("env"), "test");
  EXPECT_EQ(firing.labels().count("env"), 0u);
  EXPECT_TRUE(told_.Alert("prometheus", v1::ALERT_STATE_INACTIVE)->alert().series_present());
  // Two rules of one group in one evaluation: a tie.
  const auto twin = told_.Alert("prometheus", v1::ALERT_STATE_FIRING, "Twin");
  ASSERT_TRUE(twin.has_value());
  EXPECT_EQ(FromProto(twin->alert().evaluated_at()), FromProto(firing.evaluated_at()));

  // The clock is the same machine's: the measured offset is within its bound, and that is small.
  int clocks = 0;
  for (const v1::Event& event : told_.all()) {
    EXPECT_FALSE(event.has_gap()) << event.ShortDebugString();
    if (!event.has_clock()) continue;
    ++clocks;
    EXPECT_LE(absl::AbsDuration(FromProto(event.clock().offset())),
              FromProto(event.clock().error()) + absl::Milliseconds(1));
    EXPECT_LT(FromProto(event.clock().error()), absl::Milliseconds(500));
  }
  EXPECT_GE(clocks, 2);
}

TEST_F(AlertWatchTest, AnAlertThatVanishesWithItsSeriesIsUnknownUntilTheyAreBack) {
  ASSERT_NO_FATAL_FAILURE(Start());
  monitoring_->Set("load_sessions", 20);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_FIRING)) << told_.Text();
  monitoring_->Remove("load_sessions");  // The exporter is blind.
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_UNKNOWN)) << told_.Text();
  ASSERT_TRUE(told_.Saw("alertmanager/0", v1::ALERT_STATE_UNKNOWN)) << told_.Text();
  EXPECT_FALSE(told_.Alert("prometheus", v1::ALERT_STATE_INACTIVE).has_value()) << told_.Text();
  monitoring_->Set("load_sessions", 2);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_INACTIVE)) << told_.Text();
  EXPECT_TRUE(told_.Alert("prometheus", v1::ALERT_STATE_INACTIVE)->alert().series_present());
  ASSERT_TRUE(told_.Saw("alertmanager/0", v1::ALERT_STATE_RESOLVED)) << told_.Text();
}

// That series are gone is what it is about: its end is an end.
TEST_F(AlertWatchTest, AnAlertOnAbsenceDoesNotVanishWithItsSeries) {
  ASSERT_NO_FATAL_FAILURE(Start());
  monitoring_->Set("load_sessions", 20);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_FIRING, "Blind")) << told_.Text();
  monitoring_->Set("load_sessions", 2);
  ASSERT_TRUE(told_.Saw("prometheus", v1::ALERT_STATE_INACTIVE, "Blind")) << told_.Text();
  EXPECT_FALSE(told_.Alert("prometheus", v1::ALERT_STATE_UNKNOWN, "Blind").has_value());
}

TEST_F(AlertWatchTest, SilenceOfASourceIsAGapOnceAndItsEndToo) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const auto gaps = [&](const std::string& source, bool over) {
    std::vector<v1::MonitorGap> found;
    for (const v1::Event& event : told_.all()) {
      if (event.has_gap() && event.gap().source() == source && event.gap().has_to() == over) {
        found.push_back(event.gap());
      }
    }
    return found;
  };
  ASSERT_TRUE(Eventually([&] { return !told_.all().empty(); }));
  monitoring_->prometheus().Signal(SIGSTOP);
  monitoring_->alertmanager().Stop(SIGKILL);
  ASSERT_TRUE(Eventually([&] {
    return !gaps("prometheus", false).empty() && !gaps("alertmanager/0", false).empty();
  })) << told_.Text();
  absl::SleepFor(absl::Milliseconds(600));  // It is told once, not at each look.
  EXPECT_EQ(gaps("prometheus", false).size(), 1u);
  EXPECT_THAT(gaps("prometheus", false)[0].reason(), HasSubstr("no answer within 400ms"));
  EXPECT_EQ(gaps("alertmanager/0", false).size(), 1u);
  monitoring_->prometheus().Signal(SIGCONT);
  ASSERT_TRUE(Eventually([&] { return !gaps("prometheus", true).empty(); })) << told_.Text();
  const v1::MonitorGap over = gaps("prometheus", true)[0];
  EXPECT_GT(FromProto(over.to()) - FromProto(over.from()), absl::Milliseconds(600));
  EXPECT_EQ(FromProto(over.from()), FromProto(gaps("prometheus", false)[0].from()));
  EXPECT_TRUE(gaps("alertmanager/0", true).empty());
}

// A server that says what the test wants, for what a real one does not do on demand.
TEST(AlertWatchGaps, ARuleThatIsNotEvaluatedOrGoneIsAGap) {
  std::atomic<int> mode = 0;
  HttpServer server([&](const ServerRequest& request) -> ServerAnswer {
    const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
    if (absl::StrContains(request.target, "/query")) {
      return {.body =
                  absl::StrCat(R"({"status":"success","data":{"resultType":"scalar","result":[1,")",
                               absl::StrFormat("%.3f", now), "\"]}}")};
    }
    if (absl::StrContains(request.target, "/targets")) {
      return {.body = R"({"status":"success","data":{"activeTargets":[]}})"};
    }
    const absl::Time evaluated =
        absl::Now() - (mode == 1 ? absl::Seconds(5) : absl::ZeroDuration());
    return {.body = absl::StrCat(
                R"({"status":"success","data":{"groups":[{"name":"g","interval":1,"rules":[)",
                mode == 2 ? ""
                          : absl::StrCat(R"({"type":"alerting","name":"A","query":"x","duration":0,
                                "health":"ok","alerts":[],"lastEvaluation":")",
                                         absl::FormatTime(absl::RFC3339_full, evaluated,
                                                          absl::UTCTimeZone()),
                                         "\"}"),
                "]}]}}")};
  });
  Told told;
  AlertWatchOptions options;
  options.site.mutable_prometheus()->set_url(server.url());
  options.interval = absl::Milliseconds(20);
  options.names = {"A"};
  const auto watch = AlertWatch::Start(options, RealClock(), [&](v1::Event event) { told(event); });
  ASSERT_TRUE(watch.ok());
  const auto says = [&](const std::string& text, bool over) {
    return Eventually([&] {
      for (const v1::Event& event : told.all()) {
        if (event.has_gap() && event.gap().has_to() == over &&
            absl::StrContains(event.gap().reason(), text)) {
          return true;
        }
      }
      return false;
    });
  };
  ASSERT_TRUE(Eventually([&] { return !told.all().empty(); }));
  mode = 1;
  EXPECT_TRUE(says("rule A has not been evaluated for 5", false)) << told.Text();
  mode = 0;
  EXPECT_TRUE(says("", true)) << told.Text();
  mode = 2;
  EXPECT_TRUE(says("rule A is not loaded any more", false)) << told.Text();
}

}  // namespace
}  // namespace firedrill
