// A controller that has gone bad, with a certificate that is good: a thousand commands, each of
// which the node's own file forbids in one way. None may do anything. Over real TLS, to a real
// injector: its session, its policy, its warden; only what would disturb counts instead.
//
//   build/dev/tests/rpc_test --gtest_filter='OutOfPolicy.*'       ($FIREDRILL_SEED repeats one)
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/event_loop.h"
#include "base/time_proto.h"
#include "controller/fleet.h"
#include "controller/rpc/service.h"
#include "identity/rpc/acceptor.h"
#include "identity/rpc/credentials.h"
#include "injector/injector.h"
#include "injector/rpc/grpc_dialler.h"
#include "tests/testing/memory_disk.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kCommands = 1000;
constexpr absl::Duration kPatience = absl::Seconds(60);
// Before gRPC is used by anybody.
const bool kPrepared = (PrepareTls(), true);

// Everything that was done, or begun to be.
std::atomic<int> executed{0};

class CountedFault final : public Fault, public Prepares {
 public:
  absl::Status Validate(const Node&) const override { return absl::OkStatus(); }
  absl::Status Prepare(const Context&, Node&) override { return Count(); }
  absl::Status Apply(const Context&, Node&, Changes&) override { return Count(); }
  absl::StatusOr<v1::Observation> Observe(const Context&, const Node&) const override {
    return v1::Observation();
  }
  void Release() override {}
  absl::Status ReadBack(const Context&, const Node&) const override { return absl::OkStatus(); }

 private:
  // What is applied is prepared first, and is one.
  absl::Status Count() {
    if (!std::exchange(counted_, true)) ++executed;
    return absl::OkStatus();
  }

  bool counted_ = false;
};

v1::NodeSpec SpecOf(const std::string& name) {
  v1::NodeSpec spec;
  spec.set_name(name);
  spec.set_environment("staging");
  for (const char* profile : {"leaker", "admin"}) {
    v1::Profile& added = *spec.add_profiles();
    added.set_name(profile);
    added.mutable_postgresql()->set_host("127.0.0.1");
    added.mutable_postgresql()->set_user(profile);
    added.mutable_postgresql()->set_database("shop");
    added.add_statements()->set_name("count-users");
    v1::RemedyStatement& cure = *added.add_remedy_statements();
    cure.set_name("end-idle");
    cure.set_sql("SELECT 1");
    cure.set_leaves(v1::LEAVES_NOTHING);
  }
  v1::RemedyStatement& lasting = *spec.mutable_profiles(0)->add_remedy_statements();
  lasting.set_name("rebuild");
  lasting.set_sql("SELECT 2");
  lasting.set_leaves(v1::LEAVES_CHANGED);
  for (const char* program : {"restart-shop", "resize-shop"}) {
    v1::Program& added = *spec.add_programs();
    added.set_name(program);
    added.set_path("/bin/true");
    added.set_leaves(program == std::string("resize-shop") ? v1::LEAVES_CHANGED
                                                           : v1::LEAVES_NOTHING);
  }
  spec.add_endpoints("shop");
  v1::Policy& policy = *spec.mutable_policy();
  for (const char* kind : {"holdConnections", "stormQueries", "delayQueries"}) {
    policy.add_faults(kind);
  }
  policy.add_profiles("leaker");
  policy.add_loads("sendRequests");
  policy.add_remedies("runProgram");
  policy.add_remedies("runStatement");
  (*policy.mutable_at_most())["holdConnections.count"] = 50;
  (*policy.mutable_at_most())["stormQueries.sessions"] = 8;
  (*policy.mutable_at_most())["delayQueries.delay"] = 0.5;
  (*policy.mutable_at_most())["sendRequests.rate"] = 100;
  *policy.mutable_max_duration() = ToProto(absl::Minutes(1));
  return spec;
}

// Permits nothing now, whatever the time is.
v1::NodeSpec ClosedSpec() {
  v1::NodeSpec spec = SpecOf("closed");
  v1::Hours& hours = *spec.mutable_policy()->add_hours();
  hours.set_time_zone("UTC");
  hours.set_from("00:00");
  hours.set_to("00:01");
  hours.add_days(static_cast<uint32_t>(
      (absl::ToCivilDay(absl::Now(), absl::UTCTimeZone()) - absl::CivilDay(1970, 1, 1) + 4 + 3) %
      7));
  return spec;
}

