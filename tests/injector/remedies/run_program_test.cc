// run_program with real programs: what it runs, what it refuses, and how it ends them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_split.h"
#include "base/time_proto.h"
#include "injector/remedies/remedy.h"
#include "tests/testing/fault_stage.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

class RunProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = (std::filesystem::temp_directory_path() / "fd-remedy-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A program of the node: a script with these lines.
  v1::Program* Add(const std::string& name, const std::string& lines, mode_t mode = 0700) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path) << "#!/bin/sh\n" << lines << "\n";
    chmod(path.c_str(), mode);
    v1::Program* program = node_.mutable_spec.add_programs();
    program->set_name(name);
    program->set_path(path);
    program->set_leaves(v1::LEAVES_NOTHING);
    return program;
  }
  v1::RemedyReport Run(const std::string& name, std::stop_token stop = {}) {
    v1::PlannedRemedy planned;
    planned.set_name("mend");
    planned.set_node("app");
    planned.mutable_remedy()->mutable_run_program()->set_program(name);
    return RunRemedyBlocking(planned, node_, RemedyContext{"r1a2b3", {}, std::move(stop)});
  }
  std::string Read(const std::string& name) const {
    std::ifstream file(folder_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string folder_;
  StageNode node_;
};

TEST_F(RunProgramTest, RunsWithFixedArgumentsAndReportsTheOutput) {
  auto* program = Add("say", "echo \"$# $1 $2\"; echo problem >&2");
  program->add_arguments("two words");
  program->add_arguments("$(id) ; *");
  const v1::RemedyReport report = Run("say");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE);
  EXPECT_EQ(report.exit_code(), 0);
  EXPECT_EQ(report.output(), "2 two words $(id) ; *\nproblem");
  EXPECT_EQ(report.remedy(), "mend");
  EXPECT_EQ(report.node(), "app");
  EXPECT_EQ(report.leaves(), v1::LEAVES_NOTHING);
  EXPECT_GT(FromProto(report.took()), absl::ZeroDuration());
}

TEST_F(RunProgramTest, ReportsAFailure) {
  Add("fail", "echo no such unit; exit 5");
  const v1::RemedyReport report = Run("fail");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(report.exit_code(), 5);
  EXPECT_EQ(report.output(), "no such unit");
}

TEST_F(RunProgramTest, KeepsTheEndOfALongOutput) {
  Add("long", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
  const v1::RemedyReport report = Run("long");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE);
  EXPECT_LE(report.output().size(), 2048u);
  EXPECT_THAT(report.output(), HasSubstr("line 19999"));
}

TEST_F(RunProgramTest, SeesNothingOfTheInjector) {
  setenv("FIREDRILL_TEST_SECRET", "hush", 1);
  // A socket that is not close-on-exec, as a library might have opened it.
  const int leak = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GT(leak, 2);
  Add("look", "env; ls /proc/self/fd | tr '\\n' ' '; pwd; ps -o pgid= -p $$ | tr -d ' '; echo $$");
  const v1::RemedyReport report = Run("look");
  close(leak);
  unsetenv("FIREDRILL_TEST_SECRET");
  EXPECT_EQ(report.output().find("hush"), std::string::npos) << report.output();
  EXPECT_THAT(report.output(), HasSubstr("PATH=/usr/local/sbin"));
  // 3 is ls' own; 99 is the bond by which it ends with the injector.
  EXPECT_THAT(report.output(), HasSubstr("0 1 2 3 99 /\n"));
  const auto lines = std::vector<std::string>(absl::StrSplit(report.output(), '\n'));
  EXPECT_EQ(lines.at(lines.size() - 1), lines.at(lines.size() - 2));
}

TEST_F(RunProgramTest, EndsTheWholeGroupAtTheTimeout) {
  auto* program = Add("hang", absl::StrCat("sleep 60 & echo $! > ", folder_,
                                           "/pid; trap 'echo asked; exit 3' TERM; wait"));
  *program->mutable_timeout() = ToProto(absl::Milliseconds(300));
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run("hang");
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(2));
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_EQ(report.exit_code(), 3);
  EXPECT_EQ(report.output(), "asked\nended: took longer than 300ms");
  const pid_t child = std::stoi(Read("pid"));
  EXPECT_TRUE(Within(absl::Seconds(2), [child] {
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string pid, name, state;
    return !(stat >> pid >> name >> state) || state == "Z";
  }));
}

