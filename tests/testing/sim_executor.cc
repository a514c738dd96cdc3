// Executors over a clock that only moves when a test says so.
#include "tests/testing/sim_executor.h"

#include <algorithm>
#include <vector>

namespace firedrill {

uint64_t SimTime::Add(absl::Duration due, SimExecutor* owner, std::function<void()> task) {
  const uint64_t id = next_++;
  queue_.emplace(Key{due, id}, Entry{owner, std::move(task)});
  due_.emplace(id, due);
  return id;
}

void SimTime::Remove(uint64_t id) {
  auto found = due_.find(id);
  if (found == due_.end()) return;
  queue_.erase(Key{found->second, id});
  due_.erase(found);
}

std::map<SimTime::Key, SimTime::Entry>::iterator SimTime::Next() {
  return std::find_if(queue_.begin(), queue_.end(),
                      [](const auto& item) { return !item.second.owner->frozen(); });
}

bool SimTime::Step() {
  auto next = Next();
  if (next == queue_.end()) return false;
  // A thawed process runs late: the clock never goes back.
  boot_ = std::max(boot_, next->first.first);
  std::function<void()> task = std::move(next->second.task);
  due_.erase(next->first.second);
  queue_.erase(next);
  ++steps_;
  task();
  return true;
}

void SimTime::RunFor(absl::Duration length) {
  const absl::Duration end = boot_ + length;
  while (true) {
    auto next = Next();
    if (next == queue_.end() || next->first.first > end) break;
    Step();
  }
  boot_ = end;
}

bool SimTime::RunUntil(const std::function<bool()>& until, absl::Duration limit) {
  const absl::Duration end = boot_ + limit;
  while (!until()) {
    auto next = Next();
    if (next == queue_.end() || next->first.first > end) {
      boot_ = std::max(boot_, end);
      return until();
    }
    Step();
  }
  return true;
}

SimExecutor::SimExecutor(SimTime& time, absl::Time wall) : time_(time), clock_(time, wall) {}

SimExecutor::~SimExecutor() { Kill(); }

void SimExecutor::Post(Task task) { After(absl::ZeroDuration(), std::move(task)); }

Executor::TimerId SimExecutor::After(absl::Duration delay, Task task) {
  // An id is promised even to the dead, who will not see it fire.
  if (killed_) return time_.next_++;
  return time_.Add(time_.boot() + std::max(delay, absl::ZeroDuration()), this, std::move(task));
}

void SimExecutor::Cancel(TimerId id) { time_.Remove(id); }

void SimExecutor::Block(Task work, Task done) {
  Post([this, work = std::move(work), done = std::move(done)]() mutable {
    work();
    if (done) After(block_latency ? block_latency() : absl::ZeroDuration(), std::move(done));
  });
}

void SimExecutor::Kill() {
  killed_ = true;
  // Destroyed last: what a task holds may cancel other timers while it goes.
  std::vector<Task> dropped;
  for (auto next = time_.queue_.begin(); next != time_.queue_.end();) {
    if (next->second.owner != this) {
      ++next;
      continue;
    }
    dropped.push_back(std::move(next->second.task));
    time_.due_.erase(next->first.second);
    next = time_.queue_.erase(next);
  }
}

}  // namespace firedrill