// The same node by a file that forbids as little as one can.
v1::NodeSpec LaxSpec() {
  v1::NodeSpec spec = SpecOf("lax");
  spec.clear_environment();
  spec.clear_endpoints();
  spec.clear_policy();
  v1::Policy& policy = *spec.mutable_policy();
  policy.set_free_queries(true);
  policy.set_until_lease(true);
  policy.set_superuser(true);
  policy.set_lasting_remedies(true);
  policy.set_writes(true);
  return spec;
}

// ------------------------------------------------------------------------------------- commands

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  uint32_t Between(uint32_t low, uint32_t high) { return low + Below(high - low + 1); }

 private:
  std::mt19937_64 random_;
};

v1::PlannedFault& FaultOf(v1::Command& command) {
  return command.has_prepare() ? *command.mutable_prepare()->mutable_fault()
                               : *command.mutable_apply()->mutable_fault();
}

// What the node permits; each way of breaking the policy changes one thing of it.
v1::Command FaultCommand(Dice& dice) {
  v1::Command command;
  const auto remaining = ToProto(absl::Seconds(dice.Between(5, 50)));
  if (dice.Below(2) == 0) {
    *command.mutable_prepare()->mutable_remaining() = remaining;
  } else {
    *command.mutable_apply()->mutable_remaining() = remaining;
  }
  v1::PlannedFault& fault = FaultOf(command);
  fault.set_name("leak");
  fault.set_ending(v1::ENDING_DIES_WITH_PROCESS);
  *fault.mutable_duration() = remaining;
  fault.add_environments("staging");
  return command;
}
v1::Command Hold(Dice& dice) {
  v1::Command command = FaultCommand(dice);
  v1::HoldConnections& hold = *FaultOf(command).mutable_fault()->mutable_hold_connections();
  hold.set_profile("leaker");
  hold.set_count(dice.Between(1, 50));
  return command;
}
v1::Command Storm(Dice& dice) {
  v1::Command command = FaultCommand(dice);
  v1::StormQueries& storm = *FaultOf(command).mutable_fault()->mutable_storm_queries();
  storm.set_profile("leaker");
  storm.set_statement("count-users");
  storm.set_sessions(dice.Between(1, 8));
  return command;
}
v1::Command Delay(Dice& dice) {
  v1::Command command = FaultCommand(dice);
  v1::DelayQueries& delay = *FaultOf(command).mutable_fault()->mutable_delay_queries();
  delay.set_profile("leaker");
  *delay.mutable_delay() = ToProto(absl::Milliseconds(dice.Between(1, 500)));
  return command;
}
v1::Command LoadCommand(Dice& dice) {
  v1::Command command;
  v1::StartLoad& start = *command.mutable_start_load();
  start.mutable_load()->set_name("shoppers");
  start.mutable_load()->mutable_load()->mutable_send_requests()->set_endpoint("shop");
  start.mutable_load()->mutable_load()->mutable_send_requests()->set_rate(dice.Between(1, 100));
  *start.mutable_remaining() = ToProto(absl::Seconds(30));
  return command;
}
v1::Command RemedyCommand(Dice&) {
  v1::Command command;
  v1::PlannedRemedy& remedy = *command.mutable_run_remedy()->mutable_remedy();
  remedy.set_name("cure");
  remedy.mutable_remedy()->mutable_run_program()->set_program("restart-shop");
  return command;
}
v1::Command StatementRemedy(Dice& dice) {
  v1::Command command = RemedyCommand(dice);
  v1::RunStatement& run =
      *command.mutable_run_remedy()->mutable_remedy()->mutable_remedy()->mutable_run_statement();
  run.set_profile("leaker");
  run.set_statement("end-idle");
  return command;
}
v1::Command ProbeCommand(Dice&) {
  v1::Command command;
  v1::StartProbe& start = *command.mutable_start_probe();
  start.mutable_probe()->set_id("steadyState/answers");
  start.mutable_probe()->mutable_probe()->mutable_sql()->set_profile("admin");
  start.mutable_probe()->mutable_probe()->mutable_sql()->set_statement("count-users");
  *start.mutable_remaining() = ToProto(absl::Seconds(30));
  return command;
}

