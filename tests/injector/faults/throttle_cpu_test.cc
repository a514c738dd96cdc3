// throttle_cpu on real processes in real control groups: what it takes from them, what it gives
// back, and what it refuses.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <utime.h>

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "injector/small_file.h"
#include "tests/testing/busy_process.h"
#include "tests/testing/fault_stage.h"
#include "tests/testing/postgres_server.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ThrottleCpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string why = WhyNoCpuGroups();
    if (!why.empty()) GTEST_SKIP() << why;
    hierarchy_ = *FindCpuHierarchy();
    node_.mutable_spec.set_name("db-1");
    subject_ = node_.mutable_spec.add_subjects();
    subject_->set_name("database");
    message_.mutable_throttle_cpu()->set_subject("database");
    message_.mutable_throttle_cpu()->set_cpus(0.05);
  }
  void TearDown() override { changes_.UndoAll(); }

  Cgroup Root() const { return Cgroup(hierarchy_.mount); }
  // Where processes of this test are when nobody has moved them.
  std::string Here() const { return Cgroup::Of(getpid(), hierarchy_)->folder(); }
  std::string OurGroup() const { return Here() + "/firedrill-r1a2b3-slow-db-1"; }

  void Make() { fault_ = *MakeFault(message_); }
  absl::Status Apply() {
    if (fault_ == nullptr) Make();
    const absl::Status valid = fault_->Validate(node_);
    if (!valid.ok()) return valid;
    return fault_->Apply(context(), node_, changes_);
  }
  std::string Refusal() {
    Make();
    return std::string(fault_->Validate(node_).message());
  }
  Context context() const { return StageContext("slow", absl::Seconds(10)); }
  absl::StatusOr<v1::Observation> Observe() { return fault_->Observe(context(), node_); }
  bool Reached() {
    return Within(absl::Seconds(20), [this] {
      absl::SleepFor(absl::Milliseconds(50));
      const auto seen = Observe();
      return seen.ok() && seen->reached();
    });
  }
  // More than the limit, also on a machine that has much else to do.
  static bool UsesMuch(const BusyProcess& busy) {
    return Within(absl::Seconds(60), [&] { return busy.Use(absl::Milliseconds(500)) > 0.1; });
  }
  // Each of them undone, and seen to be.
  void Revert() {
    fault_->Release();
    for (const auto& [result, why] : changes_.UndoAll()) {
      EXPECT_EQ(result, UndoResult::kRestored) << why;
    }
    EXPECT_TRUE(fault_->ReadBack(context(), node_).ok());
  }

  CgroupHierarchy hierarchy_;
  StageNode node_;
  v1::HostSubject* subject_ = nullptr;
  v1::Fault message_;
  StageChanges changes_;
  std::unique_ptr<Fault> fault_;
};

TEST_F(ThrottleCpuTest, HoldsBackAProcessWithItsChildrenAndLetsGo) {
  const BusyProcess busy({.children = 2});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(UsesMuch(busy));
  const absl::Status applied = Apply();
  ASSERT_TRUE(applied.ok()) << applied;
  EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
  ASSERT_TRUE(Reached());
  EXPECT_LT(busy.Use(absl::Seconds(2)), 0.08);
  const auto seen = Observe();
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_DOUBLE_EQ(seen->requested(), 0.05);
  EXPECT_EQ(seen->unit(), "processors");
  EXPECT_GT(seen->real(), 0.01);
  EXPECT_LT(seen->real(), 0.08);
  EXPECT_GT(seen->figures().at("held_back_seconds"), 0);
  EXPECT_THAT(seen->subject(), HasSubstr(absl::StrCat("/", busy.pid(), "-")));
  EXPECT_THAT(seen->detail(), HasSubstr("and 2 children"));
  EXPECT_FALSE(fault_->ReadBack(context(), node_).ok());
  Revert();
  EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
  EXPECT_FALSE(Cgroup(OurGroup()).IsThere());
  EXPECT_TRUE(UsesMuch(busy));
  const auto after = dynamic_cast<TellsAfter*>(fault_.get())->After();
  ASSERT_TRUE(after.has_value());
  EXPECT_THAT(after->detail(), HasSubstr("back in " + Here()));
}

