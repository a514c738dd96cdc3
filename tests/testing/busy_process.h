// A process that keeps processors busy, with children that do the same and others that come and go;
// and control groups of a test's own.
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "injector/os/cgroup.h"
#include "injector/os/processes.h"
#include "tests/testing/child.h"

namespace firedrill {

// Why this machine cannot limit processor time; empty where it can.
inline std::string WhyNoCpuGroups() {
  const auto hierarchy = FindCpuHierarchy();
  if (!hierarchy.ok()) return std::string(hierarchy.status().message());
  return geteuid() == 0 ? "" : "only root may make control groups";
}

class BusyProcess {
 public:
  struct Options {
    // Beside itself; each uses what it gets.
    int children = 0;
    // One child after the other is born, works for a moment and ends.
    bool breeds = false;
    // Does nothing but wait.
    bool idle = false;
    // Run in it before all that.
    std::function<void()> first = [] {};
  };
  explicit BusyProcess(const Options& options) {
    const pid_t self = getpid();
    pid_ = fork();
    if (pid_ == 0) Live(options, self);
    WriteFile(pidfile(), absl::StrCat(pid_, "\nmore\n"));
  }
  ~BusyProcess() { Kill(); }
  BusyProcess(const BusyProcess&) = delete;

  pid_t pid() const { return pid_; }
  std::string pidfile() const { return folder_.path() + "/busy.pid"; }
  std::vector<Process> Tree() const {
    const auto all = AllProcesses();
    const auto its = all.find(pid_);
    return its == all.end() ? std::vector<Process>() : TreeOf(its->second, all);
  }
  // In processors, over a while. Counted apart from whoever is tested.
  double Use(absl::Duration over) const {
    ProcessMeter meter;
    const auto used = [&] {
      std::vector<pid_t> pids;
      for (const Process& process : Tree()) pids.push_back(process.pid);
      return meter.Used(pids);
    };
    used();
    const absl::Duration begin = RealClock().Boot();
    while (RealClock().Boot() - begin < over) {
      absl::SleepFor(absl::Milliseconds(50));
      used();
    }
    return absl::FDivDuration(used(), RealClock().Boot() - begin);
  }
  // The groups in which its processes are.
  std::vector<std::string> Groups() const {
    std::vector<std::string> groups;
    for (const Process& process : Tree()) {
      const auto group = Cgroup::Of(process.pid, *FindCpuHierarchy());
      if (group.ok()) groups.push_back(group->folder());
    }
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
    return groups;
  }
  // With all its children.
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  // A fraction of a millisecond.
  static void Spin() {
    for (int n = 0; n < 200'000; ++n) asm volatile("" : : "r"(n));
  }
  [[noreturn]] static void Work() {
    while (true) Spin();
  }
  // A child that had no turn before its parent was killed would spin for ever.
  static void DieWith(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
  }
  [[noreturn]] static void Live(const Options& options, pid_t parent) {
    DieWith(parent);
    const pid_t self = getpid();
    options.first();
    for (int i = 0; i < options.children; ++i) {
      if (fork() != 0) continue;
      DieWith(self);
      Work();
    }
    while (options.breeds) {
      const pid_t child = fork();
      if (child == 0) {
        DieWith(self);
        Spin();
        _exit(0);
      }
      waitpid(child, nullptr, 0);
    }
    while (options.idle) pause();
    Work();
  }

  TempDir folder_{"firedrill-busy"};
  pid_t pid_ = 0;
};

// A group in `parent`, which may be one of another hierarchy. At the end it goes, and whoever is in
// it goes back.
class TestGroup {
 public:
  TestGroup(const Cgroup& parent, const std::string& name) : group_(parent.Inner(name)) {
    mkdir(group_.folder().c_str(), 0755);
  }
  ~TestGroup() {
    const auto all = group_.All();
    if (!all.ok()) return;
    const Cgroup parent(group_.folder().substr(0, group_.folder().rfind('/')));
    for (auto one = all->rbegin(); one != all->rend(); ++one) {
      for (int tries = 0; tries < 100; ++tries) {
        for (const pid_t pid : one->Members().value_or(std::vector<pid_t>())) {
          parent.Take(pid).IgnoreError();
        }
        if (rmdir(one->folder().c_str()) == 0) break;
        absl::SleepFor(absl::Milliseconds(5));
      }
    }
  }
  TestGroup(const TestGroup&) = delete;

  const Cgroup& operator*() const { return group_; }
  const Cgroup* operator->() const { return &group_; }

 private:
  const Cgroup group_;
};

// Differs for each process and each call.
inline std::string UniqueGroupName() {
  static int count = 0;
  return absl::StrCat("fdtest-", getpid(), "-", ++count);
}

}  // namespace firedrill
