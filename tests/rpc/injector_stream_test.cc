// A whole injector and a fleet over a real gRPC stream on a Unix socket.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "base/time_proto.h"
#include "controller/fleet.h"
#include "controller/rpc/service.h"
#include "injector/injector.h"
#include "injector/rpc/grpc_dialler.h"
#include "tests/testing/child.h"
#include "tests/testing/memory_disk.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

class HeldFault final : public Fault {
 public:
  explicit HeldFault(std::atomic<int>& held) : held_(held) {}
  ~HeldFault() override { Release(); }
  absl::Status Validate(const Node&) const override { return absl::OkStatus(); }
  absl::Status Apply(const Context&, Node&, Changes&) override {
    ++held_;
    on_ = true;
    return absl::OkStatus();
  }
  absl::StatusOr<v1::Observation> Observe(const Context&, const Node&) const override {
    v1::Observation observation;
    observation.set_reached(on_);
    return observation;
  }
  void Release() override {
    if (std::exchange(on_, false)) --held_;
  }
  absl::Status ReadBack(const Context&, const Node&) const override { return absl::OkStatus(); }

 private:
  std::atomic<int>& held_;
  bool on_ = false;
};

// A controller's side: a fleet behind a server.
class Controller {
 public:
  explicit Controller(const std::string& address) {
    loop_.Run([&] {
      Fleet::Options options;
      options.ping_every = absl::Milliseconds(200);
      options.halt = [this] { return halt_ ? std::make_optional(Pulled()) : std::nullopt; };
      fleet_ = std::make_unique<Fleet>(loop_, options);
      fleet_->Subscribe("r1", {.report =
                                   [this](v1::Event event) {
                                     events_.push_back(std::move(event));
                                     return true;
                                   },
                               .node = [](const v1::NodeReport&) {}});
    });
    service_ = std::make_unique<InjectorServiceImpl>(loop_, *fleet_);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
  }
  ~Controller() {
    server_->Shutdown(absl::ToChronoTime(absl::Now()));
    server_->Wait();
    loop_.Run([&] { fleet_.reset(); });
    loop_.Stop();
  }
  bool Connected() {
    bool connected = false;
    loop_.Run([&] { connected = !fleet_->Connected().empty(); });
    return connected;
  }
  void Order(v1::Command command, const std::string& verb, uint32_t attempt = 1) {
    v1::CommandId& id = *command.mutable_id();
    id.set_group("local");
    id.set_epoch(1);
    id.set_run("r1");
    id.set_name("leak");
    id.set_verb(verb);
    id.set_attempt(attempt);
    id.set_node("db-1");
    loop_.Run([&] { fleet_->Send(command); });
  }
  // As whoever pulls the lever does it: not on the executor.
  size_t Halt() {
    halt_ = true;
    return fleet_->Halt(Pulled());
  }
  void Release() {
    halt_ = false;
    v1::Halt halt;
    halt.set_released(true);
    fleet_->Halt(halt);
  }
  // The executor does nothing until it is let go.
  void Hang() {
    loop_.Post([this] {
      hangs_ = true;
      while (hangs_) absl::SleepFor(absl::Milliseconds(1));
    });
    while (!hangs_) absl::SleepFor(absl::Milliseconds(1));
  }
  void GoOn() { hangs_ = false; }
  std::string LastRefusal() {
    std::string reason;
    for (const v1::Event& event : Events()) {
      if (event.fault().state() == v1::FAULT_STATE_REFUSED) reason = event.fault().reason();
    }
    return reason;
  }
  std::vector<v1::Event> Events() {
    std::vector<v1::Event> events;
    loop_.Run([&] { events = events_; });
    return events;
  }
  bool Saw(v1::FaultState state) {
    for (const v1::Event& event : Events()) {
      if (event.has_fault() && event.fault().state() == state) return true;
    }
    return false;
  }

 private:
  EventLoop loop_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<InjectorServiceImpl> service_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<v1::Event> events_;
  static v1::Halt Pulled() {
    v1::Halt halt;
    halt.set_by("alice");
    halt.set_reason("a real outage");
    return halt;
  }
  std::atomic<bool> halt_ = false, hangs_ = false;
};