struct Way {
  std::string name;
  v1::Command (*permitted)(Dice&);
  void (*forbid)(Dice&, v1::Command&);
  // Another file would not permit it either: nothing of that name is there.
  bool by_any_file = false;
  std::string node = "open";
};

v1::HoldConnections& HoldOf(v1::Command& command) {
  return *FaultOf(command).mutable_fault()->mutable_hold_connections();
}
v1::StormQueries& StormOf(v1::Command& command) {
  return *FaultOf(command).mutable_fault()->mutable_storm_queries();
}
v1::Remedy& RemedyOf(v1::Command& command) {
  return *command.mutable_run_remedy()->mutable_remedy()->mutable_remedy();
}

const std::vector<Way>& Ways() {
  static const auto* const ways = new std::vector<Way>{
      {"fault kind: terminateSessions", FaultCommand,
       [](Dice&, v1::Command& c) {
         auto& kind = *FaultOf(c).mutable_fault()->mutable_terminate_sessions();
         kind.set_profile("leaker");
         kind.set_user("shop");
       }},
      {"fault kind: loseIndex", FaultCommand,
       [](Dice&, v1::Command& c) {
         auto& kind = *FaultOf(c).mutable_fault()->mutable_lose_index();
         kind.set_profile("leaker");
         kind.set_index("public.users_email_idx");
       }},
      {"no kind", FaultCommand, [](Dice&, v1::Command&) {}, /*by_any_file=*/true},
      {"profile of another purpose", Hold,
       [](Dice&, v1::Command& c) { HoldOf(c).set_profile("admin"); }},
      {"profile that is not there", Hold,
       [](Dice& dice, v1::Command& c) {
         HoldOf(c).set_profile(absl::StrCat("profile-", dice.Below(1000)));
       },
       /*by_any_file=*/true},
      {"magnitude: count", Hold,
       [](Dice& dice, v1::Command& c) { HoldOf(c).set_count(dice.Between(51, 100000)); }},
      {"magnitude said in another way: fillTo", Hold,
       [](Dice& dice, v1::Command& c) { HoldOf(c).set_fill_to(dice.Between(1, 100) / 100.0); }},
      {"magnitude said in another way: leaveFree", Hold,
       [](Dice& dice, v1::Command& c) { HoldOf(c).set_leave_free(dice.Below(50)); }},
      {"magnitude left out", Hold, [](Dice&, v1::Command& c) { HoldOf(c).clear_size(); }},
      {"magnitude: sessions", Storm,
       [](Dice& dice, v1::Command& c) { StormOf(c).set_sessions(dice.Between(9, 1000)); }},
      {"magnitude: delay", Delay,
       [](Dice& dice, v1::Command& c) {
         *FaultOf(c).mutable_fault()->mutable_delay_queries()->mutable_delay() =
             ToProto(absl::Milliseconds(dice.Between(501, 600000)));
       }},
      {"magnitude said in another way: uniform", Delay,
       [](Dice&, v1::Command& c) {
         FaultOf(c).mutable_fault()->mutable_delay_queries()->mutable_uniform();
       }},
      {"duration", Hold,
       [](Dice& dice, v1::Command& c) {
         *FaultOf(c).mutable_duration() = ToProto(absl::Seconds(dice.Between(61, 86400)));
       }},
      {"hours", Hold, [](Dice&, v1::Command&) {}, /*by_any_file=*/false, "closed"},
      {"environment", Hold,
       [](Dice& dice, v1::Command& c) {
         FaultOf(c).set_environments(0, dice.Below(2) == 0 ? "lab" : "production");
       }},
      {"permission: untilLease", Hold,
       [](Dice&, v1::Command& c) {
         FaultOf(c).set_on_controller_loss(v1::ON_CONTROLLER_LOSS_UNTIL_LEASE);
       }},
      {"permission: superuser", Hold, [](Dice&, v1::Command& c) { HoldOf(c).set_superuser(true); }},
      {"permission: writes", Storm, [](Dice&, v1::Command& c) { StormOf(c).set_writes(true); }},
      {"statement of a fault", Storm,
       [](Dice& dice, v1::Command& c) {
         StormOf(c).set_statement(absl::StrCat("statement-", dice.Below(1000)));
       },
       /*by_any_file=*/true},
      {"load: rate", LoadCommand,
       [](Dice& dice, v1::Command& c) {
         c.mutable_start_load()->mutable_load()->mutable_load()->mutable_send_requests()->set_rate(
             dice.Between(101, 10000));
       }},
      {"load: endpoint", LoadCommand,
       [](Dice& dice, v1::Command& c) {
         c.mutable_start_load()
             ->mutable_load()
             ->mutable_load()
             ->mutable_send_requests()
             ->set_endpoint(absl::StrCat("endpoint-", dice.Below(1000)));
       }},
      {"remedy kind: callUrl", RemedyCommand,
       [](Dice&, v1::Command& c) {
         RemedyOf(c).mutable_call_url()->set_endpoint("shop");
         RemedyOf(c).mutable_call_url()->set_path("/admin");
         RemedyOf(c).mutable_call_url()->set_leaves(v1::LEAVES_NOTHING);
       }},
      {"program that is not there", RemedyCommand,
       [](Dice& dice, v1::Command& c) {
         RemedyOf(c).mutable_run_program()->set_program(absl::StrCat("program-", dice.Below(1000)));
       },
       /*by_any_file=*/true},
      {"program that leaves the system changed", RemedyCommand,
       [](Dice&, v1::Command& c) {
         RemedyOf(c).mutable_run_program()->set_program("resize-shop");
       }},
      {"statement of a remedy that is not there", StatementRemedy,
       [](Dice& dice, v1::Command& c) {
         RemedyOf(c).mutable_run_statement()->set_statement(
             absl::StrCat("cure-", dice.Below(1000)));
       },
       /*by_any_file=*/true},
      {"statement that leaves the system changed", StatementRemedy,
       [](Dice&, v1::Command& c) {
         RemedyOf(c).mutable_run_statement()->set_statement("rebuild");
       }},
      {"probe: a query of its own", ProbeCommand,
       [](Dice& dice, v1::Command& c) {
         c.mutable_start_probe()->mutable_probe()->mutable_probe()->mutable_sql()->set_query(
             absl::StrCat("SELECT pg_sleep(", dice.Below(1000), ")"));
       }},
      {"probe: statement that is not there", ProbeCommand,
       [](Dice& dice, v1::Command& c) {
         c.mutable_start_probe()->mutable_probe()->mutable_probe()->mutable_sql()->set_statement(
             absl::StrCat("statement-", dice.Below(1000)));
       },
       /*by_any_file=*/true},
      {"probe: endpoint", ProbeCommand,
       [](Dice& dice, v1::Command& c) {
         c.mutable_start_probe()->mutable_probe()->mutable_probe()->mutable_tcp()->set_endpoint(
             absl::StrCat("endpoint-", dice.Below(1000)));
       }},
  };
  return *ways;
}