TEST_F(ThrottleCpuTest, ChildrenThatAreBornMeanwhileAreMetAndGoBackToo) {
  const BusyProcess busy({.breeds = true});
  subject_->set_pidfile(busy.pidfile());
  for (int i = 0; i < 20; ++i) {
    fault_.reset();
    ASSERT_TRUE(Apply().ok());
    EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
    Revert();
    EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
    EXPECT_FALSE(Cgroup(OurGroup()).IsThere());
  }
}

// Version 2 shows them where they were, and nothing moves them any more.
TEST_F(ThrottleCpuTest, ChildrenThatNobodyWaitedForAreNoMatter) {
  const BusyProcess busy({.children = 1, .first = [] {
                            if (fork() == 0) _exit(0);
                          }});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Within(absl::Seconds(20), [&] {
    const auto tree = busy.Tree();
    return tree.size() == 3 &&
           std::any_of(tree.begin(), tree.end(), [](const Process& one) { return one.ending; });
  }));
  const absl::Status applied = Apply();
  ASSERT_TRUE(applied.ok()) << applied;
  EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
  Revert();
  EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
}

// What the first had to pass on is not said to have been there before the second.
TEST_F(ThrottleCpuTest, TwoInOneGroupLeaveNothingWhoeverEndsFirst) {
  const auto passed_on = [this] {
    return ReadSmallFile(Here() + "/cgroup.subtree_control").value_or("version 1");
  };
  const std::string before = passed_on();
  const BusyProcess one({}), other({});
  for (const bool first_ends_first : {true, false}) {
    SCOPED_TRACE(first_ends_first);
    subject_->set_pidfile(one.pidfile());
    fault_.reset();
    ASSERT_TRUE(Apply().ok());
    const std::unique_ptr<Fault> first = std::move(fault_);
    subject_->set_pidfile(other.pidfile());
    StageChanges others;
    const auto second = *MakeFault(message_);
    ASSERT_TRUE(second->Apply(StageContext("second"), node_, others).ok());
    EXPECT_NE(one.Groups(), other.Groups());
    for (StageChanges* changes :
         {first_ends_first ? &changes_ : &others, first_ends_first ? &others : &changes_}) {
      for (const auto& [result, why] : changes->UndoAll()) {
        EXPECT_EQ(result, UndoResult::kRestored) << why;
      }
    }
    EXPECT_EQ(one.Groups(), other.Groups());
    EXPECT_EQ(passed_on(), before);
  }
}

// Its limit is set, and nothing came of it: that is not "in force".
TEST_F(ThrottleCpuTest, WhoAsksForLessIsNotHeldBack) {
  const BusyProcess idle({.idle = true});
  subject_->set_pidfile(idle.pidfile());
  ASSERT_TRUE(Apply().ok());
  for (int i = 0; i < 10; ++i) {
    absl::SleepFor(absl::Milliseconds(50));
    const auto seen = Observe();
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_FALSE(seen->reached()) << seen->detail();
    EXPECT_THAT(seen->detail(), HasSubstr("they get no more than that anyhow"));
    EXPECT_LT(seen->real(), 0.1);
  }
  Revert();
}

TEST_F(ThrottleCpuTest, AShareIsOfWhatWasUsedBefore) {
  const BusyProcess busy({.children = 3});
  subject_->set_pidfile(busy.pidfile());
  message_.mutable_throttle_cpu()->set_of_use(0.5);
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  const auto seen = Observe();
  ASSERT_TRUE(seen.ok()) << seen.status();
  const double before = seen->figures().at("processors_before");
  EXPECT_GT(before, 0.02);
  EXPECT_LT(before, static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN)) + 0.1);
  EXPECT_NEAR(seen->requested(), before / 2, 1e-4);
  EXPECT_THAT(seen->detail(), HasSubstr("were used before"));
  Revert();
  // Of next to nothing no share can be set.
  const BusyProcess idle({.idle = true});
  subject_->set_pidfile(idle.pidfile());
  fault_.reset();
  const absl::Status refused = Apply();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("apply it under load"));
  EXPECT_TRUE(changes_.undos.empty());
}

