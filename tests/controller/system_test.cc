// The real surroundings of a run, before servers that only listen: who is asked when nothing may be
// started.
#include "controller/system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "base/mutex.h"
#include "tests/testing/http_server.h"
#include "tests/testing/memory_store.h"

namespace firedrill {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

ServerAnswer Alertmanager(const ServerRequest& request) {
  if (request.target == "/api/v2/status") {
    return {.body = R"({"versionInfo": {"version": "0.25.0"}, "config": {"original":
      "route: {receiver: oncall}\nreceivers: [{name: oncall}]\n"}})"};
  }
  return {.body = "[]"};
}

// A Prometheus without a rule: a defect of the alerting, and no circumstance.
ServerAnswer Prometheus(const ServerRequest& request) {
  const auto data = [](const std::string& json) {
    return ServerAnswer{.body = R"({"status": "success", "data": )" + json + "}"};
  };
  if (absl::StartsWith(request.target, "/api/v1/rules")) return data(R"({"groups": []})");
  if (absl::StartsWith(request.target, "/api/v1/alerts")) return data(R"({"alerts": []})");
  if (absl::StartsWith(request.target, "/api/v1/targets")) return data(R"({"activeTargets": []})");
  if (absl::StartsWith(request.target, "/api/v1/alertmanagers")) {
    return data(R"({"activeAlertmanagers": [], "droppedAlertmanagers": []})");
  }
  if (absl::StartsWith(request.target, "/api/v1/status/config"))
    return data(R"({"yaml": "global: {}"})");
  if (absl::StartsWith(request.target, "/api/v1/status/buildinfo"))
    return data(R"({"version": "2.42.0"})");
  // What is asked is the time.
  const std::string now = absl::StrCat(absl::ToUnixSeconds(absl::Now()));
  return data(absl::StrCat(R"({"resultType": "vector", "result": [{"metric": {}, "value": [)", now,
                           ", \"", now, "\"]}]}"));
}

class SystemTest : public testing::Test {
 protected:
  SystemTest() {
    v1::SiteSpec& spec = *site_.mutable_spec();
    spec.mutable_prometheus()->set_url(prometheus_.url());
    spec.add_alertmanagers()->set_url(alertmanager_.url());
    spec.mutable_webhook()->set_listen("127.0.0.1:0");
    spec.mutable_webhook()->add_receivers()->set_name("oncall");
    spec.mutable_webhook()->mutable_receivers(0)->set_path("/oncall");
    created_.mutable_plan()->set_run("r1");
    v1::AlertExpectation& page =
        *created_.mutable_experiment()->mutable_spec()->mutable_expect()->add_alerts();
    page.set_name("slots-page");
    page.set_alert("SlotsNearLimit");
    page.mutable_notification()->set_receiver("oncall");
    system_ = std::make_unique<System>(loop_, site_, store_);
  }
  ~SystemTest() override {
    loop_.Run([this] { surroundings_.reset(); });
    loop_.Stop();
  }
  void Find(v1::Finding::Kind kind) {
    v1::Finding& finding = *created_.mutable_plan()->add_findings();
    finding.set_kind(kind);
    finding.set_code("planned");
    finding.set_message("found while planning");
  }
  void Preflight() {
    loop_.Run([this] {
      auto surroundings = system_->MakeSurroundings();
      ASSERT_TRUE(surroundings.ok()) << surroundings.status();
      surroundings_ = *std::move(surroundings);
      surroundings_->Preflight(created_, [this](v1::Event event) {
        const bool last = event.has_preflight_finished();
        told_.push_back(std::move(event));
        if (!last) return;
        MutexLock lock(mutex_);
        finished_ = true;
        changed_.NotifyAll();
      });
    });
  }
  // After it nothing more is told.
  bool Finished(absl::Duration within) {
    const absl::Time until = absl::Now() + within;
    MutexLock lock(mutex_);
    while (!finished_ && absl::Now() < until) changed_.WaitFor(mutex_, until - absl::Now());
    return finished_;
  }
  std::vector<std::string> Posted() {
    std::vector<std::string> posted;
    for (const ServerRequest& request : alertmanager_.seen()) {
      if (request.method == "POST") posted.push_back(request.body);
    }
    return posted;
  }

  HttpServer prometheus_{Prometheus};
  HttpServer alertmanager_{Alertmanager};
  v1::Site site_;
  v1::RunCreated created_;
  MemoryStore store_;
  EventLoop loop_;
  std::unique_ptr<System> system_;
  std::unique_ptr<Surroundings> surroundings_;
  std::vector<v1::Event> told_;
  Mutex mutex_;
  CondVar changed_;
  bool finished_ FD_GUARDED_BY(mutex_) = false;
};

TEST_F(SystemTest, ARunThatMayStartAsksAndSendsItsCanary) {
  Preflight();
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (Posted().empty() && absl::Now() < until) absl::SleepFor(absl::Milliseconds(10));
  ASSERT_THAT(Posted(), SizeIs(1));
  EXPECT_THAT(Posted()[0], testing::HasSubstr("\"firedrill_canary\":\"r1\""));
  EXPECT_FALSE(prometheus_.seen().empty());
}

TEST_F(SystemTest, ARunThatCannotStartAsksNobodyAndWaitsForNothing) {
  Find(v1::Finding::KIND_CIRCUMSTANCE);
  Preflight();
  ASSERT_TRUE(Finished(absl::Seconds(2)));
  EXPECT_THAT(prometheus_.seen(), IsEmpty());
  EXPECT_THAT(alertmanager_.seen(), IsEmpty());
  ASSERT_THAT(told_, SizeIs(2));
  EXPECT_EQ(told_[0].finding().code(), "planned");
  EXPECT_EQ(told_[1].preflight_finished().circumstances(), 1u);
}

// All defects are worth knowing at once; the canary's wait is not worth it.
TEST_F(SystemTest, ARunWithADefectLooksForMoreButSendsNoCanary) {
  Find(v1::Finding::KIND_DEFECT);
  Preflight();
  ASSERT_TRUE(Finished(absl::Seconds(8)));
  EXPECT_FALSE(prometheus_.seen().empty());
  EXPECT_THAT(Posted(), IsEmpty());
  EXPECT_GE(told_.back().preflight_finished().defects(), 2u);
}

TEST_F(SystemTest, ADefectThatIsGoneOverByWishGetsItsCanary) {
  Find(v1::Finding::KIND_DEFECT);
  created_.set_inject_anyway(true);
  Preflight();
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (Posted().empty() && absl::Now() < until) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_THAT(Posted(), SizeIs(1));
}

// Preflight's own look may say that it is no use.
TEST_F(SystemTest, ACircumstanceThatIsFoundLaterKeepsTheCanaryBack) {
  site_.mutable_spec()->clear_prometheus();
  system_ = std::make_unique<System>(loop_, site_, store_);
  Preflight();
  ASSERT_TRUE(Finished(absl::Seconds(8)));
  EXPECT_GE(told_.back().preflight_finished().circumstances(), 1u);
  EXPECT_THAT(Posted(), IsEmpty());
}

}  // namespace
}  // namespace firedrill