// ------------------------------------------------------------------------------- the two programs

// What a real one counts instead of doing it. What decides is real: which program and which
// statement there is, and what it leaves.
WorkFactories CountedWork(const Node& node, std::shared_ptr<Journal> journal, const Clock& clock) {
  WorkFactories work = ThreadedWork(node, std::move(journal), clock);
  work.load = [](const v1::StartLoad&, std::function<void(v1::LoadWindow)>) {
    ++executed;
    return absl::StatusOr<WorkFactories::Handle>(std::make_shared<int>(1));
  };
  work.probe = [](const std::string&, const v1::StartProbe&, std::function<void(v1::Sample)>) {
    ++executed;
    return absl::StatusOr<WorkFactories::Handle>(std::make_shared<int>(1));
  };
  work.remedy = [](const std::string&, const v1::RunRemedy& run, std::stop_token) {
    ++executed;
    v1::RemedyReport report;
    report.set_remedy(run.remedy().name());
    report.set_state(v1::REMEDY_STATE_DONE);
    return report;
  };
  return work;
}

class RunningInjector {
 public:
  RunningInjector(const std::string& address, const IdentityFiles& identity, v1::NodeSpec spec) {
    dialler_ = *MakeGrpcDialler(loop_, address, identity);
    Injector::Options options;
    options.instance = "i-" + spec.name();
    loop_.Run([&] {
      injector_ =
          *Injector::Open({loop_, disk_, *dialler_, std::move(spec),
                           [](Executor& executor, Node& node, Journal& journal) {
                             return ThreadedFaultsOf(
                                 [](const v1::Fault&) { return std::make_unique<CountedFault>(); },
                                 executor, node, journal);
                           },
                           CountedWork},
                          options);
      injector_->Start([](Session::End) {});
    });
  }
  ~RunningInjector() {
    loop_.Run([&] { injector_.reset(); });
    dialler_.reset();
    loop_.Stop();
  }