TEST_F(ThrottleCpuTest, AGroupOfItsOwnIsLimitedItselfAndGetsItsOldLimitBack) {
  const TestGroup group(Root(), UniqueGroupName());
  const BusyProcess busy({.children = 1, .first = [&] { group->Take(getpid()).IgnoreError(); }});
  ASSERT_TRUE(Within(absl::Seconds(20),
                     [&] { return busy.Groups() == std::vector<std::string>{group->folder()}; }));
  const CpuLimit before{1'500'000, 1'000'000};
  for (const bool limited : {false, true}) {
    SCOPED_TRACE(limited);
    if (limited && group->version() == 1) {
      ASSERT_TRUE(WriteSmallFile(group->folder() + "/cpu.cfs_period_us", "1000000").ok());
    }
    if (limited) {
      ASSERT_TRUE(group->SetLimit(before).ok());
    }
    const std::string old = group->LimitText(*group->Limit());
    for (const bool by_group : {false, true}) {
      if (by_group) {
        subject_->set_cgroup("/" + group->folder().substr(Root().folder().size() + 1));
      } else {
        subject_->set_pidfile(busy.pidfile());
      }
      fault_.reset();
      const absl::Status applied = Apply();
      ASSERT_TRUE(applied.ok()) << applied;
      EXPECT_THAT(busy.Groups(), ElementsAre(group->folder()));
      EXPECT_DOUBLE_EQ(group->Limit()->cpus(), 0.05);
      ASSERT_TRUE(Reached());
      Revert();
      EXPECT_EQ(group->LimitText(*group->Limit()), old);
    }
  }
}

TEST_F(ThrottleCpuTest, WhatSomebodyElseSetsMeanwhileIsTheirs) {
  const TestGroup group(Root(), UniqueGroupName());
  const BusyProcess busy({.first = [&] { group->Take(getpid()).IgnoreError(); }});
  subject_->set_cgroup("/" + group->folder().substr(Root().folder().size() + 1));
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !group->Members()->empty(); }));
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  ASSERT_TRUE(group->SetLimit({80'000, 100'000}).ok());
  EXPECT_TRUE(absl::IsAborted(Observe().status())) << Observe().status();
  const auto results = changes_.UndoAll();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].first, UndoResult::kSuperseded) << results[0].second;
  EXPECT_DOUBLE_EQ(group->Limit()->cpus(), 0.8);
}

TEST_F(ThrottleCpuTest, OurGroupThatSomebodyElseHasLimitedAnewIsTheirs) {
  const BusyProcess busy({});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Apply().ok());
  const Cgroup ours(OurGroup());
  ASSERT_TRUE(ours.SetLimit({80'000, 100'000}).ok());
  EXPECT_THAT(std::string(Observe().status().message()), HasSubstr("somebody else has changed"));
  Undo undo = changes_.undos.back();
  std::string why;
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kSuperseded) << why;
  EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
  // Lifted is half undone: the rest follows.
  ASSERT_TRUE(ours.SetLimit({std::nullopt, 100'000}).ok());
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kRestored) << why;
  EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
  EXPECT_EQ(RunUndo(undo, &why), UndoResult::kUntouched) << why;
  changes_.undos.clear();
}

// Nobody is held back, and the group is named: a person must look at what is in it.
TEST_F(ThrottleCpuTest, AGroupInOursKeepsItFromBeingRemovedButNotFromBeingLifted) {
  const BusyProcess busy({});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Apply().ok());
  {
    const TestGroup theirs(Cgroup(OurGroup()), "theirs");
    std::string why;
    EXPECT_EQ(RunUndo(changes_.undos.back(), &why), UndoResult::kFailed);
    EXPECT_THAT(why, HasSubstr("/theirs"));
    EXPECT_FALSE(Cgroup(OurGroup()).Limit()->quota_us.has_value());
    EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
  }
  Revert();
}

TEST_F(ThrottleCpuTest, EndsWhenTheProcessesHave) {
  BusyProcess busy({.children = 1});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Apply().ok());
  ASSERT_TRUE(Reached());
  busy.Kill();
  ASSERT_TRUE(Within(absl::Seconds(10), [this] { return absl::IsAborted(Observe().status()); }));
  EXPECT_THAT(std::string(Observe().status().message()), HasSubstr("has ended"));
  Revert();
  EXPECT_FALSE(Cgroup(OurGroup()).IsThere());
}

