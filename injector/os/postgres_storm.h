// Many sessions that run one statement again and again, served by one thread: as many as fit, or at
// a rate that does not slow down when the server does. They live in this process's sockets only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "injector/os/postgres.h"

namespace firedrill {

class PostgresStorm {
 public:
  struct Options {
    PostgresAccount account;
    std::string application_name;
    // Asked for every session anew, since time-outs that end at one instant become shorter.
    std::function<PostgresSettings()> settings;
    std::string statement;
    // With a rate: the most that may be open at once.
    int sessions = 1;
    // Statements a second, each due at its own time; 0: each session begins the next at once.
    double rate = 0;
    // No statement is begun after this boot time.
    absl::Duration end;
  };
  struct Figures {
    int connected = 0;
    int busy = 0;
    uint64_t finished = 0;
    uint64_t failed = 0;
    uint64_t lost_sessions = 0;
    // Due, and not begun for want of a free session.
    uint64_t waiting = 0;
    // Of the last second: due, begun, and with an answer.
    double due_rate = 0;
    double begun_rate = 0;
    double answered_rate = 0;
    // Of the answers of the last second, from the moment at which the statement was due.
    absl::Duration p50, p95;
    // SQLSTATE -> how often.
    std::map<std::string, uint64_t> errors;
    // The last error's words; empty where there was none.
    std::string trouble;
    absl::StatusCode trouble_code = absl::StatusCode::kOk;
  };

  explicit PostgresStorm(Options options);
  ~PostgresStorm();

  Figures figures() const FD_EXCLUDES(mutex_);
  // Closes every session without waiting for the server. Idempotent.
  void Stop();

 private:
  struct Slot {
    std::unique_ptr<PostgresSession> session;
    // When what it runs was due.
    absl::Duration due;
    bool failed = false;
    absl::Duration next_try;
  };
  struct Answer {
    absl::Duration at;
    absl::Duration took;
  };

  void Loop(std::stop_token stop);
  void Connect(absl::Duration now);
  void Serve(Slot& slot, absl::Duration now);
  void Begin(absl::Duration now);
  void Note(const absl::Status& status);
  void Fail(Slot& slot, const absl::Status& status, absl::Duration now);
  void Await(absl::Duration now);
  // How many were due by `now` since the start.
  uint64_t DueBy(absl::Duration now) const;
  void Publish(absl::Duration now) FD_EXCLUDES(mutex_);

  const Options options_;
  const UniqueFd wake_;
  const absl::Duration start_;

  // Only the thread touches these, and Stop() after it has ended.
  std::vector<Slot> slots_;
  uint64_t begun_ = 0;
  std::deque<absl::Duration> recently_begun_;
  std::deque<Answer> recent_;
  Figures now_;
  absl::Duration next_publish_;

  mutable Mutex mutex_;
  Figures published_ FD_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace firedrill