 private:
  MemoryDisk disk_;
  EventLoop loop_;
  std::unique_ptr<Dialler> dialler_;
  std::unique_ptr<Injector> injector_;
};

class OutOfPolicy : public testing::Test {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::off);
    executed = 0;
    folder_ = absl::StrCat(TestFolder(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
    authority_ = *MakeAuthority("shop", absl::Now(), absl::Hours(24));
    Write("ca.crt", authority_.certificate);
    const IdentityFiles own = Issue("controller", "c1", {"127.0.0.1"});
    const auto gate =
        std::make_shared<Gate>("shop", std::make_shared<Revocations>("", own.authority), nullptr);
    loop_.Run([&] { fleet_ = std::make_unique<Fleet>(loop_, Fleet::Options{}); });
    service_ = std::make_unique<InjectorServiceImpl>(loop_, *fleet_);
    grpc::ServerBuilder builder;
    acceptor_ = *Acceptor::Listen("127.0.0.1", 0);
    acceptor_->Attach(builder, ServerTls(own, gate));
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    acceptor_->Start();
    for (v1::NodeSpec spec : {SpecOf("open"), ClosedSpec(), LaxSpec()}) {
      const std::string name = spec.name();
      injectors_.push_back(std::make_unique<RunningInjector>(
          absl::StrCat("127.0.0.1:", acceptor_->port()), Issue("injector", name), std::move(spec)));
    }
    ASSERT_TRUE(Within([&] {
      size_t connected = 0;
      loop_.Run([&] { connected = fleet_->Connected().size(); });
      return connected == injectors_.size();
    }));
  }
  void TearDown() override {
    injectors_.clear();
    if (server_ != nullptr) {
      server_->Shutdown(absl::ToChronoTime(absl::Now()));
      server_->Wait();
    }
    loop_.Run([&] { fleet_.reset(); });
    loop_.Stop();
  }

  void Write(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path) << text;
    chmod(path.c_str(), 0600);
  }
  IdentityFiles Issue(const std::string& role, const std::string& name,
                      const std::vector<std::string>& hosts = {}) {
    const KeyPair pair =
        *MakeCertificate(authority_, {"shop", role, name, ""}, hosts, absl::Now(), absl::Hours(1));
    const std::string stem = absl::StrCat(role, "-", name);
    Write(stem + ".crt", pair.certificate);
    Write(stem + ".key", pair.key);
    return IdentityOf(absl::StrCat(folder_, "/", stem));
  }
  static bool Within(const std::function<bool()>& done) {
    const absl::Time end = absl::Now() + kPatience;
    while (!done()) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  // What came of one command: "refused: why", or what it does.
  void Order(v1::Command command, const std::string& node) {
    const std::string run = absl::StrCat("r", ++ordered_);
    v1::CommandId& id = *command.mutable_id();
    id.set_group(fleet_->options().group);
    id.set_epoch(fleet_->options().epoch);
    id.set_run(run);
    id.set_name("leak");
    id.set_verb(command.has_prepare() ? "prepare" : command.has_apply() ? "apply" : "start");
    id.set_attempt(1);
    id.set_node(node);
    if (command.has_apply() || command.has_prepare()) FaultOf(command).set_node(node);
    FleetListener listener;
    listener.report = [this, run](v1::Event event) {
      answers_[run].push_back(std::move(event));
      return true;
    };
    listener.node = [](const v1::NodeReport&) {};
    loop_.Run([&] {
      fleet_->Subscribe(run, std::move(listener));
      fleet_->Send(command);
    });
  }
  // Why the command was refused; empty where it was not, or not yet.
  std::string Refusal(int number) {
    std::string why;
    loop_.Run([&] {
      for (const v1::Event& event : answers_[absl::StrCat("r", number)]) {
        if (event.fault().state() == v1::FAULT_STATE_REFUSED) why = event.fault().reason();
        if (event.has_load_report() && !event.load_report().running()) {
          why = event.load_report().reason();
        }
        if (event.remedy().state() == v1::REMEDY_STATE_FAILED) why = event.remedy().output();
        if (event.has_sample()) why = event.sample().unknown();
      }
    });
    return why;
  }

  std::string folder_;
  KeyPair authority_;
  EventLoop loop_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<InjectorServiceImpl> service_;
  std::unique_ptr<Acceptor> acceptor_;
  // Goes before the acceptor.
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::unique_ptr<RunningInjector>> injectors_;
  int ordered_ = 0;
  std::map<std::string, std::vector<v1::Event>> answers_;
};