// Whichever way a node names it.
TEST_F(ThrottleCpuTest, TheSameGroupIsOneSubject) {
  const TestGroup group(Root(), UniqueGroupName());
  const BusyProcess own({.idle = true, .first = [&] { group->Take(getpid()).IgnoreError(); }});
  const BusyProcess other({.idle = true});
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !group->Members()->empty(); }));
  const auto named = [this] {
    Make();
    return *dynamic_cast<NamesSubject&>(*fault_).Subject(context(), node_);
  };
  subject_->set_pidfile(own.pidfile());
  const v1::Subject by_process = named();
  subject_->set_cgroup("/" + group->folder().substr(Root().folder().size() + 1));
  EXPECT_EQ(named().identity(), by_process.identity());
  EXPECT_EQ(named().family(), "cgroup");
  EXPECT_THAT(named().words(), HasSubstr(" on db-1"));
  subject_->set_pidfile(other.pidfile());
  EXPECT_NE(named().identity(), by_process.identity());
  EXPECT_EQ(named().family(), "process");
}

TEST_F(ThrottleCpuTest, TwoFaultsDoNotHoldBackTheSame) {
  const TestGroup group(Root(), UniqueGroupName());
  const BusyProcess moved({});
  const BusyProcess own({.first = [&] { group->Take(getpid()).IgnoreError(); }});
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !group->Members()->empty(); }));
  for (const BusyProcess* busy : {&moved, &own}) {
    subject_->set_pidfile(busy->pidfile());
    fault_.reset();
    ASSERT_TRUE(Apply().ok());
    StageChanges others;
    message_.mutable_throttle_cpu()->set_cpus(0.02);
    const auto second = *MakeFault(message_);
    EXPECT_THAT(std::string(second->Apply(StageContext("second"), node_, others).message()),
                HasSubstr("already"));
    EXPECT_TRUE(others.undos.empty());
    message_.mutable_throttle_cpu()->set_cpus(0.05);
    Revert();
  }
}

TEST_F(ThrottleCpuTest, AUnitIsFoundByTheGroupThatSystemdGivesIt) {
  const auto units = FindUnitHierarchy();
  if (!units.ok() || units->version == 2) GTEST_SKIP() << "one hierarchy for both";
  const std::string unit = UniqueGroupName() + ".service";
  const TestGroup its(Cgroup(units->mount), unit);
  subject_->set_unit(unit);
  EXPECT_THAT(Refusal(), HasSubstr("has no process"));
  {
    const BusyProcess busy({.children = 1, .first = [&] { its->Take(getpid()).IgnoreError(); }});
    ASSERT_TRUE(Within(absl::Seconds(20), [&] { return its->Members()->size() == 2; }));
    // Systemd counts no processor time for it: it shares its group there.
    ASSERT_TRUE(Apply().ok());
    EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
    ASSERT_TRUE(Reached());
    Revert();
    EXPECT_THAT(busy.Groups(), ElementsAre(Here()));
    // Now it does.
    const TestGroup counted(Root(), unit);
    for (const Process& process : busy.Tree()) ASSERT_TRUE(counted->Take(process.pid).ok());
    fault_.reset();
    ASSERT_TRUE(Apply().ok());
    EXPECT_DOUBLE_EQ(counted->Limit()->cpus(), 0.05);
    ASSERT_TRUE(Reached());
    Revert();
    EXPECT_FALSE(counted->Limit()->quota_us.has_value());
  }
  subject_->set_unit("fdtest-nobody.service");
  EXPECT_THAT(Refusal(), HasSubstr("no unit fdtest-nobody.service is running here"));
}

TEST_F(ThrottleCpuTest, AUnitOfVersion2IsLimitedItself) {
  if (Root().version() == 1) GTEST_SKIP() << "version 1 has units in a hierarchy of their own";
  const std::string unit = UniqueGroupName() + ".service";
  const TestGroup its(Root(), unit);
  subject_->set_unit(unit);
  EXPECT_THAT(Refusal(), HasSubstr("has no process"));
  const BusyProcess busy({.children = 1, .first = [&] { its->Take(getpid()).IgnoreError(); }});
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return its->Members()->size() == 2; }));
  ASSERT_TRUE(Apply().ok());
  EXPECT_THAT(busy.Groups(), ElementsAre(its->folder()));
  EXPECT_DOUBLE_EQ(its->Limit()->cpus(), 0.05);
  ASSERT_TRUE(Reached());
  Revert();
  EXPECT_FALSE(its->Limit()->quota_us.has_value());
}