TEST_F(RunProgramTest, KillsAProgramThatDoesNotWantToEnd) {
  auto* program = Add("stubborn", "trap '' TERM; while true; do sleep 0.05; done");
  *program->mutable_timeout() = ToProto(absl::Milliseconds(200));
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run("stubborn");
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(3));
  EXPECT_EQ(report.exit_code(), 128 + SIGKILL);
}

TEST_F(RunProgramTest, EndsWhenTheRunIsStopped) {
  Add("hang", "exec sleep 60");
  std::stop_source source;
  std::jthread stopper([&source] {
    absl::SleepFor(absl::Milliseconds(200));
    source.request_stop();
  });
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run("hang", source.get_token());
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(2));
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_FAILED);
  EXPECT_THAT(report.output(), HasSubstr("the run was stopped"));
  EXPECT_EQ(Run("hang", source.get_token()).output(), "not started: stopped");
}

TEST_F(RunProgramTest, LeavesRunningWhatTheProgramStarted) {
  Add("restart", absl::StrCat("setsid sleep 30 & echo $! > ", folder_, "/pid"));
  const absl::Duration begin = RealClock().Boot();
  const v1::RemedyReport report = Run("restart");
  EXPECT_EQ(report.state(), v1::REMEDY_STATE_DONE);
  EXPECT_LT(RealClock().Boot() - begin, absl::Seconds(5));
  const pid_t child = std::stoi(Read("pid"));
  EXPECT_EQ(kill(child, 0), 0);
  kill(child, SIGKILL);
}

// A program that went on stopped a primary seconds after its injector's death, and nobody promoted.
TEST_F(RunProgramTest, EndsWithItsInjectorToTheLastProcess) {
  Add("fence",
      absl::StrCat("trap '' TERM HUP; (sleep 60; true) & sh -c 'sleep 60; true' & echo $! > ",
                   folder_, "/pid; wait"));
  Add("quick", absl::StrCat("sleep 60 & echo $! > ", folder_, "/left; echo done"));
  const pid_t injector = fork();
  if (injector == 0) {
    const bool done = Run("quick").state() == v1::REMEDY_STATE_DONE;
    std::ofstream(folder_ + "/quick") << done;
    Run("fence");
    _exit(0);
  }
  ASSERT_TRUE(Within(absl::Seconds(20), [this] { return Read("pid").ends_with("\n"); }));
  const std::string group = std::to_string(getpgid(std::stoi(Read("pid"))));
  const auto of_group = [&group] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream stat(entry.path() / "stat");
      std::string pid, name, state, parent, its;
      count += stat >> pid >> name >> state >> parent >> its && its == group && state != "Z";
    }
    return count;
  };
  EXPECT_GE(of_group(), 3);
  kill(injector, SIGKILL);
  waitpid(injector, nullptr, 0);
  EXPECT_TRUE(Within(absl::Seconds(5), [&] { return of_group() == 0; })) << of_group();
  // What a program that was done has left is not its injector's any more.
  EXPECT_EQ(Read("quick"), "1");
  const pid_t left = std::stoi(Read("left"));
  EXPECT_EQ(kill(left, 0), 0);
  kill(left, SIGKILL);
}

TEST_F(RunProgramTest, RefusesWhatItCannotTrustOrRun) {
  Add("open", "true", 0777);
  Add("data", "true", 0644);
  node_.mutable_spec.mutable_programs(1)->set_path(folder_ + "/data");
  v1::Program* missing = node_.mutable_spec.add_programs();
  missing->set_name("missing");
  missing->set_path(folder_ + "/missing");
  v1::Program* relative = node_.mutable_spec.add_programs();
  relative->set_name("relative");
  relative->set_path("bin/sh");
  EXPECT_THAT(Run("open").output(), HasSubstr("everyone may change this file; run chmod o-w"));
  EXPECT_THAT(Run("data").output(), HasSubstr("may not be executed"));
  EXPECT_THAT(Run("missing").output(), HasSubstr("No such file"));
  EXPECT_THAT(Run("relative").output(), HasSubstr("not an absolute path"));
  EXPECT_THAT(Run("unknown").output(), HasSubstr("there is no unknown"));
  EXPECT_EQ(Run("open").state(), v1::REMEDY_STATE_FAILED);
}

}  // namespace
}  // namespace firedrill