uint64_t Seed() {
  const char* given = std::getenv("FIREDRILL_SEED");
  uint64_t seed = 0;
  return given != nullptr && absl::SimpleAtoi(given, &seed) ? seed : std::random_device()();
}

TEST_F(OutOfPolicy, AThousandCommandsOfAGoodCertificateDoNothing) {
  const uint64_t seed = Seed();
  Dice dice(seed);
  std::cout << "seed " << seed << "\n";
  std::map<std::string, int> tried;
  std::map<int, std::string> ways;
  for (int i = 1; i <= kCommands; ++i) {
    const Way& way = Ways()[dice.Below(static_cast<uint32_t>(Ways().size()))];
    v1::Command command = way.permitted(dice);
    way.forbid(dice, command);
    ways[i] = way.name;
    ++tried[way.name];
    Order(std::move(command), way.node);
  }
  int refused = 0;
  ASSERT_TRUE(Within([&] {
    while (refused < kCommands && !Refusal(refused + 1).empty()) ++refused;
    return refused == kCommands || executed > 0;
  })) << refused
      << " refused; no answer to: " << ways[refused + 1];
  for (int i = 1; i <= refused; ++i) {
    EXPECT_THAT(Refusal(i),
                AnyOf(HasSubstr("; "), HasSubstr("newer than this injector"), HasSubstr("has no ")))
        << ways[i] << " is not told what to do";
  }
  for (const auto& [name, count] : tried) std::printf("  %4d  %s\n", count, name.c_str());
  std::printf("commands out of policy: %d, refused: %d, executed: %d (seed %llu)\n", kCommands,
              refused, executed.load(), static_cast<unsigned long long>(seed));
  EXPECT_EQ(refused, kCommands);
  EXPECT_EQ(executed, 0);
}

// What the count above would show, were anything done.
TEST_F(OutOfPolicy, WhatIsPermittedIsExecuted) {
  Dice dice(1);
  int expected = 0;
  for (const auto make :
       {Hold, Storm, Delay, LoadCommand, RemedyCommand, StatementRemedy, ProbeCommand}) {
    Order(make(dice), "open");
    ++expected;
    ASSERT_TRUE(Within([&] { return executed == expected || !Refusal(ordered_).empty(); }));
    EXPECT_EQ(Refusal(ordered_), "");
  }
  EXPECT_EQ(executed, 7);
}

// Each is refused for the node's own words and for nothing else: a file that forbids less lets the
// same command through.
TEST_F(OutOfPolicy, OnlyThePolicyStandsInTheWay) {
  Dice dice(1);
  int expected = 0;
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    v1::Command command = way.permitted(dice);
    way.forbid(dice, command);
    Order(std::move(command), "lax");
    if (way.by_any_file) {
      ASSERT_TRUE(Within([&] { return !Refusal(ordered_).empty(); }));
    } else {
      ++expected;
      ASSERT_TRUE(Within([&] { return executed == expected; })) << Refusal(ordered_);
    }
    EXPECT_EQ(executed, expected);
  }
  EXPECT_GE(expected, 20);
}

}  // namespace
}  // namespace firedrill