TEST_F(ThrottleCpuTest, AListenerIsFoundByItsPort) {
  const int port = FreePort();
  subject_->set_port(port);
  EXPECT_THAT(Refusal(), HasSubstr(absl::StrCat("nobody listens on the TCP port ", port)));
  const BusyProcess busy(
      {.children = 1, .first = [port] {
         const int listener = socket(AF_INET, SOCK_STREAM, 0);
         sockaddr_in address{};
         address.sin_family = AF_INET;
         address.sin_port = htons(static_cast<uint16_t>(port));
         address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
         if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
             listen(listener, 4) != 0) {
           _exit(1);
         }
       }});
  // Its child has the socket, too: the one above is meant.
  ASSERT_TRUE(
      Within(absl::Seconds(20), [&] { return busy.Tree().size() == 2 && Refusal().empty(); }));
  fault_.reset();
  ASSERT_TRUE(Apply().ok());
  EXPECT_THAT(busy.Groups(), ElementsAre(OurGroup()));
  Revert();
}

TEST_F(ThrottleCpuTest, RefusesWhatMustGoOn) {
  subject_->set_cgroup("/..");
  EXPECT_THAT(Refusal(), HasSubstr("write its path in full"));
  subject_->set_cgroup("/fdtest-not-there");
  EXPECT_THAT(Refusal(), HasSubstr("there is no control group"));
  const TestGroup group(Root(), UniqueGroupName());
  subject_->set_cgroup("/" + group->folder().substr(Root().folder().size() + 1));
  EXPECT_THAT(Refusal(), HasSubstr("has no process"));
  const BusyProcess named({.idle = true, .first = [&] {
                             prctl(PR_SET_NAME, "firedrill-contr");
                             group->Take(getpid()).IgnoreError();
                           }});
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !group->Members()->empty(); }));
  EXPECT_THAT(Refusal(), HasSubstr("is Firedrill's own"));

  const TempDir folder("firedrill-pid");
  const std::string pidfile = folder.path() + "/pid";
  subject_->set_pidfile(pidfile);
  EXPECT_THAT(Refusal(), HasSubstr("is its process running?"));
  WriteFile(pidfile, "none\n");
  EXPECT_THAT(Refusal(), HasSubstr("does not begin with the number of a process"));
  WriteFile(pidfile, absl::StrCat(getpid(), "\n"));
  EXPECT_THAT(Refusal(), HasSubstr("is Firedrill's own"));
  WriteFile(pidfile, "1\n");
  EXPECT_THAT(Refusal(), HasSubstr("is the first process"));
  const auto kernel = FindProcess(2);
  if (kernel.ok() && kernel->kernel) {
    WriteFile(pidfile, "2\n");
    EXPECT_THAT(Refusal(), HasSubstr("belongs to the kernel"));
  }
}

TEST_F(ThrottleCpuTest, RefusesAPidfileThatDoesNotSpeakForItsProcess) {
  BusyProcess busy({.idle = true});
  subject_->set_pidfile(busy.pidfile());
  EXPECT_EQ(Refusal(), "");
  ASSERT_EQ(chown(busy.pidfile().c_str(), 65534, 65534), 0);
  EXPECT_THAT(Refusal(), HasSubstr("who writes it may not speak for that"));
  ASSERT_EQ(chown(busy.pidfile().c_str(), 0, 0), 0);
  const utimbuf yesterday{time(nullptr) - 86400, time(nullptr) - 86400};
  ASSERT_EQ(utime(busy.pidfile().c_str(), &yesterday), 0);
  EXPECT_THAT(Refusal(), HasSubstr("it is left over from another"));
  busy.Kill();
  EXPECT_THAT(Refusal(), HasSubstr("which has ended"));
}

