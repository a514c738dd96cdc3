// A fault on a thread of its own.
#include "injector/running_fault.h"

#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

class ThreadedFault final : public RunningFault {
 public:
  ThreadedFault(Executor& executor, std::unique_ptr<FaultLife> life, FaultNews news)
      : executor_(executor), life_(std::move(life)), news_(std::move(news)) {
    thread_ = std::thread([this] { Loop(); });
  }
  ~ThreadedFault() override {
    {
      MutexLock lock(mutex_);
      revert_ = leave_ = true;
      changed_.NotifyAll();
    }
    acting_.request_stop();
    ending_.request_stop();
    thread_.join();
  }

  void Prepare() override { Want(&ThreadedFault::prepare_); }
  void Apply(absl::Duration ends_at) override {
    {
      MutexLock lock(mutex_);
      ends_at_ = ends_at;
    }
    Want(&ThreadedFault::apply_);
  }
  void Adopt() override { Want(&ThreadedFault::adopt_); }
  void Revert() override {
    Want(&ThreadedFault::revert_);
    acting_.request_stop();
  }

 private:
  void Want(bool ThreadedFault::*what) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    this->*what = true;
    changed_.NotifyAll();
  }

  // True once there is something to do before `until`; false when the time has come.
  bool WaitUntil(absl::Duration until) FD_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (!prepare_ && !apply_ && !revert_ && !adopt_) {
      if (until == absl::InfiniteDuration()) {
        changed_.Wait(mutex_);
        continue;
      }
      const absl::Duration left = until - executor_.clock().Boot();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(mutex_, left);
    }
    return true;
  }

  void Loop() {
    while (true) {
      WaitUntil(absl::InfiniteDuration());
      bool prepare, apply, adopt, revert;
      absl::Duration ends_at;
      {
        MutexLock lock(mutex_);
        prepare = std::exchange(prepare_, false);
        adopt = std::exchange(adopt_, false);
        revert = revert_;
        apply = std::exchange(apply_, false) && !revert;
        ends_at = ends_at_;
      }
      if (adopt) life_->Adopt();
      if (prepare && !revert) Tell(news_.prepared, life_->Prepare(acting_.get_token()));
      if (apply) {
        const absl::Status applied = life_->Apply(acting_.get_token(), ends_at);
        Tell(news_.applied, applied, executor_.clock().Now());
        if (applied.ok()) Sustain(ends_at);
      }
      if (apply || revert) {
        End();
        MutexLock lock(mutex_);
        revert_ = false;
        if (leave_) return;
      }
    }
  }

  void Sustain(absl::Duration ends_at) {
    while (true) {
      FaultLife::Turn turn = life_->Sustain(acting_.get_token());
      if (turn.observed.has_value()) {
        Tell(news_.observed, *std::move(turn.observed), executor_.clock().Now());
      }
      if (WaitUntil(std::min(turn.next, ends_at))) return;
      if (executor_.clock().Boot() >= ends_at) return;
    }
  }

  void End() {
    while (true) {
      std::optional<FaultEnd> end = life_->End(ending_.get_token());
      if (end.has_value()) return Tell(news_.ended, *std::move(end));
      {
        MutexLock lock(mutex_);
        if (leave_) return;
      }
      std::this_thread::sleep_for(absl::ToChronoNanoseconds(FaultLife::kLookEvery));
    }
  }

  template <typename... Arguments, typename... Values>
  void Tell(const std::function<void(Arguments...)>& to, Values&&... values) {
    executor_.Post([to, ... values = std::decay_t<Values>(std::forward<Values>(values))]() mutable {
      to(std::move(values)...);
    });
  }

  Executor& executor_;
  const std::unique_ptr<FaultLife> life_;
  const FaultNews news_;
  // Interrupts what acts and observes; what ends the fault is interrupted only by the destructor.
  std::stop_source acting_, ending_;
  Mutex mutex_;
  CondVar changed_;
  bool prepare_ FD_GUARDED_BY(mutex_) = false;
  bool apply_ FD_GUARDED_BY(mutex_) = false;
  bool adopt_ FD_GUARDED_BY(mutex_) = false;
  bool revert_ FD_GUARDED_BY(mutex_) = false;
  bool leave_ FD_GUARDED_BY(mutex_) = false;
  absl::Duration ends_at_ FD_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  std::thread thread_;
};

}  // namespace

RunningFaultFactory ThreadedFaultsOf(MakeOneFault make, Executor& executor, Node& node,
                                     Journal& journal) {
  return [make = std::move(make), &executor, &node, &journal](
             const std::string& run, const v1::PlannedFault& planned,
             FaultNews news) -> absl::StatusOr<std::unique_ptr<RunningFault>> {
    ASSIGN_OR_RETURN(std::unique_ptr<Fault> fault, make(planned.fault()));
    auto life = std::make_unique<FaultLife>(run, planned, std::move(fault), node, journal,
                                            executor.clock());
    try {
      return std::make_unique<ThreadedFault>(executor, std::move(life), std::move(news));
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("starting a thread for the fault ", planned.name(), ": ", error.what(),
                       "; raise the limit of processes (ulimit -u)"));
    }
  };
}

RunningFaultFactory ThreadedFaults(Executor& executor, Node& node, Journal& journal) {
  return ThreadedFaultsOf(MakeFault, executor, node, journal);
}

}  // namespace firedrill