class InjectorStreamTest : public testing::Test {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::off);
    dialler_ = *MakeGrpcDialler(loop_, address_);
    v1::NodeSpec spec;
    spec.set_name("db-1");
    spec.add_profiles()->set_name("leaker");
    Injector::Options options;
    options.instance = "i1";
    loop_.Run([&] {
      injector_ = *Injector::Open(
          {loop_, disk_, *dialler_, spec,
           [this](Executor& executor, Node& node, Journal& journal) {
             return ThreadedFaultsOf(
                 [this](const v1::Fault&) { return std::make_unique<HeldFault>(held_); }, executor,
                 node, journal);
           },
           [](const Node&, const std::shared_ptr<Journal>&, const Clock&) {
             return WorkFactories();
           }},
          options);
      injector_->Start([](Session::End) {});
    });
  }
  void TearDown() override {
    loop_.Run([&] { injector_.reset(); });
    dialler_.reset();
    loop_.Stop();
    EXPECT_EQ(held_, 0);
  }

  static v1::Command Apply() {
    v1::Command command;
    v1::PlannedFault& planned = *command.mutable_apply()->mutable_fault();
    planned.set_name("leak");
    planned.set_node("db-1");
    planned.mutable_fault()->mutable_hold_connections()->set_profile("leaker");
    planned.set_ending(v1::ENDING_DIES_WITH_PROCESS);
    *command.mutable_apply()->mutable_remaining() = ToProto(absl::Seconds(100));
    return command;
  }
  static v1::Command Revert() {
    v1::Command command;
    command.mutable_revert()->set_fault("leak");
    return command;
  }
  static bool Within(const std::function<bool()>& done, absl::Duration limit = kPatience) {
    const absl::Time end = absl::Now() + limit;
    while (!done()) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  TempDir folder_{"fd-stream"};
  const std::string address_ = absl::StrCat("unix:", folder_.path(), "/c");
  std::atomic<int> held_{0};
  MemoryDisk disk_;
  EventLoop loop_;
  std::unique_ptr<Dialler> dialler_;
  std::unique_ptr<Injector> injector_;
};

TEST_F(InjectorStreamTest, AFaultGoesOnAndOffOverTheStream) {
  Controller controller(address_);
  ASSERT_TRUE(Within([&] { return controller.Connected(); }));
  controller.Order(Apply(), "apply");
  ASSERT_TRUE(Within([&] { return controller.Saw(v1::FAULT_STATE_ACTIVE); }));
  EXPECT_EQ(held_, 1);
  // Pings renew: it outlives its lease by far.
  absl::SleepFor(absl::Seconds(6));
  EXPECT_EQ(held_, 1);
  controller.Order(Revert(), "revert");
  ASSERT_TRUE(Within([&] { return controller.Saw(v1::FAULT_STATE_REVERTED); }));
  EXPECT_EQ(held_, 0);
}

TEST_F(InjectorStreamTest, AControllerThatDiesTakesItsFaultsWithItAndHearsOfItLater) {
  {
    Controller controller(address_);
    ASSERT_TRUE(Within([&] { return controller.Connected(); }));
    controller.Order(Apply(), "apply");
    ASSERT_TRUE(Within([&] { return held_ == 1; }));
  }
  const absl::Time dead = absl::Now();
  ASSERT_TRUE(Within([&] { return held_ == 0; }));
  EXPECT_LT(absl::Now() - dead, absl::Seconds(3));
  Controller again(address_);
  ASSERT_TRUE(Within([&] { return again.Saw(v1::FAULT_STATE_REVERTED); }));
}

