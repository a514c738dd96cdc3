// Executors over a clock that only moves when a test says so. All executors of one SimTime share
// one queue, so a run of several processes is one deterministic sequence: same posts, same order,
// every time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/time/time.h"
#include "base/executor.h"

namespace firedrill {

// The one queue. Not thread-safe: a simulation has one thread.
class SimTime {
 public:
  // Boot time; begins at 1000 s so that nothing mistakes 0 for "unset".
  absl::Duration boot() const { return boot_; }

  // Runs the next task. False where there is none that can run.
  bool Step();
  // Runs everything due within `length`, then sets the clock to its end.
  void RunFor(absl::Duration length);
  // Runs what is due now, without moving the clock.
  void Settle() { RunFor(absl::ZeroDuration()); }
  // Runs until `until` is true (then true), at most for `limit`.
  bool RunUntil(const std::function<bool()>& until, absl::Duration limit);
  // Tasks run so far: two runs of one seed have the same number.
  uint64_t steps() const { return steps_; }

 private:
  friend class SimExecutor;
  struct Entry {
    class SimExecutor* owner;
    std::function<void()> task;
  };
  using Key = std::pair<absl::Duration, uint64_t>;

  uint64_t Add(absl::Duration due, SimExecutor* owner, std::function<void()> task);
  void Remove(uint64_t id);
  // The first entry whose owner is not frozen.
  std::map<Key, Entry>::iterator Next();

  absl::Duration boot_ = absl::Seconds(1000);
  uint64_t next_ = 1;
  uint64_t steps_ = 0;
  std::map<Key, Entry> queue_;
  std::map<uint64_t, absl::Duration> due_;
};

// One simulated process' executor.
class SimExecutor final : public Executor {
 public:
  // `wall` is this process' wall time at boot time 1000 s.
  explicit SimExecutor(SimTime& time, absl::Time wall = absl::FromUnixSeconds(1'800'000'000));
  // Drops what was not begun.
  ~SimExecutor() override;

  const Clock& clock() const override { return clock_; }
  void Post(Task task) override;
  TimerId After(absl::Duration delay, Task task) override;
  void Cancel(TimerId id) override;
  // `work` runs as an event of its own, now; `done` after `block_latency`.
  void Block(Task work, Task done) override;

  // Moves the wall clock, and nothing else.
  void JumpWall(absl::Duration by) { clock_.wall += by; }
  // SIGKILL: everything queued is dropped, and so is everything posted afterwards.
  void Kill();
  bool killed() const { return killed_; }
  // SIGSTOP and SIGCONT: tasks wait, and run late.
  void Freeze() { frozen_ = true; }
  void Thaw() { frozen_ = false; }
  bool frozen() const { return frozen_; }

  // How long blocking work takes; a random source may be put here. May be empty (no time at all).
  std::function<absl::Duration()> block_latency;

 private:
  struct SimClock final : Clock {
    SimClock(const SimTime& time, absl::Time wall) : time(time), wall(wall) {}
    absl::Time Now() const override { return wall + (time.boot() - absl::Seconds(1000)); }
    absl::Duration Boot() const override { return time.boot(); }
    const SimTime& time;
    absl::Time wall;
  };

  SimTime& time_;
  SimClock clock_;
  bool killed_ = false;
  bool frozen_ = false;
};

}  // namespace firedrill