TEST_F(ThrottleCpuTest, RefusesWhatWouldHoldBackNobodyOrCannotBeSet) {
  const TestGroup outer(Root(), UniqueGroupName());
  const TestGroup inner(*outer, "inner");
  const BusyProcess busy({.idle = true, .first = [&] { inner->Take(getpid()).IgnoreError(); }});
  if (outer->version() == 2) {
    subject_->set_pidfile(busy.pidfile());
    ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !inner->Members()->empty(); }));
    EXPECT_THAT(Refusal(), HasSubstr("has no controller cpu, since the one above it"));
    ASSERT_TRUE(WriteSmallFile(outer->folder() + "/cgroup.subtree_control", "+cpu").ok());
  }
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return !inner->Members()->empty(); }));
  auto& throttle = *message_.mutable_throttle_cpu();
  throttle.set_cpus(static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN)));
  EXPECT_THAT(Refusal(), HasSubstr("are all that this machine has"));
  throttle.set_cpus(0.005);
  EXPECT_THAT(Refusal(), HasSubstr("less than the kernel can hold"));
  throttle.set_cpus(0.3);
  EXPECT_EQ(Refusal(), "");
  ASSERT_TRUE(outer->SetLimit({20'000, 100'000}).ok());
  EXPECT_THAT(Refusal(), HasSubstr("is limited to 0.2 processors already, by " + outer->folder()));
  ASSERT_TRUE(outer->SetLimit({std::nullopt, 100'000}).ok());
  ASSERT_TRUE(inner->SetLimit({90'000, 100'000}).ok());
  subject_->set_cgroup("/" + outer->folder().substr(Root().folder().size() + 1));
  if (outer->version() == 1) {
    EXPECT_THAT(Refusal(), HasSubstr("has a limit of its own, of 0.9 processors"));
    // The kernel's word for it: the refusal is not made up.
    EXPECT_FALSE(outer->SetLimit({30'000, 100'000}).ok());
  }
}

TEST_F(ThrottleCpuTest, RefusesChildrenInDifferentGroups) {
  const TestGroup group(Root(), UniqueGroupName());
  const BusyProcess busy({.children = 1});
  subject_->set_pidfile(busy.pidfile());
  ASSERT_TRUE(Within(absl::Seconds(20), [&] { return busy.Tree().size() == 2; }));
  ASSERT_TRUE(group->Take(busy.Tree()[1].pid).ok());
  EXPECT_THAT(Refusal(), HasSubstr("they cannot be moved together and back"));
}

// The server of the labs: its number stands in the first of several lines, and its sessions are
// its children.
TEST_F(ThrottleCpuTest, SlowsADatabaseAndAllItsSessions) {
  const auto server = PostgresServer::Start();
  ASSERT_NE(server, nullptr);
  subject_->set_pidfile(server->folder() + "/data/postmaster.pid");
  const auto connect = [&] {
    const std::string target =
        absl::StrCat("host=", server->folder(), " port=", server->port(), " user=postgres");
    return std::unique_ptr<PGconn, decltype(&PQfinish)>(PQconnectdb(target.c_str()), PQfinish);
  };
  // How long a query takes for each second of processor time that it needs: how busy the machine
  // is besides makes it more, never less.
  const auto stretched = [](PGconn* session) {
    ProcessMeter meter;
    meter.Used({PQbackendPID(session)});
    const absl::Duration begin = RealClock().Boot();
    PGresult* result = PQexec(session, "SELECT count(*) FROM generate_series(1, 2000000)");
    EXPECT_EQ(PQntuples(result), 1);
    PQclear(result);
    return absl::FDivDuration(RealClock().Boot() - begin, meter.Used({PQbackendPID(session)}));
  };
  const auto before = connect();
  message_.mutable_throttle_cpu()->set_cpus(0.05);
  const absl::Status applied = Apply();
  ASSERT_TRUE(applied.ok()) << applied;
  const auto during = connect();
  for (PGconn* session : {before.get(), during.get()}) {
    // Twenty but for the periods in which it begins and ends.
    EXPECT_GT(stretched(session), 10);
    const auto seen = Observe();
    ASSERT_TRUE(seen.ok()) << seen.status();
    EXPECT_TRUE(seen->reached()) << seen->detail();
  }
  Revert();
  for (PGconn* session : {before.get(), during.get()}) {
    const auto group = Cgroup::Of(PQbackendPID(session), hierarchy_);
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_EQ(group->folder(), Here());
    EXPECT_TRUE(Within(absl::Seconds(60), [&] { return stretched(session) < 5; }));
  }
}

}  // namespace
}  // namespace firedrill