TEST_F(InjectorStreamTest, TheLeverReachesANodeWhateverTheControllersExecutorDoes) {
  Controller controller(address_);
  ASSERT_TRUE(Within([&] { return controller.Connected(); }));
  v1::Command apply = Apply();
  // Nothing but the lever ends it in the time of this test.
  *apply.mutable_apply()->mutable_fault()->mutable_lease() = ToProto(absl::Seconds(60));
  controller.Order(apply, "apply");
  ASSERT_TRUE(Within([&] { return held_ == 1; }));
  controller.Hang();
  EXPECT_EQ(controller.Halt(), 1u);
  EXPECT_TRUE(Within([&] { return held_ == 0; }));
  controller.GoOn();
  // Its runs are over, and nothing else begins.
  apply.mutable_apply()->mutable_fault()->set_name("another");
  controller.Order(apply, "apply", 2);
  ASSERT_TRUE(Within([&] { return !controller.LastRefusal().empty(); }));
  EXPECT_THAT(controller.LastRefusal(),
              HasSubstr("the controller's emergency lever is pulled (alice: a real outage)"));
  EXPECT_EQ(held_, 0);
}

TEST_F(InjectorStreamTest, ANodeThatRegistersHearsThatTheLeverIsPulledAndWhenItIsNot) {
  Controller controller(address_);
  EXPECT_LE(controller.Halt(), 1u);
  ASSERT_TRUE(Within([&] { return controller.Connected(); }));
  controller.Order(Apply(), "apply");
  ASSERT_TRUE(Within([&] { return !controller.LastRefusal().empty(); }));
  EXPECT_THAT(controller.LastRefusal(), HasSubstr("emergency lever"));
  controller.Release();
  controller.Order(Apply(), "apply", 2);
  EXPECT_TRUE(Within([&] { return held_ == 1; }));
}

TEST_F(InjectorStreamTest, ThousandsOfReportsArriveOnceAndInOrder) {
  Controller controller(address_);
  ASSERT_TRUE(Within([&] { return controller.Connected(); }));
  constexpr int kMany = 15000;
  loop_.Run([&] {
    for (int i = 0; i < kMany; ++i) {
      v1::Report report;
      report.mutable_event()->set_run("r1");
      (*report.mutable_event()->mutable_sample()->mutable_values())["n"] = i;
      injector_->session().Send(std::move(report));
    }
  });
  ASSERT_TRUE(Within([&] { return controller.Events().size() >= kMany; }, absl::Seconds(60)));
  const auto events = controller.Events();
  ASSERT_EQ(events.size(), static_cast<size_t>(kMany));
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(events[i].sample().values().at("n"), i);
}

TEST_F(InjectorStreamTest, ClosingGetsTheLastWordsOut) {
  Controller controller(address_);
  ASSERT_TRUE(Within([&] { return controller.Connected(); }));
  controller.Order(Apply(), "apply");
  ASSERT_TRUE(Within([&] { return held_ == 1; }));
  std::atomic<bool> ended{false};
  loop_.Run([&] { injector_->Close("the end", [&](Session::End) { ended = true; }); });
  ASSERT_TRUE(Within([&] { return ended.load(); }));
  EXPECT_TRUE(Within([&] { return controller.Saw(v1::FAULT_STATE_REVERTED); }));
  EXPECT_TRUE(Within([&] { return !controller.Connected(); }));
}

TEST(GrpcDialler, RefusesWhatItCannotDialSafely) {
  EventLoop loop;
  EXPECT_THAT(std::string(MakeGrpcDialler(loop, "db.example.com:443").status().message()),
              HasSubstr("only a Unix socket (unix:/path) is dialled without TLS"));
  EXPECT_THAT(
      std::string(MakeGrpcDialler(loop, "unix:/" + std::string(107, 'x')).status().message()),
      HasSubstr("at most 107 bytes"));
}

TEST(GrpcDialler, NobodyThereIsALinkThatCloses) {
  EventLoop loop;
  auto dialler = *MakeGrpcDialler(loop, "unix:/tmp/firedrill-nobody-listens-here");
  std::atomic<bool> closed{false};
  auto link = dialler->Dial({.message = [](const v1::ConnectResponse&) {},
                             .closed = [&](absl::Status) { closed = true; }});
  link->Send(v1::ConnectRequest());
  for (int i = 0; i < 2000 && !closed; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(closed);
  link->Send(v1::ConnectRequest());
  link->Close(absl::CancelledError("again"));
  link.reset();
  dialler.reset();
  loop.Stop();
}

}  // namespace
}  // namespace firedrill
