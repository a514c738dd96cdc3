// Faults on a machine's own resources, and an injector that dies at every step of applying and
// reverting them: whoever is left finds what it has done, and every process is where it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/match.h"
#include "tests/injector/doomed_injector.h"
#include "tests/testing/busy_process.h"

namespace firedrill {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kThrottle[] =
    "name: 'slow' ending: ENDING_JOURNALLED fault { throttle_cpu { subject: 'database' cpus: 0.1 } "
    "}";

// Of a process in the group of everybody, which must be moved; or of one with a group of its own.
class HostCrashTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    const std::string why = WhyNoCpuGroups();
    if (!why.empty()) GTEST_SKIP() << why;
    // Orphaned reapers come to us, so that their end can be seen.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const Cgroup root(FindCpuHierarchy()->mount);
    if (own_group()) group_.emplace(root, UniqueGroupName());
    where_ =
        own_group() ? (*group_)->folder() : Cgroup::Of(getpid(), *FindCpuHierarchy())->folder();
    busy_.emplace(BusyProcess::Options{.children = 1, .breeds = true, .first = [this] {
                                         if (own_group()) (*group_)->Take(getpid()).IgnoreError();
                                       }});
    ASSERT_TRUE(Within(absl::Seconds(20), [this] {
      return busy_->Groups() == std::vector<std::string>{where_} && busy_->Tree().size() > 1;
    }));
  }
  void TearDown() override {
    busy_.reset();
    prctl(PR_SET_CHILD_SUBREAPER, 0);
  }

  static bool own_group() { return GetParam(); }
  // Of our groups and limits.
  std::vector<std::string> Left() {
    std::vector<std::string> left;
    const auto all = Cgroup(FindCpuHierarchy()->mount).All();
    for (const Cgroup& group : all.value_or(std::vector<Cgroup>())) {
      if (absl::StrContains(group.folder(), "/firedrill-r1a2b3-")) left.push_back(group.folder());
    }
    if (own_group() && (*group_)->Limit()->quota_us.has_value()) left.push_back("a limit");
    return left;
  }
  void ExpectAsBefore(const std::string& when) {
    EXPECT_THAT(Left(), IsEmpty()) << when;
    EXPECT_THAT(busy_->Groups(), ElementsAre(where_)) << when;
  }
  std::unique_ptr<DoomedInjector> Start(DoomedInjector::Then then) {
    return std::make_unique<DoomedInjector>(dir_, then, kThrottle, [this](StageNode& node) {
      v1::HostSubject& subject = *node.mutable_spec.add_subjects();
      subject.set_name("database");
      subject.set_pidfile(busy_->pidfile());
    });
  }

  TempDir folder_{"firedrill-host"};
  const std::string dir_ = folder_.path() + "/state";
  std::optional<TestGroup> group_;
  std::optional<BusyProcess> busy_;
  std::string where_;
};

TEST_P(HostCrashTest, AnInjectorThatDiesAtAnyStepIsUndoneByItsReaper) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    const auto injector = Start(DoomedInjector::Then::kRevert);
    const bool stopped = RunUntilStep(*injector, step);
    if (!Left().empty()) ++met;
    injector->Kill();
    EXPECT_EQ(CodeOfReaper(injector->reaper()), 0) << "step " << step;
    ExpectAsBefore(absl::StrCat("killed at step ", step));
    EXPECT_EQ(LastingLeftovers(dir_), 0) << "step " << step;
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  RecordProperty("met", met);
  EXPECT_GT(steps, 15);
  // Else no death was in the middle of anything; to limit a group is one write.
  EXPECT_GT(met, own_group() ? 0 : 2);
  EXPECT_LT(met, steps);
}

TEST_P(HostCrashTest, InjectorAndReaperThatDieTogetherAreUndoneByTheNextStart) {
  int steps = 0, met = 0;
  for (int step = 1;; ++step) {
    const auto injector = Start(DoomedInjector::Then::kRevert);
    const bool stopped = RunUntilStep(*injector, step);
    kill(injector->reaper(), SIGKILL);
    injector->Kill();
    CodeOfReaper(injector->reaper());
    if (!Left().empty()) ++met;
    for (const NodeLeftovers& left : ReplayOwnerless(dir_, absl::Seconds(1))) {
      EXPECT_THAT(left.entries, IsEmpty());
    }
    ExpectAsBefore(absl::StrCat("both killed at step ", step));
    EXPECT_THAT(Leftovers(dir_), IsEmpty());
    if (!stopped || HasFailure()) break;
    steps = step;
  }
  RecordProperty("steps", steps);
  RecordProperty("met", met);
  EXPECT_GT(steps, 15);
  EXPECT_GT(met, own_group() ? 0 : 2);
  EXPECT_LT(met, steps);
}

// What the journal says that a person can paste does it, without anything of ours.
TEST_P(HostCrashTest, IsUndoneByHand) {
  const auto injector = Start(DoomedInjector::Then::kHold);
  injector->Go();
  // It says what it saw at once, which is too early for anybody to have been held back.
  injector->Applied();
  kill(injector->reaper(), SIGKILL);
  injector->Kill();
  CodeOfReaper(injector->reaper());
  EXPECT_FALSE(Left().empty());
  const auto left = Leftovers(dir_);
  ASSERT_EQ(left.size(), 1u);
  ASSERT_FALSE(left[0].entries.empty());
  // Who is born while it runs is met by the second time.
  for (int times = 0; times < 20 && !Left().empty(); ++times) {
    const auto pasted =
        Child::Start({.arguments = {"/bin/dash", "-c", left[0].entries[0].undo_by_hand()},
                      .log = folder_.path() + "/pasted.log"});
    ASSERT_TRUE(pasted.ok()) << pasted.status();
    (*pasted)->Wait(absl::Seconds(10)).IgnoreError();
  }
  ExpectAsBefore(ReadFile(folder_.path() + "/pasted.log"));
}

INSTANTIATE_TEST_SUITE_P(Host, HostCrashTest, ::testing::Bool(), [](const auto& info) {
  return info.param ? "AGroupOfItsOwn" : "MovedIntoOne";
});

}  // namespace
}  // namespace firedrill
